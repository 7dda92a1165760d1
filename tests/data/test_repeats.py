"""Which texts count as the same after normalisation."""

from __future__ import annotations

import polars as pl
import pytest

from llmclf.data.normalise import normalise


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("The cat  sat.", "the cat, sat!", True),
        ("don't", "DON\u2019T", True),
        ("Straße \ufb01n", "STRASSE fin", True),
        ("caf\u00e9", "cafe\u0301", True),
        ("ad\u00advice\u200b", "advice", True),
        ("plot : two , three", "plot: two, three", True),
        ("good :)", "good :(", False),
        (":)", ":(", False),
        ("I win \U0001f600", "I win \U0001f621", False),
        ("costs 5", "costs 6", False),
        ("हिन्दी", "हिनदी", False),
    ],
)
def test_what_counts_as_the_same_text(a: str, b: str, same: bool) -> None:
    one, other = normalise(pl.Series([a, b]))
    assert (one == other) is same
