"""Each mistake in the data or its settings gives one message: where, what, how to fix."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from llmclf.config import ConfigError, DataError, UserError
from llmclf.data.audit import audit
from llmclf.data.config import DataConfig
from llmclf.data.corpus import load_splits


def csv(*rows: str, header: str = "text,label") -> bytes:
    return "\n".join([header, *rows, ""]).encode()


def jsonl(*rows: Any) -> bytes:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    return "\n".join([*lines, ""]).encode()


def rows(count: int, label: str | None = None) -> list[str]:
    return [f"text number {i} is here,{label or 'ab'[i % 2]}" for i in range(count)]


GOOD = csv(*rows(40))
LONE_E, COMPOSED_E = "cafe\u0301", "caf\u00e9"

# name of the case -> contents of the data file (named by its ending), settings, what is said
CASES: dict[str, tuple[str, bytes, dict[str, Any], str]] = {
    "missing file": ("a.csv", GOOD, {"source": "b.csv"}, r"no such file.*Did you mean 'a.csv'"),
    "missing folder": ("a.csv", GOOD, {"source": "x/b.csv"}, r"no folder '.*x' either"),
    "unknown format": ("a.xlsx", GOOD, {}, r"cannot tell its format; allowed are \.csv, \.tsv"),
    "empty file": ("a.csv", b"", {}, r"a\.csv: is empty"),
    "blank file": ("a.csv", b" \n\n ", {}, r"a\.csv: is empty"),
    "empty jsonl": ("a.jsonl", b"\n", {}, r"a\.jsonl: is empty"),
    "header only": ("a.csv", csv(), {}, r"has columns 'text', 'label' but no rows"),
    "no header": (
        "a.csv",
        csv("b,1", header="good film,1"),
        {},
        r"cannot tell which column.*first",
    ),
    "missing text": ("a.csv", GOOD, {"text": "txt"}, r"no column 'txt'. Did you mean 'text'\? Col"),
    "missing label": ("a.csv", GOOD, {"label": "Labels"}, r"no column 'Labels'. Did you mean 'lab"),
    "missing group": ("a.csv", GOOD, {"group": "pmid"}, r"no column 'pmid'. Columns: 'text', 'lab"),
    "two same columns": ("a.csv", csv("a,b", header="text,text"), {}, r"names 'text' twice"),
    "no label column": ("a.csv", csv("a,b", header="text,x"), {}, r"which column holds the label"),
    "no text column": (
        "a.csv",
        csv("abcd,efgh,1", header="x,y,label"),
        {},
        r"cannot tell which column holds the text; set --data\.text. Columns: 'x', 'y'",
    ),
    "one class": ("a.csv", csv(*rows(40, "a")), {}, r"all training rows have the same label \('a'"),
    "class of one row": (
        "a.csv",
        csv(*rows(40), "odd one,c"),
        {},
        r"1 of 3 labels have one row only \('c'; 1 row \(a\.csv row 41\)\)",
    ),
    "too few rows": ("a.csv", csv(*rows(4)), {}, r"4 rows with a text are too few.*0 validation"),
    "one group": (
        "a.csv",
        csv(*(f"{row},same" for row in rows(40)), header="text,label,g"),
        {"group": "g"},
        r"40 rows in 1 groups with a text are too few.*--data\.group",
    ),
    "every text empty": ("a.csv", csv(" ,a", ",b"), {}, r"row 1.*row 2\): every text is empty"),
    "numbers as texts": ("a.csv", csv("1.5,a", "2,b"), {}, r"'text' holds only numbers \('1.5'"),
    "number in text": (
        "a.jsonl",
        jsonl({"text": "x", "label": "a"}, {"text": 12, "label": "b"}),
        {},
        r"a\.jsonl row 2: column 'text' holds a number \('12'\)",
    ),
    "object in text": (
        "a.jsonl",
        jsonl({"text": {"en": "x"}, "label": "a"}),
        {},
        r"row 1: column 'text' holds an object",
    ),
    "not an object": (
        "a.jsonl",
        jsonl({"text": "x", "label": "a"}, [1, 2]),
        {},
        r"line 2: is not a",
    ),
    "not JSON": (
        "a.jsonl",
        jsonl({"text": "x", "label": "a"}, "{oops"),
        {},
        r"line 2: is not JSON",
    ),
    "array of texts": ("a.json", b'["x", "y"]', {}, r"a\.json row 1: is not an object but"),
    "array cut short": ("a.json", b'[\n{"text": "x"},\n', {}, r"line 3: is not JSON"),
    "splits in one JSON": (
        "a.json",
        b'{"train": [["x", "a"]], "test": [["y", "b"]], "val": []}',
        {},
        r"keys 'train', 'test', 'val', which is no layout.*files of their own",
    ),
    "half a surrogate": (
        "a.jsonl",
        b'{"text": "\\ud83d", "label": "a"}',
        {},
        r"line 1: holds half",
    ),
    "int and str labels": (
        "a.jsonl",
        jsonl({"text": "x", "label": 1}, {"text": "y", "label": "1"}),
        {},
        r"mixes kinds: a\.jsonl row 1 has the number '1', a\.jsonl row 2 has the string '1'",
    ),
    "list among labels": (
        "a.jsonl",
        jsonl({"text": "x", "label": "a"}, {"text": "y", "label": ["a", "b"]}),
        {},
        r"mixes kinds: .*row 2 has the list",
    ),
    "object label": ("a.jsonl", jsonl({"text": "x", "label": {"a": 1}}), {}, r"label is an object"),
    "utf-16": ("a.csv", GOOD.decode().encode("utf-16"), {}, r"UTF-16.*--data\.encoding utf-16"),
    "utf-16 without mark": ("a.csv", GOOD.decode().encode("utf-16-le"), {}, r"looks like UTF-16"),
    "cp1252": (
        "a.csv",
        csv("plain,a") + "café,b".encode("cp1252"),
        {},
        r"line 3: is not utf-8 \(byte 0xe9\). In cp1252 \(Windows\) it reads 'café,b'",
    ),
    "NUL byte": ("a.csv", csv("some\0 text,a"), {}, r"line 2: holds a NUL byte"),
    "not utf-16": ("a.csv", b"abc", {"encoding": "utf-16"}, r"is not utf-16"),
    "not gzip": ("a.csv.gz", GOOD, {}, r"is not a whole gzip file"),
    "cut gzip": ("a.csv.gz", gzip.compress(GOOD)[:-9], {}, r"is not a whole gzip file"),
    "not parquet": ("a.parquet", GOOD, {}, r"is not a whole Parquet file"),
    "unbalanced quotes": ("a.csv", csv('"one,a', *rows(4)), {}, r"line 2 \(row 1\): the quotes do"),
    "stray quotes": (
        "a.csv",
        csv('"so" he said,a'),
        {},
        r"line 2 \(row 1\): the quotes do not pair",
    ),
    "too many fields": (
        "a.csv",
        csv("a,b", "well, no,a"),
        {},
        r"line 3 \(row 2\): has 3 fields, the",
    ),
    "too few fields": ("a.csv", csv("a"), {}, r"line 2 \(row 1\): has 1 fields, the header has 2"),
    "repeated ids": (
        "a.csv",
        csv("7,x,a", "8,y,b", "7,z,a", header="id,text,label"),
        {"id": "id"},
        r"1 ids repeat \('7'\) in 2 rows \(a\.csv row 1, a\.csv row 3\)",
    ),
    "missing id": (
        "a.csv",
        csv(",x,a", header="id,text,label"),
        {"id": "id"},
        r"row 1\) have no id",
    ),
    "missing label cell": ("a.csv", csv("x,a", "y,"), {}, r"1 row \(a\.csv row 2\) have no label"),
    "spaced twin": (
        "a.csv",
        csv("x,yes", "y,yes "),
        {},
        r"'yes' \(1 rows\), 'yes ' \(1 rows\) differ",
    ),
    "case twin": ("a.csv", csv("x,Yes", "y,yes"), {}, r"'Yes' \(1 rows\), 'yes' \(1 rows\) differ"),
    "unicode twin": (
        "a.csv",
        csv(f"x,{COMPOSED_E}", f"y,{LONE_E}"),
        {},
        r"'cafe\\u0301' \(1 rows\), 'caf\\xe9' \(1 rows\) differ",
    ),
    "control in label": (
        "a.csv",
        csv("x,a\x07", "y,b"),
        {},
        r"'a\\x07' holds a line break, control",
    ),
    "label is an id": (
        "a.csv",
        csv(*(f"text {i},key{i}" for i in range(1001))),
        {},
        r"has 1,001 different labels in 1,001 rows .*at most 1,000 are allowed. Is it an id",
    ),
    "label is a rating": (
        "a.csv",
        csv(*(f"text {i},{i / 7:.3f}" for i in range(50))),
        {},
        r"holds measurements .*, not classes",
    ),
    "flag of 2": (
        "a.csv",
        csv("x,0,1", "y,2,1", header="text,a,b"),
        {"label": "a,b"},
        r"label column 'a': must hold 0 and 1, but 1 row \(a\.csv row 2\) do not \('2'\)",
    ),
    "separator and flags": (
        "a.csv",
        csv("x,0,1", header="text,a,b"),
        {"label": "a,b", "label_separator": ";"},
        r"label_separator=';': has no effect with several label columns",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_message_names_the_mistake(tmp_path: Path, case: str) -> None:
    name, data, settings, expected = CASES[case]
    (tmp_path / name).write_bytes(data)
    source = str(tmp_path / settings.get("source", name))
    with pytest.raises(UserError) as caught:
        load_splits(DataConfig(**{**settings, "source": source}), seed=0)
    assert re.search(expected, str(caught.value)), str(caught.value)


# what the test file holds, settings, what is said
GIVEN: dict[str, tuple[bytes, str]] = {
    "unknown label": (
        csv("x,a", "y,B2", "z,c"),
        r"test rows have labels that no training row has: 'B2', 'c', in 2 rows",
    ),
    "empty texts": (
        csv(" ,a", ",b"),
        r"too few for the split asked for: 36 train, 4 validation, 0",
    ),
    "other columns": (csv("x,a", header="txt,label"), r"test\.csv: no column 'text'. Did you mean"),
}


@pytest.mark.parametrize("case", GIVEN)
def test_a_given_test_file_must_fit_the_training_file(tmp_path: Path, case: str) -> None:
    data, expected = GIVEN[case]
    (tmp_path / "train.csv").write_bytes(GOOD)
    (tmp_path / "test.csv").write_bytes(data)
    config = DataConfig(source=f"{tmp_path}/train.csv", test=f"{tmp_path}/test.csv")
    with pytest.raises(DataError, match=expected):
        load_splits(config, seed=0)


SETTINGS: dict[str, tuple[dict[str, Any], str]] = {
    "fold alone": ({"fold": 1}, r"data\.fold=1 and data\.folds=None: give both or neither"),
    "fold too high": ({"fold": 5, "folds": 5}, r"data\.fold=5: allowed are 0 to 4"),
    "test and folds": ({"fold": 0, "folds": 5, "test": "t.csv"}, r"given or a fold of the source"),
    "useless fraction": ({"test": "t.csv", "test_fraction": 0.3}, r"no effect with data\.test"),
    "same file": ({"test": "s.csv"}, r"data\.source and data\.test are both 's\.csv'"),
    "same column": ({"text": "x", "label": "x"}, r"data\.text and data\.label are both 'x'"),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_settings_that_contradict_each_other(case: str) -> None:
    settings, expected = SETTINGS[case]
    config = DataConfig(source="s.csv", **settings)
    assert len(config.problems()) == 1
    with pytest.raises(ConfigError, match=expected):
        load_splits(config, seed=0)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"source": " "}, r"data\.source=' '"),
        ({"fold": -1}, r"data\.fold=-1: allowed is a whole number from 0"),
        ({"folds": 1}, r"data\.folds=1: allowed is a whole number from 2"),
        ({"limit": 0}, r"data\.limit=0"),
        ({"test_fraction": 1.0}, r"data\.test_fraction=1\.0: allowed is between 0 and 1"),
        ({"validation_fraction": float("nan")}, r"data\.validation_fraction=nan"),
        ({"encoding": "utf-9"}, r"data\.encoding='utf-9': allowed is a codec"),
        ({"duplicates": "ignore"}, r"data\.duplicates='ignore': allowed is drop, keep, refuse"),
        ({"text": ""}, r"data\.text=''"),
    ],
)
def test_a_setting_out_of_range(settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        DataConfig(**{"source": "s.csv", **settings})


def test_refusing_repeats_names_the_rows(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_bytes(csv(*rows(40)))
    (tmp_path / "test.csv").write_bytes(csv("Text number 3 is HERE!,b", "a new text,a"))
    config = DataConfig(source=f"{tmp_path}/train.csv", test=f"{tmp_path}/test.csv")
    with pytest.raises(DataError, match=r"1 rows repeat.*train and test \('train:4' = 'test:1'\)"):
        audit(load_splits(config, seed=0), "refuse")


def test_test_rows_equal_to_the_training_rows(tmp_path: Path) -> None:
    for name in ("train", "test"):
        (tmp_path / f"{name}.csv").write_bytes(GOOD)
    with pytest.raises(DataError, match=r"all 36 train rows repeat rows of a later split"):
        audit(load_splits(DataConfig(source=str(tmp_path)), seed=0), "drop")


def test_a_small_file_that_unpacks_to_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmclf.data.lines.MAX_UNPACKED", 1 << 20)
    path = tmp_path / "bomb.csv.gz"
    path.write_bytes(gzip.compress(csv(*["x" * 100_000 + ",a"] * 20)))
    with pytest.raises(DataError, match=r"unpacks to more than"):
        load_splits(DataConfig(source=str(path)), seed=0)


def test_numbers_in_a_typed_text_column(tmp_path: Path) -> None:
    pl.DataFrame({"text": [1, 2], "label": ["a", "b"]}).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"row 1: column 'text' holds a number \('1'\)"):
        load_splits(DataConfig(source=f"{tmp_path}/a.parquet"), seed=0)
