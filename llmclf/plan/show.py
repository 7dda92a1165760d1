"""What ``llmclf plan`` prints and writes: the table, the launch lines, the JSON."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from llmclf.atomic import write_text
from llmclf.config import ConfigError, dump_json, to_json
from llmclf.plan.footprint import Bytes
from llmclf.plan.search import HEADROOM, Devices, Option

GB = 10**9


@dataclass(frozen=True, kw_only=True)
class Report:
    """A finished plan."""

    recipe: Path
    rest: Sequence[str]
    """Options of the recipe, as they were given."""
    saves_adapter: bool
    """Whether the recipe sets ``model.save=adapter``, which LoRA alone can."""
    devices: Devices
    device_memory: str
    """Memory of a device, as it was given."""
    options: Sequence[Option]
    own: Option | None
    """The cheapest option that fits of the recipe's method."""
    overall: Option | None
    """The cheapest option that fits."""
    time: dict[str, Any]

    def launch(self, chosen: Option) -> str:
        """The exact command for one option."""
        return launch_line(
            chosen,
            self.recipe,
            self.rest,
            machines=self.devices.machines,
            merged=self.saves_adapter,
        )


def launch_line(
    chosen: Option, recipe: Path, rest: Sequence[str], *, machines: int = 1, merged: bool = False
) -> str:
    """The exact command for one option. ``rest``: the overrides that the plan was made with;
    ``machines``: how many it runs on; ``merged``: whether the recipe saves an adapter, which only
    LoRA has."""
    words = ["accelerate", "launch", "--config_file", f"launch/accelerate/{chosen.strategy}.yaml"]
    if chosen.strategy != "single":
        words += ["--num_processes", str(chosen.devices)]
    if machines > 1 and chosen.strategy != "single":
        words += ["--num_machines", str(machines), "--machine_rank", "0"]
        words += ["--main_process_ip", "HOST0", "--main_process_port", "29500", "--same_network"]
    words += [str(recipe), *_without(rest), "--model.tune", chosen.tune]
    words += ["--model.quantize", chosen.quantize]
    words += ["--model.save", "merged"] if merged and chosen.tune != "lora" else []
    words += ["--train.micro-batch-size", str(chosen.micro_batch_size)]
    switch = "" if chosen.gradient_checkpointing else "no-"
    words += [f"--train.{switch}gradient-checkpointing"]
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


def show(console: Console, report: Report) -> None:
    """Print the table, what stands against the other options, and the recommendations."""
    whole = table(report)
    unbounded = console.options.update(max_width=10_000)
    fits = console.measure(whole, options=unbounded).maximum <= console.width
    console.print(whole if fits else narrow_table(report))
    host = ", host: per machine" if fits else ""
    more = "" if fits else " The parts of the total: in a wider terminal, or by --json FILE."
    console.print(
        f"GB (10^9 bytes) per device at the rows (micro-batch) to launch with{host}; "
        f"{HEADROOM:.0%} of {report.device_memory} stay free for the CUDA context and the "
        f"allocator.{more}",
        style="dim",
    )
    for line in reasons(report):
        console.print(line, style="yellow", markup=False, highlight=False)
    time = report.time
    text = [f"{k.replace('_', ' ')} {v:,.4g}" if k == "hours" else f"{k.replace('_', ' ')} {v:,}"
            for k, v in time.items() if v is not None]  # fmt: skip
    if text:
        console.print(", ".join(text))
    if time["hours"] is None:
        console.print("hours: give --tokens-per-second or --measured RUN; none is made up")
    for title, chosen in (("this recipe's method", report.own), ("any method", report.overall)):
        if chosen is None:
            console.print(f"{title}: nothing fits. Take more devices, or shorter rows.")
            continue
        console.print(f"cheapest that fits, {title}: {chosen.method} by {chosen.strategy}")
        console.print(f"  {report.launch(chosen)}", markup=False, highlight=False, soft_wrap=True)
        if chosen.bytes is not None:
            console.print(f"  {moments(chosen.bytes)}", style="dim", highlight=False)
    if report.devices.machines > 1:
        console.print(
            f"the same line on each of the {report.devices.machines} machines, with its own "
            "--machine_rank: docs/multi_node.md"
        )


def moments(sizes: Bytes) -> str:
    """The fullest moments of a run, in words."""
    return (
        f"GB to load {_gb(sizes.load)}, to train {_gb(sizes.train)}, to save and predict "
        f"{_gb(sizes.save)}"
    )


def reasons(report: Report) -> list[str]:
    """Why options cannot be taken, one line for those of a method with the same reason."""
    strategies: dict[tuple[str, str], list[str]] = {}
    for o in report.options:
        for reason in reasons_against(o, report.devices):
            strategies.setdefault((o.method, reason), []).append(o.strategy)
    return [
        f"{method} by {', '.join(names)}: {reason}"
        for (method, reason), names in strategies.items()
    ]


def reasons_against(option: Option, devices: Devices) -> list[str]:
    """Why one option cannot be taken; none where it fits."""
    if option.problem is not None:
        return [option.problem]
    against = []
    sizes = option.bytes
    if not option.largest_micro_batch and sizes is not None:
        what = {"loading": sizes.load, "one row": sizes.train, "the saved model": sizes.save}
        needs = ", ".join(name for name, size in what.items() if size > devices.capacity)
        against.append(f"{needs}: more than the {devices.capacity / GB:,.1f} GB of a device")
    if option.exceeds_host and devices.host_memory is not None:
        against.append(
            f"{option.host_bytes / GB:,.1f} GB of host memory for the "
            f"{min(option.devices, devices.per_machine)} process(es) of a machine, more than its "
            f"{devices.host_memory / GB:,.1f} GB"
        )
    return against


def table(report: Report) -> Table:
    """One row per method and strategy, with the parts of the total."""
    shown = _titled(report)
    for name in ("weights", "gradients", "optimizer", "activations", "workspace", "total", "host"):
        _add_number(shown, name)
    shown.add_column("fits", no_wrap=True)
    for name in ("rows", "most\nrows"):
        _add_number(shown, name)
    shown.add_column("check-\npointing", no_wrap=True)
    for o in report.options:
        b = o.bytes
        if b is None:
            shown.add_row(o.method, o.strategy, *[""] * 7, _verdict(o), "", "", "")
            continue
        sizes = (b.weights, b.gradients, b.optimizer, b.activations, b.workspace, b.total)
        shown.add_row(
            o.method,
            o.strategy,
            *(_gb(size) for size in sizes),
            _gb(o.host_bytes) if o.host_bytes else "",
            _verdict(o),
            str(o.micro_batch_size or ""),
            str(o.largest_micro_batch or ""),
            "yes" if o.gradient_checkpointing else "no",
        )
    return shown


def narrow_table(report: Report) -> Table:
    """The table with the total of bytes alone, for terminals that the whole does not fit."""
    shown = _titled(report)
    _add_number(shown, "total")
    shown.add_column("fits", no_wrap=True)
    _add_number(shown, "rows")
    for o in report.options:
        total = "" if o.bytes is None else _gb(o.bytes.total)
        shown.add_row(o.method, o.strategy, total, _verdict(o), str(o.micro_batch_size or ""))
    return shown


def _titled(report: Report) -> Table:
    """A table with the names of the options, which fold where there is no room: numbers never."""
    shown = Table(title=f"{report.recipe} on {report.devices.number} x {report.device_memory}")
    for name in ("method", "strategy"):
        shown.add_column(name, overflow="fold")
    return shown


def _add_number(shown: Table, name: str) -> None:
    shown.add_column(name, justify="right", no_wrap=True)


def _gb(size: int) -> str:
    return f"{size / GB:,.1f}"


def _verdict(option: Option) -> str:
    return "[green]yes[/]" if option.fits else "[red]no[/]"


def write(path: Path, report: Report, given: dict[str, Any]) -> None:
    """Write the whole plan as JSON, what was ``given`` first."""

    def with_line(chosen: Option | None) -> dict[str, Any] | None:
        return None if chosen is None else {**to_json(chosen), "launch": report.launch(chosen)}

    content = {
        **given,
        "time": report.time,
        "methods": [to_json(o) for o in report.options],
        "cheapest_of_the_recipe": with_line(report.own),
        "cheapest": with_line(report.overall),
    }
    try:
        write_text(path, dump_json(content))
    except OSError as error:
        raise ConfigError(f"--json {path}: cannot be written ({error}).") from error
