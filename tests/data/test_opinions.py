"""The embedded sentences: counts of the paper, labels, and ratings that belong to their text."""

from __future__ import annotations

import polars as pl
import pytest

from llmclf.data.config import DataConfig
from llmclf.data.corpus import load_splits
from llmclf.data.opinions import read_opinions
from llmclf.embedded import opinions_archive


@pytest.fixture(scope="module")
def opinions() -> pl.DataFrame:
    columns = [pl.col("rating", "spread").cast(pl.Float64)]
    return read_opinions(opinions_archive()).frame.with_columns(columns)


def test_the_counts_of_the_paper(opinions: pl.DataFrame) -> None:
    counts = dict(opinions["domain"].value_counts().iter_rows())
    assert counts == {"tweets": 4200, "amazon": 3708, "film": 10605, "nyt": 5190}
    assert opinions["id"].n_unique() == opinions.height == 23703


def test_labels_follow_the_mean_rating(opinions: pl.DataFrame) -> None:
    bounds = {
        label: (part["rating"].min(), part["rating"].max())
        for (label,), part in opinions.group_by("label")
    }
    assert bounds["negative"][0] >= -4
    assert bounds["negative"][1] < -0.5 == bounds["neutral"][0]
    assert bounds["neutral"][1] == 0.5 < bounds["positive"][0]


def test_the_spread_is_only_given_where_the_ratings_are_of_this_text(
    opinions: pl.DataFrame,
) -> None:
    unknown = opinions.filter(pl.col("spread").is_null())
    assert dict(unknown["domain"].value_counts().iter_rows()) == {"tweets": 199}
    assert "tweets-2" in unknown["id"].to_list()  # the two files rate different sentences there
    first = opinions.filter(pl.col("id") == "amazon-1_1")  # its line starts with a BOM
    assert first["spread"].to_list() == [0.76811]


def test_texts_read_as_people_typed_them(opinions: pl.DataFrame) -> None:
    text = opinions.filter(pl.col("id") == "tweets-3")["text"][0]
    assert text.startswith("We were 17 deep last night & the love was so strong")
    assert not opinions["text"].str.contains(r"&(amp|lt|gt);|^\s|\s$").any()


def test_sentences_of_one_review_stay_together() -> None:
    splits = load_splits(DataConfig(source="opinions/amazon"), seed=0)
    groups = [set(split.groups or ()) for _, split in splits.named()]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 300
    assert any("group column" in decision for decision in splits.decisions)
