"""Names that a user gives to labels of which a file has the numbers alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NoReturn

from llmclf.config import ConfigError
from llmclf.data.table import listed
from llmclf.invisible import quoted


def named_numbers(column: str, numbers: Sequence[str], names: tuple[str, ...]) -> list[str]:
    """The names of class numbers, which count from 0. Raises ConfigError for what is no such
    number, and for another count of names."""
    place: dict[str, int] = {}
    for text in dict.fromkeys(numbers):
        if not re.fullmatch(r"\s*\d{1,9}(\.0+)?\s*", text):
            refuse_names(names, f"since column {quoted(column)} holds labels as {quoted(text)}")
        place[text] = int(float(text))
    held = listed(sorted(set(place.values())))
    what = f"column {quoted(column)} holds the class numbers {held}, which count from 0"
    check_count(names, max(place.values()) + 1, what)
    return [names[place[text]] for text in numbers]


def check_count(names: tuple[str, ...], count: int, what: str) -> None:
    """Raise ConfigError unless there are so many names, saying ``what`` there is."""
    if len(names) != count:
        raise ConfigError(
            f"data.label_names: there are {len(names)} names ({listed(names)}), but {what}; give "
            f"{count} names."
        )


def refuse_names(names: tuple[str, ...], why: str) -> NoReturn:
    """Raise ConfigError for names where labels have some already."""
    raise ConfigError(f"data.label_names={quoted(list(names))}: has no effect {why}; leave it out.")
