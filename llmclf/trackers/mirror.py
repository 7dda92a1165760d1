"""Starts one process for each tracker, which follows the run folder and mirrors it.

A process of its own, not a thread and not accelerate's trackers: a tracker that hangs, prints,
holds the interpreter's lock or fails takes no time of training and adds nothing to the memory that
is measured. accelerate's wrappers would bring torch and the process group into it, and the id, the
group, resuming, tables and artefacts would go past them anyway.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from llmclf.atomic import write_text
from llmclf.config import dump_json, to_json
from llmclf.trackers.config import TrackConfig

ID = "track.json"
"""Name of the file in the folder with the id under which every tracker knows the run, for life."""
FAILED = 3
"""Exit code of a tracker's process that had to warn."""
GRACE_SECONDS = 10
"""Seconds that a tracker's process may take beyond the tracker's own limit."""

_failed: set[str] = set()
"""Trackers that failed since this process began, a run or a comparison."""


@contextlib.contextmanager
def mirrored(folder: Path, config: TrackConfig) -> Iterator[None]:
    """Mirror the run folder while the block runs, and when it has ended well wait for the rest.

    Call it in one process of a run. Never raises because of a tracker: what goes wrong is one
    warning on stderr.
    """
    processes = start(folder, config)
    try:
        yield
    except BaseException:
        for process in processes.values():
            close(process)
        raise
    finish(processes, config)


def report(folder: Path, html: Path, config: TrackConfig) -> None:
    """Attach the HTML report on the runs in ``folder`` to their group: a run of its own named
    ``report``, of job type ``report`` in W&B; a later report of the same folder takes its place.

    Call it in one process. Never raises because of a tracker. TensorBoard shows no HTML and is left
    out.
    """
    targets = [name for name in dict.fromkeys(config.to) if name != "tensorboard"]
    finish({t: launch(t, folder, config, "--report", str(html)) for t in targets}, config)


def start(folder: Path, config: TrackConfig) -> Mapping[str, subprocess.Popen[bytes]]:
    """Start a process for each tracker."""
    return {tracker: launch(tracker, folder, config) for tracker in dict.fromkeys(config.to)}


def launch(
    tracker: str, folder: Path, config: TrackConfig, *options: str
) -> subprocess.Popen[bytes]:
    """Start ``follow`` on a folder. It ends when its standard input does: with this process, too,
    however that ends."""
    if not (folder / ID).exists():
        write_text(folder / ID, dump_json({"id": secrets.token_hex(4)}))
    package = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-P", "-m", "llmclf.trackers.follow", tracker, str(folder)]
    again = ("--again",) if tracker in _failed else ()
    return subprocess.Popen(
        [*command, json.dumps(to_json(config)), *options, *again],
        stdin=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": path},
        start_new_session=True,  # a signal to the job's group is for the ranks
    )


def finish(processes: Mapping[str, subprocess.Popen[bytes]], config: TrackConfig) -> None:
    """Tell all that nothing more comes, wait for them, and end those that take too long."""
    for process in processes.values():
        close(process)
    deadline = time.monotonic() + config.timeout_seconds + GRACE_SECONDS
    for name, process in processes.items():
        try:
            # The process sets itself an alarm, since it may outlive this one.
            code = process.wait(max(0.0, deadline + 1 - time.monotonic()))
        except subprocess.TimeoutExpired:
            code = -signal.SIGALRM
        if code == -signal.SIGALRM:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if name not in _failed:
                print(
                    f"warning: {name} did not end within {config.timeout_seconds:g} s "
                    "(--track.timeout-seconds); metrics.jsonl and results.json hold everything",
                    file=sys.stderr,
                )
        if code:
            _failed.add(name)


def close(process: subprocess.Popen[bytes]) -> None:
    """Tell a process that nothing more comes."""
    assert process.stdin is not None
    process.stdin.close()
