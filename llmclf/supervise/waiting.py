"""How long ranks wait for each other, and what is said while one of them works alone."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta

from llmclf.config import ConfigError
from llmclf.ranks import is_main

TIMEOUT_MINUTES = "LLMCLF_TIMEOUT_MINUTES"
"""Environment variable: minutes that a rank waits in a collective for the others."""
DEFAULT_MINUTES = "120"  # NCCL's own 10 are too few to download, or to save, a large model
SAY_SECONDS = 300.0


def timeout() -> timedelta:
    """How long a rank waits for the others. Ranks that die are noticed within seconds, by the
    watchdog.

    Raises ConfigError where the environment holds no such number.
    """
    text = os.environ.get(TIMEOUT_MINUTES, DEFAULT_MINUTES)
    try:
        minutes = float(text)
    except ValueError:
        minutes = math.nan
    if not 0 < minutes <= 1e6:
        raise ConfigError(f"{TIMEOUT_MINUTES}={text!r}: must be a number of minutes above 0.")
    return timedelta(minutes=minutes)


@contextlib.contextmanager
def doing(what: str) -> Iterator[None]:
    """Let the first process say every few minutes that the block goes on: the others wait."""
    ended = threading.Event()
    if is_main():
        threading.Thread(target=_say, args=(what, ended), daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _say(what: str, ended: threading.Event) -> None:
    started = time.monotonic()
    while not ended.wait(SAY_SECONDS):
        minutes = (time.monotonic() - started) / 60
        print(f"still {what} ({minutes:.0f} min)", file=sys.stderr, flush=True)
