"""Which texts occur more than once, in a split and across splits."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

from llmclf.data.corpus import Split, Splits
from llmclf.data.near import near_pairs
from llmclf.data.normalise import BETWEEN, normalise

NAMES = ("train", "validation", "test")
TEST = NAMES.index("test")
EXAMPLES = 5
"""Examples kept of each finding."""


def comparable_rows(splits: Splits) -> pl.DataFrame:
    """All rows with split (0, 1, 2), id, text, normalised text and label code; ``exact`` and
    ``normalised`` are the hashes of the two texts."""
    frames = []
    for number, (_, split) in enumerate(splits.named()):
        frames.append(
            pl.DataFrame(
                {
                    "split": pl.Series([number], dtype=pl.UInt8).new_from_index(0, len(split)),
                    "id": split.ids,
                    "text": pl.Series(split.joined(BETWEEN), dtype=pl.String),
                    "normalised_text": normalised(split),
                    "label": _label_codes(split),
                },
                schema_overrides={"id": pl.String, "label": pl.String},
            )
        )
    rows = pl.concat(frames)
    # 64 bits: among ten million different texts, the chance that any two agree is 3 in a million.
    return rows.with_columns(
        pl.col("text").hash().alias("exact"), pl.col("normalised_text").hash().alias("normalised")
    )


def normalised(split: Split) -> pl.Series:
    """What makes two rows repeats of each other: their normalised text, and the pair's."""
    columns = [split.texts] if split.pairs is None else [split.texts, split.pairs]
    return normalise(*(pl.Series(values, dtype=pl.String) for values in columns))


def _label_codes(split: Split) -> pl.Series:
    """One string per row that is equal for equal labels."""
    if split.targets.ndim == 1:
        return pl.Series(split.targets).cast(pl.String)
    return pl.Series([row.tobytes().hex() for row in np.packbits(split.targets > 0, axis=1)])


def repeats_within(rows: pl.DataFrame) -> dict[str, dict[str, int]]:
    """Repeats by split -> kind -> rows that repeat an earlier row of the split."""
    repeats: dict[str, dict[str, int]] = {}
    for number, name in enumerate(NAMES):
        part = rows.filter(pl.col("split") == number)
        kinds = ("exact", "normalised")
        repeats[name] = {kind: part.height - part[kind].n_unique() for kind in kinds}
    return repeats


def repeats_across(rows: pl.DataFrame) -> dict[str, dict[str, dict[str, Any]]]:
    """Repeats by pair of splits, ``train/test`` and so on -> kind -> rows of the second split that
    the first has too, and examples."""
    repeats: dict[str, dict[str, dict[str, Any]]] = {}
    for a, b in combinations(range(len(NAMES)), 2):
        earlier = rows.filter(pl.col("split") == a)
        later = rows.filter(pl.col("split") == b)
        kinds = repeats.setdefault(f"{NAMES[a]}/{NAMES[b]}", {})
        for kind in ("exact", "normalised"):
            first = earlier.unique(kind, keep="first", maintain_order=True).select(kind, "id")
            both = later.join(first, on=kind, how="inner", suffix="_a", maintain_order="left")
            examples = both.head(EXAMPLES).select("id_a", "id").rows()
            kinds[kind] = {"rows": both.height, "examples": [list(pair) for pair in examples]}
    return repeats


def leaking_rows(rows: pl.DataFrame) -> pl.Series:
    """Rows that a later split has as well: train in validation or test, validation in test."""
    last = rows.group_by("normalised").agg(pl.col("split").max().alias("last"))
    return rows.join(last, on="normalised", how="left", maintain_order="left").select(
        pl.col("split") < pl.col("last")
    )["split"]


def leaked_rows(rows: pl.DataFrame) -> dict[str, int]:
    """Number of rows that an earlier split has as well, of validation and of test."""
    first = pl.col("split").min().over("normalised") < pl.col("split")
    counts = dict(rows.filter(first)["split"].value_counts().iter_rows())
    return {name: counts.get(number, 0) for number, name in enumerate(NAMES) if number}


def add_near(
    rows: pl.DataFrame, within: dict[str, dict[str, int]], across: dict[str, dict[str, Any]]
) -> pl.Series:
    """Count near duplicates into ``within`` and ``across``, repeats left aside.

    Returns ``normalised`` of the test rows that have one in another split.
    """
    rows = rows.unique(["split", "normalised"], keep="first", maintain_order=True).sort(
        "split", maintain_order=True
    )
    split = rows["split"].to_numpy()
    pairs, similarity = near_pairs(rows["normalised_text"], split)
    same = rows["normalised"].to_numpy()
    other = same[pairs[:, 0]] != same[pairs[:, 1]]
    pairs, similarity = pairs[other], similarity[other]
    a, b = split[pairs[:, 0]], split[pairs[:, 1]]
    for number, name in enumerate(NAMES):
        within[name]["near"] = len(np.unique(pairs[(a == number) & (b == number)]))
    for first, second in combinations(range(len(NAMES)), 2):
        of = (a == first) & (b == second)
        best = np.argsort(-similarity[of], kind="stable")[:EXAMPLES]
        examples = [
            [*rows["id"].gather(pair).to_list(), round(float(value), 3)]
            for pair, value in zip(pairs[of][best], similarity[of][best], strict=True)
        ]
        across[f"{NAMES[first]}/{NAMES[second]}"]["near"] = {
            "rows": len(np.unique(pairs[of][:, 1])),
            "examples": examples,
        }
    return rows["normalised"].gather(np.unique(pairs[(a < TEST) & (b == TEST)][:, 1]))


def seen_test_rows(rows: pl.DataFrame, near: pl.Series) -> dict[str, str]:
    """Kind of repeat (exact, normalised or near) by id, of the test rows that an earlier split
    repeats."""
    test = rows.filter(pl.col("split") == TEST)
    earlier = rows.filter(pl.col("split") < TEST)
    kind = (
        pl.when(pl.col("exact").is_in(earlier["exact"].implode()))
        .then(pl.lit("exact"))
        .when(pl.col("normalised").is_in(earlier["normalised"].implode()))
        .then(pl.lit("normalised"))
        .when(pl.col("normalised").is_in(near.implode()))
        .then(pl.lit("near"))
    )
    return dict(test.select("id", kind.alias("kind")).drop_nulls().iter_rows())
