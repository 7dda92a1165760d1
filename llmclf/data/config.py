"""What the user says about the corpus."""

from __future__ import annotations

import codecs
from dataclasses import dataclass, fields
from typing import Literal

from llmclf.config import ConfigError
from llmclf.invisible import quoted


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the rows are, what their columns mean, and how they are split."""

    source: str
    """CSV, TSV, JSON, JSONL, Parquet (also .gz), folder, hub id, or: opinions, health-advice."""
    validation: str | None = None
    """File with the validation rows; without it they are drawn from the training rows."""
    test: str | None = None
    """File with the test rows; without it they are drawn from the source."""
    text: str | tuple[str, ...] | None = None
    """Column that holds the text; guessed, and printed, if not given. Several, such as
    title description, are joined into one text, in this order, a line each, empty ones left out."""
    pair: str | None = None
    """Column that holds a second text, which models read apart from the first (a premise's
    hypothesis, a question's answer)."""
    label: str | None = None
    """Column that holds the label; several 0/1 columns as a,b,c make a multilabel task."""
    descriptions: tuple[str, ...] | None = None
    """A sentence for each label, as label=sentence, that says what it means; for every label, or
    for none. Prompts show them, and zero_shot compares texts with them."""
    label_separator: str | None = None
    """Character between the labels of one cell (multilabel), such as ; or |."""
    label_names: tuple[str, ...] | None = None
    """Names of the labels that a file has by number alone: of the positions of lists of 0 and 1
    (multi-hot), or of class numbers 0, 1, 2; one for each, in their order."""
    id: str | None = None
    """Column that names each row; if not given, its number, counted from 1, behind the name of the
    split where test or validation rows are given (test:12). Predictions read back by
    llmclf.load_run have the number from 0 as well, in a column row."""
    group: str | None = None
    """Column whose rows stay in one split (patient, author, article)."""
    time: str | None = None
    """Column of dates or times: the newest rows are the test rows, the newest before them the
    validation rows, in the shares below; rows of one time stay together."""
    fold: int | None = None
    """Which fold is the test split, from 0 to folds - 1."""
    folds: int | None = None
    """Number of cross-validation folds."""
    seed: int | None = None
    """Seed of the split; None: the experiment's. Set, runs with other seeds keep the test rows."""
    labels_per_class: int | None = None
    """Use only this many labelled rows of each class (when multilabel, of each set of labels)
    besides the test rows, validation rows included; drawn by the experiment's seed, so that a
    larger number keeps the rows of a smaller one."""
    validation_fraction: float = 0.1
    """Share of the rows left after the test rows; 0 for no validation split."""
    test_fraction: float = 0.2
    """Share of all rows that become test rows."""
    limit: int | None = None
    """Use only this many rows (seeded, stratified), for a quick look."""
    duplicates: Literal["drop", "keep", "refuse"] = "drop"
    """Training rows that repeat a test or validation row: drop them, keep them, or stop."""
    max_length: int | None = None
    """Longest input in tokens; the model's own limit if not given."""
    encoding: str = "utf-8"
    """Character encoding of text files, such as utf-8, utf-16 or cp1252."""
    delimiter: str | None = None
    """Character between the fields of a CSV file, such as ; or tab; seen from its rows if None."""
    quotes: Literal["paired", "literal"] | None = None
    """Whether quotes in a CSV file hold a field together (paired) or are characters like others
    (literal); paired if not given, and what that joins by mistake is refused."""

    def __post_init__(self) -> None:
        if isinstance(self.text, (list, tuple)):
            names = tuple(self.text)
            good = names and all(isinstance(n, str) and n for n in names)
            _check(bool(good), "text", list(names), "one name or several, or leave it out")
            object.__setattr__(self, "text", names[0] if len(names) == 1 else names)
        if self.label_names is not None:
            names = tuple(self.label_names)
            good = len(names) > 1 and all(isinstance(n, str) and n.strip() for n in names)
            once = good and len(set(names)) == len(names)
            _check(once, "label_names", list(names), "two names or more, each once, none empty")
            object.__setattr__(self, "label_names", names)
        if self.descriptions is not None:
            given = () if isinstance(self.descriptions, str) else tuple(self.descriptions)
            good = bool(given) and all(isinstance(d, str) and "=" in d for d in given)
            _check(good, "descriptions", self.descriptions, "label=sentence for each label")
            object.__setattr__(self, "descriptions", given)
        _check(bool(self.source.strip()), "source", self.source, "a file, folder, hub id or alias")
        _check(
            0 <= self.validation_fraction < 1,
            "validation_fraction",
            self.validation_fraction,
            "at least 0 and below 1",
        )
        _check(0 < self.test_fraction < 1, "test_fraction", self.test_fraction, "between 0 and 1")
        least_of = {"fold": 0, "folds": 2, "limit": 1, "max_length": 1, "labels_per_class": 2}
        for name, least in least_of.items():
            value = getattr(self, name)
            _check(value is None or value >= least, name, value, f"a whole number from {least}")
        for name in (
            "validation",
            "test",
            "text",
            "pair",
            "label",
            "label_separator",
            "id",
            "group",
            "time",
        ):
            _check(getattr(self, name) != "", name, "", "a name, or leave it out")
        allowed = ("drop", "keep", "refuse")
        _check(self.duplicates in allowed, "duplicates", self.duplicates, ", ".join(allowed))
        mark = self.delimiter_character
        one = mark is None or (len(mark) == 1 and mark not in '"\r\n\0')
        _check(one, "delimiter", self.delimiter, "one character, or tab")
        _check(self.quotes in (None, "paired", "literal"), "quotes", self.quotes, "paired, literal")
        try:
            codecs.lookup(self.encoding)
        except LookupError:
            _check(False, "encoding", self.encoding, "a codec of Python: utf-8, utf-16, cp1252")

    @property
    def delimiter_character(self) -> str | None:
        """The delimiter itself, where it was named."""
        return "\t" if self.delimiter in ("tab", "\\t") else self.delimiter

    def problems(self) -> list[str]:
        """Settings that contradict each other, one sentence each."""
        default = {f.name: f.default for f in fields(self)}
        problems = []
        if (self.fold is None) != (self.folds is None):
            problems.append(
                f"data.fold={self.fold} and data.folds={self.folds}: give both or neither."
            )
        elif self.fold is not None and self.folds is not None and self.fold >= self.folds:
            problems.append(
                f"data.fold={self.fold}: allowed are 0 to {self.folds - 1} for "
                f"data.folds={self.folds}."
            )
        if self.test is not None and self.folds is not None:
            problems.append(
                "data.test and data.folds: the test rows are given or a fold of the source, "
                "not both."
            )
        given = "data.test" if self.test is not None else "data.folds"
        if (self.test or self.folds) and self.test_fraction != default["test_fraction"]:
            problems.append(
                f"data.test_fraction={self.test_fraction}: has no effect with {given}; "
                "leave it out."
            )
        if self.validation and self.validation_fraction != default["validation_fraction"]:
            problems.append(
                f"data.validation_fraction={self.validation_fraction}: has no effect with "
                "data.validation; leave it out."
            )
        return problems + self._of_time() + self._repeats()

    def _of_time(self) -> list[str]:
        """What a split by time cannot be combined with."""
        if self.time is None:
            return []
        why = {
            "folds": "each fold would be tested with newer rows in training",
            "group": "a group may have both old and new rows",
        }
        problems = [
            f"data.time={quoted(self.time)} and data.{name}: {reason}; leave one of them out."
            for name, reason in why.items()
            if getattr(self, name) is not None
        ]
        if self.test and (self.validation or not self.validation_fraction):
            problems.append(
                f"data.time={quoted(self.time)}: has no effect, since no test or validation rows "
                "are drawn; leave it out."
            )
        return problems

    def _repeats(self) -> list[str]:
        """The same file or the same column named for two purposes."""
        problems = []
        for names in (("source", "validation", "test"), ("text", "pair", "label", "id", "time")):
            seen: dict[str, str] = {}
            for name in names:
                value = getattr(self, name)
                for one in value if isinstance(value, tuple) else (value,):
                    if one is not None and one in seen:
                        problems.append(
                            f"data.{seen[one]} and data.{name} are both {quoted(one)}; they must "
                            "differ."
                        )
                    elif one is not None:
                        seen[one] = name
        return problems


def _check(holds: bool, name: str, value: object, allowed: str) -> None:
    if not holds:
        raise ConfigError(f"data.{name}={quoted(value)}: allowed is {allowed}.")
