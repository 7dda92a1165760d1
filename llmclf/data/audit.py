"""Repeated, conflicting and missing rows: what would make a score mean less than it says."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any, Literal

import numpy as np
import polars as pl
from rich.table import Table

from llmclf.config import DataError
from llmclf.data.audit_table import audit_table
from llmclf.data.corpus import Split, Splits
from llmclf.data.guesses import naming_guesses
from llmclf.data.repeats import (
    EXAMPLES,
    NAMES,
    add_near,
    comparable_rows,
    leaked_rows,
    leaking_rows,
    repeats_across,
    repeats_within,
    seen_test_rows,
)
from llmclf.data.table import listed, shown

MIN_TRAIN_ROWS = 10
"""A class with fewer training rows is reported as small."""


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What the look at the rows gave: plain values, so that it can be written as JSON.

    ``exact``: the same text (and pair). ``normalised``: the same after Unicode NFKC and without
    case, white space and punctuation; exact repeats count, too. ``near``: similar, and not the
    same after normalising. ``exact`` and ``normalised`` are as found, before any row was dropped.
    """

    rows: dict[str, int]
    """Split -> rows, after dropping."""
    classes: dict[str, dict[str, int]]
    """Label -> split -> rows, after dropping."""
    within: dict[str, dict[str, int]]
    """Split -> kind -> rows that repeat an earlier row of it (near: that have a near duplicate)."""
    across: dict[str, dict[str, dict[str, Any]]]
    """``train/test`` and so on -> kind -> rows of the second split found in the first, examples."""
    conflicts: dict[str, Any]
    """Texts with more than one label (same normalised text): texts, rows, examples."""
    empty: dict[str, Any]
    """Rows dropped as they had no text: rows, names of the first."""
    odd_characters: dict[str, Any]
    """Texts with invisible or control characters: rows, ids of the first."""
    shared_groups: dict[str, int]
    """``train/test`` and so on -> groups with rows in both."""
    absent: dict[str, list[str]]
    """Split -> labels without a row in it."""
    small: dict[str, int]
    """Label with fewer than ``MIN_TRAIN_ROWS`` training rows -> how many."""
    duplicates: str
    """What was to be done with repeats: drop, keep, refuse."""
    dropped: dict[str, int]
    """Split -> rows dropped since they repeat a row of validation or test."""
    leaked: dict[str, int]
    """Split -> rows left in it that training, or for test also validation, has seen."""
    seen: dict[str, str]
    """Id of each test row that training or validation rows still repeat -> exact, normalised or
    near; not in the JSON, for splits.parquet has it by row."""
    truncated: dict[str, Any] | None = None
    """Rows longer than the model's limit; known only once a tokenizer is."""

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries, lists, numbers and strings."""
        return {name: value for name, value in asdict(self).items() if name != "seen"}

    def table(self) -> Table:
        """The audit as a table for the terminal: what matters, warnings below."""
        return audit_table(self)


def audit(
    splits: Splits, duplicates: Literal["drop", "keep", "refuse"] = "drop"
) -> tuple[Splits, Audit]:
    """Look for repeats and return the splits without leaks, and what was found.

    Training rows that repeat a validation or test row, and validation rows that repeat a test row,
    exactly or after normalising, are dropped (``drop``), left in and counted (``keep``), or an
    error (``refuse``). Near duplicates are counted only: to judge them takes a reader.

    Raises DataError with ``refuse``, or if a split or a class loses all its rows.
    """
    rows = comparable_rows(splits)
    across = repeats_across(rows)
    leaking = leaking_rows(rows)
    if duplicates == "refuse" and leaking.any():
        _refuse(across, int(leaking.sum()))
    dropped = dict.fromkeys(NAMES, 0)
    if duplicates == "drop" and leaking.any():
        counts = rows.filter(leaking)["split"].value_counts().iter_rows()
        dropped |= {NAMES[s]: n for s, n in counts}
        with naming_guesses(splits.decisions):
            splits = _without(splits, rows, leaking)
    left = rows.filter(~leaking) if duplicates == "drop" else rows
    within = repeats_within(rows)
    near = add_near(left, within, across)
    classes = _classes(splits)
    return splits, Audit(
        rows={name: len(split) for name, split in splits.named()},
        classes=classes,
        within=within,
        across=across,
        conflicts=_conflicts(rows, splits),
        empty={"rows": len(splits.empty_rows), "names": list(splits.empty_rows[:20])},
        odd_characters=_odd_characters(left),
        shared_groups=_shared_groups(splits),
        absent={n: [c for c, of in classes.items() if not of[n]] for n in NAMES},
        small={c: of["train"] for c, of in classes.items() if of["train"] < MIN_TRAIN_ROWS},
        duplicates=duplicates,
        dropped=dropped,
        leaked=leaked_rows(left),
        seen=seen_test_rows(left, near),
    )


def _refuse(across: dict[str, dict[str, dict[str, Any]]], leaking: int) -> None:
    leaks = [
        f"{kinds['normalised']['rows']:,} in {pair.replace('/', ' and ')} ("
        + ", ".join(f"{shown(a)} = {shown(b)}" for a, b in kinds["normalised"]["examples"])
        + ")"
        for pair, kinds in across.items()
        if kinds["normalised"]["rows"]
    ]
    raise DataError(
        f"{leaking:,} rows repeat a row of a later split: {'; '.join(leaks)}. Remove them, or set "
        "--data.duplicates drop."
    )


def _without(splits: Splits, rows: pl.DataFrame, leaking: pl.Series) -> Splits:
    """The splits without the leaking rows; refuse if that leaves a split or a class empty."""
    kept: list[Split] = []
    for number, (name, split) in enumerate(splits.named()):
        stay = ~leaking.filter(rows["split"] == number)
        if len(split) and not stay.any():
            texts = rows.filter(rows["split"] == number)["normalised"].n_unique()
            few = f"They hold {texts:,} different texts: is it the text column that was read?"
            raise DataError(
                f"all {len(split):,} {name} rows repeat rows of a later split. "
                + ("Are two of the files the same?" if texts == len(split) else few)
            )
        kept.append(split.take(stay.arg_true().to_numpy()))
    cleaned = replace(splits, train=kept[0], validation=kept[1], test=kept[2])
    classes = _classes(cleaned)
    lost = [c for c, of in classes.items() if not of["train"]]
    if lost:
        raise DataError(
            f"labels without a training row, once those that repeat validation or test rows are "
            f"dropped: {listed(lost)}. Remove the repeats there, or set --data.duplicates keep."
        )
    return cleaned


def _conflicts(rows: pl.DataFrame, splits: Splits) -> dict[str, Any]:
    """Texts that occur with more than one label."""
    texts = (
        rows.group_by("normalised", maintain_order=True)
        .agg(pl.col("label").n_unique().alias("labels"), "id", pl.len().alias("rows"))
        .filter(pl.col("labels") > 1)
    )
    examples = [ids[:EXAMPLES] for ids in texts.head(EXAMPLES)["id"].to_list()]
    return {"texts": texts.height, "rows": int(texts["rows"].sum()), "examples": examples}


def _odd_characters(rows: pl.DataFrame) -> dict[str, Any]:
    """Texts with control, zero-width and text-direction characters; line breaks and tabs are usual.

    A joiner inside an emoji is Cf, too, so only those that can hide or turn text are looked for.
    """
    odd = r"[\x00-\x08\x0b\x0c\x0e-\x1e\x7f-\x9f\u{200b}\u{202a}-\u{202e}\u{2066}-\u{2069}\u{feff}]"
    ids = rows.filter(pl.col("text").str.contains(odd))["id"]
    return {"rows": len(ids), "ids": ids.head(EXAMPLES).to_list()}


def _shared_groups(splits: Splits) -> dict[str, int]:
    groups = {name: set(split.groups or ()) for name, split in splits.named()}
    return {f"{a}/{b}": len(groups[a] & groups[b]) for a, b in combinations(NAMES, 2)}


def _classes(splits: Splits) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {label: {} for label in splits.labels}
    for name, split in splits.named():
        if splits.multilabel:
            per_label = split.targets.sum(axis=0)
        else:
            per_label = np.bincount(split.targets, minlength=len(splits.labels))
        for label, count in zip(splits.labels, per_label, strict=True):
            counts[label][name] = int(count)
    return counts
