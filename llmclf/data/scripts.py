"""Scripts that are written without spaces between words, where a run of letters is no word."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

# Marks of length and voice of kana are common to all scripts in Unicode's tables.
_SCRIPTS = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\u{30fc}\u{ff70}\u{ff9e}\u{ff9f}" + (
    r"\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tai_Le}\p{New_Tai_Lue}\p{Tai_Tham}\p{Tai_Viet}"
)
_LETTER = rf"[{_SCRIPTS}]"
_ENDED = rf"[{_SCRIPTS}][\s\u{{200b}}]"
"""A letter at the end of a run; U+200B parts words unseen."""
ENOUGH = 0.2
"""Share of letters from which on words lose too much: a fifth of the letters of a mixed corpus is
about two fifths of its content, since a Chinese word has two letters and an English one five."""
_PARTED = 1 / 8
"""Spaces per letter from which on a tool has parted the words already."""


def share_without_spaces(texts: Sequence[str]) -> float:
    """Share of the letters that are of scripts without spaces between words, from 0 to 1; 0 where
    the words of such scripts are parted by spaces all the same."""
    if not texts:
        return 0.0
    column = pl.Series(texts, dtype=pl.String)
    count = {
        name: int(column.str.count_matches(pattern).cast(pl.Int64).sum())
        for name, pattern in (("all", r"[\p{L}\p{M}]"), ("of", _LETTER), ("ended", _ENDED))
    }
    if not count["of"] or count["ended"] / count["of"] > _PARTED:
        return 0.0
    return min(1.0, count["of"] / max(count["all"], 1))


def lengths(texts: Sequence[str]) -> tuple[str, list[int]]:
    """What lengths of these texts are counted in, words or characters, and how many each has.

    Characters (but white space) are for scripts without spaces between words.
    """
    unit = "characters" if share_without_spaces(texts) >= ENOUGH else "words"
    pattern = r"\S" if unit == "characters" else r"\S+"
    return unit, pl.Series(texts, dtype=pl.String).str.count_matches(pattern).to_list()
