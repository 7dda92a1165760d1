"""A sampler: what is read again and again while something else runs."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Sampler:
    """Calls a function every so many seconds, on a thread of its own, until it is stopped."""

    def __init__(self, seconds: float, sample: Callable[[], None]) -> None:
        self._seconds, self._sample = seconds, sample
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Wait for a call that is under way, and make no other."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            self._sample()
