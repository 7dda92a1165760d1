"""``llmclf plan``: which methods and strategies fit the devices, before one is taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from llmclf.cli.recipe_file import read_recipe
from llmclf.config import ConfigError, to_json
from llmclf.methods.fine_tune import FineTune
from llmclf.run_folder import read_results

if TYPE_CHECKING:
    from llmclf.plan.search import Devices


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Show which methods and strategies fit your devices, and the launch line of the cheapest.

    Every method x strategy of a recipe: bytes per device and the largest micro-batch. Needs neither
    weights nor a GPU, and for known checkpoints no hub. The recipe's own options may follow.
    """

    recipe: tyro.conf.Positional[Path]
    """A recipe file; every option of the recipe may follow."""
    devices: int = 1
    """Number of devices, over all machines."""
    device_memory: str = "80GB"
    """Memory of one device: 80GB (10^9 bytes), 80GiB (2^30), 81559MiB."""
    devices_per_machine: int = 8
    """Devices of one machine, which share its host memory."""
    host_memory: str | None = None
    """Memory of one machine, as 1TB; None: what a run needs of it is shown and not judged."""
    length: int | None = None
    """Tokens of the longest row; None: of the corpus if it can be read here, else the most that
    the recipe allows."""
    rows: int | None = None
    """Training rows; None: of the corpus if it can be read here."""
    tokens_per_second: float | None = None
    """Training tokens per second of all devices together, measured by you; for hours."""
    measured: Path | None = None
    """A finished run folder whose measured tokens per second are taken."""
    json: Annotated[Path | None, tyro.conf.arg(name="json")] = None
    """File to write the whole plan to."""

    def __post_init__(self) -> None:
        for name in ("devices", "devices_per_machine", "length", "rows", "tokens_per_second"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 10**12:
                option = name.replace("_", "-")
                raise ConfigError(f"--{option} {value}: must be a number above 0.")
        if self.devices > self.devices_per_machine and self.devices % self.devices_per_machine:
            raise ConfigError(
                f"--devices {self.devices}: no multiple of --devices-per-machine "
                f"{self.devices_per_machine}. Machines must have the same number."
            )
        if self.tokens_per_second is not None and self.measured is not None:
            raise ConfigError(
                "--tokens-per-second and --measured both give a throughput: take one."
            )

    def run(self, rest: Sequence[str]) -> None:
        """Print the plan of the recipe with its own options, ``rest``."""
        experiment = load_recipe(self.recipe, rest)
        from llmclf.terminal import quieten

        quieten()
        make_plan(self, experiment, rest)


def make_plan(options: Plan, experiment: FineTune, rest: Sequence[str]) -> None:
    """Search, print and, if asked for, write the plan."""
    from rich.console import Console

    from llmclf.plan.corpus import duration, read_corpus, traces_of
    from llmclf.plan.known import config_for_planning
    from llmclf.plan.search import METHODS, cheapest, plan
    from llmclf.plan.show import Report, show, write

    model, speed, console = experiment.model, throughput(options), Console()
    devices = devices_of(options)
    config, real = config_for_planning(model.checkpoint)
    if not real:
        console.print(f"{model.checkpoint}: no hub here, shapes from the planner's own list")
    corpus = read_corpus(
        experiment.data,
        experiment.seed,
        model.checkpoint,
        config,
        length=options.length,
        rows=options.rows,
    )
    console.print(corpus.source, markup=False, highlight=False)
    own = (model.tune, model.quantize)
    planned = plan(
        model,
        experiment.train,
        traces_of(model, config, corpus),
        longest=corpus.longest,
        devices=devices,
        methods=METHODS if own in METHODS else (*METHODS, own),
    )
    report = Report(
        recipe=options.recipe,
        rest=rest,
        saves_adapter=model.save == "adapter",
        devices=devices,
        device_memory=options.device_memory,
        options=planned,
        own=cheapest(planned, model),
        overall=cheapest(planned),
        time=duration(experiment.train, corpus, speed),
    )
    show(console, report)
    if options.json is not None:
        write(options.json, report, {"options": to_json(options), "corpus": to_json(corpus)})


def devices_of(options: Plan) -> Devices:
    """The devices that the options describe."""
    from llmclf.plan.footprint import parse_bytes
    from llmclf.plan.search import HEADROOM, Devices

    host = options.host_memory
    return Devices(
        number=options.devices,
        per_machine=options.devices_per_machine,
        capacity=int(parse_bytes(options.device_memory) * (1 - HEADROOM)),
        host_memory=None if host is None else parse_bytes(host, "--host-memory"),
    )


def load_recipe(path: Path, rest: Sequence[str]) -> FineTune:
    """The recipe's experiment with the overrides that were given; ConfigError for what is none."""
    recipe = read_recipe(path)
    if recipe.several(rest):
        raise ConfigError(
            f"{path}: a comparison of several runs. Plan a recipe of one method, as "
            "recipes/bert_base.py."
        )
    (chosen,) = recipe.resolved(rest)
    if not isinstance(chosen, FineTune):
        raise ConfigError(
            f"{path}: it trains no model, so there is nothing to plan. Plan a fine-tune, as "
            "recipes/bert_base.py."
        )
    return chosen


def throughput(options: Plan) -> float | None:
    """Training tokens per second as given or measured; None if neither. Never a guess."""
    if options.measured is None:
        return options.tokens_per_second
    try:
        value = read_results(options.measured)["cost"]["train_tokens_per_second"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"--measured {options.measured}: no results of a run ({error})."
        ) from error
    if not value:
        raise ConfigError(f"--measured {options.measured}: that run measured no tokens per second.")
    return float(value)
