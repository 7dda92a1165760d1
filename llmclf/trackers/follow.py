"""The process that mirrors one run folder to one tracker: ``follow TRACKER FOLDER CONFIG``.

Read back from a tracker, a run equals its metrics.jsonl, wherever it was killed and resumed:

- A record is mirrored once a checkpoint holds its step: no resumption writes it again, and its
  line number in metrics.jsonl is its own for ever. Curves come checkpoint by checkpoint.
- What is local (TensorBoard, trackio, W&B offline) is written anew from metrics.jsonl at each
  start, in place of what an interrupted process left.
- W&B online is asked how many records it has, and is sent those that follow.

One process at a time follows a folder: a lock makes the next one wait.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from filelock import FileLock

from llmclf.config import from_json, plain
from llmclf.trackers.backends import OPEN, Backend, TrackedRun
from llmclf.trackers.config import TrackConfig
from llmclf.trackers.mirror import FAILED, GRACE_SECONDS, ID

POLL_SECONDS = 0.5
LOWER_PRIORITY = 10  # niceness: training comes first
SECRET_NAMES = ("KEY", "TOKEN", "SECRET", "PASSWORD")


def main() -> None:
    """Prints at most one warning, and tells of it by the exit code FAILED."""
    parser = argparse.ArgumentParser()
    parser.add_argument("tracker", choices=sorted(OPEN))
    parser.add_argument("folder", type=Path)
    parser.add_argument("config", type=json.loads)
    parser.add_argument("--report", type=Path)
    parser.add_argument("--again", action="store_true", help="the tracker failed before: no word")
    options = parser.parse_args()
    config = from_json(TrackConfig, options.config)
    terminal = take_terminal()
    ended = watch_parent(config)
    os.nice(LOWER_PRIORITY)
    warn = Warn(options.tracker, terminal, said=options.again)
    if options.again and os.environ.get("WANDB_MODE", "online") == "online":
        os.environ["WANDB_MODE"] = "offline"  # each run of a comparison would wait in vain
    try:
        with FileLock(options.folder / f".{options.tracker}.lock"):
            if options.report:
                send_report(options.tracker, options.folder, options.report, config, warn)
            else:
                follow(options.tracker, options.folder, config, ended, warn)
    except Exception as error:
        warn(f"{error or type(error).__name__}; metrics.jsonl and results.json hold everything")
    sys.exit(FAILED if warn.said else 0)


class Warn:
    """Prints the first warning only, without secrets."""

    def __init__(self, tracker: str, terminal: TextIO, *, said: bool) -> None:
        self.tracker, self.terminal, self.said = tracker, terminal, said

    def __call__(self, message: str) -> None:
        if not self.said:
            self.said = True
            line = plain(without_secrets(message.strip()))
            print(f"warning: {self.tracker}: {line}", file=self.terminal, flush=True)


def without_secrets(text: str) -> str:
    """A text without the values of environment variables that are named like secrets."""
    for name, value in os.environ.items():
        if len(value) >= 8 and any(part in name.upper() for part in SECRET_NAMES):
            text = text.replace(value, "***")
    return text


def take_terminal() -> TextIO:
    """Keep stderr for our warning; what trackers print goes nowhere."""
    terminal = os.fdopen(os.dup(2), "w", encoding="utf-8", errors="replace")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    return terminal


def watch_parent(config: TrackConfig) -> threading.Event:
    """An event that is set when the run has ended, well or not; from then on this process has
    limited time, after which the system ends it."""
    signals, parent, ended = os.dup(0), os.getppid(), threading.Event()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # a tracker must not read it, nor ask anything

    def wait() -> None:
        os.set_blocking(signals, False)
        while os.getppid() == parent:
            try:
                if not os.read(signals, 1):
                    break
            except BlockingIOError:
                ended.wait(POLL_SECONDS / 5)
        signal.alarm(round(config.timeout_seconds + GRACE_SECONDS))
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    return ended


def follow(
    tracker: str,
    folder: Path,
    config: TrackConfig,
    ended: threading.Event,
    warn: Callable[[str], None],
) -> None:
    """Mirror the folder to one tracker until the run has ended. ``ended``: set when it has;
    ``warn``: told of what goes wrong."""
    settings = read_json(folder / "experiment.json")
    settings.pop("track", None)
    run = TrackedRun(
        folder=folder.absolute(),
        id=read_json(folder / ID)["id"],
        name=settings["name"],
        group=config.group_of(folder),
        job_type=settings["method"],
        settings=settings | {"environment": read_json(folder / "environment.json")},
        config=config,
        warn=warn,
    )
    backend = OPEN[tracker](run)
    records = Records(folder / "metrics.jsonl")
    while not ended.wait(POLL_SECONDS):
        records.send(backend, newest_checkpoint(folder))
    results = folder / "results.json"
    done = results.is_file()
    records.send(backend, float("inf") if done else newest_checkpoint(folder))
    try:
        if done:
            backend.results(
                read_json(results), last_step=records.last_step, next_index=records.count
            )
    finally:  # what came before is safe, whatever it does not take of these
        backend.close(finished=done)


def send_report(
    tracker: str, folder: Path, html: Path, config: TrackConfig, warn: Callable[[str], None]
) -> None:
    """Send a run that holds nothing but the report ``html`` to one tracker. ``warn``: told of what
    goes wrong."""
    backend = OPEN[tracker](
        TrackedRun(
            folder=folder.absolute(),
            id=read_json(folder / ID)["id"],
            name="report",
            group=config.group_of(folder / "report"),
            job_type="report",
            settings={},
            config=config,
            warn=warn,
        )
    )
    backend.report(html)
    backend.close(finished=True)


class Records:
    """The lines of metrics.jsonl, handed on one by one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self.last_step = 0
        self._offset = 0  # bytes

    def send(self, backend: Backend, last_step: float) -> None:
        """Hand on those up to a step that were not handed on yet."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                record = json.loads(line) if line.endswith(b"\n") else None
                if record is None or record["step"] > last_step:
                    return
                backend.record(self.count, record)
                self.count, self.last_step = self.count + 1, record["step"]
                self._offset += len(line)


def newest_checkpoint(folder: Path) -> int:
    """Step of the newest whole checkpoint, 0 if there is none."""
    return max((int(p.name[5:]) for p in folder.glob("checkpoints/step-*")), default=0)


def read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
