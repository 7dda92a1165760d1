"""Characters of a label that nobody sees: where they belong, and where they hide a difference."""

from __future__ import annotations

import unicodedata

_NON_JOINER, _JOINER = "\u200c", "\u200d"
_BREAK = "\u200b"
"""Between words of scripts without spaces, such as Khmer."""
_SIGNS = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2")
"""Arabic and Syriac number signs: of the category of the invisible, and seen."""
_BLANK = frozenset("\u034f\u115f\u1160\u2800\u3164\uffa0")
"""Fillers: letters and symbols by category, and not seen."""
_FLAG = "\U0001f3f4"
_LATIN = 0x2FF
"""Last character of the Latin blocks, where a joiner joins nothing."""
_VIRAMA = 9
"""Combining class of the mark by which Indic letters join."""


def hides_something(name: str) -> bool:
    """Whether a label holds a line break, a control character, or an invisible one without effect.

    A (non-)joiner between letters of Persian, Indic scripts and the like, or in an emoji, has one.
    """
    return visible(name) == "" or any(_stray(name, i) for i in range(len(name)))


def visible(name: str) -> str:
    """The label without what cannot be seen, so that labels which look alike become equal."""
    return "".join(c for i, c in enumerate(name) if not _unseen(name, i)).strip()


def _stray(name: str, place: int) -> bool:
    character = name[place]
    # Zl, Zp: line and paragraph separators. Cf: zero-width and text-direction characters.
    if unicodedata.category(character) not in ("Cc", "Cf", "Zl", "Zp"):
        return False
    if character in _SIGNS or _in_flag(name, place):
        return False
    if character not in (_BREAK, _NON_JOINER, _JOINER):
        return True
    before, after = name[place - 1 : place], name[place + 1 : place + 2]
    if character == _JOINER and before and unicodedata.combining(before) == _VIRAMA:
        return False  # Malayalam writes it at the end of words, too
    return not (_printed(before) and _printed(after) and max(before, after) > chr(_LATIN))


def _printed(character: str) -> bool:
    return character != "" and unicodedata.category(character)[0] in "LMNPS"


def _unseen(name: str, place: int) -> bool:
    character = name[place]
    if character in _BLANK or _is_variation(character):
        return True
    if unicodedata.category(character) not in ("Cc", "Cf") or character.isspace():
        return False
    emoji = character == _JOINER and place > 0 and _is_symbol(name[:place])
    return not (emoji or character in _SIGNS or _in_flag(name, place))


def _is_variation(character: str) -> bool:
    return "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"


def _is_symbol(before: str) -> bool:
    last = before.rstrip("\ufe0f")[-1:]
    return last != "" and unicodedata.category(last)[0] == "S"


def _in_flag(name: str, place: int) -> bool:
    """Whether it is a tag behind a black flag, which make the flags of England and the like."""
    start = place
    while start and _is_tag(name[start]):
        start -= 1
    return start < place and name[start] == _FLAG


def _is_tag(character: str) -> bool:
    return "\U000e0020" <= character <= "\U000e007f"
