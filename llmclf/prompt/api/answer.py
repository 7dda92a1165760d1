"""Which label a written answer means, if any."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

_WRAPPING = " \t\r\n\"'`*_#.,:;!?()[]{}<>~|-\u2018\u2019\u201c\u201d\u00ab\u00bb\u3002\uff0c\uff01"


def parse_answer(content: str, words: Sequence[str]) -> int:
    """Return the index of the one answer in a text, or -1.

    First the text as a whole: as it is, then without case, quotes, punctuation and markdown around
    it. Else the only answer that occurs in it as whole words; of two that overlap the longer
    counts ("no advice" is not "advice"). A single character must keep its case there, since "a" is
    also an article. Nothing, or two answers, is invalid; so is a negation left unread: "not
    positive" counts as positive.
    """
    exact = [i for i, word in enumerate(words) if word.strip() == content.strip()]
    if not exact:
        exact = [i for i, word in enumerate(words) if _plain(word) == _plain(content) != ""]
    if exact:
        return exact[0] if len(exact) == 1 else -1
    return _only_one_within(content, words)


def _only_one_within(content: str, words: Sequence[str]) -> int:
    text = _spaced(content)
    spans = [
        (match.start(), match.end(), i)
        for i, word in enumerate(words)
        if _plain(word)
        for match in _pattern(word).finditer(text)
    ]
    indices = {
        i
        for start, end, i in spans
        if not any(a <= start and end <= b and b - a > end - start for a, b, _ in spans)
    }
    return indices.pop() if len(indices) == 1 else -1


def _pattern(word: str) -> re.Pattern[str]:
    bare = _spaced(word).strip(_WRAPPING)
    before = r"(?<!\w)" if _needs_a_gap(bare[0]) else ""
    after = r"(?!\w)" if _needs_a_gap(bare[-1]) else ""
    return re.compile(before + re.escape(bare) + after, re.IGNORECASE if len(bare) > 1 else 0)


def _needs_a_gap(character: str) -> bool:
    """Whether words of its script are parted: not in Chinese, Japanese or Thai (category Lo)."""
    return (character.isalnum() or character == "_") and unicodedata.category(character) != "Lo"


def _spaced(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).split())


def _plain(text: str) -> str:
    return _spaced(text).strip(_WRAPPING).casefold()
