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
from llmclf.planner import HEADROOM, Devices, Option

GB = 10**9


@dataclass(frozen=True, kw_only=True)
class Report:
    """A finished plan."""

    recipe: Path
    rest: Sequence[str]
    """The recipe's own options, as given."""
    saves_adapter: bool
    """Whether the recipe sets ``model.save=adapter``, which LoRA alone can."""
    devices: Devices
    device_memory: str
    """As given."""
    found: Sequence[Option]
    own: Option | None
    """The cheapest that fits of the recipe's method."""
    overall: Option | None
    """The cheapest that fits."""
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
    """The exact command; ``rest`` are the overrides that the plan was made with.

    ``merged``: the recipe saves an adapter, which only LoRA has.
    """
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
    """Print the table and the recommendations."""
    console.print(table(report))
    console.print(
        f"GB (10^9 bytes) per device at the micro-batch to launch with, host: per machine; "
        f"{HEADROOM:.0%} of {report.device_memory} stay free for the CUDA context and the "
        "allocator.",
        style="dim",
    )
    for line in over_the_host(report):
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
    if report.devices.machines > 1:
        console.print(
            f"the same line on each of the {report.devices.machines} machines, with its own "
            "--machine_rank: docs/multi_node.md"
        )


def over_the_host(report: Report) -> list[str]:
    """A line for each option that needs more memory of a machine than it has."""
    available = report.devices.host_memory
    return [
        f"{o.method} by {o.strategy}: {o.host_bytes / GB:,.1f} GB of host memory for the "
        f"{min(o.devices, report.devices.per_machine)} process(es) of a machine, more than its "
        f"{available / GB:,.1f} GB"
        for o in report.found
        if o.exceeds_host and available is not None
    ]


def table(report: Report) -> Table:
    """One row per method and strategy."""
    number = report.devices.number
    shown = Table(title=f"{report.recipe} on {number} x {report.device_memory}")
    for name in ("method", "strategy"):
        shown.add_column(name, no_wrap=True)
    for name in ("weights", "gradients", "optimizer", "activations", "workspace", "total", "host"):
        shown.add_column(name, justify="right")
    shown.add_column("fits")
    shown.add_column("rows", justify="right")
    shown.add_column("most rows", justify="right")
    shown.add_column("checkpointing")
    for o in report.found:
        if o.bytes is None:
            shown.add_row(o.method, o.strategy, *[""] * 7, f"no: {o.problem}", "", "", "")
            continue
        b = o.bytes
        sizes = (b.weights, b.gradients, b.optimizer, b.activations, b.workspace, b.total)
        shown.add_row(
            o.method,
            o.strategy,
            *(f"{size / GB:,.1f}" for size in sizes),
            f"{o.host_bytes / GB:,.1f}" if o.host_bytes else "",
            "[green]yes[/]" if o.fits else "[red]no[/]" + (": host" if o.exceeds_host else ""),
            str(o.micro_batch_size or ""),
            str(o.largest_micro_batch or ""),
            "yes" if o.gradient_checkpointing else "no",
        )
    return shown


def write(path: Path, report: Report, given: dict[str, Any]) -> None:
    """Write the whole plan as JSON, what was ``given`` first."""

    def with_line(chosen: Option | None) -> dict[str, Any] | None:
        return None if chosen is None else {**to_json(chosen), "launch": report.launch(chosen)}

    content = {
        **given,
        "time": report.time,
        "methods": [to_json(o) for o in report.found],
        "cheapest_of_the_recipe": with_line(report.own),
        "cheapest": with_line(report.overall),
    }
    try:
        write_text(path, dump_json(content))
    except OSError as error:
        raise ConfigError(f"--json {path}: cannot be written ({error}).") from error
