"""Characters that nobody sees: where they belong, where they hide a difference, and how a value is
quoted in a message."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

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
_ESCAPED = re.compile(r"\\\\|\\u([0-9a-f]{4})|\\U([0-9a-f]{8})")
_BARE = str.maketrans("'\"", "  ")


def quoted(value: Any) -> str:
    """A value in quotes for a message, as ``repr`` has it, but for characters that belong there,
    which stay as they are: joiners in Persian and Indic words and in emoji, wide spaces."""

    def plain(match: re.Match[str]) -> str:
        return chr(int(match[1] or match[2], 16)) if match[1] or match[2] else match[0]

    text = _ESCAPED.sub(plain, repr(value))
    bare = text.translate(_BARE)  # a quote is no letter that is joined to another
    return "".join(c if belongs(bare, i) else repr(c)[1:-1] for i, c in enumerate(text))


def told_apart(names: Sequence[str]) -> list[str]:
    """Names in quotes; of those that look alike, what only some of them have is escaped."""
    looks = [unicodedata.normalize("NFC", " ".join(visible(name).split())) for name in names]
    shown = []
    for name, look in zip(names, looks, strict=True):
        alike = [other for other, of in zip(names, looks, strict=True) if of == look]
        common = set.intersection(*map(set, alike))
        text = "".join(c if c in common or c in "\\'" else ascii(c)[1:-1] for c in name)
        shown.append(f"'{text}'" if len(alike) > 1 else quoted(name))
    return shown


def belongs(text: str, place: int) -> bool:
    """Whether a character of a message is to be printed as it is."""
    character = text[place]
    if character.isprintable() or character == "\u3000":
        return True
    return unicodedata.category(character) == "Cf" and not _stray(text, place)


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
