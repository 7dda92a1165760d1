"""Cells that hold several labels become those labels, or one line says why they cannot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from datasets import ClassLabel, Dataset, Features, Value

from llmclf.config import ConfigError, DataError
from llmclf.data.config import DataConfig
from llmclf.data.corpus import Splits, load_splits

COUNT = 40


def _load(path: Path, cells: list[Any], **settings: Any) -> Splits:
    """The splits of a file with these label cells in turn."""
    rows = [{"text": f"text number {i}", "label": cells[i % len(cells)]} for i in range(COUNT)]
    if path.suffix == ".csv":
        pd.DataFrame(rows).to_csv(path, index=False)
    elif path.suffix == ".parquet":
        pl.DataFrame(rows).write_parquet(path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_splits(DataConfig(source=str(path), **settings), seed=0)


def _names(splits: Splits) -> set[tuple[str, ...]]:
    assert splits.multilabel
    return {tuple(splits.names_of(splits.train, i)) for i in range(len(splits.train))}


@pytest.mark.parametrize("ending", ["jsonl", "parquet", "csv"])
@pytest.mark.parametrize("one", [1, 1.0, True])
def test_flags_are_a_label_for_each_position(tmp_path: Path, ending: str, one: Any) -> None:
    zero = type(one)(0)
    cells = [[one, zero, zero, zero], [zero, one, zero, one], [zero, zero, zero, zero]]
    splits = _load(tmp_path / f"a.{ending}", cells)
    assert splits.labels == ("0", "1", "3")
    assert _names(splits) == {("0",), ("1", "3"), ()}
    said = "; ".join(splits.decisions)
    assert "4 flags of 0 and 1" in said
    assert "'2' is 1 in no row and left aside" in said


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("['joy', 'anger']", "['fear']"),
        ('["joy", "anger"]', '["fear"]'),
        ("('joy', 'anger')", "('fear',)"),
        ("{'joy', 'anger'}", "{'fear'}"),
        (np.array(["joy", "anger"]), np.array(["fear"])),
        (repr(np.array(["joy", "anger"])), repr(np.array(["fear"]))),
    ],
    ids=["Python", "JSON", "tuple", "set", "numpy", "numpy's repr"],
)
def test_lists_written_into_a_csv_cell(tmp_path: Path, first: Any, second: Any) -> None:
    splits = _load(tmp_path / "a.csv", [first, second, second])
    assert _names(splits) == {("anger", "joy"), ("fear",)}
    assert any("are read as lists" in decision for decision in splits.decisions)


def test_lists_of_numbers_are_names(tmp_path: Path) -> None:
    assert _names(_load(tmp_path / "a.csv", ["[2, 27]", "[3]"])) == {("2", "27"), ("3",)}
    assert _names(_load(tmp_path / "b.csv", ["[0]", "[0, 1]", "[1]"])) == {
        ("0",), ("0", "1"), ("1",),
    }  # fmt: skip
    flags = _load(tmp_path / "c.csv", [np.array([1.0, 0.0]), np.array([0.0, 1.0])])
    assert flags.labels == ("0", "1")
    assert _names(flags) == {("0",), ("1",)}


def test_flags_behind_a_separator(tmp_path: Path) -> None:
    cells = ["1;0;0", "0;1;1"]
    assert _names(_load(tmp_path / "a.csv", cells, label_separator=";")) == {("0",), ("1", "2")}
    with pytest.raises(DataError, match=r"'1;0;0' hold 0 or 1 for each.*--data.label-separator ';"):
        _load(tmp_path / "a.csv", cells)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (
            [["a"], [""]],
            r"the list '\[\"\"\]' holds the empty value '', in 20 rows \(a\.jsonl row 2",
        ),
        ([["a"], [None]], r"holds the empty value None, in 20 rows"),
        ([["a"], [["b"]]], r"holds the list \['b'\], in 20 rows"),
        ([["a"], [{"b": 1}]], r"holds the object"),
        ([["a"], [1]], r"its lists mix numbers \('\[1\]'\) and strings \('\[\"a\"\]'\)"),
        ([[0.9, 0.1], [0.2, 0.8]], r"holds the fraction 0\.9, a probability"),
        ([[1, 0, 0], [1, 0, 0], [1, 0]], r"equally long.*lengths are 2, 3; '\[1, 0\]' is in"),
        (["['a']", "b"], r"mixes lists and names: \"\['a'\]\" in 20 rows.*'b' in 20 rows"),
        (
            ["[joy, anger]", "[fear]"],
            r"'\[joy, anger\]' looks like a list, but its names have no q",
        ),
        (["{'a': 1}", "b"], r"is an object, not a name, in 20 rows"),
        (["1", "1.0", "2"], r"'1' \(14 rows\), '1\.0' \(13 rows\) differ only in case"),
    ],
)
def test_values_that_are_no_labels_are_refused(
    tmp_path: Path, cells: list[Any], expected: str
) -> None:
    with pytest.raises(DataError, match=expected):
        _load(tmp_path / "a.jsonl", cells)


@pytest.mark.parametrize("cells", [[["a"], ["b"]], ["['a']", "['b', 'a']"]])
def test_lists_need_no_separator(tmp_path: Path, cells: list[Any]) -> None:
    with pytest.raises(ConfigError, match=r"label_separator=',': .*are lists already; leave it"):
        _load(tmp_path / "a.jsonl", cells, label_separator=",")


@pytest.mark.parametrize(
    ("cells", "separator"),
    [
        (["joy|anger", "joy", "anger"], "|"),
        (["2,27", "2", "27"], ","),
        (["a;b", "b;c", "a;c"], ";"),
    ],
)
def test_names_that_look_like_several_are_remarked(
    tmp_path: Path, cells: list[str], separator: str
) -> None:
    splits = _load(tmp_path / "a.csv", cells)
    assert not splits.multilabel
    assert any(f"--data.label-separator {separator!r}" in said for said in splits.decisions)


def test_names_with_a_slash_are_names(tmp_path: Path) -> None:
    splits = _load(tmp_path / "a.csv", ["Sci/Tech", "World", "Sports", "[spam]", "(other)"])
    assert not splits.multilabel
    assert not any("label-separator" in said for said in splits.decisions)


def test_lists_of_one_label_each_are_remarked(tmp_path: Path) -> None:
    splits = _load(tmp_path / "a.jsonl", [["a"], ["b"]])
    assert any("holds one label; it is a multilabel task" in said for said in splits.decisions)


NAMED = ("joy", "anger", "fear")
FLAGS = ([1, 0, 0], [0, 1, 1], [0, 0, 0])


@pytest.mark.parametrize("ending", ["jsonl", "parquet", "csv"])
def test_positions_and_class_numbers_have_the_names_that_are_given(
    tmp_path: Path, ending: str
) -> None:
    path = tmp_path / f"a.{ending}"
    splits = _load(path, list(FLAGS), label_names=NAMED)
    assert splits.labels == tuple(sorted(NAMED))
    assert _names(splits) == {("joy",), ("anger", "fear"), ()}
    splits = _load(path, [[0, 2], [1], [2]], label_names=NAMED)
    assert _names(splits) == {("fear", "joy"), ("anger",), ("fear",)}
    splits = _load(path, [0, 1, 2], label_names=NAMED)
    assert splits.labels == tuple(sorted(NAMED)) and not splits.multilabel
    place = {text: i for i, text in enumerate(f"text number {i}" for i in range(COUNT))}
    for i, text in enumerate(splits.train.texts):
        assert splits.names_of(splits.train, i) == [NAMED[place[text] % 3]]
    splits = _load(path, ["0;1", "2"], label_names=NAMED, label_separator=";")
    assert _names(splits) == {("anger", "joy"), ("fear",)}


@pytest.mark.parametrize(
    ("cells", "names", "message"),
    [
        (
            FLAGS,
            NAMED[:2],
            r"2 names \('joy', 'anger'\), but the lists .* have 3 positions; give 3",
        ),
        (FLAGS, (*NAMED, "x"), "there are 4 names .* have 3 positions; give 3 names"),
        ([0, 1, 2], NAMED[:2], "2 names .* the class numbers 0, 1, 2, which count from 0; give 3"),
        ([1, 2, 3], NAMED, "3 names .* the class numbers 1, 2, 3, which count from 0; give 4"),
        ([[0], [1]], NAMED, "3 names .* class numbers 0, 1, which count from 0; give 2 names"),
        (["a", "b"], NAMED, "has no effect since column 'label' holds labels as 'a'; leave it out"),
        ([["a"], ["b"]], NAMED, "has no effect since column 'label' holds labels as 'a'"),
        ([-1, 0], NAMED, "has no effect since column 'label' holds labels as '-1'"),
        (FLAGS, ("joy", "fear", "joy"), "two names or more, each once, none empty"),
        (FLAGS, ("joy", " ", "fear"), "two names or more, each once, none empty"),
        (FLAGS, ("joy",), "two names or more, each once, none empty"),
    ],
)
def test_names_that_do_not_fit_are_refused(
    tmp_path: Path, cells: list[Any], names: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=rf"data\.label_names.*{message}"):
        _load(tmp_path / "a.jsonl", list(cells), label_names=names)


def test_columns_and_parquet_files_that_have_names_keep_them(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,a,b\n" + "one thing,1,0\nanother,0,1\n" * 20)
    with pytest.raises(ConfigError, match="has no effect with several label columns"):
        load_splits(DataConfig(source=str(path), label="a,b", label_names=("x", "y")), seed=0)
    features = Features({"text": Value("string"), "label": ClassLabel(names=["x", "y"])})
    rows = {"text": [f"text {i}" for i in range(40)], "label": [i % 2 for i in range(40)]}
    path = tmp_path / "a.parquet"
    Dataset.from_dict(rows, features=features).to_parquet(path)
    with pytest.raises(ConfigError, match="has no effect since column 'label' holds labels as"):
        load_splits(DataConfig(source=str(path), label_names=("u", "v")), seed=0)
