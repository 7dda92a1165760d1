"""Real models, whose weights are larger than every threshold: divided over two ranks they train two
epochs, evaluate amid them, and killed after the first evaluation they end in the same bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from llmclf.run_folder.metrics import read_metrics
from tests.processes import Launched

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
RECIPE = "recipes/bert_base.py"
SETTINGS = (
    "--data.source", "opinions", "--data.limit", "80", "--data.max-length", "32",
    "--train.min-steps", "0", "--train.epochs", "2",
    "--train.global-batch-size", "16", "--train.micro-batch-size", "4",
    "--train.precision", "fp32", "--train.log-every", "1", "--train.learning-rate", "1e-4",
    "--model.dropout", "0", "--model.lora-dropout", "0",
)  # fmt: skip
METHODS = {
    "full": (),
    "lora": ("--model.tune", "lora"),
    "nf4": ("--model.tune", "lora", "--model.quantize", "nf4", "--model.save", "adapter"),
}
LOSS = {"minilm-l6": 1e-4, "smollm2-135m": 1e-3}
"""Largest relative difference of a step's loss from one process."""
SECOND_EPOCH = '{"step": 5, "split": "train"'


def launch(strategy: str, checkpoint: str, method: str, folder: Path, *more: str) -> Launched:
    script = ("tests/launch/fsdp_on_cpu.py", RECIPE) if strategy == "fsdp2" else (RECIPE,)
    return Launched(
        folder.parent / f"{folder.name}.log",
        *("--config_file", f"launch/accelerate/{strategy}.yaml"),
        *("--num_processes", "1" if strategy == "single" else "2", "--main_process_port", "0"),
        *(*script, "--model.checkpoint", checkpoint, *SETTINGS, *METHODS[method]),
        *("--output-dir", str(folder), *more),
    )


def finished(launched: Launched) -> None:
    try:
        assert launched.launcher.wait(1500) == 0, launched.text()[-3000:]
    finally:
        launched.kill()


@pytest.fixture(scope="module")
def alone() -> dict[tuple[str, str], Path]:
    """Runs of one process, by checkpoint and method, filled in as they are asked for."""
    return {}


def of_one_process(
    alone: dict[tuple[str, str], Path], checkpoint: str, method: str, folder: Path
) -> Path:
    if (checkpoint, method) not in alone:
        finished(launch("single", checkpoint, method, folder))
        alone[checkpoint, method] = folder
    return alone[checkpoint, method]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("checkpoint", LOSS)
@pytest.mark.parametrize("strategy", ["zero3", "zero3_offload", "fsdp2"])
def test_killed_after_the_first_evaluation_it_ends_in_the_same_bits(
    alone: dict[tuple[str, str], Path],
    tmp_path: Path,
    strategy: str,
    checkpoint: str,
    method: str,
) -> None:
    one = of_one_process(alone, checkpoint, method, tmp_path / "one")
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    finished(launch(strategy, checkpoint, method, unbroken))
    killed = launch(strategy, checkpoint, method, broken)
    try:
        killed.find_ranks(2)
        killed.wait_for(broken / "metrics.jsonl", SECOND_EPOCH)
    finally:
        killed.kill()
    finished(launch(strategy, checkpoint, method, broken, "--resume"))
    assert read_metrics(unbroken / "metrics.jsonl") == read_metrics(broken / "metrics.jsonl")
    for file in ("predictions/test.parquet", "predictions/validation.parquet"):
        assert (unbroken / file).read_bytes() == (broken / file).read_bytes(), file
    theirs, ours = losses(one), losses(unbroken)
    np.testing.assert_allclose(ours, theirs, rtol=LOSS[checkpoint])


def losses(folder: Path) -> list[float]:
    records = read_metrics(folder / "metrics.jsonl")
    return [r["loss"] if r["split"] == "train" else r["nll"] for r in records]
