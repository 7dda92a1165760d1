"""A killed run goes on under another strategy and number of ranks, from the same weights, moments
and rows: without dropout, to the numbers of the unbroken run."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from llmclf.evaluate.predictions import Predictions
from llmclf.run_folder.metrics import read_metrics
from tests.processes import Ranks, start, wait_until

RECIPE = "recipes/bert_base.py"
ZERO = {"ACCELERATE_USE_DEEPSPEED": "true"}
LAUNCHES = {
    "single": (1, {}),
    "ddp": (2, {}),
    "zero1": (2, ZERO | {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "1"}),
    "zero2": (3, ZERO | {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"}),
    "zero3": (
        2,
        ZERO | {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "3", "ACCELERATE_DEEPSPEED_ZERO3_INIT": "true"},
    ),
}
FAST = {("zero2", "zero3"), ("zero3", "single"), ("ddp", "zero1")}
PAIRS = [
    pytest.param(*pair, marks=() if pair in FAST else pytest.mark.slow)
    for pair in itertools.permutations(LAUNCHES, 2)
]


class Runs:
    """Runs under each strategy, killed after step 8."""

    def __init__(self, options: tuple[str, ...], folder: Path) -> None:
        self.options = options
        self.folder = folder
        self.unbroken = folder / "unbroken"
        ranks = self.start("single", self.unbroken)
        assert ranks.wait() == 0, ranks.text()

    def start(self, strategy: str, folder: Path, *options: str) -> Ranks:
        count, environment = LAUNCHES[strategy]
        options = (*self.options, "--output-dir", str(folder), *options)
        log = folder.with_suffix(".log")
        return start(log, RECIPE, *options, ranks=count, environment=environment)

    def killed(self, strategy: str) -> Path:
        folder = self.folder / f"killed-{strategy}"
        if not folder.exists():
            ranks = self.start(strategy, folder)
            wait_until(folder / "metrics.jsonl", '{"step": 8, "split": "train"', ranks)
            assert ranks.kill(), ranks.text()
        return folder


@pytest.fixture(scope="module")
def runs(bert: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    options = (
        "--model.checkpoint", str(bert), "--data.source", str(corpus), "--model.dropout", "0",
        "--train.precision", "fp32", "--train.log-every", "1", "--train.learning-rate", "5e-3",
        "--train.max-steps", "30", "--train.checkpoint-every", "3", "--train.evaluate-every", "6",
    )  # fmt: skip
    return Runs(options, tmp_path_factory.mktemp("runs"))


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_goes_on_under_another_strategy(runs: Runs, before: str, after: str) -> None:
    folder = runs.folder / f"{before}-to-{after}"
    shutil.copytree(runs.killed(before), folder)
    ranks = runs.start(after, folder, "--resume")
    assert ranks.wait() == 0, ranks.text()
    environment = json.loads((folder / "environment.json").read_text())
    assert (environment["strategy"], environment["world_size"]) == (after, LAUNCHES[after][0])
    ours, theirs = (read_metrics(f / "metrics.jsonl") for f in (folder, runs.unbroken))
    assert [(r["step"], r["split"]) for r in ours] == [(r["step"], r["split"]) for r in theirs]
    for a, b in zip(ours, theirs, strict=True):
        key = "loss" if a["split"] == "train" else "nll"
        assert a[key] == pytest.approx(b[key], abs=1e-4), (a["step"], key)
    a, b = (Predictions.read(f / "predictions" / "test.parquet") for f in (folder, runs.unbroken))
    np.testing.assert_allclose(a.probabilities, b.probabilities, rtol=0, atol=1e-3)
