"""How long threads that wait for each other should turn before they sleep, in seconds a step.

    python bench/sleeping_vs_spinning.py

The same training steps of a BERT of MiniLM's size in bf16, by processes that differ in libgomp's
GOMP_SPINCOUNT alone: libgomp's own count, the one that llmclf sets, and none. They take turns, once
with the machine to themselves and once beside a process that keeps a processor busy.

First comes a gate: after the warm-up all sides must have the same loss. Else nothing is timed, and
the exit code is 1.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tyro
from common import RESULTS, spread, write_result
from rich.console import Console
from rich.table import Table

from llmclf.config import ConfigError, exit_on_user_error

SIDES = {"libgomp": None, "llmclf": "1000", "asleep": "0"}
"""Side -> GOMP_SPINCOUNT."""
SITUATIONS = ("quiet", "busy")
TOLERANCE = 1e-6


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is timed."""

    repeats: int = 7
    """Blocks of each side in each situation; the warm-up comes on top."""
    steps: int = 4
    """Optimizer steps of a block."""
    rows: int = 32
    tokens: int = 48
    layers: int = 6
    threads: int = 2
    output: Path = RESULTS / "sleeping_vs_spinning.json"


class Side:
    """A process with a spin count of its own, which computes when it is told to."""

    def __init__(self, count: str | None, settings: Settings) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("GOMP_", "OMP_"))}
        if count is not None:
            environment["GOMP_SPINCOUNT"] = count
        sizes = (settings.threads, settings.rows, settings.tokens, settings.layers)
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("waiting_side.py")), *map(str, sizes)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def block(self, steps: int) -> dict[str, float]:
        """Take some steps."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("a side stopped; its error is above.")
        found: dict[str, float] = json.loads(line)
        return found


@contextlib.contextmanager
def started(settings: Settings) -> Iterator[dict[str, Side]]:
    """All sides, ended with the block."""
    sides = {name: Side(count, settings) for name, count in SIDES.items()}
    try:
        yield sides
    finally:
        for side in sides.values():
            side.process.kill()
            side.process.wait()


@contextlib.contextmanager
def neighbour(situation: str) -> Iterator[None]:
    """A process that keeps one processor busy, in the busy situation."""
    if situation == "quiet":
        yield
        return
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        busy.kill()
        busy.wait()


def measure(sides: dict[str, Side], settings: Settings) -> dict[str, dict[str, list[float]]]:
    """Seconds a step of each block: situation -> side -> blocks, in turns."""
    seconds: dict[str, dict[str, list[float]]] = {}
    for situation in SITUATIONS:
        found: dict[str, list[float]] = {name: [] for name in sides}
        with neighbour(situation):
            for i in range(settings.repeats):
                for name in list(sides) if i % 2 == 0 else reversed(list(sides)):
                    found[name].append(sides[name].block(settings.steps)["seconds"])
        seconds[situation] = {n: [s / settings.steps for s in of] for n, of in found.items()}
    return seconds


def ratios(seconds: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    """How many times as long as ours the other sides take, block by block."""
    return {
        situation: {
            name: spread([a / b for a, b in zip(of, by_side["llmclf"], strict=True)])
            for name, of in by_side.items()
            if name != "llmclf"
        }
        for situation, by_side in seconds.items()
    }


def show(console: Console, seconds: dict[str, dict[str, list[float]]]) -> None:
    """Print a line per side."""
    table = Table("side", "GOMP_SPINCOUNT", *(f"{s}, s a step" for s in SITUATIONS), box=None)
    for name, count in SIDES.items():
        medians = [f"{statistics.median(seconds[s][name]):.3f}" for s in SITUATIONS]
        table.add_row(name, count or "its own", *medians)
    console.print(table)


def main() -> None:
    settings = tyro.cli(Settings, description=__doc__)
    load_average, console = os.getloadavg()[0], Console()
    with exit_on_user_error():
        if settings.repeats < 1 or settings.steps < 1:
            raise ConfigError("repeats and steps must be 1 or more.")
    with started(settings) as sides:
        losses = {name: side.block(settings.steps)["loss"] for name, side in sides.items()}
        difference = max(losses.values()) - min(losses.values())
        console.print(f"gate: loss difference {difference:.3g}", highlight=False)
        if not difference <= TOLERANCE:
            sys.exit(f"error: the gate failed (tolerance {TOLERANCE}); nothing was timed.")
        seconds = measure(sides, settings)
    show(console, seconds)
    result = {
        "settings": {k: v for k, v in asdict(settings).items() if k != "output"},
        "gate": {"loss": losses["llmclf"], "loss_difference": difference, "tolerance": TOLERANCE},
        "seconds_per_step": {
            situation: {name: spread(of) for name, of in by_side.items()}
            for situation, by_side in seconds.items()
        },
        "ratios": ratios(seconds),
    }
    write_result(settings.output, result, load_average=load_average)
    console.print(f"written: {settings.output}", soft_wrap=True)


if __name__ == "__main__":
    main()
