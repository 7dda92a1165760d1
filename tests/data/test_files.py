"""What is read from a file is what stands in it, whatever the format."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmclf.config import DataError
from llmclf.data.files import read_table
from llmclf.data.lines import TextFormat

ROWS = [("01", 'He said "no",\nthen left.', "a"), ("02", "Größe 東京 🙂\t!", "b")]
FRAME = pl.DataFrame(ROWS, schema=["id", "text", "label"], orient="row")


def _write(path: Path) -> None:
    if path.suffix == ".parquet":
        FRAME.write_parquet(path)
    elif path.suffix == ".jsonl":
        FRAME.write_ndjson(path)
    else:
        FRAME.write_csv(path, separator="\t" if path.suffix == ".tsv" else ",")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
def test_every_format_gives_the_same_table(tmp_path: Path, ending: str, packed: bool) -> None:
    path = tmp_path / f"a.{ending}"
    _write(path)
    if packed:
        path = tmp_path / f"b.{ending}.gz"
        path.write_bytes(gzip.compress((tmp_path / f"a.{ending}").read_bytes()))
    assert read_table(path).frame.rows() == ROWS


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        ("text,label\ncafé,x\n".encode("utf-8-sig"), "utf-8"),
        ("text,label\r\ncafé,x\r\n".encode(), "utf-8"),
        ("text,label\rcafé,x\r".encode(), "utf-8"),
        ("text,label\n\n\ncafé,x".encode(), "utf-8"),
        ("text,label\ncafé,x\n".encode("cp1252"), "cp1252"),
        ("text,label\ncafé,x\n".encode("utf-16"), "utf-16"),
    ],
    ids=["byte order mark", "CR LF", "CR only", "empty lines", "cp1252", "utf-16"],
)
def test_encodings_and_line_ends(tmp_path: Path, data: bytes, encoding: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(data)
    assert read_table(path, TextFormat(encoding)).frame.rows() == [("café", "x")]


def test_a_quote_inside_an_unquoted_field_is_text(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('text,label\na 5" disk,x\n')
    assert read_table(path).frame.rows() == [('a 5" disk', "x")]


def test_a_tsv_file_without_quoting(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text('text\tlabel\n"Yay" she said\tx\n"open\ty\n')
    table = read_table(path)
    assert table.frame.rows() == [('"Yay" she said', "x"), ('"open', "y")]
    assert "taken literally" in table.decisions[0]


def test_another_delimiter_is_seen_in_the_header_and_said(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text;label\none, two;x\n")
    table = read_table(path)
    assert table.frame.rows() == [("one, two", "x")]
    assert table.decisions == ("delimiter of a.csv: ';' (the header has no comma)",)


def test_json_values_become_text_and_their_kinds_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    values = ["x", 1, 1.0, 0.5, True, None, float("nan"), ["a", "b"], {"k": 1}]
    path.write_text("".join(json.dumps({"v": value}) + "\n" for value in values))
    table = read_table(path)
    texts = ["x", "1", "1", "0.5", "true", None, None, '["a", "b"]', '{"k": 1}']
    assert table.frame["v"].to_list() == texts
    assert table.kinds["v"] == {"string": 0, "number": 1, "boolean": 4, "list": 7, "object": 8}


def test_keys_that_come_late_or_go_are_gaps(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": "1"}\n{"a": "2", "b": "x"}\n{"b": "y"}\n')
    assert read_table(path).frame.rows() == [("1", None), ("2", "x"), (None, "y")]


def test_typed_columns_become_text(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pl.DataFrame(
        {"whole": [1.0, None], "part": [0.5, 1.0], "flag": [True, False], "list": [["a"], []]}
    ).write_parquet(path)
    table = read_table(path)
    assert table.frame.rows() == [("1", "0.5", "true", '["a"]'), (None, "1.0", "false", "[]")]
    assert [*table.kinds.values()] == [{"number": 0}, {"number": 0}, {"boolean": 0}, {"list": 0}]


ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(ANY_TEXT, ANY_TEXT), min_size=1, max_size=20))
def test_any_text_survives(rows: list[tuple[str, str]]) -> None:
    with TemporaryDirectory() as folder:
        for path in (Path(folder, "a.csv"), Path(folder, "a.jsonl")):
            frame = pl.DataFrame(rows, schema=["text", "label"], orient="row")
            if path.suffix == ".csv":
                frame.write_csv(path, quote_style="always")
            else:
                frame.write_ndjson(path)
            assert read_table(path).frame.rows() == rows


def test_one_long_document(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    text = "word " * 2_000_000
    path.write_text(f'text,label\n"{text}",x\n')
    assert read_table(path).frame["text"][0] == text


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("line", ["", '""', "  ", '" "', "\t", ",", " , ", '"",""', "\xa0", ' "" '])
def test_rows_are_counted_as_pandas_counts_them(tmp_path: Path, line: str, end: str) -> None:
    """A row that pandas has and the table lacks would put every later one in the place of its
    neighbour. Lines that are neither passed over nor a whole row are refused."""
    path = tmp_path / "a.csv"
    rows = ["text,label,note", "one,x,", line, "two,y,", line, line, "three,x,"]
    path.write_bytes(end.join(rows).encode())
    theirs = pd.read_csv(path, keep_default_na=False)["text"].str.strip().tolist()
    if line == ' "" ':
        with pytest.raises(DataError, match=r"line 3 \(row 2\): has 1 fields"):
            read_table(path)
        return
    assert read_table(path).frame["text"].str.strip_chars().to_list() == theirs
    assert theirs.index("two") == 1 if line in ("", "  ", "\t") else 2


@pytest.mark.parametrize("line", ["", '""', "  ", '" "', "\t"])
def test_rows_of_one_column_are_counted_as_pandas_counts_them(tmp_path: Path, line: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["text", "one", line, "two"]))
    theirs = pd.read_csv(path, keep_default_na=False)["text"].tolist()
    assert read_table(path).frame["text"].to_list() == theirs


@pytest.mark.parametrize("line", ["\t", " \t ", '""', "  "])
def test_blanks_are_no_separators(tmp_path: Path, line: str) -> None:
    """In a file parted by tabs a line of tabs is a row, a line of spaces is none."""
    path = tmp_path / "a.tsv"
    path.write_text("\n".join(["text\tlabel", "one\tx", line, "two\ty"]))
    theirs = pd.read_csv(path, sep="\t", keep_default_na=False, index_col=False)
    assert read_table(path).frame.height == len(theirs)
