"""An error that a guess led to names the guess."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from llmclf.config import DataError

_SAID = " Guessed: "


@contextmanager
def naming_guesses(decisions: Sequence[str]) -> Iterator[None]:
    """Append to a DataError what was guessed by then, and how to say it instead."""
    try:
        yield
    except DataError as error:
        guesses = [d for d in decisions if "(guessed;" in d or d.startswith("delimiter of ")]
        if not guesses or _SAID in str(error):
            raise
        listed = ", ".join(guess.replace("(guessed; ", "(") for guess in guesses)
        raise DataError(f"{error}{_SAID}{listed}.") from None
