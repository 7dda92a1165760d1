"""Statistics of a comparison: ours against a loop that scores each resample with scikit-learn.

    python bench/statistics_vs_loop.py [--rows 2000 --resamples 1000]

Ours makes the whole of paired.compare: seven scores of every method with two intervals each, and
all differences, in one process. The loop, what one would write with numpy and scikit-learn, gives
macro-F1 alone, on a few resamples. Figures are seconds per resample of one run, a method on a fold;
so the ratio counts what ours does beyond macro-F1 against it.

Each side is a process of its own. First comes a gate: on the same resamples, the macro-F1 of both
must be equal to --tolerance. Else nothing is timed, and the exit code is 1.
"""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from common import RESULTS, Timed, Turns, spread, take_turns, write_result
from rich.console import Console
from scipy.special import softmax
from sklearn.metrics import f1_score

from llmclf.config import exit_on_user_error
from llmclf.evaluate.columns import ScoreColumns
from llmclf.evaluate.paired import Tested, compare
from llmclf.evaluate.predictions import Predictions

LIMIT_SECONDS = 30
LIMIT_BYTES = 10**9


@dataclass(frozen=True)
class Settings:
    """Size of the comparison."""

    methods: int = 12
    folds: int = 5
    rows: int = 10_000
    """Test rows of each fold."""
    labels: int = 20
    resamples: int = 10_000
    loop_resamples: int = 20
    """Resamples that the loop makes of each method of the first fold."""
    repeats: int = 3
    threads: int = 2
    tolerance: float = 1e-6
    seed: int = 0
    output: Path = RESULTS / "statistics_vs_loop.json"

    @property
    def runs(self) -> int:
        return self.methods * self.folds


def make_methods(settings: Settings) -> dict[str, list[Tested]]:
    """Methods of rising strength on rows of random labels."""
    rng = np.random.default_rng(settings.seed)
    rows, labels = settings.rows, settings.labels
    found: dict[str, list[Tested]] = {f"method {i}": [] for i in range(settings.methods)}
    for fold in range(settings.folds):
        targets = rng.integers(0, labels, rows)
        for i, its in enumerate(found.values()):
            logits = rng.standard_normal((rows, labels))
            logits[np.arange(rows), targets] += 2 + i / 10
            predictions = Predictions(
                ids=[f"{fold}-{row}" for row in range(rows)],
                labels=tuple(f"label {j:02}" for j in range(labels)),
                targets=targets,
                probabilities=softmax(logits, axis=1),
                scored_by="random logits",
            )
            its.append(Tested(fold=fold, seed=0, predictions=predictions))
    return found


def gate(settings: Settings) -> float:
    """Largest difference in macro-F1 between both, on the same resamples of the first fold."""
    rng, differences = np.random.default_rng(settings.seed), []
    for runs in make_methods(settings).values():
        its = runs[0].predictions
        columns = ScoreColumns.of(its)
        for _ in range(settings.loop_resamples):
            rows = rng.integers(0, settings.rows, settings.rows)
            sums = columns.lines_NK[rows].sum(axis=0)[None]
            mine = columns.scores(sums, settings.rows)["macro_f1"][0]
            differences.append(abs(mine - macro_f1(its.targets, its.predicted, rows)))
    return float(max(differences))


def macro_f1(true: np.ndarray, guess: np.ndarray, rows: np.ndarray) -> float:
    return float(f1_score(true[rows], guess[rows], average="macro"))


def ours(settings: Settings, turns: Turns) -> dict[str, Any]:
    methods = make_methods(settings)
    turns.forget_peak()
    turns.begin()
    for _ in range(1 + settings.repeats):
        compare(methods, resamples=settings.resamples, seed=settings.seed)
        turns.next()
    return {"resamples_of_a_run": settings.resamples * settings.runs}


def loop(settings: Settings, turns: Turns) -> dict[str, Any]:
    runs = [its[0].predictions for its in make_methods(settings).values()]
    pairs = [(its.targets, its.predicted) for its in runs]
    rng = np.random.default_rng(settings.seed)
    turns.forget_peak()
    turns.begin()
    for _ in range(1 + settings.repeats):
        for _ in range(settings.loop_resamples):
            rows = rng.integers(0, settings.rows, settings.rows)
            for true, guess in pairs:
                macro_f1(true, guess, rows)
        turns.next()
    return {"resamples_of_a_run": settings.loop_resamples * settings.methods}


def figures(timed: dict[str, Timed]) -> dict[str, Any]:
    """Per side and their ratio, without the warm-up."""
    sides = {}
    for name, its in timed.items():
        blocks, count = its.blocks[1:], its.facts["resamples_of_a_run"]
        sides[name] = its.facts | {
            "seconds": spread([b.seconds for b in blocks]),
            "cpu_seconds": spread([b.cpu_seconds for b in blocks]),
            "seconds_per_resample_of_a_run": spread([b.seconds / count for b in blocks]),
            "cpu_seconds_per_resample_of_a_run": spread([b.cpu_seconds / count for b in blocks]),
            "memory_before_bytes": its.memory_before_bytes,
            "peak_memory_bytes": its.blocks[-1].peak_bytes,
        }
    result: dict[str, Any] = {"sides": sides}
    for unit in ("seconds_per_resample_of_a_run", "cpu_seconds_per_resample_of_a_run"):
        mine, theirs = (sides[name][unit]["per_repeat"] for name in ("llmclf", "loop"))
        result[f"ratio_of_{unit}"] = spread([b / a for a, b in zip(mine, theirs, strict=True)])
    seconds = sides["llmclf"]["seconds"]["median"]
    peak = sides["llmclf"]["peak_memory_bytes"]
    result["goal"] = {
        "seconds": LIMIT_SECONDS,
        "bytes": LIMIT_BYTES,
        "met": seconds <= LIMIT_SECONDS and peak <= LIMIT_BYTES,
    }
    return result


def main() -> None:
    load_average, console = os.getloadavg()[0], Console(highlight=False, soft_wrap=True)
    with exit_on_user_error():
        settings = tyro.cli(Settings, description=__doc__)
        difference = gate(settings)
        console.print(f"gate: largest difference in macro-F1 {difference:.2g}")
        if not difference <= settings.tolerance:
            sys.exit(f"error: the gate failed (tolerance {settings.tolerance}); nothing was timed.")
        sides = {"llmclf": partial(ours, settings), "loop": partial(loop, settings)}
        timed = take_turns(sides, num_blocks=1 + settings.repeats, threads=settings.threads)
    result = figures(timed)
    mine, ratio = result["sides"]["llmclf"], result["ratio_of_seconds_per_resample_of_a_run"]
    console.print(
        f"{mine['seconds']['median']:.1f} s ({mine['cpu_seconds']['median']:.1f} s of processor), "
        f"{mine['peak_memory_bytes'] / 1e9:.2f} GB; "
        f"ratio {ratio['median']:.0f} ({ratio['min']:.0f}-{ratio['max']:.0f})"
    )
    described = {k: v for k, v in asdict(settings).items() if k != "output"}
    head = {"settings": described, "gate": {"difference": difference}}
    write_result(settings.output, head | result, load_average=load_average)
    console.print(f"written: {settings.output}")


if __name__ == "__main__":
    main()
