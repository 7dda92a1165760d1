"""From ``DataConfig`` to ``Splits``: the rows that every method trains, tunes and is tested on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from llmclf.config import ConfigError, DataError, did_you_mean
from llmclf.data.columns import GatheredRows, check_ids, choose, gather
from llmclf.data.config import DataConfig
from llmclf.data.descriptions import described
from llmclf.data.divide import beyond_budget, pick_fold, pick_fraction, strata
from llmclf.data.guesses import naming_guesses
from llmclf.data.join import with_joined_text
from llmclf.data.labels import read_labels, sort_names, to_targets
from llmclf.data.normalise import normalise
from llmclf.data.source import find
from llmclf.data.table import Source, SplitName, listed
from llmclf.data.times import LATE, draw_newest, of_times, with_moments

__all__ = ["DataConfig", "Split", "Splits", "load_splits"]

# Each draw has its own stream, so that test rows do not depend on the validation fraction.
UNUSED = "unused"
"""Name of the split of rows that are in none, since there are labelled rows enough."""
_LIMIT, _TEST, _VALIDATION, _BUDGET = 0, 1, 2, 3


def joined(texts: list[str], pairs: list[str] | None, separator: str) -> list[str]:
    """One string for each row: its text and, where rows have a second text, that behind a
    separator."""
    if pairs is None:
        return texts
    return [text + separator + pair for text, pair in zip(texts, pairs, strict=True)]


@dataclass(frozen=True, eq=False)
class Split:
    """Rows of one split, in the order of the source."""

    ids: list[str]
    texts: list[str]
    pairs: list[str] | None
    targets: np.ndarray
    """Indices into the labels, int64 (N,); or 0 and 1 for each label, float32 (N, C), for a
    multilabel task."""
    groups: list[str] | None
    places: list[int] | None = None
    """Number of each row in the file it comes from, from 0; None where there is no file."""

    @classmethod
    def of_texts(cls, texts: list[str], pairs: list[str] | None = None) -> Split:
        """New texts, numbered, whose labels nobody knows."""
        ids = [str(i) for i in range(len(texts))]
        return cls(ids, texts, pairs, targets=np.zeros(len(texts), np.int64), groups=None)

    def __len__(self) -> int:
        return len(self.ids)

    def text_and_pair(self, index: int) -> tuple[str, str | None]:
        """The text of one row and its second text, None where rows have one text."""
        return self.texts[index], None if self.pairs is None else self.pairs[index]

    def joined(self, separator: str) -> list[str]:
        """One string for each row, as :func:`joined` makes it."""
        return joined(self.texts, self.pairs, separator)

    def take(self, indices: Sequence[int] | np.ndarray) -> Split:
        """The split with the rows at ``indices`` alone, in that order."""
        indices = np.asarray(indices, dtype=np.int64)
        return Split(
            ids=[self.ids[i] for i in indices],
            texts=[self.texts[i] for i in indices],
            pairs=None if self.pairs is None else [self.pairs[i] for i in indices],
            targets=self.targets[indices],
            groups=None if self.groups is None else [self.groups[i] for i in indices],
            places=None if self.places is None else [self.places[i] for i in indices],
        )


@dataclass(frozen=True, eq=False)
class Splits:
    """Train, validation and test rows with the names of the labels."""

    train: Split
    validation: Split
    test: Split
    labels: tuple[str, ...]
    multilabel: bool
    decisions: tuple[str, ...] = ()
    """What was guessed or mended, to be printed."""
    descriptions: tuple[str, ...] | None = None
    """What each label means (C), where the user says so."""
    empty_rows: tuple[str, ...] = ()
    """Names of the rows without a text; they are in no split."""

    def named(self) -> Iterator[tuple[str, Split]]:
        """The splits with their names: train, validation, test."""
        yield from (("train", self.train), ("validation", self.validation), ("test", self.test))

    @cached_property
    def membership(self) -> str:
        """SHA-256 over the sorted (split, id, text, pair, label names) of all rows.

        It does not depend on the order of rows or labels: equal means the same rows were used.
        """
        return hashlib.sha256(b"".join(sorted(self._digests))).hexdigest()

    @cached_property
    def sequence(self) -> str:
        """As :attr:`membership`, but of the rows in their order, which training depends on."""
        return hashlib.sha256(b"".join(self._digests)).hexdigest()

    @cached_property
    def _digests(self) -> list[bytes]:
        rows = []
        for name, split in self.named():
            pairs = split.pairs or [""] * len(split)
            for i, (id_, text, pair) in enumerate(zip(split.ids, split.texts, pairs, strict=True)):
                # JSON, since it cannot confuse where one field ends and the next begins.
                row = json.dumps([name, id_, text, pair, sorted(self.names_of(split, i))])
                rows.append(hashlib.blake2b(row.encode(), digest_size=16).digest())
        return rows

    def names_of(self, split: Split, index: int) -> list[str]:
        """Names of the labels of one row."""
        if self.multilabel:
            return [self.labels[c] for c in np.flatnonzero(split.targets[index])]
        return [self.labels[split.targets[index]]]


def load_splits(config: DataConfig, seed: int) -> Splits:
    """Read the source, check it, and split it.

    Raises ConfigError for settings that contradict each other or the source, and DataError for
    files, columns or rows that cannot be used, naming them.
    """
    if problems := config.problems():
        raise ConfigError("\n".join(problems))
    config, source = with_joined_text(config, find(config))
    columns = choose(config, source)
    with naming_guesses(columns.decisions):
        rows, empty = _without_empty(gather(columns, source))
        check_ids(rows, columns.id)
        if columns.time is not None:
            rows = with_moments(rows, columns.time)
        rows, multilabel, decisions = read_labels(
            rows, columns, source, config.label_separator, config.label_names or ()
        )
        split_seed = seed if config.seed is None else config.seed
        rows = _limited(rows, config.limit, split_seed)
        given = {name for name, _ in source.tables}
        split = _assign(rows, given, config, split_seed, seed)
        rows = GatheredRows(rows.frame.filter(split != UNUSED), rows.names)
        split = split.filter(split != UNUSED)
        labels = _labels_of_train(rows, split)
    descriptions = described(config.descriptions, labels)
    if descriptions:
        decisions += ("descriptions of the labels: read by prompts and zero_shot alone",)
    about_time = of_times(rows, split, columns, config, source)
    return Splits(
        train=_split(rows.frame.filter(split == "train"), labels),
        validation=_split(rows.frame.filter(split == "validation"), labels),
        test=_split(rows.frame.filter(split == "test"), labels),
        labels=labels,
        multilabel=multilabel,
        decisions=(*_of_source(source, config), *columns.decisions, *decisions, *about_time),
        descriptions=descriptions,
        empty_rows=empty,
    )


def _of_source(source: Source, config: DataConfig) -> list[str]:
    """Decisions made while reading, and the splits that are drawn though others were given."""
    decisions = [*source.decisions, *(d for _, table in source.tables for d in table.decisions)]
    given = {split for split, _ in source.tables} - {None, "train"}
    fractions = {"test": config.test_fraction, "validation": config.validation_fraction}
    for name, fraction in fractions.items():
        if given and name not in given and fraction and config.folds is None:
            decisions.append(f"{name} rows: {fraction:.0%} of the training rows (none were given)")
    return decisions


def _without_empty(rows: GatheredRows) -> tuple[GatheredRows, tuple[str, ...]]:
    """Drop rows whose text is missing, or white space and invisible characters only."""
    visible = pl.col("text").str.contains(r"[^\s\p{Z}\p{C}]").fill_null(False)
    dropped = rows.frame.filter(~visible).select("table", "row")
    if dropped.height == rows.frame.height:
        raise DataError(f"{rows.listed(~visible)}: every text is empty; check --data.text.")
    names = tuple(f"{rows.names[t]} row {r + 1:,}" for t, r in dropped.iter_rows())
    return GatheredRows(rows.frame.filter(visible), rows.names), names


def _limited(rows: GatheredRows, limit: int | None, seed: int) -> GatheredRows:
    """A stratified subset of ``limit`` rows over all splits, each split in its share."""
    if limit is None or limit >= rows.frame.height:
        return rows
    given = rows.frame["split"].fill_null("train").rank("dense").to_numpy()
    stratum = strata(rows.frame["label"])
    both = given * (stratum.max() + 1) + stratum
    chosen = pick_fraction(both, None, limit / len(both), _stream(seed, _LIMIT))
    return GatheredRows(rows.frame.filter(chosen), rows.names)


def _stream(seed: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng([seed, purpose])


def _assign(
    rows: GatheredRows,
    given: set[SplitName | None],
    config: DataConfig,
    seed: int,
    budget_seed: int,
) -> pl.Series:
    """Name of the split of each row, as given or drawn from the rows for training; UNUSED for rows
    beyond the budget of labels."""
    frame = rows.frame
    split = frame["split"].fill_null("train").to_numpy().astype("<U10")
    stratum = strata(frame["label"])
    group = frame["group"].rank("dense").to_numpy() if "group" in frame.columns else None
    moment = frame["time"].to_numpy() if config.time is not None else None
    if "test" not in given and moment is None:
        _refuse_single(rows, split == "train")

    def draw(name: str, purpose: int, fraction: float) -> None:
        free = np.flatnonzero(split == "train")
        if moment is not None:
            split[free[draw_newest(moment[free], fraction, name)]] = name
            return
        if name == "validation" and group is None:  # a class keeps its last training row
            free = free[np.bincount(stratum[free])[stratum[free]] > 1]
        kinds, groups = stratum[free], None if group is None else group[free]
        rng = _stream(seed, purpose)
        if name == "test" and config.fold is not None and config.folds is not None:
            chosen = pick_fold(kinds, groups, config.fold, config.folds, rng)
        else:
            chosen = pick_fraction(kinds, groups, fraction, rng)
        split[free[chosen]] = name

    needed = {"train", "test"} | (given - {None})
    if "test" not in given:
        draw("test", _TEST, config.test_fraction)
    if config.labels_per_class is not None:
        if config.duplicates == "drop":  # or the budget would lack them once they are dropped
            split[_repeats(frame, split)] = UNUSED
        labelled = np.flatnonzero(np.isin(split, ("train", "validation")))
        rng = _stream(budget_seed, _BUDGET)
        spare = beyond_budget(stratum[labelled], config.labels_per_class, rng)
        split[labelled[spare]] = UNUSED
    if "validation" not in given and config.validation_fraction > 0:
        draw("validation", _VALIDATION, config.validation_fraction)
        needed.add("validation")
    _refuse_empty(split, needed, None if group is None else len(np.unique(group)))
    return pl.Series("split", split)


def _repeats(frame: pl.DataFrame, split: np.ndarray) -> np.ndarray:
    """Boolean (N,): labelled rows whose text a test row has, or an earlier one with their label."""
    columns = [frame[name].fill_null("") for name in ("text", "pair") if name in frame.columns]
    rows = frame.select("label", text=normalise(*columns), split=pl.Series(split))
    tested = rows.filter(pl.col("split") == "test")["text"]
    again = pl.col("text").is_in(tested.implode()) | ~pl.struct("text", "label").is_first_distinct()
    return rows.select((pl.col("split") != "test") & again).to_series().to_numpy()


def _refuse_single(rows: GatheredRows, free: np.ndarray) -> None:
    """A class with one row can be in one split only, so it is either untrained or untested."""
    label = rows.frame.filter(free)["label"]
    counts = (label.explode() if label.dtype == pl.List else label).drop_nulls().value_counts()
    single = counts.filter(pl.col("count") == 1)["label"].sort().to_list()
    if single:
        names = pl.col("label")
        has = names.list.contains(single[0]) if label.dtype == pl.List else names == single[0]
        where = rows.listed(pl.Series(free) & rows.frame.select(has).to_series())
        raise DataError(
            f"{len(single):,} of {counts.height:,} labels have one row only ({listed(single)}; "
            f"{where}), too few to split. Remove or merge them, raise --data.limit if it is set, "
            "or give --data.test."
        )


def _refuse_empty(split: np.ndarray, needed: Collection[str | None], groups: int | None) -> None:
    sizes = {name: int((split == name).sum()) for name in ("train", "validation", "test")}
    if any(not count and name in needed for name, count in sizes.items()):
        drawn = ", ".join(f"{count} {name}" for name, count in sizes.items())
        there = f"{len(split):,} rows" + ("" if groups is None else f" in {groups:,} groups")
        raise DataError(
            f"{there} with a text are too few for the split asked for: {drawn}. Give more rows, or "
            "change --data.test-fraction, --data.validation-fraction, --data.folds or --data.group."
        )


def _labels_of_train(rows: GatheredRows, split: pl.Series) -> tuple[str, ...]:
    """Label names, which are those of the training rows; refuse others elsewhere."""
    rows = GatheredRows(rows.frame.with_columns(split), rows.names)
    one = rows.frame.explode("label") if rows.frame["label"].dtype == pl.List else rows.frame
    names = {
        name: set(one.filter(pl.col("split") == name)["label"].drop_nulls())
        for name in ("train", "validation", "test")
    }
    labels = sort_names(names["train"])
    for other in ("validation", "test"):
        unknown = sorted(names[other] - names["train"])
        if unknown:
            where = GatheredRows(one, rows.names).listed(
                pl.col("label").is_in(unknown) & (pl.col("split") == other)
            )
            raise DataError(
                f"the {other} rows have labels that no training row has: {listed(unknown)}, in "
                f"{where}.{did_you_mean(unknown[0], labels)} Labels of the training rows: "
                f"{listed(labels)}.{LATE if 'time' in rows.frame.columns else ''}"
            )
    if len(labels) < 2:
        raise DataError(
            f"all training rows have the same label ({listed(labels)}); at least two are needed. "
            "Check --data.label."
        )
    return labels


def _split(frame: pl.DataFrame, labels: tuple[str, ...]) -> Split:
    return Split(
        ids=frame["id"].to_list(),
        texts=frame["text"].to_list(),
        pairs=frame["pair"].fill_null("").to_list() if "pair" in frame.columns else None,
        targets=to_targets(frame["label"], labels),
        groups=frame["group"].to_list() if "group" in frame.columns else None,
        places=frame["place"].to_list(),
    )
