"""What prompt_vs_lm_eval.py asks: rows, demonstrations and strings, the same for all sides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from common import RESULTS, SHARED
from transformers import PreTrainedTokenizerBase

from llmclf.config import ConfigError
from llmclf.data.corpus import Split, Splits
from llmclf.model.causal import context_tokens, load_causal_config, load_causal_tokenizer
from llmclf.prompt.config import PromptConfig
from llmclf.prompt.demos import check_shots
from llmclf.prompt.encode import PromptEncoder
from llmclf.prompt.template import verbalise
from llmclf.prompt.tokens import PromptTokenizer
from llmclf.prompt.variants import Variant, variants

Precision = Literal["fp32", "bf16"]
Answers = Literal["words", "letters"]
CaseName = Literal[
    "fp32-words",
    "fp32-letters",
    "bf16-words",
    "bf16-letters",
    "nearest-words",
    "nearest-letters",
    "growth",
]
GROWTH = (4, 32)
"""Demonstrations of both sides of the case growth."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is compared, on what, and how long."""

    source: str = str(SHARED) if SHARED.exists() else "opinions"
    """Rows, as --data.source of a recipe."""
    checkpoint: str = "smollm2-135m"
    """Model, as --model.checkpoint of a recipe."""
    cases: tuple[CaseName, ...] = ()
    """What is timed; nothing given: all on a CPU, fp32-words and bf16-words on a GPU."""
    shots: int = 16
    """Demonstrations of a prompt; growth has its own."""
    queries: int = 400
    """Rows that our side scores per repeat, with one prefix for all."""
    nearest_queries: int = 40
    """Likewise where each row has demonstrations of its own."""
    peer_queries: int = 20
    """Of these, rows that the peer scores per repeat: evenly spaced by length."""
    gate_queries: int = 8
    """Likewise, rows of the gate."""
    repeats: int = 3
    """Repeats that are counted, after a warm-up that is not."""
    peer_batch_sizes: tuple[str, ...] = (
        ("1", "8", "64") if torch.cuda.is_available() else ("1", "4")
    )
    """Batch sizes that the peer tries first; it gets the fastest. auto starts with 64 rows, whose
    logits do not fit the memory of most CPU machines."""
    threads: int = torch.get_num_threads()
    """Threads of each side; torch's own choice is a thread per core."""
    tolerance: float = 1e-4
    """Largest difference of log-probabilities in fp32 that passes the gate."""
    seed: int = 0
    output: Path = RESULTS / "prompt_vs_lm_eval.json"

    def __post_init__(self) -> None:
        for name in ("shots", "queries", "nearest_queries", "peer_queries", "gate_queries"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}: must be 1 or more.")
        if self.repeats < 1 or self.threads < 1 or not self.peer_batch_sizes:
            raise ConfigError("repeats, threads and the number of batch sizes must be 1 or more.")


@dataclass(frozen=True, kw_only=True)
class Task:
    """Prompts of one kind: what both sides start from."""

    config: PromptConfig
    train: Split
    variant: Variant
    """The queries, not worded yet."""
    strings: tuple[tuple[tuple[str, str], ...], ...]
    """The same, worded: for each query and label, prompt and answer."""
    rows: tuple[int, ...]
    """Which of all queries these are."""

    def take(self, rows: Sequence[int]) -> Task:
        """Some of the queries."""
        asks = [self.variant.parts["test"][row] for row in rows]
        return replace(
            self,
            variant=replace(self.variant, parts={"test": asks}),
            strings=tuple(self.strings[row] for row in rows),
            rows=tuple(self.rows[row] for row in rows),
        )

    def spaced(self, count: int) -> list[int]:
        """Queries that stand for all: evenly spaced by length."""
        order = sorted(range(len(self.strings)), key=lambda i: len(self.strings[i][0][0]))
        count = min(count, len(order))
        return sorted(order[(2 * i + 1) * len(order) // (2 * count)] for i in range(count))


def make_task(
    splits: Splits,
    settings: Settings,
    *,
    answers: Answers,
    nearest: bool = False,
    shots: int | None = None,
) -> Task:
    """Choose rows and demonstrations as a run does, and word them for the peer."""
    config = PromptConfig(
        shots=settings.shots if shots is None else shots,
        demonstrations="nearest" if nearest else "balanced",
        answers=answers,
        end_mark="never",
        chat="never",
        calibration_rows=1,
    )
    count = settings.nearest_queries if nearest else settings.queries
    splits = replace(splits, test=splits.test.take(range(min(count, len(splits.test)))))
    check_shots(config, splits)
    (variant,) = variants(
        config, splits, verbalise(config, splits.labels), seed=settings.seed, embed=None
    )
    variant = replace(variant, parts={"test": variant.parts["test"]}, attacked={})
    rows = tuple(range(len(splits.test)))
    task = Task(config=config, train=splits.train, variant=variant, strings=(), rows=rows)
    encoder = make_encoder(task, settings, load_causal_tokenizer(settings.checkpoint))
    shortened = encoder.encode(variant).shortened
    if shortened.rows or shortened.demonstrations:
        raise ConfigError("a prompt is longer than the model takes. Set fewer --shots.")
    return replace(task, strings=tuple(worded(task, encoder.tokenizer)))


def worded(task: Task, tokenizer: PromptTokenizer) -> Iterator[tuple[tuple[str, str], ...]]:
    """For each query, what is tokenised as a whole: prompt and answer of every label."""
    train, wording = task.train, task.variant.wording

    for ask in task.variant.parts["test"]:
        shown = [
            (wording.block(*train.text_and_pair(row), tokenizer.harmless), int(train.targets[row]))
            for row in ask.shown
        ]
        frame = tokenizer.frame(wording, shown)
        prompt = frame.head + wording.block(ask.text, ask.pair, tokenizer.harmless) + frame.tail
        yield tuple((prompt, frame.before_answer + word) for word in wording.answers.words)


def make_encoder(
    task: Task, settings: Settings, tokenizer: PreTrainedTokenizerBase
) -> PromptEncoder:
    longest = context_tokens(load_causal_config(settings.checkpoint), None)
    prompt_tokenizer = PromptTokenizer(tokenizer, max_length=longest, chat=False)
    return PromptEncoder(task.config, prompt_tokenizer, task.train)
