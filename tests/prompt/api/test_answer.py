"""Which label a written answer means."""

from __future__ import annotations

import pytest

from llmclf.prompt.api.answer import parse_answer

MOODS = ("positive", "negative", "neutral")
ADVICE = ("no advice", "weak advice", "advice")


@pytest.mark.parametrize(
    ("content", "words", "index"),
    [
        ("positive", MOODS, 0),
        (" Positive.\n", MOODS, 0),
        ('**"Negative"**', MOODS, 1),
        ("`neutral`", MOODS, 2),
        ("Label: negative", MOODS, 1),
        ("The sentiment is negative, quite negative.", MOODS, 1),
        ("Negative\n\nText: next one", MOODS, 1),
        ("positively", MOODS, -1),
        ("non-negative or positive", MOODS, -1),
        ("positive or negative", MOODS, -1),
        ("", MOODS, -1),
        ("I cannot tell.", MOODS, -1),
        ("\u201cpositive\u201d", MOODS, 0),
        ("\uff50ositive", MOODS, 0),
        ("no advice", ADVICE, 0),
        ("There is No   advice here", ADVICE, 0),
        ("this is advice", ADVICE, 2),
        ("no advice, but advice", ADVICE, -1),
        ("weak advice!", ADVICE, 1),
        ("B", ("A", "B", "C"), 1),
        ("b)", ("A", "B", "C"), 1),
        ("It is a B", ("A", "B", "C"), 1),
        ("A or B", ("A", "B", "C"), -1),
        ("I think it is a good one", ("A", "B", "C"), -1),
        ("+", ("+", "-"), 0),
        ("Yes", ("yes", "Yes"), 1),
        ("YES", ("yes", "Yes"), -1),
        ("C++", ("C", "C++"), 1),
        ("答えは肯定です", ("肯定", "否定"), 0),
        ("3", ("1", "2", "3"), 2),
        ("13", ("1", "2", "3"), -1),
        ("это хорошо", ("хорошо", "плохо"), 0),
        ("нехорошо", ("хорошо", "плохо"), -1),
    ],
)
def test_answer(content: str, words: tuple[str, ...], index: int) -> None:
    assert parse_answer(content, words) == index


@pytest.mark.parametrize(
    "words", [MOODS, ADVICE, ("A", "B"), ("日", "本"), ("+", "-"), ("a.b", "a")]
)
def test_every_word_is_its_own_answer(words: tuple[str, ...]) -> None:
    assert [parse_answer(word, words) for word in words] == list(range(len(words)))
