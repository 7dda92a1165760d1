"""A run that was killed (SIGKILL) and resumed is one run in each tracker and equals
metrics.jsonl."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.processes import Ranks, start, wait_until
from tests.trackers.readers import (
    assert_no_secrets,
    assert_tensorboard_equals,
    environment,
    expected,
    trackio_rows,
    wandb_file,
    wandb_history,
    wandb_records,
)
from tests.trackers.wandb_server import wandb_server

RECIPE = "recipes/bert_base.py"
OPTIONS = (
    "--train.min-steps", "0", "--train.epochs", "2",
    "--train.global-batch-size", "16", "--train.learning-rate", "5e-3",
    "--train.evaluate-every", "4", "--train.checkpoint-every", "3", "--train.log-every", "1",
    "--track.to", "wandb", "trackio", "tensorboard", "--track.timeout-seconds", "90",
)  # fmt: skip


class Job:
    """One run, started as often as it is killed."""

    def __init__(self, bert: Path, corpus: Path, base: Path, **own: str) -> None:
        self.base, self.folder, self.own = base, base / "runs" / "job", own
        source = ("--model.checkpoint", str(bert), "--data.source", str(corpus))
        self.options = (*source, *OPTIONS, "--output-dir", str(self.folder))

    def start(self, *, kill_at: int = 0) -> Ranks:
        resume = ("--resume",) if self.folder.exists() else ()
        own = environment(self.base, **self.own)
        log = self.base / "log"
        return start(log, RECIPE, *self.options, *resume, environment=own, kill_at=kill_at)

    def followers(self) -> list[psutil.Process]:
        """The trackers' processes, and those that they started."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                line = process.cmdline()
                if "llmclf.trackers.follow" in line and str(self.folder) in line:
                    found += [process, *process.children(recursive=True)]
        return found

    def all_have_begun(self) -> bool:
        """Whether each tracker holds something of the run."""
        places = (
            self.base.glob("trackio/*.db"),
            self.folder.glob("tensorboard/*"),
            self.folder.glob("wandb/offline-run-*/*.wandb"),
        )
        return all(list(place) for place in places)

    def kill_at_step(
        self, step: int, *, begun: Callable[[], bool], with_trackers: bool = True
    ) -> None:
        """Kill the rank at a step, once its trackers have begun; these at once, as a machine's end
        does, or not at all, as an end of the rank alone does."""
        ranks = self.start()
        try:
            path = self.folder / "metrics.jsonl"
            wait_until(path, f'{{"step": {step}, "split": "train"', ranks)
            ranks.signal(signal.SIGSTOP)  # trackers start more slowly than so small a model learns
            deadline = time.monotonic() + 90
            while not begun():
                assert time.monotonic() < deadline, f"trackers do not start: {ranks.text()}"
                time.sleep(0.05)
            for process in self.followers() if with_trackers else []:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        finally:
            ranks.kill()
        assert not (self.folder / "results.json").exists()


@pytest.fixture(scope="module")
def job(bert: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """One that was killed at random steps, with its trackers and without, at a random write, and
    came to its end then."""
    job = Job(bert, corpus, tmp_path_factory.mktemp("job"))
    generator = random.Random(5)
    first, second = sorted(generator.sample(range(4, 24), 2))
    job.kill_at_step(first, begun=job.all_have_begun)
    id_ = (job.folder / "track.json").read_text()
    job.kill_at_step(second, begun=job.all_have_begun, with_trackers=False)
    killed = job.start(kill_at=generator.randint(5, 40))
    killed.processes[0].join(60)
    assert killed.processes[0].exitcode == -signal.SIGKILL
    last = job.start()
    assert last.wait() == 0, last.text()
    assert "warning" not in last.text()
    assert (job.folder / "track.json").read_text() == id_
    return job


def test_one_run_in_wandb_equal_to_metrics(job: Job) -> None:
    id_ = json.loads((job.folder / "track.json").read_text())["id"]
    assert wandb_file(job.folder).name == f"run-{id_}.wandb"
    assert wandb_history(job.folder) == expected(job.folder)


def test_one_run_in_trackio_equal_to_metrics(job: Job) -> None:
    database = job.base / "trackio" / "llmclf.db"
    assert trackio_rows(database, job.folder) == expected(job.folder)
    with sqlite3.connect(database) as connection:
        assert len(connection.execute("SELECT DISTINCT run_id FROM metrics").fetchall()) == 1
        assert len(connection.execute("SELECT run_id FROM configs").fetchall()) == 1


def test_one_run_in_tensorboard_equal_to_metrics(job: Job) -> None:
    assert_tensorboard_equals(job.folder)


def test_secrets_appear_nowhere(job: Job) -> None:
    assert_no_secrets(job.base)


def test_one_run_on_a_server_equal_to_metrics(bert: Path, corpus: Path, tmp_path: Path) -> None:
    """W&B online: the server says what it has, and is sent the rest."""
    often = {"WANDB__FILE_STREAM_TRANSMIT_INTERVAL": "1"}
    with wandb_server() as (url, server):
        job = Job(bert, corpus, tmp_path, WANDB_MODE="online", WANDB_BASE_URL=url, **often)
        job.options = (*job.options, "--track.to", "wandb")
        job.kill_at_step(12, begun=lambda: len(server.lines) >= 9)
        kept = len(server.lines)
        last = job.start()
        assert last.wait() == 0, last.text()
    assert "warning" not in last.text()
    id_ = json.loads((job.folder / "track.json").read_text())["id"]
    assert server.runs == {(id_, "runs")}
    assert server.finished == [0]
    rows = [json.loads(line) for line in server.lines]
    assert [row["_step"] for row in rows] == list(range(len(rows)))
    assert "results/per_label" in rows.pop()
    found = [
        (row["step"], {k: v for k, v in row.items() if not k.startswith("_") and k != "step"})
        for row in rows
    ]
    assert found == expected(job.folder)
    assert 9 <= kept < len(found)
    (newest,) = (job.folder / "wandb" / "latest-run").glob("*.wandb")
    sent = [r.history.step.num for r in wandb_records(newest) if r.HasField("history")]
    assert sent == list(range(kept, len(rows) + 1))  # nothing twice, for the server to drop
    assert_no_secrets(tmp_path)


def test_trackers_may_differ_in_a_resumption_and_see_the_whole_run(
    bert: Path, corpus: Path, tmp_path: Path
) -> None:
    """They decide no result; a tracker that joins late is told everything."""
    folder = tmp_path / "runs" / "late"
    source = ("--model.checkpoint", str(bert), "--data.source", str(corpus))
    shared = (*source, *OPTIONS[:10], "--output-dir", str(folder))
    ranks = start(tmp_path / "log", RECIPE, *shared, environment=environment(tmp_path))
    wait_until(folder / "metrics.jsonl", '{"step": 10, "split": "train"', ranks)
    assert ranks.kill()
    assert not (folder / "track.json").exists()
    late = ("--track.to", "tensorboard", "--track.timeout-seconds", "90", "--resume")
    ranks = start(tmp_path / "log", RECIPE, *shared, *late, environment=environment(tmp_path))
    assert ranks.wait() == 0, ranks.text()
    assert_tensorboard_equals(folder)
