"""What is left of a text when only its words count: rows that agree in it are repeats."""

from __future__ import annotations

import polars as pl

BETWEEN = "\x1f"
"""What stands between text and pair, and is in no normalised text."""


def normalise(*texts: pl.Series) -> pl.Series:
    """Texts in Unicode NFKC without case, punctuation, invisible characters and extra spaces; of
    several columns, side by side.

    Marks that stand together on their own are a word and stay: ``:)`` and ``:(`` differ.
    """
    return pl.select(pl.concat_str(map(_one, texts), separator=BETWEEN)).to_series()


def _one(texts: pl.Series) -> pl.Series:
    word, space = r"([\p{L}\p{M}\p{N}])", r"[\s\p{Z}\p{C}]+"
    # Upper before lower case makes ß and ss one, as str.casefold does.
    plain = texts.str.normalize("NFKC").str.to_uppercase().str.to_lowercase()
    # Two spaces, since a match of one mark takes the space on either side.
    plain = plain.str.replace_all(r"\p{Cf}+", "").str.replace_all(space, "  ")
    plain = plain.str.replace_all(word + r"\p{P}+", "$1 ")
    plain = plain.str.replace_all(r"\p{P}+" + word, " $1")
    plain = plain.str.replace_all(r"(^| )\p{P}( |$)", " ")
    plain = plain.str.replace_all(" +", " ").str.strip_chars()
    return plain.zip_with(plain != "", texts.str.strip_chars())
