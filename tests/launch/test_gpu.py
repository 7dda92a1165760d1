"""The methods of the matrix in bf16 on a GPU: one process, FSDP2 and ZeRO-3 on one rank, also when
killed and resumed; and over NCCL, on two GPUs, the losses of one.

Where DeepSpeed or bitsandbytes is not installed, their cells skip themselves.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from llmclf.run_folder.metrics import read_metrics
from tests.launch.matrix import REFUSED, Cell, make_inputs
from tests.launch.test_matrix import LOSS, SECONDS, assert_gradients, assert_scores, run_ranks

METHODS = ("full", "last_n", "lora", "lora+int8", "lora+nf4")
CELLS = [
    Cell("llama", method, recomputed, "bf16") for method in METHODS for recomputed in (False, True)
]


class OnGpus:
    """All cells of one launch, run when they are first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.done: set[Path] = set()
        make_inputs(folder)

    def runs(self, strategy: str, ranks: int) -> Path:
        folder = self.folder / f"{strategy}-{ranks}"
        if folder not in self.done:
            self.done.add(folder)
            folder.mkdir()
            cells = [c for c in CELLS if (strategy, c.method) != REFUSED and installed(c.method)]
            done = run_ranks(strategy, folder, "unbroken", [str(c) for c in cells], ranks=ranks)
            assert done.returncode == 0, done.stderr[-3000:]
        return folder


def installed(what: str) -> bool:
    """Whether the library that a method or strategy needs is there."""
    needs = "bitsandbytes" if "+" in what else "deepspeed" if what.startswith("zero") else "torch"
    return importlib.util.find_spec(needs) is not None


@pytest.fixture(scope="module")
def on_gpus(tmp_path_factory: pytest.TempPathFactory) -> OnGpus:
    return OnGpus(tmp_path_factory.mktemp("gpu"))


@pytest.mark.gpu
@pytest.mark.timeout(4 * SECONDS)
@pytest.mark.parametrize("cell", CELLS, ids=str)
@pytest.mark.parametrize("strategy", ["single", "fsdp2", "zero3"])
def test_one_gpu(on_gpus: OnGpus, strategy: str, cell: Cell) -> None:
    assert_cell(on_gpus, strategy, 1, cell)


@pytest.mark.gpu
@pytest.mark.timeout(4 * SECONDS)
@pytest.mark.parametrize("strategy", ["single", "fsdp2", "zero3"])
def test_a_killed_run_goes_on(on_gpus: OnGpus, strategy: str) -> None:
    """From the checkpoint before the kill; kernels of the backward pass add up in any order."""
    if not installed(strategy):
        pytest.skip(f"{strategy}: its library is not installed")
    cell, folder = str(CELLS[0]), on_gpus.folder / f"{strategy}-killed"
    unbroken = on_gpus.runs(strategy, 1)
    folder.mkdir()
    assert run_ranks(strategy, folder, "killed", [cell], ranks=1).returncode != 0
    done = run_ranks(strategy, folder, "resumed", [cell], ranks=1)
    assert done.returncode == 0, done.stderr[-3000:]
    theirs, ours = (read_metrics(f / cell / "metrics.jsonl") for f in (unbroken, folder))
    assert_losses(theirs, ours)


@pytest.mark.multi_gpu
@pytest.mark.timeout(4 * SECONDS)
@pytest.mark.parametrize("cell", CELLS, ids=str)
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2", "zero2", "zero3"])
def test_two_gpus_give_the_losses_of_one(on_gpus: OnGpus, strategy: str, cell: Cell) -> None:
    assert_cell(on_gpus, strategy, 2, cell)


def assert_cell(on_gpus: OnGpus, strategy: str, ranks: int, cell: Cell) -> None:
    for what in (strategy, cell.method):
        if not installed(what):
            pytest.skip(f"{what}: its library is not installed")
    if (strategy, cell.method) == REFUSED:
        pytest.skip("refused: FSDP would divide a copy (tests/train/test_model_builder.py)")
    one, folder = on_gpus.runs("single", 1), on_gpus.runs(strategy, ranks)
    seen = json.loads((folder / f"{cell}.json").read_text())
    assert "error" not in seen, seen["error"]
    assert_gradients(seen)
    environment = json.loads((folder / str(cell) / "environment.json").read_text())
    assert (environment["strategy"], environment["world_size"]) == (strategy, ranks)
    assert environment["gpus"]
    theirs, ours = (read_metrics(f / str(cell) / "metrics.jsonl") for f in (one, folder))
    assert_losses(theirs, ours)
    assert_scores(one / str(cell), folder / str(cell), cell)


def assert_losses(theirs: list[dict[str, Any]], ours: list[dict[str, Any]]) -> None:
    for a, b in zip(theirs, ours, strict=True):
        key = "loss" if a["split"] == "train" else "nll"
        assert b[key] == pytest.approx(a[key], rel=LOSS["bf16"]), (a["step"], key)
