"""Every method under every strategy: each cell trains like one process, learns what it should and
nothing else, survives a kill, and leaves a folder that a stranger reads to the same probabilities.

Real ranks by ``accelerate launch`` and the files of launch/accelerate/, one launch for all cells of
a strategy. The cells marked slow take about half an hour on two cores.
"""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmclf.data.corpus import load_splits
from llmclf.evaluate.predictions import Predictions
from llmclf.run_folder.metrics import read_metrics
from tests.launch.matrix import (
    BF16,
    CELLS,
    RESULTS,
    STEPS,
    WHERE,
    Cell,
    experiment,
    make_inputs,
)
from tests.processes import free_port, run_python

LOSS = {"fp32": 1e-5, "int8": 1e-3, "bf16": 5e-2}
"""Largest relative difference of a step's loss from one process. 8-bit layers round their inputs,
which can make a step of 1/127 of a difference in the last bit. bf16 under ZeRO means weights in
bf16, where one process computes in bf16 by weights in fp32."""
PROBABILITY = {"fp32": 1e-4, "int8": 1e-2}
"""Largest difference of a probability from one process."""
MEAN_PROBABILITY = 2e-2
"""Mean difference in bf16; single rows of these random models differ by more."""
STRANGER = {"none": 1e-5, "int8": 1e-1, "nf4": 5e-2}
"""Of a probability read by a stranger, by quantisation. LLM.int8 takes a column out of the 8 bits
when any row of the batch has an outlier in it, so that rows depend on their batch; and on CPUs with
AVX-512 bf16 bitsandbytes computes 4-bit layers in bf16 when it only predicts."""
TEXTS = 12
SECONDS = 1200
FAST = {
    Cell("bert", "full", False),
    Cell("llama", "lora+nf4", True),
    Cell("gpt2", "lora+int8", False),
    Cell("llama", "full", True, "bf16"),
    Cell("llama", "lora", True, "bf16"),
}
FAST_STRATEGIES = ("zero2", "zero3", "fsdp2")


def arithmetic(cell: Cell) -> str:
    """What bounds the accuracy of a cell."""
    in_8_bits = cell.precision == "fp32" and cell.method.endswith("int8")
    return "int8" if in_8_bits else cell.precision


def no_gradient_in_theory(name: str) -> bool:
    """A bias of the keys shifts all scores of a query alike, so only rounding is left of its
    gradient. And Longformer's last block: the head reads the first token alone, which attends by
    the global projections, so the local ones of that block reach no output."""
    return "key.bias" in name or bool(
        re.search(r"longformer\.encoder\.layer\.1\.attention\.self\.(query|key|value)\.", name)
    )


@dataclass(frozen=True)
class Runs:
    """All runs of one strategy."""

    unbroken: Path
    resumed: Path
    strangers: dict[str, Any]


class Matrix:
    """Runs the selected cells of a strategy when they are first asked for."""

    def __init__(self, folder: Path, selected: set[tuple[str, Cell]]) -> None:
        self.folder = folder
        self.selected = selected
        self.done: dict[str, Runs] = {}
        make_inputs(folder)

    def cells(self, strategy: str) -> list[str]:
        """Of one process all that any strategy is compared with."""
        wanted = {cell for where, cell in self.selected if strategy in ("single", where)}
        return [str(cell) for cell in (*CELLS, *BF16) if cell in wanted]

    def runs(self, strategy: str) -> Runs:
        if strategy not in self.done:
            unbroken, broken = self.folder / strategy, self.folder / f"{strategy}-killed"
            for folder, which in (
                (unbroken, "unbroken"), (broken, "killed"), (broken, "resumed"),
            ):  # fmt: skip
                self.launch(strategy, folder, which)
            self.done[strategy] = Runs(unbroken, broken, self.read_by_strangers(unbroken))
        return self.done[strategy]

    def launch(self, strategy: str, folder: Path, which: str) -> None:
        folder.mkdir(exist_ok=True)
        done = run_ranks(strategy, folder, which, self.cells(strategy))
        assert (done.returncode == 0) == (which != "killed"), done.stderr[-3000:]

    def read_by_strangers(self, folder: Path) -> dict[str, Any]:
        """In one process for all cells, without llmclf."""
        data = experiment(CELLS[0], self.folder, folder).data
        texts = load_splits(data, seed=0).test.texts[:TEXTS]
        models = [folder / name / "model" for name in self.cells(folder.name)]
        asked, told = folder / "asked.json", folder / "told.json"
        asked.write_text(json.dumps(texts), encoding="utf-8")
        done = run_python(
            "tests/launch/reload.py", str(told), str(asked), *map(str, models), seconds=SECONDS
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return {Path(k).parent.name: v for k, v in json.loads(told.read_text()).items()}


def run_ranks(
    strategy: str, folder: Path, which: str, cells: list[str], *, ranks: int | None = None
) -> subprocess.CompletedProcess[str]:
    """``ranks``: None: two, or one where nothing is parallel."""
    ranks = ranks or (1 if strategy == "single" else 2)
    return run_python(
        "-m", "accelerate.commands.launch",
        "--config_file", f"launch/accelerate/{strategy}.yaml",
        "--num_processes", str(ranks),
        "--main_process_port", str(free_port()),
        "tests/launch/matrix.py", str(folder), which, *cells,
        seconds=SECONDS,
    )  # fmt: skip


@pytest.fixture(scope="module")
def matrix(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Matrix:
    items = [i for i in request.session.items if i.path == request.path]
    selected = {
        (item.callspec.params["strategy"], item.callspec.params["cell"])
        for item in items
        if hasattr(item, "callspec")
    }
    return Matrix(tmp_path_factory.mktemp("matrix"), selected)


def is_fast(strategy: str, cell: Cell) -> bool:
    return strategy in FAST_STRATEGIES and cell in FAST


@pytest.mark.timeout(4 * SECONDS)
@pytest.mark.parametrize(
    ("strategy", "cell"),
    [
        pytest.param(
            strategy,
            cell,
            id=f"{strategy}-{cell}",
            marks=() if is_fast(strategy, cell) else pytest.mark.slow,
        )
        for strategy, cell in WHERE
    ],
)
def test_cell(matrix: Matrix, strategy: str, cell: Cell) -> None:
    one, runs, name = matrix.runs("single"), matrix.runs(strategy), str(cell)
    seen = json.loads((runs.unbroken / f"{name}.json").read_text())
    assert "error" not in seen, seen["error"]
    assert_in_force(runs.unbroken / name, strategy)
    difference = assert_losses_of_one_process(one.unbroken / name, runs.unbroken / name, cell)
    assert_gradients(seen)
    assert_stranger_agrees(runs.unbroken / name, runs.strangers[name], cell)
    assert_scores(one.unbroken / name, runs.unbroken / name, cell)
    assert_resumed(runs, name)
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{strategy}-{name}.json").write_text(json.dumps({"loss_difference": difference}))


def assert_in_force(folder: Path, strategy: str) -> None:
    environment = json.loads((folder / "environment.json").read_text())
    ranks = 1 if strategy == "single" else 2
    assert environment["strategy"] == strategy
    assert environment["world_size"] == ranks
    assert environment["accumulation"] == 4 // ranks


def assert_losses_of_one_process(one: Path, folder: Path, cell: Cell) -> float:
    """Returns the largest relative difference."""
    theirs, ours = (read_metrics(f / "metrics.jsonl") for f in (one, folder))
    assert [(r["step"], r["split"]) for r in theirs] == [(r["step"], r["split"]) for r in ours]
    keys = ["loss" if record["split"] == "train" else "nll" for record in theirs]
    rows = zip(keys, theirs, ours, strict=True)
    differences = [abs(b[key] - a[key]) / abs(a[key]) for key, a, b in rows]
    assert max(differences) <= LOSS[arithmetic(cell)], differences
    return max(differences)


def assert_gradients(seen: dict[str, list[str]]) -> None:
    """Everything that learns has a gradient, and nothing else; LoRA's A from the second step on,
    since B starts at zero."""
    learn = {name for name in seen["learn"] if not no_gradient_in_theory(name)}
    first = {name for name in learn if ".lora_A." not in name}
    for step in map(str, range(1, STEPS + 1)):
        expected = first if step == "1" else learn
        missing = expected - set(seen[step])
        assert not missing, f"step {step}: no gradient in {sorted(missing)[:3]}"
        extra = set(seen[step]) - set(seen["learn"])
        assert not extra, f"step {step}: a gradient in frozen {sorted(extra)[:3]}"


def assert_stranger_agrees(folder: Path, theirs: dict[str, Any], cell: Cell) -> None:
    assert "error" not in theirs, theirs.get("error")
    ours = Predictions.read(folder / "predictions" / "test.parquet")
    found = np.array([theirs[label] for label in ours.labels]).T
    if cell.precision == "bf16":
        # Where weights stay divided, our own predictions are those of the bf16 weights.
        assert np.abs(found - ours.probabilities[:TEXTS]).mean() <= MEAN_PROBABILITY
        return
    tolerance = STRANGER[cell.method.partition("+")[2] or "none"]
    np.testing.assert_allclose(found, ours.probabilities[:TEXTS], rtol=0, atol=tolerance)


def assert_scores(one: Path, folder: Path, cell: Cell) -> None:
    theirs, ours = (Predictions.read(f / "predictions" / "test.parquet") for f in (one, folder))
    assert theirs.ids == ours.ids
    if cell.precision == "bf16":
        assert np.abs(ours.probabilities - theirs.probabilities).mean() <= MEAN_PROBABILITY
        return
    tolerance = PROBABILITY[arithmetic(cell)]
    np.testing.assert_allclose(ours.probabilities, theirs.probabilities, rtol=0, atol=tolerance)
    scores = (json.loads((f / "results.json").read_text())["test"] for f in (one, folder))
    assert len({(s["n"], s["accuracy"], s["macro_f1"]) for s in scores}) == 1


def assert_resumed(runs: Runs, name: str) -> None:
    """To the same bits."""
    unbroken, resumed = runs.unbroken / name, runs.resumed / name
    a, b = (read_metrics(f / "metrics.jsonl") for f in (unbroken, resumed))
    assert a == b
    for file in ("predictions/test.parquet", "model/model.safetensors"):
        assert (unbroken / file).read_bytes() == (resumed / file).read_bytes(), file
