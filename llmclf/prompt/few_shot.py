"""From splits to predictions by prompting: choose demonstrations, ask, calibrate.

variants -> questions -> log-likelihoods -> probabilities
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from accelerate import Accelerator
from rich.console import Console

from llmclf.atomic import write_text
from llmclf.config import ConfigError, dump_json
from llmclf.data.corpus import Splits
from llmclf.data.descriptions import are_numbers, for_example
from llmclf.data.table import listed
from llmclf.embedded import cache_dir
from llmclf.evaluate.cost import Cost
from llmclf.evaluate.latency import percentiles
from llmclf.evaluate.measure import measured
from llmclf.evaluate.outcome import Outcome
from llmclf.model.config import LanguageModelConfig
from llmclf.prompt import local, remote
from llmclf.prompt.config import ApiConfig, PromptConfig
from llmclf.prompt.demos import Embed, check_shots
from llmclf.prompt.embed import Encoder
from llmclf.prompt.outcome import VariantScores, outcome, tables
from llmclf.prompt.template import verbalise
from llmclf.prompt.variants import Variant, variants


class Model(Protocol):
    """What answers: a model on this machine, or one behind an API."""

    @property
    def seconds(self) -> dict[str, float]: ...

    @property
    def parameters(self) -> int | None: ...

    @property
    def world_size(self) -> int: ...

    def plan(self) -> dict[str, Any]: ...

    def shortened(self) -> dict[str, int]: ...

    def warnings(self) -> list[str]: ...

    def examples(self) -> list[str]: ...

    def facts(self) -> dict[str, Any]: ...

    def cost(self) -> dict[str, Any]: ...

    def latencies(self) -> list[float]: ...

    def score(self, folder: Path, console: Console) -> list[VariantScores]: ...


@dataclass(frozen=True, kw_only=True)
class FewShot:
    """All that a prompted run needs, checked and ready; nothing has been written yet."""

    config: PromptConfig
    splits: Splits
    variants: list[Variant]
    model: Model
    accelerator: Accelerator

    @property
    def is_main(self) -> bool:
        """Whether this process writes."""
        return self.accelerator.is_main_process

    def plan(self) -> dict[str, Any]:
        """What would happen, for ``--dry-run`` and environment.json."""
        return {**self.model.plan(), "variants": len(self.variants)}

    def truncated(self) -> dict[str, Any]:
        """Texts that did not fit, for audit.json."""
        return {"prompts": self.model.shortened()}

    def warnings(self) -> list[str]:
        """What the model will not see, or cannot do, a line each."""
        return [*self.model.warnings(), *self._numbered()]

    def _numbered(self) -> list[str]:
        """A word on labels that are numbers, which say nothing to a model that is asked."""
        labels = self.splits.labels
        if self.config.verbaliser or self.splits.descriptions or not are_numbers(labels):
            return []
        words = for_example(labels)
        first = "--prompt.answers words " if self.config.answers == "letters" else ""
        return [
            f"labels are numbers ({listed(labels, 3)}), and the model is asked for them as they "
            f"are; say what they mean: {first}--prompt.verbaliser {words}, "
            f"or --data.descriptions {words}"
        ]

    def run(self, folder: Path, console: Console) -> Outcome:
        """Score all prompts. ``facts`` holds the ``prompt`` object of results.json, whose scores
        are those before the temperature. What was scored before a kill is not scored again."""
        if self.is_main:
            write_text(folder / "prompt" / "prompts.json", dump_json(self.shown()))
        resumed = any((folder / "prompt").glob("scored-*"))
        with measured(self.accelerator) as scoring:
            scored = self.model.score(folder / "prompt", console)
        splits, first, kind = self.splits, scored[0], scored[0].kind(self.config.calibration)
        test = first.predictions("test", kind, splits.test, splits.labels)
        validation = None
        if len(splits.validation):
            validation = first.predictions("validation", kind, splits.validation, splits.labels)
        facts = outcome(scored, kind, splits.test, splits.labels)
        for table in tables(facts):
            console.print(table)
        facts |= self.model.facts() | {
            "shortened": self.model.shortened(),
            "seconds": self.model.seconds["all"],
        }
        cost = dataclasses.replace(
            self.cost(scoring.peak_memory_bytes),
            predict_energy_joules=None if resumed else self.test_joules(scoring.joules),
            energy_meters=scoring.energy_meters,
        )
        return Outcome(validation=validation, test=test, cost=cost, facts={"prompt": facts})

    def test_joules(self, joules: float | None) -> float | None:
        """The test rows' share of what a model on this machine took; a server's is not known."""
        seconds = self.model.seconds
        if joules is None or self.model.parameters is None or not seconds["all"]:
            return None
        return joules * seconds["test"] / seconds["all"]

    def cost(self, peak_bytes: int) -> Cost:
        """What the answers took. Answers from a cache were timed in another run, or never."""
        seconds = self.model.seconds.get("test")
        return Cost(
            predict_seconds=seconds,
            predict_examples_per_second=len(self.splits.test) / seconds if seconds else None,
            peak_memory_bytes=peak_bytes,
            total_parameters=self.model.parameters,
            trainable_parameters=0,
            devices=self.model.world_size,
            **self.model.cost(),
            **percentiles(self.model.latencies()),
        )

    def shown(self) -> list[dict[str, Any]]:
        """Each variant's first prompt and the rows that demonstrate in it, for people to read."""
        return [
            {
                "template": variant.template,
                "seed": variant.draw.seed,
                "order": variant.draw.order,
                "answers": dict(
                    zip(self.splits.labels, variant.wording.answers.words, strict=True)
                ),
                "first_row": self.splits.test.ids[0],
                "demonstrations": [
                    self.splits.train.ids[row] for row in variant.parts["test"][0].shown
                ],
                "prompt": example,
            }
            for variant, example in zip(self.variants, self.model.examples(), strict=True)
        ]


def prepare(
    splits: Splits,
    *,
    config: PromptConfig,
    api: ApiConfig,
    model_config: LanguageModelConfig,
    max_length: int | None,
    seed: int,
    precision: Literal["fp32", "bf16"],
    accelerator: Accelerator,
    weights: bool = True,
) -> FewShot:
    """Choose demonstrations and word all prompts; load the model, or ask the server what it offers,
    unless ``weights=False``.

    Raises ConfigError before anything is written.

    ``max_length``: most tokens of a prompt and its answer, None: the model's own; ``accelerator``:
    of the processes that share the work; ``precision``: of weights and arithmetic.
    """
    if splits.multilabel:
        raise ConfigError(
            "prompting gives a row one label, but the rows of this corpus may have several. "
            "Fine-tune a model (recipes/bert_base.py), or give --data.label a single column."
        )
    answers = verbalise(config, splits.labels, splits.descriptions)
    check_shots(config, splits)
    embed: Embed | None = None
    if config.shots and config.demonstrations == "nearest" and config.similarity != "tfidf":
        embed = Encoder(config.similarity, accelerator.device)
    asked = variants(config, splits, answers, seed=seed, embed=embed)
    model: Model
    if api.base_url is not None:
        check_alone(accelerator.num_processes)
        model = remote.prepare(
            asked,
            splits.train,
            config=api,
            name=model_config.checkpoint,
            cache=cache_dir() / "api.sqlite",
            weights=weights,
        )
    else:
        model = local.prepare(
            asked,
            splits.train,
            config=config,
            model_config=model_config,
            max_length=max_length,
            precision=precision,
            accelerator=accelerator,
            weights=weights,
        )
    return FewShot(
        config=config, splits=splits, variants=asked, model=model, accelerator=accelerator
    )


def check_alone(num_processes: int) -> None:
    """Raise ConfigError where several processes would ask one server."""
    if num_processes > 1:
        raise ConfigError(
            f"api.base_url with {num_processes} processes: one is enough to ask a server. Launch "
            "one, and set --api.concurrency."
        )
