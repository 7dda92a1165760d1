"""A run that was killed (SIGKILL) anywhere and resumed ends in the same bits as an unbroken one."""

from __future__ import annotations

import itertools
import json
import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.processes import Ranks, run, start, wait_until

RECIPE = "recipes/bert_base.py"
BASE = (
    "--train.min-steps", "0", "--train.epochs", "2",
    "--train.global-batch-size", "16", "--train.learning-rate", "5e-3",
    "--train.evaluate-every", "4", "--train.checkpoint-every", "3", "--train.log-every", "1",
)  # fmt: skip
STEPS = 28
VARIANTS: dict[str, tuple[str, int, tuple[str, ...]]] = {
    "dropout": ("bert", 1, ("--train.precision", "fp32")),
    "bf16": ("bert", 1, ("--train.precision", "bf16", "--train.micro-batch-size", "5")),
    "lora": ("llama", 1, ("--model.tune", "lora", "--model.save", "adapter")),
    "ranks": ("bert", 2, ("--train.precision", "fp32", "--train.micro-batch-size", "3")),
}


class Case:
    """One variant: its command line, and the folder of its unbroken run."""

    def __init__(self, name: str, checkpoints: dict[str, Path], corpus: Path, folder: Path) -> None:
        checkpoint, self.ranks, options = VARIANTS[name]
        model = ("--model.checkpoint", str(checkpoints[checkpoint]))
        self.options = (*model, "--data.source", str(corpus), *BASE, *options)
        self.folder = folder
        self.unbroken = folder / "unbroken"
        run(folder / "log", RECIPE, *self.to(self.unbroken), ranks=self.ranks)

    def to(self, folder: Path) -> tuple[str, ...]:
        return (*self.options, "--output-dir", str(folder))

    def start(self, folder: Path, **kwargs: Any) -> Ranks:
        resume = ("--resume",) if folder.exists() else ()
        log = self.folder / f"{folder.name}.log"
        return start(log, RECIPE, *self.to(folder), *resume, ranks=self.ranks, **kwargs)


@pytest.fixture(scope="module", params=VARIANTS)
def case(
    request: pytest.FixtureRequest,
    bert: Path,
    llama: Path,
    corpus: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Case:
    folder = tmp_path_factory.mktemp(request.param)
    return Case(request.param, {"bert": bert, "llama": llama}, corpus, folder)


def kill_at_step(case: Case, folder: Path, step: int) -> None:
    """Kill all ranks once a step stands in metrics.jsonl."""
    ranks = case.start(folder)
    wait_until(folder / "metrics.jsonl", f'{{"step": {step}, "split": "train"', ranks)
    if not ranks.kill():  # a starved machine: the run was over before this process could look
        assert ranks.wait() == 0, ranks.text()
        shutil.rmtree(folder)


def kill_at_disk(case: Case, folder: Path, count: int) -> None:
    """Kill the first rank before one of its changes on the disk, and with it the others."""
    ranks = case.start(folder, kill_at=count)
    ranks.processes[0].join(60)
    assert ranks.processes[0].exitcode == -9, f"ended by itself: {ranks.text()[-2000:]}"
    ranks.kill()


def state_without_time(folder: Path) -> dict[str, Any]:
    state = json.loads((folder / "state.json").read_text())
    assert state.pop("train_seconds") > 0
    return state


def assert_same_run(broken: Path, unbroken: Path) -> None:
    """Everything but times is equal, bit by bit."""
    files = sorted(p.relative_to(unbroken) for p in unbroken.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(broken) for p in broken.rglob("*") if p.is_file())
    with_times = {"experiment.json", "results.json", "manifest.json", "state.json"}
    for file in files:
        if file.suffix == ".parquet":
            assert pq.read_table(broken / file).equals(pq.read_table(unbroken / file)), file
        elif file.name not in with_times and file.suffix != ".png":
            assert (broken / file).read_bytes() == (unbroken / file).read_bytes(), file
    newest = f"checkpoints/step-{STEPS:06d}"
    assert state_without_time(broken / newest) == state_without_time(unbroken / newest)
    results = [json.loads((f / "results.json").read_text()) for f in (broken, unbroken)]
    costs = [result.pop("cost") for result in results]
    assert results[0] == results[1]
    assert costs[0]["train_tokens"] == costs[1]["train_tokens"]


def test_killed_and_resumed_equals_unbroken(case: Case) -> None:
    """Three kills at random steps and three at random writes, one after another in one run."""
    generator = random.Random(case.folder.name)
    folder = case.folder / "broken"
    for step in sorted(generator.sample(range(1, STEPS - 8), 3)):
        kill_at_step(case, folder, step)
        kill_at_disk(case, folder, generator.randint(5, 60))
        assert not (folder / "results.json").exists()
    last = case.start(folder)
    assert last.wait() == 0, last.text()
    assert_same_run(folder, case.unbroken)


def test_killed_between_training_and_results_equals_unbroken(case: Case) -> None:
    """The last checkpoint is there, the model folder or the predictions are not."""
    if case.ranks > 1:
        pytest.skip("the same code on the first rank alone")
    folder = case.folder / "late"
    shutil.copytree(case.unbroken, folder)
    (folder / "results.json").unlink()
    shutil.rmtree(folder / "predictions")
    for file in (folder / "model").iterdir():
        file.write_bytes(file.read_bytes()[:10])
    ranks = case.start(folder)
    assert ranks.wait() == 0, ranks.text()
    assert_same_run(folder, case.unbroken)


def test_a_finished_run_is_not_resumed(case: Case) -> None:
    ranks = case.start(case.unbroken)
    assert ranks.wait() == 2
    assert ranks.text().count("error: ") == 1
    assert "this run is finished; there is nothing to resume" in ranks.text()


@pytest.fixture(scope="module")
def killed(bert: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A run killed after its step 10."""
    case = Case("dropout", {"bert": bert}, corpus, tmp_path_factory.mktemp("killed"))
    kill_at_step(case, case.folder / "killed", 10)
    return case


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--train.learning-rate", "1e-3"), "train.learning_rate: 0.005 -> 0.001"),
        (("--seed", "1", "--data.limit", "99"), "data.limit: None -> 99; seed: 0 -> 1"),
    ],
)
def test_resume_with_anything_else_is_refused(
    killed: Case, options: tuple[str, ...], message: str
) -> None:
    folder = killed.folder / "killed"
    before = (folder / "metrics.jsonl").read_bytes()
    log = killed.folder / "refused.log"
    log.unlink(missing_ok=True)
    started = start(log, RECIPE, *killed.to(folder), *options, "--resume")
    assert started.wait() == 2
    text = " ".join(started.text().split())
    assert text.count("error: ") == 1
    assert message in text
    assert "Traceback" not in text
    assert (folder / "metrics.jsonl").read_bytes() == before


def test_resume_with_what_decides_no_result_goes_on(killed: Case) -> None:
    """What to do after a full memory: all activations computed twice, in smaller parts."""
    folder = killed.folder / "smaller"
    shutil.copytree(killed.folder / "killed", folder)
    options = ("--train.gradient-checkpointing", "--train.micro-batch-size", "3")
    log = killed.folder / "smaller.log"
    run(log, RECIPE, *killed.to(folder), *options, "--resume")
    settings = json.loads((folder / "experiment.json").read_text())["train"]
    assert settings["gradient_checkpointing"] is True
    assert settings["micro_batch_size"] == 3
    in_force = json.loads((folder / "environment.json").read_text())
    assert (in_force["micro_batch_size"], in_force["global_batch_size"]) == (3, 16)


def test_an_existing_run_is_not_overwritten(killed: Case) -> None:
    folder = killed.folder / "killed"
    log = killed.folder / "again.log"
    started = start(log, RECIPE, *killed.to(folder))
    assert started.wait() == 2
    assert "holds a run already. Go on with it by --resume" in " ".join(started.text().split())


def test_a_damaged_checkpoint_is_one_message(killed: Case) -> None:
    folder = killed.folder / "damaged"
    shutil.copytree(killed.folder / "killed", folder)
    (newest,) = (folder / "checkpoints").glob("step-*")
    weights = newest / "weights-00000.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    ranks = killed.start(folder)
    assert ranks.wait() == 2
    (line,) = [line for line in ranks.text().splitlines() if line.startswith("error: ")]
    assert newest.name in line
    assert "weights-00000.safetensors" in line
    assert "Traceback" not in ranks.text()


def test_killed_at_any_write_of_a_save_goes_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    """A toy run saves at steps 2, 4, 6; it is killed at each point on the way from 2 to 4."""
    script, log = "tests/invariants/save_once.py", tmp_path / "log"
    unbroken = [tmp_path / f"step-{step}" for step in (0, 2, 4, 6)]
    for before, after in itertools.pairwise(unbroken):
        if before.exists():
            shutil.copytree(before, after)
        run(log, script, str(after))
    found: Counter[str] = Counter()
    for count in itertools.count(1):
        folder = tmp_path / f"kill-{count}"
        shutil.copytree(unbroken[1], folder)
        killed = start(log, script, str(folder), kill_at=count).wait() == -9
        left = {path.name for path in folder.iterdir()}
        found["half written"] += any(name.startswith(".step-") for name in left)
        found["both"] += {"step-000002", "step-000004"} <= left
        if "step-000004" not in left:
            run(log, script, str(folder))
        run(log, script, str(folder))
        assert {path.name for path in folder.iterdir()} == {"best-000006", "step-000006"}
        for file in ("weights", "optimizer"):
            path = f"step-000006/{file}-00000.safetensors"
            assert (folder / path).read_bytes() == (unbroken[3] / path).read_bytes(), count
        if not killed:
            break
    assert found["half written"] > 3
    assert found["both"] > 3
