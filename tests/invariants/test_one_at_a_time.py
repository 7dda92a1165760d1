"""Two runs in one folder: the second ends with one line, and the first is as if it were alone."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from llmclf.run_folder.metrics import read_metrics
from llmclf.supervise.lock import NAME
from tests.processes import Ranks, start, wait_until

RECIPE = "recipes/bert_base.py"
STEP = '{"step": 3, "split": "train"'


class Case:
    """Runs of one command line, all into the same folder."""

    def __init__(self, folder: Path, bert: Path, corpus: Path) -> None:
        self.folder, self.parent = folder / "run", folder
        self.options = (
            "--model.checkpoint", str(bert), "--data.source", str(corpus), "--train.log-every", "1",
            "--train.precision", "fp32", "--output-dir", str(self.folder),
        )  # fmt: skip

    def start(self, log: str, *options: str, epochs: int = 1000, ranks: int = 1) -> Ranks:
        options = (*self.options, "--train.min-steps", "0", "--train.epochs", str(epochs), *options)
        return start(self.parent / log, RECIPE, *options, ranks=ranks)

    def live(self, ranks: int = 1) -> Ranks:
        """One in the training loop."""
        started = self.start("live", ranks=ranks)
        wait_until(self.folder / "metrics.jsonl", STEP, started)
        return started


@pytest.fixture
def case(tmp_path: Path, bert: Path, corpus: Path) -> Case:
    return Case(tmp_path, bert, corpus)


def assert_refused(refused: Ranks, by: Ranks) -> None:
    assert refused.wait() == 2, refused.text()
    assert {process.exitcode for process in refused.processes} == {2}
    (line,) = [x for x in refused.text().splitlines() if x.startswith("error: ")]
    assert f"is in use by process {by.processes[0].pid} on " in line
    assert "Traceback" not in refused.text()


@pytest.mark.parametrize("ranks", [1, 2])
def test_resuming_a_live_run_is_refused_on_all_ranks(case: Case, ranks: int) -> None:
    live = case.live()
    assert_refused(case.start("again", "--resume", ranks=ranks), live)
    live.signal(signal.SIGTERM)
    assert live.wait() == 143, live.text()
    steps = [(r["step"], r["split"]) for r in read_metrics(case.folder / "metrics.jsonl")]
    assert len(set(steps)) == len(steps) >= 3
    assert not (case.folder / NAME).exists()


def test_of_two_starts_at_once_one_runs(case: Case) -> None:
    both = [case.start(f"log-{i}", epochs=3) for i in range(2)]
    codes = [ranks.wait() for ranks in both]
    assert sorted(codes) == [0, 2], [ranks.text() for ranks in both]
    lost = both[codes.index(2)].text()
    assert "Traceback" not in lost and lost.count("error: ") == 1
    steps = [(r["step"], r["split"]) for r in read_metrics(case.folder / "metrics.jsonl")]
    assert len(set(steps)) == len(steps)
    assert json.loads((case.folder / "results.json").read_text())["name"]


@pytest.mark.parametrize("ranks", [1, 2])
def test_what_was_killed_goes_on(case: Case, ranks: int) -> None:
    live = case.live(ranks)
    live.kill()
    assert (case.folder / NAME).exists()
    again = case.start("on", "--resume", ranks=ranks)
    wait_until(case.folder / NAME, f"pid={again.processes[0].pid}\n", again)
    again.signal(signal.SIGTERM)
    assert again.wait() == 143, again.text()
    assert [path.name for path in case.folder.iterdir() if path.name.startswith(".")] == []


def test_an_interruption_from_the_keyboard_lets_go(case: Case) -> None:
    live = case.live()
    live.signal(signal.SIGINT)
    assert live.wait() == 130, live.text()
    assert not (case.folder / NAME).exists()
