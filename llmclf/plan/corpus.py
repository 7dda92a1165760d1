"""What memory and time depend on of the rows, where they can be read here, and what follows."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import PretrainedConfig

from llmclf.config import ConfigError, UserError
from llmclf.data.config import DataConfig
from llmclf.data.corpus import load_splits
from llmclf.data.encode import encode
from llmclf.model.build import load_tokenizer, max_tokens, prepare_config
from llmclf.model.config import ModelConfig
from llmclf.model.family import context_length, family_of
from llmclf.plan.activations import Traces
from llmclf.train.config import TrainConfig
from llmclf.train.loop import num_steps

LABELS_IF_UNKNOWN = 2


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """What memory and time depend on of the rows."""

    longest: int
    """Tokens of the longest row."""
    rows: int | None
    mean_tokens: float | None
    num_labels: int
    source: str
    """Where lengths and rows come from, for the reader."""


def read_corpus(
    data: DataConfig,
    seed: int,
    checkpoint: str,
    config: PretrainedConfig,
    *,
    length: int | None,
    rows: int | None,
) -> Corpus:
    """Lengths and rows of the real corpus where it and the tokenizer are here, else the most that
    the settings allow. ``length``, ``rows``: what is given instead, None where it is not."""
    allowed = data.max_length or context_length(config, family_of(config)) or 512
    given = length is not None and rows is not None
    try:
        if given:
            raise ConfigError("both given")
        tokenizer = load_tokenizer(checkpoint)
        splits = load_splits(data, seed)
        cut = max_tokens(config, tokenizer, data.max_length)
        lengths = encode(splits.train, tokenizer, cut).lengths
    except UserError as error:
        longest = length or allowed
        reason = textwrap.shorten(str(error).splitlines()[0], 160, placeholder=" ...")
        why = "given" if given else f"the corpus is not read here: {reason}"
        return Corpus(
            longest=longest,
            rows=rows,
            mean_tokens=None,
            num_labels=LABELS_IF_UNKNOWN,
            source=f"rows of {longest:,} tokens ({why})",
        )
    longest = length or int(lengths.max())
    known_rows = rows or len(lengths)
    mean = float(np.minimum(lengths, longest).mean())
    return Corpus(
        longest=longest,
        rows=known_rows,
        mean_tokens=mean,
        num_labels=len(splits.labels),
        source=f"{known_rows:,} training rows, longest {longest:,} tokens, mean {mean:.1f}",
    )


def traces_of(model: ModelConfig, config: PretrainedConfig, corpus: Corpus) -> Traces:
    """Traces of the classification model, as it would be built for these labels and lengths."""
    labels = [str(i) for i in range(corpus.num_labels)]
    prepare_config(config, model, labels, False, config.pad_token_id or 0, corpus.longest)
    return Traces(config)


def duration(train: TrainConfig, corpus: Corpus, tokens_per_second: float | None) -> dict[str, Any]:
    """Optimizer steps, training tokens and hours, as far as they are known."""
    known: dict[str, Any] = {"steps": None, "train_tokens": None, "hours": None}
    if corpus.rows is None:
        return known
    known["steps"] = num_steps(train, corpus.rows)
    if corpus.mean_tokens is not None:
        rows = min(train.epochs * corpus.rows, known["steps"] * train.global_batch_size)
        known["train_tokens"] = round(rows * corpus.mean_tokens)
        if tokens_per_second is not None:
            known["hours"] = known["train_tokens"] / tokens_per_second / 3600
    return known
