"""A model behind an API: puts what is asked into requests, and what comes back into scores."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from llmclf.data.corpus import Split
from llmclf.prompt.api.model import ApiModel, ApiPrompt, ApiScores
from llmclf.prompt.config import ApiConfig
from llmclf.prompt.outcome import VariantScores
from llmclf.prompt.progress import ScoringProgress
from llmclf.prompt.template import Frame, Wording
from llmclf.prompt.variants import PromptSpec, Variant

_CONTROL = re.compile(r"<(?=\||/?s>|(?:start|end)_of_turn>)|\[(?=/?(?:INST|SYS|AVAILABLE_TOOLS)\])")
"""What begins a control token of common chat formats. The server's tokenizer is not known here."""


@dataclass(frozen=True, kw_only=True)
class RemoteModel:
    """A server's model and all prompts for it."""

    config: ApiConfig
    variants: list[Variant]
    train: Split
    client: ApiModel
    scoring: Literal["logprobs", "answer"] | None
    """Way the server is asked; None where only the plan is wanted: nothing has been asked."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Seconds of all requests, and of those for the test rows of the result; filled by
    :meth:`score`."""

    @property
    def parameters(self) -> None:
        """Number of parameters of a model that is not here: not known."""

    @property
    def world_size(self) -> int:
        """Number of processes: one asks."""
        return 1

    def plan(self) -> dict[str, Any]:
        """What is in force, for ``--dry-run`` and environment.json."""
        return {
            "world_size": 1,
            "strategy": "single",
            "base_url": self.config.base_url,
            "scoring": self.scoring,
            "constrained": self.scoring and self.client.constrained,
            "prompts": sum(len(v.specs()) for v in self.variants),
        }

    def shortened(self) -> dict[str, int]:
        """Texts that were shortened: none here, the server refuses what is too long."""
        return {"rows": 0, "tokens_lost": 0, "demonstrations": 0}

    def warnings(self) -> list[str]:
        """What a user should know, a line each."""
        return []

    def cost(self) -> dict[str, Any]:
        """What the answers cost: tokens and price as far as the server tells them."""
        usage = self.client.usage
        return {
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "price": usage.price,
        }

    def latencies(self) -> list[float]:
        """Seconds of the requests that were sent, not taken from the cache."""
        return self.client.usage.seconds

    def facts(self) -> dict[str, Any]:
        """How the server was asked, for results.json."""
        usage = self.client.usage
        return {
            "scoring": self.scoring,
            "requests": usage.requests,
            "retries": usage.retries,
            "cached": usage.cached,
        }

    def examples(self) -> list[str]:
        """The first prompt of each variant."""
        examples = []
        for variant in self.variants:
            prompt = self._prompt(variant.wording, variant.parts["test"][0])
            turns = [f"[{turn['role']}] {turn['content']}" for turn in prompt.messages]
            examples.append("\n".join(turns) if self.scoring == "answer" else prompt.text)
        return examples

    def score(self, folder: Path, console: Console) -> list[VariantScores]:
        """Scores of all variants; what has no answer in the cache yet is asked."""
        names = [self._names(variant) for variant in self.variants]
        total = sum(
            len(variant.parts.get(name, [None]))  # the premise is one
            for variant, some in zip(self.variants, names, strict=True)
            for name in some
        )
        scored: list[VariantScores] = []
        self.seconds["all"], done = 0.0, 0
        with ScoringProgress(console, "asking", total) as progress:
            for variant, some in zip(self.variants, names, strict=True):
                by_part: dict[str, ApiScores] = {}
                for name in some:
                    prompts, started = self._prompts(variant, name), time.perf_counter()
                    by_part[name] = self.client.score(prompts, partial(_reach, progress, done))
                    seconds = time.perf_counter() - started
                    done += len(prompts)
                    self.seconds["all"] += seconds
                    if not scored and name == "test" and not self.client.usage.cached:
                        self.seconds["test"] = seconds
                scored.append(_collected(variant, by_part))
        return scored

    def _names(self, variant: Variant) -> list[str]:
        """The parts that are asked; written answers are not calibrated."""
        if self.scoring == "answer":
            return [n for n in variant.parts if n not in ("reference", "content_free")]
        return [*variant.parts, "premise"]

    def _prompts(self, variant: Variant, part: str) -> list[ApiPrompt]:
        if part == "premise":
            frame = variant.wording.plain([])
            return [_worded(variant.wording, frame.bare(), [], "")]
        return [self._prompt(variant.wording, spec) for spec in variant.parts[part]]

    def _prompt(self, wording: Wording, spec: PromptSpec) -> ApiPrompt:
        train = self.train
        shown = [
            (wording.block(*train.text_and_pair(row), _harmless), int(train.targets[row]))
            for row in spec.shown
        ]
        block = wording.block(spec.text, spec.pair, _harmless)
        turns = wording.messages(shown, block, lead=False)
        return _worded(wording, wording.plain(shown), turns, block)


def _collected(variant: Variant, by_part: dict[str, ApiScores]) -> VariantScores:
    """All parts of a variant: log-likelihoods, or else written answers."""
    logprobs = {n: s.logprobs_NC for n, s in by_part.items() if s.logprobs_NC is not None}
    tokens = {n: s.tokens_NC for n, s in by_part.items() if s.tokens_NC is not None}
    choices = None if logprobs else {n: s.choice_N for n, s in by_part.items()}
    return VariantScores(variant=variant, parts=logprobs, tokens=tokens, choices=choices)


def _reach(progress: ScoringProgress, before: int, rows: int) -> None:
    progress.reach(before + rows)


def _worded(wording: Wording, frame: Frame, turns: list[dict[str, str]], block: str) -> ApiPrompt:
    words = wording.answers.words
    return ApiPrompt(
        text=frame.head + block + frame.tail,
        messages=turns,
        answers=tuple(frame.before_answer + word for word in words),
        words=words,
    )


def _harmless(text: str) -> str:
    return _CONTROL.sub(r"\g<0> ", text)


def prepare(
    variants: list[Variant],
    train: Split,
    *,
    config: ApiConfig,
    name: str,
    cache: Path,
    weights: bool = True,
) -> RemoteModel:
    """Find out what the server offers; with ``weights=False`` nothing is asked.

    Raises ConfigError where the server cannot be used.

    ``train``: the rows that demonstrations are taken from; ``name``: the model's at the server;
    ``cache``: file of the answers that were paid for.
    """
    client = ApiModel(config, name, cache=cache)
    model = RemoteModel(config=config, variants=variants, train=train, client=client, scoring=None)
    if not weights:
        return model
    first = model._prompt(variants[0].wording, variants[0].parts["test"][0])
    return replace(model, scoring=client.probe(first))
