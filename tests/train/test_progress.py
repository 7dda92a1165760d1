"""What a user sees: a live table on a terminal, a few lines in a log, nothing on other ranks."""

from __future__ import annotations

from io import StringIO
from typing import Any

from rich.console import Console

from llmclf.train.progress import TrainingProgress


def show(**settings: Any) -> str:
    """100 steps and two evaluations."""
    out = StringIO()
    console = Console(file=out, width=120, **settings)
    with TrainingProgress(console, num_steps=100, first_step=0) as progress:
        for step in range(1, 101):
            progress.step(step, 0.5)
            if step % 50 == 0:
                record = {"step": step, "epoch": 1.0, "nll": 0.4, "macro_f1": 0.8, "accuracy": 0.9}
                progress.evaluation(record, train_loss=0.5, best=step == 50)
    return out.getvalue()


def test_a_log_file_gets_a_few_plain_lines() -> None:
    lines = show(force_terminal=False).splitlines()
    assert len(lines) == 12
    assert lines[0].startswith("step 10/100  loss 0.5000")
    assert lines[5] == (
        "step 50  epoch 1.00  train loss 0.5000  validation loss 0.4000  macro-F1 0.8000  "
        "accuracy 0.9000  best"
    )
    assert not lines[11].endswith("best")


def test_a_terminal_gets_one_table_row_for_each_evaluation() -> None:
    last = show(force_terminal=True, legacy_windows=False).rpartition("training ")[2]
    assert "100/100" in last
    assert last.count("0.8000") == 2
    assert last.count("best") == 1


def test_other_ranks_are_silent() -> None:
    assert show(quiet=True) == ""
