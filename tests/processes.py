"""Real processes for tests: recipes with one rank or several, to be run, killed and resumed.

They are forked from a server that has imported llmclf and the frameworks already, so each starts at
once instead of after the seconds that importing takes.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import psutil

REPOSITORY = Path(__file__).resolve().parents[1]
CHILD = Path(__file__).with_name("child.py")
SECONDS = 120  # for any one run

_context = multiprocessing.get_context("forkserver")
# The modules that import the frameworks, which experiments do only when they run.
_context.set_forkserver_preload(
    [
        "llmclf.cli.recipe",
        "llmclf.train.fine_tune",
        "llmclf.prompt.few_shot",
        "llmclf.classical.run",
    ]
)


class Ranks:
    """The processes of one run of a recipe."""

    def __init__(self, processes: list[ForkServerProcess], log: Path) -> None:
        self.processes = processes
        self.log = log

    def wait(self) -> int:
        """The exit code of the first rank; the others are stopped if they outlive it."""
        self.processes[0].join(SECONDS)
        for process in self.processes[1:]:
            process.join(30)
        code = self.processes[0].exitcode
        alive = self.kill()
        assert code is not None, f"rank 0 hangs: {self.text()}"
        assert code or not alive, f"another rank hangs: {self.text()}"
        return code

    def signal(self, number: int, ranks: Iterable[int] | None = None) -> None:
        """Send a signal to some of the ranks, or to all."""
        for rank in range(len(self.processes)) if ranks is None else ranks:
            pid = self.processes[rank].pid
            assert pid is not None
            os.kill(pid, number)

    def kill(self) -> bool:
        """SIGKILL to all that are alive; returns whether any was."""
        alive = [process for process in self.processes if process.is_alive()]
        for process in alive:
            process.kill()
        for process in alive:
            process.join()
        return bool(alive)

    def text(self) -> str:
        """What they printed."""
        return self.log.read_text(encoding="utf-8") if self.log.exists() else ""


def start(
    log: Path,
    recipe: str,
    *options: str,
    ranks: int = 1,
    environment: dict[str, str] | None = None,
    kill_at: int = 0,
    kill_signal: int = signal.SIGKILL,
) -> Ranks:
    """Start a recipe (or any script) as ``ranks`` processes joined by gloo.

    ``kill_at``: ``kill_signal`` to rank 0 before its so-many-th change on the disk (see child.py).
    """
    argv = [str(REPOSITORY / recipe), *options]
    port = free_port()
    processes = []
    for rank in range(ranks):
        request = {
            "argv": argv,
            "environment": (environment or {}) | rank_environment(rank, ranks, port),
            "log": str(log),
            "kill_at": kill_at if rank == 0 else 0,
            "kill_signal": kill_signal,
        }
        process = _context.Process(
            target=runpy.run_path, args=(str(CHILD), {"request": request}), daemon=True
        )
        process.start()
        processes.append(process)
    return Ranks(processes, log)


def run(log: Path, recipe: str, *options: str, ranks: int = 1) -> str:
    """Run a recipe to its end, which must be a good one; returns what it printed."""
    started = start(log, recipe, *options, ranks=ranks)
    code = started.wait()
    assert code == 0, f"exit code {code}: {started.text()[-3000:]}"
    return started.text()


def accelerate_launch(*arguments: str) -> str:
    """``accelerate launch ARGUMENTS`` in the repository, which must end well; returns stdout."""
    done = subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", *arguments],
        cwd=REPOSITORY,
        env=launch_environment(),
        capture_output=True,
        text=True,
        timeout=2 * SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


class Launched:
    """A running ``accelerate launch ARGUMENTS`` in the repository, and the ranks it started."""

    def __init__(self, log: Path, *arguments: str, **environment: str) -> None:
        self.log = log
        with log.open("w", encoding="utf-8") as file:
            self.launcher = subprocess.Popen(
                [sys.executable, "-m", "accelerate.commands.launch", *arguments],
                cwd=REPOSITORY,
                env=launch_environment() | environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a process group of its own, as a shell gives it
            )
        self.ranks: list[psutil.Process] = []

    def find_ranks(self, count: int) -> list[psutil.Process]:
        """The processes of the ranks, in their order, once all are there."""
        deadline = time.monotonic() + SECONDS
        while len(self.ranks) < count:
            assert time.monotonic() < deadline and self.launcher.poll() is None, self.text()
            time.sleep(0.05)
            found = {}
            for process in psutil.Process(self.launcher.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    rank = process.environ().get("RANK", "0" if count == 1 else None)
                    if rank is not None and "recipe" in " ".join(process.cmdline()):
                        found[int(rank)] = process
            self.ranks = [found[rank] for rank in sorted(found)]
        return self.ranks

    def wait(self) -> int:
        """The launcher's exit code."""
        return self.launcher.wait(2 * SECONDS)

    def wait_for(self, path: Path, text: str) -> None:
        """Return once ``text`` stands in the file ``path``."""
        deadline = time.monotonic() + SECONDS
        while not (path.exists() and text in path.read_text(encoding="utf-8")):
            assert time.monotonic() < deadline, f"{text!r} does not come: {self.text()}"
            assert self.launcher.poll() is None, self.text()
            time.sleep(0.02)

    def ctrl_c(self) -> None:
        """What a terminal sends: SIGINT to the whole process group."""
        os.killpg(self.launcher.pid, signal.SIGINT)

    def seconds_until_gone(self) -> float:
        """How long the ranks go on, from now."""
        started = time.monotonic()
        _, alive = psutil.wait_procs(self.ranks, timeout=SECONDS)
        assert not alive, f"orphans: {alive}"
        return time.monotonic() - started

    def text(self) -> str:
        """What was printed."""
        return self.log.read_text(encoding="utf-8")

    def kill(self) -> None:
        """Leave nothing behind."""
        for process in (*self.ranks, self.launcher):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.launcher.wait()


def launch_environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}


def run_python(*arguments: str, seconds: float) -> subprocess.CompletedProcess[str]:
    """Python in the repository, with what it printed, whatever its exit code."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=REPOSITORY,
        env=launch_environment(),
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def wait_until(path: Path, text: str, ranks: Ranks) -> None:
    """Return once ``text`` stands in the file ``path``, or the run has ended."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline and ranks.processes[0].is_alive():
        if path.exists() and text in path.read_text(encoding="utf-8"):
            return
        time.sleep(0.002)


def rank_environment(rank: int, ranks: int, port: int) -> dict[str, str]:
    """What torchrun and accelerate tell a rank; nothing to a process that is alone."""
    if ranks == 1:
        return {}
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
