"""What surrounds a run: signals, the watchdog over the ranks, and the answer to a full memory."""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
import time
import traceback
from collections.abc import Iterator

from llmclf.config import UserError
from llmclf.supervise import lock, out_of_memory, signals
from llmclf.supervise.watchdog import (
    POLL_SECONDS,
    EndReason,
    RankContext,
    Watchdog,
    group_is_joined,
)


@contextlib.contextmanager
def supervised() -> Iterator[None]:
    """Run the block such that a signal, a dead rank or a full memory ends or restarts it on all
    ranks."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    context = RankContext.of_this_process()
    watchdog = None if context.alone else Watchdog(context)
    with signals.handled(watched=watchdog is not None):
        if watchdog is not None:
            watchdog.start()
        try:
            yield
        except BaseException as error:
            after_error(error, context, watchdog)
            raise
        if watchdog is not None:
            watchdog.leave(failed=False)


def after_error(error: BaseException, context: RankContext, watchdog: Watchdog | None) -> None:
    """Restart if memory is short; else say what this rank knows, and leave the run."""
    micro_batch_size = out_of_memory.in_use()
    if out_of_memory.is_out_of_memory(error) and micro_batch_size is not None:
        retry(context, watchdog, micro_batch_size)
    stopped = isinstance(error, signals.Stopped)
    if stopped and context.rank == 0:
        with contextlib.suppress(BrokenPipeError):  # the others are waiting
            print(str(error), flush=True)
    if stopped and watchdog is not None:
        watchdog.leave(failed=False)
    if stopped:
        # All is saved, and whoever sent the signal waits: the interpreter takes seconds to end.
        lock.end(signals.exit_code())
    if watchdog is None:
        return
    own = (UserError, FloatingPointError)
    if context.world_size > 1 and isinstance(error, Exception) and not isinstance(error, own):
        # A collective fails when a peer dies or restarts: then the watchdog says what happened,
        # and does what follows, while this error is on its way.
        time.sleep(3 * POLL_SECONDS)
    watchdog.leave(failed=not isinstance(error, SystemExit) or bool(error.code))


def retry(context: RankContext, watchdog: Watchdog | None, micro_batch_size: int) -> None:
    """Start all ranks again with half the micro-batch, or end them where there is no half."""
    text, half = out_of_memory.message(context.rank, micro_batch_size), micro_batch_size // 2
    if watchdog is not None:
        watchdog.post(EndReason("memory" if half else "exhausted", text, half))
        threading.Event().wait()  # the watchdog ends this process
    print(text, file=sys.stderr, flush=True)
    if half:
        out_of_memory.restart(half)
    lock.end(1)


@contextlib.contextmanager
def orderly_exit() -> Iterator[None]:
    """Leave the process group when the block ends, however it ends.

    Ranks that just exit may abort, since gloo's threads still run, or hang: whatever still holds
    the wrapped model by then, such as the frames of an error, takes the group down while it holds
    the interpreter's lock, for which those threads may be waiting.
    """
    try:
        yield
    except BaseException as error:
        if group_is_joined():
            traceback.clear_frames(error.__traceback__)
        raise
    finally:
        if group_is_joined():
            import torch

            gc.collect()
            torch.distributed.destroy_process_group()
