"""What surrounds a run: signals, the watchdog over the ranks, and the answer to a full memory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from llmclf.train import interrupt


@contextlib.contextmanager
def supervised() -> Iterator[None]:
    """Run the block such that a signal, a dead rank or a full memory ends or restarts it on all
    ranks."""
    with interrupt.handled(watched=False):
        try:
            yield
        except interrupt.Stopped as stopped:
            if os.environ.get("RANK", "0") == "0":
                print(stopped.message, flush=True)
            raise
