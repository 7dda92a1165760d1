"""A recipe under ``accelerate launch``: real ranks, and the results of one process."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from llmclf.evaluate.predictions import Predictions
from llmclf.run_folder.metrics import read_metrics
from tests.processes import accelerate_launch, free_port, run

RECIPE = "recipes/bert_base.py"
STRATEGIES = ("ddp", "zero1", "zero2", "zero3", "zero3_offload")
LAUNCHES = {
    **{
        s: ("--config_file", f"launch/accelerate/{s}.yaml", "--num_processes", "2")
        for s in STRATEGIES
    },
    "multi_gpu": ("--multi_gpu", "--num_processes", "2"),
}
FAST = ("ddp", "zero1", "multi_gpu")  # zero2 and zero3: test_matrix.py


@pytest.fixture(scope="module")
def options(bert: Path, corpus: Path) -> tuple[str, ...]:
    return (
        "--model.checkpoint", str(bert), "--model.dropout", "0", "--data.source", str(corpus),
        "--train.precision", "fp32", "--train.log-every", "1", "--train.learning-rate", "5e-3",
    )  # fmt: skip


@pytest.fixture(scope="module")
def alone(options: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process."""
    folder = tmp_path_factory.mktemp("alone")
    run(folder / "log", RECIPE, *options, "--output-dir", str(folder / "run"))
    return folder / "run"


@pytest.mark.parametrize(
    "launch", [pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in LAUNCHES]
)
def test_two_launched_ranks_equal_one_process(
    launch: str, options: tuple[str, ...], alone: Path, tmp_path: Path
) -> None:
    port = ("--main_process_port", str(free_port()))
    folder = tmp_path / "run"
    accelerate_launch(*LAUNCHES[launch], *port, RECIPE, *options, "--output-dir", str(folder))
    environment = json.loads((folder / "environment.json").read_text())
    strategy = launch if launch in STRATEGIES else "ddp"
    assert (environment["world_size"], environment["strategy"]) == (2, strategy)
    one, two = (read_metrics(f / "metrics.jsonl") for f in (alone, folder))
    assert [r["step"] for r in one] == [r["step"] for r in two]
    for a, b in zip(one, two, strict=True):
        for key in ("loss", "nll", "macro_f1", "accuracy"):
            assert a.get(key) == pytest.approx(b.get(key), abs=1e-4), (a["step"], key)
    for split in ("validation", "test"):
        one, two = (
            Predictions.read(f / "predictions" / f"{split}.parquet") for f in (alone, folder)
        )
        assert one.ids == two.ids
        np.testing.assert_allclose(one.probabilities, two.probabilities, rtol=0, atol=1e-4)
