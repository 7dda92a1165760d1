"""What a user sees while a model trains: a bar, and a table that grows by one row per
evaluation."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

PLAIN_LINES = 10  # lines per run where there is no terminal to redraw


class TrainingProgress:
    """Live on a terminal, a few plain lines in a log file, silent on all but the main process."""

    def __init__(self, console: Console, *, num_steps: int, first_step: int) -> None:
        """Show ``num_steps`` steps from ``first_step`` on; a quiet ``console`` silences
        everything."""
        self.console = console
        self.num_steps = num_steps
        self.started = time.monotonic()
        self.table = Table(box=None, pad_edge=False)
        for heading in (
            "step",
            "epoch",
            "train loss",
            "validation loss",
            "macro-F1",
            "accuracy",
            "",
        ):
            self.table.add_column(heading, justify="right")
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("loss {task.fields[loss]}"),
            console=console,
        )
        self.task = self.bar.add_task("training", total=num_steps, completed=first_step, loss="-")
        self.live = Live(Group(self.bar, self.table), console=console, refresh_per_second=4)

    def __enter__(self) -> TrainingProgress:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.live.stop()

    def step(self, step: int, loss: float) -> None:
        """Report one optimizer step."""
        self.bar.update(self.task, completed=step, loss=f"{loss:.4f}")
        every = max(1, self.num_steps // PLAIN_LINES)
        if not self.console.is_terminal and step % every == 0:
            seconds = time.monotonic() - self.started
            self.console.print(f"step {step}/{self.num_steps}  loss {loss:.4f}  {seconds:.0f} s")

    def evaluation(self, record: dict[str, Any], *, train_loss: float, best: bool) -> None:
        """Report scores on the validation rows."""
        cells = [
            str(record["step"]),
            f"{record['epoch']:.2f}",
            f"{train_loss:.4f}",
            f"{record['nll']:.4f}",
            f"{record['macro_f1']:.4f}",
            f"{record['accuracy']:.4f}",
            "best" if best else "",
        ]
        self.table.add_row(*cells)
        if not self.console.is_terminal:
            names = ("step", "epoch", "train loss", "validation loss", "macro-F1", "accuracy", "")
            line = "  ".join(
                f"{name} {cell}".strip() for name, cell in zip(names, cells, strict=True)
            )
            self.console.print(line.strip(), soft_wrap=True)
