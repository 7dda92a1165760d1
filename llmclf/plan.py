"""``llmclf plan``: which methods and strategies fit the devices, before one is taken.

Every method x strategy of a recipe: bytes per device, the largest micro-batch, and the launch line
of the cheapest. Needs neither weights nor a GPU, and for known checkpoints no hub.
"""

from __future__ import annotations

import json
import runpy
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.console import Console
from transformers import PretrainedConfig

from llmclf import experiment as experiments
from llmclf.config import ConfigError, UserError, to_json
from llmclf.data.corpus import load_splits
from llmclf.data.encode import encode
from llmclf.experiment import Experiment
from llmclf.model.build import load_tokenizer, max_tokens, prepare_config
from llmclf.model.family import context_length, family_of
from llmclf.model.known import config_for_planning
from llmclf.plan_report import Report, show, write
from llmclf.planner import HEADROOM, METHODS, Devices, cheapest, plan
from llmclf.train.activations import Traces
from llmclf.train.config import TrainConfig
from llmclf.train.footprint import parse_bytes
from llmclf.train.loop import num_steps

LABELS_IF_UNKNOWN = 2


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """What ``llmclf plan`` takes besides the recipe's own options."""

    recipe: tyro.conf.Positional[Path]
    """A recipe file; every option of the recipe may follow."""
    devices: int = 1
    """Number of devices, over all machines."""
    device_memory: str = "80GB"
    """Memory of one device: 80GB (10^9 bytes), 80GiB (2^30), 81559MiB."""
    devices_per_machine: int = 8
    """Devices of one machine, which share its host memory."""
    host_memory: str | None = None
    """Memory of one machine, as 1TB; None: what offload needs is shown and not judged."""
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


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """What memory and time depend on of the rows."""

    longest: int
    """Tokens of the longest row."""
    rows: int | None
    mean_tokens: float | None
    num_labels: int
    source: str
    """Where these come from, for the reader."""


def main(argv: Sequence[str]) -> None:
    """Run the command with these arguments."""
    experiments.quieten()
    options, rest = tyro.cli(
        PlanOptions,
        args=list(argv),
        prog="llmclf plan",
        description=__doc__,
        return_unknown_args=True,
    )
    chosen = load_recipe(options.recipe, rest)
    speed = throughput(options)
    console = Console()
    devices = devices_of(options)
    config, real = config_for_planning(chosen.model.checkpoint)
    if not real:
        console.print(f"{chosen.model.checkpoint}: no hub here, shapes from the planner's own list")
    corpus = read_corpus(chosen, options, config)
    console.print(corpus.source, markup=False, highlight=False)
    traces = traces_of(chosen, config, corpus)
    own = (chosen.model.tune, chosen.model.quantize)
    found = plan(
        chosen.model,
        chosen.train,
        traces,
        longest=corpus.longest,
        devices=devices,
        methods=METHODS if own in METHODS else (*METHODS, own),
    )
    report = Report(
        recipe=options.recipe,
        rest=rest,
        saves_adapter=chosen.model.save == "adapter",
        devices=devices,
        device_memory=options.device_memory,
        found=found,
        own=cheapest(found, chosen.model),
        overall=cheapest(found),
        time=duration(chosen.train, corpus, speed),
    )
    show(console, report)
    if options.json is not None:
        write(options.json, report, {"options": to_json(options), "corpus": to_json(corpus)})


def devices_of(options: PlanOptions) -> Devices:
    """The devices that the options describe."""
    host = options.host_memory
    return Devices(
        number=options.devices,
        per_machine=options.devices_per_machine,
        capacity=int(parse_bytes(options.device_memory) * (1 - HEADROOM)),
        host_memory=None if host is None else parse_bytes(host, "--host-memory"),
    )


def read_recipe(path: Path) -> dict[str, Any]:
    """The names that a recipe file defines, ``experiment`` or ``experiments`` among them;
    ConfigError for what is none."""
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such recipe. Give a file such as recipes/gpt2.py.")
    try:
        names = runpy.run_path(str(path), run_name="recipe")
    except UserError:
        raise
    except Exception as error:
        raise ConfigError(f"{path}: not a recipe ({type(error).__name__}: {error}).") from error
    if not {"experiment", "experiments"} & set(names):
        raise ConfigError(
            f"{path}: not a recipe: no experiment(). Give a file such as recipes/bert_base.py."
        )
    return names


def load_recipe(path: Path, rest: Sequence[str]) -> Experiment:
    """The recipe's experiment with the overrides that were given; ConfigError for what is none."""
    names = read_recipe(path)
    if "experiment" not in names:
        raise ConfigError(
            f"{path}: a comparison of several runs. Plan a recipe of one method, as "
            "recipes/bert_base.py."
        )
    planned = experiments.Launch(experiment=names["experiment"]())
    launch = experiments.parse(planned, list(rest), str(names.get("__doc__") or ""))
    if launch.experiment.method != "fine_tune":
        raise ConfigError(
            f"{path}: it trains no model, so there is nothing to plan. Plan a fine-tune, as "
            "recipes/bert_base.py."
        )
    return launch.experiment


def read_corpus(chosen: Experiment, options: PlanOptions, config: PretrainedConfig) -> Corpus:
    """Lengths and rows of the real corpus where it and the tokenizer are here, else the most that
    the recipe allows."""
    allowed = chosen.data.max_length or context_length(config, family_of(config)) or 512
    given = options.length is not None and options.rows is not None
    try:
        if given:
            raise ConfigError("both given")
        tokenizer = load_tokenizer(chosen.model.checkpoint)
        splits = load_splits(chosen.data, chosen.seed)
        cut = max_tokens(config, tokenizer, chosen.data.max_length)
        lengths = encode(splits.train, tokenizer, cut).lengths
    except UserError as error:
        longest = options.length or allowed
        reason = textwrap.shorten(str(error).splitlines()[0], 160, placeholder=" ...")
        why = "given" if given else f"the corpus is not read here: {reason}"
        return Corpus(
            longest=longest,
            rows=options.rows,
            mean_tokens=None,
            num_labels=LABELS_IF_UNKNOWN,
            source=f"rows of {longest:,} tokens ({why})",
        )
    longest = options.length or int(lengths.max())
    rows = options.rows or len(lengths)
    mean = float(np.minimum(lengths, longest).mean())
    return Corpus(
        longest=longest,
        rows=rows,
        mean_tokens=mean,
        num_labels=len(splits.labels),
        source=f"{rows:,} training rows, longest {longest:,} tokens, mean {mean:.1f}",
    )


def traces_of(chosen: Experiment, config: PretrainedConfig, corpus: Corpus) -> Traces:
    """Traces of the classification model, as it would be built for these labels and lengths."""
    labels = [str(i) for i in range(corpus.num_labels)]
    prepare_config(config, chosen.model, labels, False, config.pad_token_id or 0, corpus.longest)
    return Traces(config)


def throughput(options: PlanOptions) -> float | None:
    """Training tokens per second as given or measured; None if neither. Never a guess."""
    if options.measured is None:
        return options.tokens_per_second
    path = options.measured / "results.json"
    try:
        value = json.loads(path.read_text(encoding="utf-8"))["cost"]["train_tokens_per_second"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"--measured {options.measured}: no results of a run ({error})."
        ) from error
    if not value:
        raise ConfigError(f"--measured {options.measured}: that run measured no tokens per second.")
    return float(value)


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
