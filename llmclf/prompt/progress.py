"""Rows scored, rows per second and the time left: a bar on a terminal, a few lines in a log."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

PLAIN_LINES = 10


class ScoringProgress:
    """Counts rows of this process; ``rows``: how many it will score."""

    def __init__(self, console: Console, description: str, rows: int) -> None:
        self.console, self.description, self.rows = console, description, rows
        self.done, self.told = 0, 0
        self.started = time.monotonic()
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TaskProgressColumn(text_format="{task.speed:.1f} rows/s", show_speed=True),
            TimeRemainingColumn(),
            console=console,
        )
        self.task = self.bar.add_task(description, total=rows)

    def __enter__(self) -> ScoringProgress:
        if self.console.is_terminal:
            self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.stop()

    def advance(self, rows: int) -> None:
        """Report rows that are scored."""
        self.reach(self.done + rows)

    def reach(self, rows: int) -> None:
        """Report how many rows are scored by now."""
        self.done = rows
        self.bar.update(self.task, completed=self.done)
        step = self.done * PLAIN_LINES // max(self.rows, 1)
        if not self.console.is_terminal and step > self.told:
            self.told = step
            seconds = time.monotonic() - self.started
            speed = self.done / max(seconds, 1e-9)
            left = (self.rows - self.done) / speed
            self.console.print(
                f"{self.description} {self.done:,}/{self.rows:,} rows  {speed:.1f} rows/s  "
                f"{left:.0f} s left",
                highlight=False,
            )
