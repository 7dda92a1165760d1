"""What a run says on the terminal: its first rank alone, without the chatter of libraries."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from llmclf.config import flatten
from llmclf.ranks import is_main


def quieten() -> None:
    """Leave the terminal to our own messages: transformers reports each load, and its warnings are
    handled here."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    for category in (UserWarning, FutureWarning):
        libraries = "torch|transformers|peft|accelerate"
        warnings.filterwarnings("ignore", category=category, module=libraries)


def show(console: Console, facts: dict[str, Any]) -> None:
    """Print facts in a line."""
    text = [f"{name} {_shown(value)}" for name, value in facts.items() if value is not None]
    console.print(", ".join(text).replace("_", " "), markup=False, soft_wrap=True)


def show_settings(console: Console, settings: dict[str, Any]) -> None:
    """Print every setting as it was read, one a line, in the names of the command line."""
    table = Table.grid(padding=(0, 2))
    for key, value in flatten(settings).items():
        text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
        table.add_row(key.replace("_", "-"), Text("" if value is None else text))
    console.print(table)


def show_bytes(console: Console, sizes: dict[str, int]) -> None:
    """Print a small table of ``<what>_bytes``, in GB (10^9 bytes); nothing where there are none."""
    if not sizes:
        return
    table = Table(box=None, title="memory of the fullest device", title_justify="left")
    table.add_column("what", no_wrap=True)
    table.add_column("GB", justify="right", no_wrap=True)
    for name, size in sizes.items():
        table.add_row(name.removesuffix("_bytes").replace("_", " "), f"{size / 1e9:.3f}")
    console.print(table)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


@contextlib.contextmanager
def until_nobody_reads() -> Iterator[None]:
    """End quietly, with exit code 1, where what reads the output has ended, as ``head`` does.

    It stands outermost and writes what is left itself, or the interpreter would complain as it ends
    (Note on SIGPIPE in the manual of ``signal``). A pipe to anything else that breaks is an error.
    """
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        if not _nobody_reads():
            raise
        _discard(sys.stdout.fileno())
        sys.exit(1)


def _nobody_reads() -> bool:
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _discard(descriptor: int) -> None:
    """Send to nowhere what is written from now on, and what waits to be."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


class RunConsole(Console):
    """A console of hours of work, which go on where nobody reads its output any more."""

    def on_broken_pipe(self) -> None:
        """Say so once, on stderr if that is still read, and be quiet."""
        self.quiet = True
        _discard(sys.stdout.fileno())
        try:
            print("what read the output has ended; the run goes on", file=sys.stderr, flush=True)
        except BrokenPipeError:  # 2>&1 | head
            _discard(sys.stderr.fileno())


def run_console() -> RunConsole:
    """A console of a run; silent on every rank but the first."""
    return RunConsole(quiet=not is_main())


def main_console() -> Console:
    """A console on the terminal; silent on every rank but the first."""
    return Console(quiet=not is_main())
