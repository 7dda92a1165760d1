"""What a run says on the terminal: its first rank alone, without the chatter of libraries."""

from __future__ import annotations

import warnings
from typing import Any

from rich.console import Console
from transformers.utils import logging as transformers_logging

from llmclf.ranks import is_main


def quieten() -> None:
    """Leave the terminal to our own messages: transformers reports each load, and its warnings are
    handled here."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    for category in (UserWarning, FutureWarning):
        libraries = "torch|transformers|peft|accelerate"
        warnings.filterwarnings("ignore", category=category, module=libraries)


def show(console: Console, facts: dict[str, Any]) -> None:
    """Print facts in a line."""
    text = [f"{name} {_shown(value)}" for name, value in facts.items() if value is not None]
    console.print(", ".join(text).replace("_", " "), markup=False, soft_wrap=True)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


def main_console() -> Console:
    """The terminal; silent on every rank but the first."""
    return Console(quiet=not is_main())
