"""The sides of prompt_vs_lm_eval.py: our scorer and lm-eval's HFLM, on the same strings."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from io import StringIO
from typing import Any

import numpy as np
import torch
from common import Turns
from prompt_flops import Shapes, matmul_rate, packing_flops, padding, shapes_of, whole_flops
from prompt_tasks import Precision, Settings, Task, make_encoder
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llmclf.config import ConfigError
from llmclf.model.causal import load_causal, load_causal_tokenizer
from llmclf.prompt.score import Scorer
from llmclf.prompt.tokens import TokenizedPrompt
from llmclf.terminal import quieten

WARM_UP = 4
"""Prompts that each of our sides scores before its first timed block."""


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load(
    settings: Settings, precision: Precision
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Model and tokenizer as both sides get them."""
    quieten()
    model = load_causal(settings.checkpoint, quantize="none", precision=precision, device=device())
    return model, load_causal_tokenizer(settings.checkpoint)


@dataclass
class Ours:
    """Our side, from the queries to log-probabilities."""

    settings: Settings
    precision: Precision
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    def questions(self, task: Task) -> list[TokenizedPrompt]:
        """Worded and tokenised."""
        encoded = make_encoder(task, self.settings, self.tokenizer).encode(task.variant)
        return encoded.questions[encoded.parts["test"]]

    def scorer(self) -> Scorer:
        """A fresh one, which holds no prefix."""
        pad = self.tokenizer.pad_token_id or 0
        return Scorer(self.model, pad_token_id=pad, precision=self.precision)

    def score(self, task: Task) -> np.ndarray:
        """Log-probabilities (N, C)."""
        questions = self.questions(task)
        distinct = {question: i for i, question in enumerate(dict.fromkeys(questions))}
        return self.scorer().score(list(distinct))[[distinct[q] for q in questions]]


def ours(task: Task, precision: Precision, settings: Settings, turns: Turns) -> dict[str, Any]:
    """Our side of a timed run."""
    side = Ours(settings, precision, *load(settings, precision))
    turns.forget_peak()
    turns.begin()
    side.score(task.take(task.spaced(WARM_UP)))
    turns.next()
    for _ in range(settings.repeats):
        logprobs_NC = side.score(task)
        turns.next()
    questions = list(dict.fromkeys(side.questions(task)))
    packing = side.scorer().pack(questions)
    return {
        "queries": len(task.strings),
        "tokens_per_query": packing.tokens(questions) / len(task.strings),
        "padding_per_query": padding(packing, questions) / len(task.strings),
        "flops_per_query": packing_flops(shapes_of(side.model), packing, questions)
        / len(task.strings),
        "logprobs": dict(zip(task.rows, logprobs_NC.tolist(), strict=True)),
    }


@dataclass
class Peer:
    """lm-eval's HFLM around a loaded model."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    batch_size: str

    def __post_init__(self) -> None:
        with silent():
            from lm_eval.models.huggingface import HFLM

            self.hflm = HFLM(
                pretrained=self.model, tokenizer=self.tokenizer, batch_size=self.batch_size
            )

    def score(self, task: Task) -> np.ndarray:
        """Log-probabilities (N, C)."""
        from lm_eval.api.instance import Instance

        asked = [
            Instance(request_type="loglikelihood", doc={}, arguments=pair, idx=i)
            for i, pair in enumerate(pair for row in task.strings for pair in row)
        ]
        with silent():
            found = self.hflm.loglikelihood(asked, disable_tqdm=True)
        return np.array([logprob for logprob, _ in found]).reshape(len(task.strings), -1)

    def questions(self, task: Task) -> list[TokenizedPrompt]:
        """The tokens it gives each query, in our terms."""
        found = []
        for row in task.strings:
            pairs = [self.hflm._encode_pair(*pair) for pair in row]
            found.append(TokenizedPrompt(tuple(pairs[0][0]), tuple(tuple(a) for _, a in pairs)))
        return found


def peer(
    task: Task, precision: Precision, batch_size: str, settings: Settings, turns: Turns
) -> dict[str, Any]:
    """lm-eval's side of a timed run."""
    side = Peer(*load(settings, precision), batch_size)
    turns.forget_peak()
    turns.begin()
    side.score(task.take([0]))
    turns.next()
    for _ in range(settings.repeats):
        logprobs_NC = side.score(task)
        turns.next()
    questions = side.questions(task)
    tokens = [len(s) for q in questions for s in {q.prompt + a[:-1] for a in q.answers}]
    return {
        "queries": len(questions),
        "batch_size": batch_size,
        "tokens_per_query": sum(tokens) / len(questions),
        "flops_per_query": whole_flops(shapes_of(side.model), questions) / len(questions),
        "logprobs": dict(zip(task.rows, logprobs_NC.tolist(), strict=True)),
    }


def matmul(shapes: Shapes, precision: Precision, blocks: int, turns: Turns) -> dict[str, Any]:
    """Beside each block of the others, how fast this machine multiplies matrices just then."""
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    rates = []
    turns.begin()
    for _ in range(blocks):
        rates.append(matmul_rate(shapes, dtype, device()))
        turns.next()
    return {"rates": rates}


def require_peer() -> None:
    """Raise ConfigError where lm-eval is not installed."""
    if find_spec("lm_eval") is None:
        raise ConfigError(
            "lm_eval is not installed; only this benchmark needs it. "
            "Run: .venv/bin/python -m pip install lm_eval==0.4.13"
        )


@contextmanager
def silent() -> Iterator[None]:
    """lm-eval warns of a model that it did not load itself, and prints batch sizes."""
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    with redirect_stdout(StringIO()):
        yield
