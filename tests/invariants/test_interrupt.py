"""A run that SIGTERM, SIGUSR1 or Ctrl-C stopped leaves a checkpoint of that step, and goes on to
the same bits."""

from __future__ import annotations

import copy
import re
import signal
import time
from pathlib import Path

import pytest

from tests.invariants.test_resume import RECIPE, STEPS, Case, assert_same_run, kill_at_step
from tests.processes import REPOSITORY, start, wait_until

STOPPED = re.compile(rf"^stopped by (\w+) after step (\d+) of {STEPS}; go on with --resume$", re.M)

EXIT_CODES = {signal.SIGTERM: 143, signal.SIGUSR1: 143, signal.SIGINT: 130}
LONG_STEPS = """
import runpy, sys, time
from pathlib import Path
from transformers import BertForSequenceClassification as Bert

original, begun = Bert.forward, Path(sys.argv[1])


def forward(self, *arguments, **kwargs):
    begun.touch()
    time.sleep(60)
    return original(self, *arguments, **kwargs)


Bert.forward = forward
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module", params=["dropout", "ranks"])
def case(
    request: pytest.FixtureRequest,
    bert: Path,
    corpus: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Case:
    folder = tmp_path_factory.mktemp(request.param)
    return Case(request.param, {"bert": bert}, corpus, folder)


def interrupt(case: Case, folder: Path, number: int, step: int, ranks: list[int]) -> int:
    """Send a signal once a step stands in metrics.jsonl; returns the step that the run stopped
    after."""
    marker, log = folder.with_suffix(".marker"), case.folder / f"{folder.name}.log"
    log.unlink(missing_ok=True)
    marker.unlink(missing_ok=True)
    started = case.start(folder, environment={"LLMCLF_PREEMPTED": str(marker)})
    wait_until(folder / "metrics.jsonl", f'{{"step": {step}, "split": "train"', started)
    started.signal(number, ranks)
    begun = time.monotonic()
    code = EXIT_CODES[number]
    assert started.wait() == code, started.text()
    assert time.monotonic() - begun < 10
    assert {process.exitcode for process in started.processes} == {code}
    name = signal.Signals(number).name
    ((said, stopped),) = STOPPED.findall(started.text())
    assert (said, marker.read_text()) == (name, f"{name}\n") or ranks == [1]
    (newest,) = (folder / "checkpoints").glob("step-*")
    assert newest.name == f"step-{int(stopped):06d}"
    assert "Traceback" not in started.text()
    return int(stopped)


def test_interrupted_and_resumed_equals_unbroken(case: Case) -> None:
    """Stopped six times, at steps with and without a checkpoint of their own."""
    folder = case.folder / "interrupted"
    everyone = list(range(case.ranks))
    last = 0
    for number, ranks in (
        (signal.SIGTERM, everyone),
        (signal.SIGUSR1, everyone * 2),  # as under Slurm: twice to each
        (signal.SIGTERM, everyone[-1:]),  # to one rank alone
        (signal.SIGTERM, everyone),
        (signal.SIGINT, everyone),
        (signal.SIGINT, everyone[-1:]),
    ):
        last = interrupt(case, folder, number, last + 2, ranks)
        assert not (folder / "results.json").exists()
    done = case.start(folder)
    assert done.wait() == 0, done.text()
    assert_same_run(folder, case.unbroken)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 9, 90, 150, 180])
def test_interrupted_at_a_write_equals_unbroken(case: Case, count: int) -> None:
    """At any change on the disk, before, in and after training: ends at once, resumes to the same
    bits."""
    if case.ranks > 1:
        pytest.skip("the same code on the first rank alone")
    folder = case.folder / f"write-{count}"
    started = case.start(folder, kill_at=count, kill_signal=signal.SIGTERM)
    assert started.wait() == 143, started.text()
    assert started.text().count("stopped by SIGTERM") == 1
    again = case.start(folder)
    assert again.wait() == 0, again.text()
    assert_same_run(folder, case.unbroken)


@pytest.mark.parametrize("count", [1, 3, 320])
def test_ctrl_c_outside_the_loop_ends_at_once_in_one_line(case: Case, count: int) -> None:
    if case.ranks > 1:
        pytest.skip("the same code on the first rank alone")
    started = case.start(case.folder / f"c-{count}", kill_at=count, kill_signal=signal.SIGINT)
    assert started.wait() == 130, started.text()
    assert started.text().count("stopped by SIGINT; go on with --resume") == 1
    assert "Traceback" not in started.text()


def test_a_second_ctrl_c_ends_a_long_step(case: Case, tmp_path: Path) -> None:
    script, begun = tmp_path / "long_steps.py", tmp_path / "begun"
    script.write_text(LONG_STEPS)
    arguments = (str(begun), str(REPOSITORY / RECIPE), *case.to(tmp_path / "run"))
    started = start(tmp_path / "log", str(script), *arguments, ranks=case.ranks)
    wait_until(begun, "", started)
    time.sleep(0.5)
    started.signal(signal.SIGINT)
    time.sleep(0.5)
    started.signal(signal.SIGINT)  # a launcher passes the first one on
    time.sleep(1)
    assert all(process.is_alive() for process in started.processes), started.text()
    assert started.text().count("saving after this step; once more ends the run at once") == 1
    started.signal(signal.SIGINT)
    assert started.wait() == 130, started.text()
    assert started.text().count("stopped by SIGINT; go on with --resume") == 1
    assert "Traceback" not in started.text()


def test_checkpoints_by_time_change_nothing(case: Case) -> None:
    """One after each step, and a run that goes on from one that only the time asked for."""
    timed, folder = copy.copy(case), case.folder / "timed"
    timed.options = (*case.options, "--train.checkpoint-minutes", "0.00001")
    kill_at_step(timed, folder, 11)
    (newest,) = (folder / "checkpoints").glob("step-*")
    assert newest.name in ("step-000010", "step-000011")
    done = timed.start(folder)
    assert done.wait() == 0, done.text()
    assert_same_run(folder, case.unbroken)
