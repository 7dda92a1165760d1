"""Foreign texts as a reader sees them."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from itertools import accumulate

_STEERING = re.compile("[\u202a-\u202e\u2066-\u2069\ufffe\uffff\ud800-\udfff\x00-\x1f\x7f-\x9f]")
_INTERVAL = re.compile(r"\[[-\d.]+, [-\d.]+\]")
_P = re.compile(r"\bp ([=<]) (?=\d)")
_SPACE = re.compile(r"\s+")


def visible(text: object, most: int = 400) -> str:
    """One line of text that neither XML refuses nor that turns the direction of what follows.

    White space becomes a space, other control characters become U+FFFD; beyond ``most``
    characters the text is cut, and how long it was is said.
    """
    line = _STEERING.sub("\ufffd", _SPACE.sub(" ", str(text)))
    if len(line) <= most:
        return line
    return f"{line[:most]}… ({len(line):,} characters)"


def unbroken(text: str) -> str:
    """Text in which no line ends within an interval or between p and its value."""
    whole = _INTERVAL.sub(lambda m: m[0].replace(" ", "\u00a0"), text)
    return _P.sub("p\u00a0\\1\u00a0", whole)


def visible_lines(text: str) -> str:
    """Text to be copied, with its line breaks, tabs and spaces; as :func:`visible` otherwise, and
    never cut."""
    return _STEERING.sub(lambda m: m[0] if m[0] in "\n\t" else "\ufffd", text)


def cut(text: object, most: int) -> str:
    """A text for a figure: no wider than ``most`` usual letters, an ellipsis where it was."""
    line = visible(text, 10 * most)
    widths = list(accumulate(map(_width, line)))
    if not line or widths[-1] <= most:
        return line
    return line[: bisect_right(widths, most - 1)].rstrip() + "\u2026"


def _width(character: str) -> float:
    """Width of a character in usual letters, roughly."""
    if unicodedata.east_asian_width(character) in "WF":
        return 1.9
    return 1.6 if character in "MW@%\ufffd" else 1.25 if character.isupper() else 1.0
