"""A run that SIGTERM or SIGUSR1 stopped leaves a checkpoint of that step, and goes on to the same
bits."""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path

import pytest

from tests.invariants.test_resume import STEPS, Case, assert_same_run
from tests.processes import wait_until

STOPPED = re.compile(rf"^stopped by (\w+) after step (\d+) of {STEPS}; go on with --resume$", re.M)


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
    assert started.wait() == 143, started.text()
    assert time.monotonic() - begun < 10
    assert {process.exitcode for process in started.processes} == {143}
    name = signal.Signals(number).name
    ((said, stopped),) = STOPPED.findall(started.text())
    assert (said, marker.read_text()) == (name, f"{name}\n") or ranks == [1]
    (newest,) = (folder / "checkpoints").glob("step-*")
    assert newest.name == f"step-{int(stopped):06d}"
    assert "Traceback" not in started.text()
    return int(stopped)


def test_interrupted_and_resumed_equals_unbroken(case: Case) -> None:
    """Stopped four times, at steps with and without a checkpoint of their own."""
    folder = case.folder / "interrupted"
    everyone = list(range(case.ranks))
    last = 0
    for number, ranks in (
        (signal.SIGTERM, everyone),
        (signal.SIGUSR1, everyone * 2),  # as under Slurm: twice to each
        (signal.SIGTERM, everyone[-1:]),  # to one rank alone
        (signal.SIGTERM, everyone),
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
