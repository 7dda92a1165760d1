"""How often the statistics of a comparison are right, in simulated data sets whose truth is known.

    python bench/statistics_calibration.py [--data-sets 2000 --jobs 2 --cells 'labels 77']

Each data set has three methods: *a*; *b* with the macro-F1 of a; *c* that is worse by just the
margin. Counted are 95% intervals that hold the truth (macro-F1 and accuracy of a, difference of a
and b), tests that find a difference between a and b (at most 5% may), and methods a and c called
equivalent (at most 5% may). Errors of a go to the next labels. The truth itself is drawn about that
of the cell, since scores of few rows are steps that one truth hits and another does not.

Writes results/statistics_calibration.json after each cell, and at the end the table of
docs/statistics.md (--no-table: not). --resume goes on behind the cells that are there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from common import RESULTS, write_result
from rich.console import Console

from llmclf.atomic import write_text
from llmclf.evaluate.paired import Tested, compare
from llmclf.evaluate.predictions import Predictions

MARGIN = 0.01
JITTER = 0.3
"""The share of wrong rows is that of the cell times 1 - JITTER to 1 + JITTER, at random."""
PAGE = RESULTS.parents[1] / "docs" / "statistics.md"
BEGIN, END = "<!-- calibration -->", "<!-- end of calibration -->"
COUNTED = ("macro_f1", "accuracy", "difference", "rejected", "equivalent")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One kind of data set."""

    rows: int
    """Test rows, of each fold."""
    labels: int
    ratio: float = 1
    """Rows of the most frequent label for one of the rarest; geometric between."""
    right: float
    """Share of right rows of each label, method a."""
    agree: float = 0.5
    """Share of rows in which chance decides alike for two runs."""
    unlike: bool = False
    """Whether b never gives the rarest label."""
    seeds: int = 1
    folds: int = 1
    spread: float = 0.0
    """Standard deviation of a run's share of right rows about that of its method."""

    @property
    def name(self) -> str:
        """What sets the cell apart, in words."""
        runs = [f"{self.folds} folds"] * (self.folds > 1) + [f"{self.seeds} seeds"] * (
            self.seeds > 1
        )
        return ", ".join(
            [
                f"{self.labels} labels{f' 1:{self.ratio:g}' if self.ratio > 1 else ''}",
                f"{self.rows:,} rows",
                f"right {self.right:g}",
                *([f"agree {self.agree:g}"] * (self.agree != Cell.agree)),
                *(["unlike"] * self.unlike),
                *runs,
            ]
        )


CELLS = (
    Cell(rows=100, labels=2, right=0.9),
    Cell(rows=100, labels=2, right=0.985),
    Cell(rows=100, labels=3, ratio=5, right=0.6),
    Cell(rows=100, labels=20, right=0.6),
    Cell(rows=300, labels=2, ratio=9, right=0.9, agree=0.9),
    Cell(rows=300, labels=3, ratio=5, right=0.5, unlike=True),
    Cell(rows=600, labels=2, right=0.97, agree=1),
    Cell(rows=300, labels=20, right=0.9),
    Cell(rows=300, labels=20, ratio=10, right=0.8, agree=0.9),
    Cell(rows=588, labels=77, right=0.9),
    Cell(rows=588, labels=77, ratio=10, right=0.8),
    Cell(rows=1000, labels=2, right=0.6),
    Cell(rows=1000, labels=3, ratio=10, right=0.8, agree=0.99),
    Cell(rows=1000, labels=3, ratio=10, right=0.5, unlike=True),
    Cell(rows=1000, labels=20, ratio=20, right=0.97, agree=0.9),
    Cell(rows=3000, labels=3, ratio=10, right=0.9, agree=0.98),
    Cell(rows=3000, labels=77, ratio=10, right=0.9),
    Cell(rows=30_000, labels=2, ratio=9, right=0.98, agree=0.9),
    Cell(rows=300, labels=3, ratio=5, right=0.85, seeds=3, spread=0.01),
    Cell(rows=300, labels=3, ratio=5, right=0.85, seeds=5, spread=0.02),
    Cell(rows=200, labels=3, ratio=5, right=0.85, folds=5, spread=0.01),
    Cell(rows=100, labels=2, right=0.8, folds=10, spread=0.01),
    Cell(rows=200, labels=20, right=0.8, folds=5, seeds=2, spread=0.01),
)


@dataclass(frozen=True)
class Settings:
    """Size of the study."""

    data_sets: int = 2000
    """Of each cell."""
    resamples: int = 1000
    """Fewer than a report makes: the ends of an interval scatter more, and a little is lost."""
    jobs: int = 2
    cells: str = ""
    """Only cells whose name holds this."""
    resume: bool = False
    """Keep the cells that the output has already."""
    table: bool = True
    """Write the table of docs/statistics.md."""
    output: Path = RESULTS / "statistics_calibration.json"


def shares(cell: Cell) -> np.ndarray:
    """Share of each label, (C,)."""
    weights = np.geomspace(1, 1 / cell.ratio, cell.labels)
    return np.asarray(weights / weights.sum())


def next_labels(labels: int) -> np.ndarray:
    """To which label a wrong row goes: three in five to the next, (C, C)."""
    ahead = np.roll(np.eye(labels), 1, axis=1)
    return np.asarray(0.6 * ahead + 0.4 * ahead.T)


def macro_f1(share_C: np.ndarray, right_C: np.ndarray, wrong_CC: np.ndarray) -> float:
    """Macro-F1 of a method in all rows that could be drawn."""
    table = share_C[:, None] * (np.diag(right_C) + (1 - right_C)[:, None] * wrong_CC)
    return float((2 * np.diag(table) / (table.sum(axis=0) + share_C)).mean())


@dataclass(frozen=True, eq=False)
class Method:
    """A method in the population: its share of right rows by label, and where wrong ones go."""

    right_C: np.ndarray
    wrong_CC: np.ndarray

    def truth(self, share_C: np.ndarray) -> float:
        """Its macro-F1."""
        return macro_f1(share_C, self.right_C, self.wrong_CC)


def solved(make: Callable[[float], Method], share_C: np.ndarray, target: float) -> Method:
    """The method whose macro-F1 is ``target``, by bisection over its share of right rows."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        below = make(middle).truth(share_C) < target
        low, high = (middle, high) if below else (low, middle)
    assert abs(make(low).truth(share_C) - target) < 1e-6, "no such method"
    return make(low)


def methods(cell: Cell, rng: np.random.Generator) -> dict[str, Method]:
    """The three methods of a data set."""
    share_C, wrong_CC = shares(cell), next_labels(cell.labels)
    right = 1 - (1 - cell.right) * rng.uniform(1 - JITTER, 1 + JITTER)

    def even(x: float) -> Method:
        return Method(np.full(cell.labels, x), wrong_CC)

    def never(x: float) -> Method:
        known = np.arange(cell.labels) < cell.labels - 1
        others = known / known.sum() * np.ones((cell.labels, 1))
        others[known] = (wrong_CC * known)[known]
        return Method(np.where(known, x, 0.0), others / others.sum(axis=1, keepdims=True))

    a = even(right)
    target = a.truth(share_C)
    b = solved(never, share_C, target) if cell.unlike else a
    return {"a": a, "b": b, "c": solved(even, share_C, target - MARGIN)}


def runs(cell: Cell, of: dict[str, Method], rng: np.random.Generator) -> dict[str, list[Tested]]:
    """One data set: the predictions of all runs of the methods."""
    found: dict[str, list[Tested]] = {name: [] for name in of}
    for fold in range(cell.folds):
        targets = rng.choice(cell.labels, cell.rows, p=shares(cell))
        ids, common = [f"{fold}-{i}" for i in range(cell.rows)], rng.random((2, cell.rows))
        for name, method in of.items():
            for seed in range(cell.seeds):
                alike = rng.random(cell.rows) < cell.agree
                own = np.where(alike, common, rng.random((2, cell.rows)))
                right_C = np.clip(method.right_C + cell.spread * rng.normal(), 0, 1)
                to = (own[1][:, None] > method.wrong_CC.cumsum(axis=1)[targets]).sum(axis=1)
                given = np.where(own[0] < right_C[targets], targets, to.clip(0, cell.labels - 1))
                one = Predictions(
                    ids=ids,
                    labels=tuple(f"label {c}" for c in range(cell.labels)),
                    targets=targets,
                    probabilities=0.1 / cell.labels + 0.9 * np.eye(cell.labels)[given],
                    scored_by="simulation",
                )
                found[name].append(Tested(fold=fold, seed=seed, predictions=one))
    return found


def simulate(cell: Cell, seeds: range, resamples: int) -> dict[str, int]:
    """How often of so many data sets each thing happened, and was missed below and above."""
    counts = dict.fromkeys([*COUNTED, "above", "below"], 0)
    for seed in seeds:
        rng = np.random.default_rng([CELLS.index(cell), seed])
        of = methods(cell, rng)
        found = compare(runs(cell, of, rng), margin=MARGIN, resamples=resamples, seed=seed)
        truth = {
            "macro_f1": of["a"].truth(shares(cell)),
            "accuracy": float(shares(cell) @ of["a"].right_C),
        }
        for metric, value in truth.items():
            one = found.estimates["a"][metric]
            counts[metric] += one.low <= value <= one.high
        one = found.estimates["a"]["macro_f1"]
        counts["below"] += truth["macro_f1"] < one.low
        counts["above"] += truth["macro_f1"] > one.high
        pairs = {frozenset((d.a, d.b)): d for d in found.differences}
        null, far = pairs[frozenset("ab")], pairs[frozenset("ac")]
        counts["difference"] += null.low <= 0 <= null.high
        counts["rejected"] += null.p_value < 0.05
        counts["equivalent"] += far.equivalent
    return counts


def study(
    settings: Settings, pool: ProcessPoolExecutor, done: set[str]
) -> Iterator[dict[str, Any]]:
    """The cells that are not ``done``, one after the other, each with its shares."""
    step = 50
    for cell in CELLS:
        if settings.cells not in cell.name or cell.name in done:
            continue
        parts = [
            range(i, min(i + step, settings.data_sets)) for i in range(0, settings.data_sets, step)
        ]
        jobs = [pool.submit(simulate, cell, part, settings.resamples) for part in parts]
        counts: dict[str, int] = {}
        for job in jobs:
            for name, count in job.result().items():
                counts[name] = counts.get(name, 0) + count
        yield {
            "name": cell.name,
            "cell": asdict(cell),
            "shares": {name: count / settings.data_sets for name, count in counts.items()},
        }


def table(cells: list[dict[str, Any]]) -> str:
    """The cells as Markdown."""
    lines = [
        "| data sets | macro-F1 | accuracy | difference | p < .05 | equivalent |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for cell in cells:
        values = " | ".join(f"{100 * cell['shares'][name]:.1f}" for name in COUNTED)
        lines.append(f"| {cell['name']} | {values} |")
    return "\n".join(lines)


def write_table(cells: list[dict[str, Any]], page: Path = PAGE) -> None:
    """Put the table into the page, between its two marks."""
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    write_text(page, f"{before}{BEGIN}\n{table(cells)}\n{END}{after}")


def finished(settings: Settings) -> list[dict[str, Any]]:
    """The cells of an earlier start. Raises SystemExit where these were of another size."""
    if not settings.resume or not settings.output.exists():
        return []
    stored = json.loads(settings.output.read_text(encoding="utf-8"))
    if stored["settings"] != size(settings):
        raise SystemExit(f"{settings.output} is of {stored['settings']}; leave --resume out.")
    return list(stored["cells"])


def size(settings: Settings) -> dict[str, int]:
    """What the figures depend on."""
    return {"data_sets": settings.data_sets, "resamples": settings.resamples}


def main(settings: Settings) -> None:
    """Run the cells and write what was found."""
    os.environ["OMP_NUM_THREADS"] = "1"
    load, console, cells = os.getloadavg()[0], Console(), finished(settings)
    with ProcessPoolExecutor(settings.jobs) as pool:
        for cell in study(settings, pool, {c["name"] for c in cells}):
            cells.append(cell)
            result = {"settings": size(settings), "cells": cells}
            write_result(settings.output, result, load_average=load)
            shown = ", ".join(f"{n} {100 * v:.1f}" for n, v in cell["shares"].items())
            console.print(f"{cell['name']}: {shown}", highlight=False, soft_wrap=True)
    if settings.table:
        write_table(cells)


if __name__ == "__main__":
    main(tyro.cli(Settings))
