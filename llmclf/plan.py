"""``llmclf plan``: which methods and strategies fit the devices, before one is taken.

Every method x strategy of a recipe: bytes per device, the largest micro-batch, and the launch line
of the cheapest. Needs neither weights nor a GPU, and for known checkpoints no hub.
"""

from __future__ import annotations

import dataclasses
import json
import runpy
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table
from transformers import PretrainedConfig

from llmclf import experiment as experiments
from llmclf.config import ConfigError, UserError, dump_json, to_json, write_text
from llmclf.data.corpus import load_splits
from llmclf.data.encode import encode
from llmclf.experiment import Experiment
from llmclf.model.build import ModelConfig, Tune, load_tokenizer, max_tokens, prepare_config
from llmclf.model.family import context_length, family_of
from llmclf.model.known import config_for_planning
from llmclf.model.quantize import Quantize
from llmclf.train.activations import Traces
from llmclf.train.config import TrainConfig
from llmclf.train.engine import Strategy
from llmclf.train.footprint import (
    Bytes,
    Run,
    impossible,
    largest_micro_batch,
    parse_bytes,
)
from llmclf.train.loop import num_steps
from llmclf.train.memory import STRATEGIES, Precision

METHODS: tuple[tuple[Tune, Quantize], ...] = (
    ("head", "none"),
    ("last_n", "none"),
    ("lora", "none"),
    ("lora", "int8"),
    ("lora", "nf4"),
    ("full", "none"),
)
"""``model.tune`` and ``model.quantize``, from the least work per token to the most."""
HEADROOM = 0.08
"""Share of a device left to the CUDA context, NCCL and the allocator's gaps."""
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
        for name in ("devices", "length", "rows", "tokens_per_second"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 10**12:
                option = name.replace("_", "-")
                raise ConfigError(f"--{option} {value}: must be a number above 0.")
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


@dataclass(frozen=True, kw_only=True)
class Option:
    """One line of the plan."""

    tune: Tune
    quantize: Quantize
    strategy: Strategy
    devices: int
    problem: str | None = None
    """Why it is impossible, or None."""
    bytes: Bytes | None = None
    """Per device, at ``micro_batch_size`` rows, or at one row where none fits."""
    fits: bool = False
    micro_batch_size: int = 0
    """Rows per device to launch with."""
    largest_micro_batch: int = 0
    """The most rows that would fit, up to 4,096."""
    gradient_checkpointing: bool = False

    @property
    def method(self) -> str:
        return self.tune if self.quantize == "none" else f"{self.tune}+{self.quantize}"


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
    capacity = int(parse_bytes(options.device_memory) * (1 - HEADROOM))
    config, real = config_for_planning(chosen.model.checkpoint)
    if not real:
        console.print(f"{chosen.model.checkpoint}: no hub here, shapes from the planner's own list")
    corpus = read_corpus(chosen, options, config)
    console.print(corpus.source, markup=False, highlight=False)
    traces = traces_of(chosen, config, corpus)
    found = plan(
        chosen, traces, corpus, devices=options.devices, capacity=capacity, methods=METHODS
    )
    own = cheapest(found, chosen.model)
    overall = cheapest(found)
    time = duration(chosen.train, corpus, speed)
    show(console, found, options, own, overall, time, rest)
    if options.json is not None:
        write(options.json, options, corpus, found, own, overall, time, rest)


def load_recipe(path: Path, rest: Sequence[str]) -> Experiment:
    """The recipe's experiment with the overrides that were given; ConfigError for what is none."""
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such recipe. Give a file such as recipes/gpt2.py.")
    try:
        names = runpy.run_path(str(path), run_name="recipe")
    except UserError:
        raise
    except Exception as error:
        raise ConfigError(f"{path}: not a recipe ({type(error).__name__}: {error}).") from error
    if "experiment" not in names:
        many = "experiments" in names
        reason = "a comparison of several runs" if many else "not a recipe: no experiment()"
        raise ConfigError(
            f"{path}: {reason}. Plan a recipe of one method, as recipes/bert_base.py."
        )
    launch = experiments.parse(names["experiment"](), list(rest), str(names.get("__doc__") or ""))
    if launch.experiment.method != "fine_tune":
        raise ConfigError(f"{path}: nothing of it runs on a GPU. Plan a fine-tune.")
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
        why = (
            "given" if given else f"the corpus is not read here: {str(error).splitlines()[0][:120]}"
        )
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


def plan(
    chosen: Experiment,
    traces: Traces,
    corpus: Corpus,
    *,
    devices: int,
    capacity: int,
    methods: Sequence[tuple[Tune, Quantize]],
) -> list[Option]:
    """Every method under every strategy, in the order of ``methods`` and STRATEGIES.

    ``capacity``: bytes of a device that a run may take.
    """
    precision: Precision = "fp32" if chosen.train.precision == "fp32" else "bf16"
    found = []
    for tune, quantize in methods:
        model = dataclasses.replace(chosen.model, tune=tune, quantize=quantize)
        for strategy in STRATEGIES:
            if devices == 1 and strategy in ("ddp", "zero1", "zero2", "fsdp2"):
                continue  # nothing to divide among
            run = Run(
                traces=traces,
                model=model,
                strategy=strategy,
                world_size=1 if strategy == "single" else devices,
                precision=precision,
                gradient_checkpointing=False,
                length=corpus.longest,
            )
            found.append(option(run, chosen.train, capacity))
    return found


def option(run: Run, train: TrainConfig, capacity: int) -> Option:
    """What fits of one method and strategy.

    Without gradient checkpointing if the wanted micro-batch fits so, else with it, unless that
    allows no larger one.
    """
    bare = Option(
        tune=run.model.tune,
        quantize=run.model.quantize,
        strategy=run.strategy,
        devices=run.world_size,
        problem=impossible(run.model.tune, run.model.quantize, run.strategy),
    )
    if bare.problem is not None:
        return bare
    per_device = -(-train.global_batch_size // run.world_size)
    wanted = min(train.micro_batch_size or per_device, per_device)
    supported = family_of(run.traces.config).gradient_checkpointing
    runs = [] if train.gradient_checkpointing else [run]
    runs += [dataclasses.replace(run, gradient_checkpointing=True)] if supported else []
    best: tuple[int, Run, Any] | None = None
    for candidate in runs:
        line = candidate.traces.line(candidate.setting, length=run.length)
        most = largest_micro_batch(candidate, capacity, most=4096, line=line)
        if best is None or min(most, wanted) > min(best[0], wanted):
            best = (most, candidate, line)
        if best[0] >= wanted:
            break
    assert best is not None
    largest, taken, line = best
    rows = min(largest, wanted)
    accumulation = -(-per_device // max(rows, 1))
    return dataclasses.replace(
        bare,
        bytes=taken.with_activations(line(max(rows, 1)), accumulation=max(2, accumulation)),
        fits=largest > 0,
        micro_batch_size=rows,
        largest_micro_batch=largest,
        gradient_checkpointing=taken.gradient_checkpointing,
    )


def cheapest(found: Sequence[Option], model: ModelConfig | None = None) -> Option | None:
    """The option that fits with the least work: METHODS' order, recomputation, then communication
    (STRATEGIES' order); of one method, or of all. On several devices all of them are used."""
    order = {m: i for i, m in enumerate(METHODS)}
    many = max(o.devices for o in found) > 1
    candidates = [
        o
        for o in found
        if o.fits
        and not (many and o.strategy == "single")
        and (model is None or (o.tune, o.quantize) == (model.tune, model.quantize))
    ]
    return min(
        candidates,
        key=lambda o: (
            order[o.tune, o.quantize],
            o.gradient_checkpointing,
            STRATEGIES.index(o.strategy),
        ),
        default=None,
    )


def launch_line(chosen: Option, recipe: Path, rest: Sequence[str]) -> str:
    """The exact command; ``rest`` are the overrides that the plan was made with."""
    words = ["accelerate", "launch", "--config_file", f"launch/accelerate/{chosen.strategy}.yaml"]
    if chosen.strategy != "single":
        words += ["--num_processes", str(chosen.devices)]
    words += [str(recipe), *_without(rest), "--model.tune", chosen.tune]
    words += ["--model.quantize", chosen.quantize] if chosen.quantize != "none" else []
    words += ["--train.micro-batch-size", str(chosen.micro_batch_size)]
    words += ["--train.gradient-checkpointing"] if chosen.gradient_checkpointing else []
    return shlex.join(words)


def _without(rest: Sequence[str]) -> list[str]:
    """The overrides less those that the plan decides itself."""
    kept: list[str] = []
    words = iter(rest)
    for word in words:
        name, given, _ = word.replace("_", "-").partition("=")
        if name in ("--model.tune", "--model.quantize", "--train.micro-batch-size"):
            if not given:
                next(words, None)
        elif name not in ("--train.gradient-checkpointing", "--train.no-gradient-checkpointing"):
            kept.append(word)
    return kept


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


def show(
    console: Console,
    found: Sequence[Option],
    options: PlanOptions,
    own: Option | None,
    overall: Option | None,
    time: dict[str, Any],
    rest: Sequence[str],
) -> None:
    """Print the table and the recommendations."""
    console.print(table(found, options))
    console.print(
        f"GB (10^9 bytes) per device at the micro-batch to launch with; {HEADROOM:.0%} of "
        f"{options.device_memory} stay free for the CUDA context and the allocator.",
        style="dim",
    )
    text = [f"{k.replace('_', ' ')} {v:,.4g}" if k == "hours" else f"{k.replace('_', ' ')} {v:,}"
            for k, v in time.items() if v is not None]  # fmt: skip
    if text:
        console.print(", ".join(text))
    if time["hours"] is None:
        console.print("hours: give --tokens-per-second or --measured RUN; none is made up")
    for title, chosen in (("this recipe's method", own), ("any method", overall)):
        if chosen is None:
            console.print(f"{title}: nothing fits. Take more devices, or shorter rows.")
        else:
            console.print(f"cheapest that fits, {title}: {chosen.method} by {chosen.strategy}")
            line = launch_line(chosen, options.recipe, rest)
            console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)


def table(found: Sequence[Option], options: PlanOptions) -> Table:
    """One row per method and strategy."""
    shown = Table(title=f"{options.recipe} on {options.devices} x {options.device_memory}")
    for name in ("method", "strategy"):
        shown.add_column(name, no_wrap=True)
    for name in ("weights", "gradients", "optimizer", "activations", "workspace", "total"):
        shown.add_column(name, justify="right")
    shown.add_column("fits")
    shown.add_column("rows", justify="right")
    shown.add_column("most rows", justify="right")
    shown.add_column("checkpointing")
    for o in found:
        if o.bytes is None:
            shown.add_row(o.method, o.strategy, *[""] * 6, f"no: {o.problem}", "", "", "")
            continue
        b = o.bytes
        sizes = (b.weights, b.gradients, b.optimizer, b.activations, b.workspace, b.total)
        shown.add_row(
            o.method,
            o.strategy,
            *(f"{size / 1e9:,.1f}" for size in sizes),
            "[green]yes[/]" if o.fits else "[red]no[/]",
            str(o.micro_batch_size or ""),
            str(o.largest_micro_batch or ""),
            "yes" if o.gradient_checkpointing else "no",
        )
    return shown


def write(
    path: Path,
    options: PlanOptions,
    corpus: Corpus,
    found: Sequence[Option],
    own: Option | None,
    overall: Option | None,
    time: dict[str, Any],
    rest: Sequence[str],
) -> None:
    """Write the whole plan as JSON."""

    def with_line(chosen: Option | None) -> dict[str, Any] | None:
        if chosen is None:
            return None
        return {**to_json(chosen), "launch": launch_line(chosen, options.recipe, rest)}

    content = {
        "options": to_json(options),
        "corpus": to_json(corpus),
        "time": time,
        "methods": [to_json(o) for o in found],
        "cheapest_of_the_recipe": with_line(own),
        "cheapest": with_line(overall),
    }
    try:
        write_text(path, dump_json(content))
    except OSError as error:
        raise ConfigError(f"--json {path}: cannot be written ({error}).") from error
