"""SIGTERM, SIGUSR1 and Ctrl-C end a run after the current step, with a checkpoint and exit code 143
(130 after Ctrl-C). A second Ctrl-C ends it at once.

The handler only notes the signal. Inside the training loop the note travels with the loss, which is
summed over the ranks once a step anyway, so that all ranks stop after the same step. Anywhere else
the process ends at once: what it leaves is what a kill leaves, and a resume redoes the rest.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from llmclf.atomic import write_text
from llmclf.ranks import is_main
from llmclf.supervise import lock

if TYPE_CHECKING:
    from accelerate import Accelerator

EXIT_CODE = 143  # 128 + SIGTERM, as a shell reports it
CTRL_C_EXIT_CODE = 130  # 128 + SIGINT
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
CTRL_C = signal.SIGINT.name
AGAIN_SECONDS = 1.0  # from Ctrl-C to a signal that is meant as another: launchers repeat the first
MARKER = "LLMCLF_PREEMPTED"  # environment variable: the file that says the run was interrupted


@dataclass
class _State:
    """State of this process: set by the signal handler and the watchdog, read by the loop."""

    reason: str | None = None
    since: float = 0.0
    stepping: bool = False
    """Whether the process is inside the training loop: a step boundary will come."""
    at_boundary: bool = False
    """Whether all ranks agreed to stop and are saving."""
    watched: bool = False
    """Whether a watchdog ends the process where no step boundary comes."""


_state = _State()


class Stopped(SystemExit):
    """Leaves the run after its checkpoint was saved."""

    def __init__(self, message: str) -> None:
        super().__init__(exit_code())
        self.message = message

    def __str__(self) -> str:
        return self.message


def exit_code() -> int:
    """What a shell would report after what ended this process."""
    return CTRL_C_EXIT_CODE if by_ctrl_c() else EXIT_CODE


def request(reason: str) -> None:
    """Ask this process to stop. Slurm and the launcher both send the signal: the first counts."""
    if _state.reason is None:
        _state.reason, _state.since = reason, time.monotonic()
        if by_ctrl_c() and _state.stepping and is_main():
            # Not print(): a handler may have interrupted one.
            os.write(2, b"Ctrl-C: saving after this step; once more ends the run at once\n")


def received(number: int) -> None:
    """Note a signal that came; after Ctrl-C another one ends the process at once. torchrun turns
    the second Ctrl-C into SIGTERM."""
    if by_ctrl_c() and time.monotonic() - _state.since > AGAIN_SECONDS:
        leave()
    request(signal.Signals(number).name)


def requested() -> bool:
    """Whether this rank was asked to stop; a step's loss carries it to all ranks."""
    return _state.reason is not None


def by_ctrl_c() -> bool:
    """Whether it was Ctrl-C that asked."""
    return _state.reason == CTRL_C


def overdue(grace_seconds: float, idle_seconds: float) -> bool:
    """Whether a request has waited too long: in the loop for a step boundary, elsewhere at all."""
    if _state.reason is None or _state.at_boundary:
        return False
    patience = grace_seconds if _state.stepping else idle_seconds
    return time.monotonic() - _state.since > patience


@contextlib.contextmanager
def between_steps() -> Iterator[None]:
    """The training loop, which stops at its next step boundary when asked to."""
    _state.stepping = True
    try:
        yield
    finally:
        _state.stepping = False
    if requested() and not _state.watched:
        leave()


def stop(accelerator: Accelerator, step: int, total: int, *, ctrl_c: bool) -> NoReturn:
    """End the run after a step whose checkpoint is saved. All ranks must call this.

    ``ctrl_c``: whether any rank was stopped by Ctrl-C.
    """
    request(CTRL_C if ctrl_c else signal.SIGTERM.name)  # of another rank
    _state.at_boundary = True
    if accelerator.is_main_process:
        write_marker()
    accelerator.wait_for_everyone()  # no launcher may see a rank end before the marker is there
    raise Stopped(
        f"stopped by {_state.reason} after step {step:,} of {total:,}; go on with --resume"
    )


def leave() -> NoReturn:
    """End the process here and now."""
    if is_main():
        write_marker()
        by = _state.reason or "a signal to another rank"
        with contextlib.suppress(BrokenPipeError):
            print(f"stopped by {by}; go on with --resume", flush=True)
    lock.end(exit_code())


def write_marker() -> None:
    """Tell the job script why the run ended: launchers turn every exit code into 1."""
    if path := os.environ.get(MARKER):
        write_text(Path(path), f"{_state.reason}\n")


@contextlib.contextmanager
def handled(*, watched: bool) -> Iterator[None]:
    """Note the signals while the block runs.

    ``watched``: a watchdog looks after requests outside the loop, where the main thread may sit in
    a collective and would run no handler.
    """
    global _state
    _state = _State(watched=watched)
    # A job in the background of a script is started with Ctrl-C ignored: it stays so.
    heard = [n for n in SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, _on_signal) for number in heard}
    ending: dict[signal.Signals, Any] = before
    try:
        yield
    except BaseException:
        # The launcher answers the end of one rank by SIGTERM to the others. They end as well, and
        # the first must be left the time to say why.
        if watched:
            ending = dict.fromkeys(heard, signal.SIG_IGN)
        raise
    finally:
        for number in heard:
            signal.signal(number, ending[number])


def _on_signal(number: int, frame: FrameType | None) -> None:
    if _state.watched:
        request(signal.Signals(number).name)  # the watchdog has received it, maybe long ago
        return
    received(number)
    if not _state.stepping:
        leave()
