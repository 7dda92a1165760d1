"""CSV files as people have them: every row is read, or one line says why not."""

from __future__ import annotations

import gzip
import io
import json
import re
import zipfile
from pathlib import Path

import pytest

from llmclf.config import ConfigError, DataError
from llmclf.data.config import DataConfig
from llmclf.data.corpus import load_splits
from llmclf.data.files import read_table
from llmclf.data.lines import TextFormat

SENTENCES = [
    ("news", "the court met today"),
    ("talk", '"I came home .'),
    ("news", "markets fell again"),
    ("talk", 'and then I slept . "'),
    ("news", "rain in the north"),
    ("talk", '"who is there ?'),
    ("news", "a bridge was opened"),
    ("talk", 'nobody at all . "'),
    ("news", "the vote is over"),
    ("talk", "we went on"),
]


def _write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def _joined(delimiter: str) -> str:
    return "\n".join(delimiter.join(row) for row in [("label", "text"), *SENTENCES]) + "\n"


def test_quotes_that_pair_across_rows_of_a_tsv_file_are_text(tmp_path: Path) -> None:
    table = read_table(_write(tmp_path / "small.tsv", _joined("\t")))
    assert table.frame.rows() == SENTENCES
    assert "taken literally" in table.decisions[0]


def test_quotes_that_pair_across_rows_of_a_csv_file_are_refused(tmp_path: Path) -> None:
    path = _write(tmp_path / "small.csv", _joined(","))
    with pytest.raises(
        DataError, match=r"row 2: a text of \d+ .*3 lines.*leave 6 rows; 10 rows if"
    ):
        read_table(path)
    literal = read_table(path, TextFormat(quotes="literal"))
    assert literal.frame.rows() == SENTENCES
    assert read_table(path, TextFormat(quotes="paired")).frame.height == 6


@pytest.mark.parametrize("close", ['close"\tb', 'close\tb"'])
def test_many_rows_between_two_quotes(tmp_path: Path, close: str) -> None:
    rows = [f"text number {i}\t{'ab'[i % 2]}" for i in range(100)]
    rows[20], rows[70] = '"open\ta', close
    path = _write(tmp_path / "a.tsv", "\n".join(["text\tlabel", *rows]) + "\n")
    assert read_table(path).frame.height == 100


def test_texts_of_several_lines_that_hold_the_delimiter_are_one(tmp_path: Path) -> None:
    letter = '"Hi, there\nbye, bye\nyours, Ann"'
    rows = [f"{i},{letter},{'ab'[i % 2]}" for i in range(10)]
    path = _write(tmp_path / "a.csv", "\n".join(["id,text,label", *rows]) + "\n")
    table = read_table(path)
    assert table.frame.height == 10
    assert table.frame["text"][3] == "Hi, there\nbye, bye\nyours, Ann"


def test_the_delimiter_is_the_one_that_gives_equal_widths(tmp_path: Path) -> None:
    path = _write(
        tmp_path / "a.csv", "answer, as given;label\none and two;x\nthree, or four, or;y\n"
    )
    table = read_table(path)
    assert table.frame.columns == ["answer, as given", "label"]
    assert "not by ','" in table.decisions[0]


def test_two_delimiters_that_fit_are_said(tmp_path: Path) -> None:
    table = read_table(_write(tmp_path / "a.csv", "a, b;c\n1, 2;3\n"))
    assert "';' gives rows of equal width, too; set --data.delimiter" in table.decisions[0]


@pytest.mark.parametrize("said", ["tab", "\\t", "\t"])
def test_a_delimiter_that_is_said(tmp_path: Path, said: str) -> None:
    rows = [f"text, number {i}\t{'ab'[i % 2]}" for i in range(40)]
    path = _write(tmp_path / "a.csv", "\n".join(["text\tlabel", *rows]))
    splits = load_splits(DataConfig(source=str(path), delimiter=said), seed=0)
    assert splits.labels == ("a", "b")


@pytest.mark.parametrize(
    ("between", "said", "fits"),
    [(",", ";", ","), (";", "tab", "';'"), ("\t", ",", "tab"), ("|", ":", "'|'")],
)
def test_a_delimiter_that_is_not_in_the_header(
    tmp_path: Path, between: str, said: str, fits: str
) -> None:
    path = _write(tmp_path / "a.csv", _joined(between))
    character = "\t" if said == "tab" else said
    message = f"the delimiter that is set, {character!r}, does not occur in the header"
    with pytest.raises(DataError, match=re.escape(message)) as refused:
        load_splits(DataConfig(source=str(path), delimiter=said), seed=0)
    assert str(refused.value).endswith(f"fits: set --data.delimiter {fits}.")
    if between != "\t":
        path = _write(tmp_path / "b.csv", "sep=!\n" + _joined(between))
        with pytest.raises(DataError, match="the delimiter that is set, '!', does not occur"):
            load_splits(DataConfig(source=str(path)), seed=0)


@pytest.mark.parametrize("settings", [{}, {"text": "text"}, {"delimiter": ";", "label": "label"}])
def test_a_delimiter_that_nobody_guesses_is_asked_for(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    path = _write(tmp_path / "a.csv", _joined("^"))
    with pytest.raises(DataError, match=r"Columns: 'label\^text'; .* set --data\.delimiter to"):
        load_splits(DataConfig(source=str(path), **settings), seed=0)


@pytest.mark.parametrize("setting", [{"delimiter": ";"}, {"quotes": "literal"}])
def test_settings_of_csv_files_are_refused_where_none_is_read(
    tmp_path: Path, setting: dict[str, str]
) -> None:
    rows = "".join(f'{{"text": "number {i}", "label": "{"ab"[i % 2]}"}}\n' for i in range(40))
    path = _write(tmp_path / "a.jsonl", rows)
    (key,) = setting
    with pytest.raises(ConfigError, match=rf"data\.{key}=.*a\.jsonl is no CSV or TSV file"):
        load_splits(DataConfig(source=str(path), **setting), seed=0)
    _write(tmp_path / "test.csv", "text,label\none,a\ntwo,b\n")  # one of the files is enough
    more = {"test": str(tmp_path / "test.csv"), "quotes": "literal"}
    assert len(load_splits(DataConfig(source=str(path), **more), seed=0).test) == 2


def test_columns_without_a_name_are_passed_over(tmp_path: Path) -> None:
    path = _write(tmp_path / "spam.csv", "v1,v2,,,\nspam,one,,,\nham,two,more,,\n")
    table = read_table(path)
    assert table.frame.rows() == [("spam", "one"), ("ham", "two")]
    assert table.decisions == ("columns of spam.csv without a name: not used (1 cells are filled)",)


def test_the_index_of_pandas_is_passed_over_in_silence(tmp_path: Path) -> None:
    table = read_table(_write(tmp_path / "a.csv", ",text,label\n0,one,x\n"))
    assert (table.frame.rows(), table.decisions) == ([("one", "x")], ())


def test_a_repeated_name_matters_only_where_it_is_used(tmp_path: Path) -> None:
    rows = [f"text {i},{'ab'[i % 2]},1,2" for i in range(40)]
    path = _write(tmp_path / "a.csv", "\n".join(["text,label,x,x", *rows]))
    assert load_splits(DataConfig(source=str(path)), seed=0).labels == ("a", "b")
    with pytest.raises(DataError, match=r"a\.csv: the header names 'x' twice"):
        load_splits(DataConfig(source=str(path), text="x"), seed=0)


def test_spaces_in_the_header_and_before_quotes(tmp_path: Path) -> None:
    table = read_table(_write(tmp_path / "a.csv", 'id, text, label\n1, "well, no", x\n'))
    assert table.frame.to_dicts() == [{"id": "1", "text": "well, no", "label": "x"}]
    table = read_table(_write(tmp_path / "b.csv", "text ,label\nwell,x\n"))
    assert table.frame.columns == ["text", "label"]
    assert "spaces around 'text ' removed" in table.decisions[0]


@pytest.mark.parametrize("first", ["sep=;\n", '"sep=;"\r\n', "\ufeffsep=;\n"])
def test_the_first_line_with_which_excel_names_the_delimiter(tmp_path: Path, first: str) -> None:
    path = _write(tmp_path / "a.csv", first + "text;label\none, two;x\n")
    assert read_table(path).frame.rows() == [("one, two", "x")]
    path = _write(tmp_path / "b.csv", first + "text;label\none;x\ntwo;y;z\n")
    with pytest.raises(DataError, match=r"line 4 \(row 2\): has 3 fields"):
        read_table(path)


@pytest.mark.parametrize("end", ["   \n", "\x1a", "\x1a\n", " \t\n\n", "\n\n   "])
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_a_last_line_without_anything(tmp_path: Path, name: str, end: str) -> None:
    body = "text,label\none,x\n" if name == "a.csv" else '{"text": "one", "label": "x"}\n'
    assert read_table(_write(tmp_path / name, body + end)).frame.rows() == [("one", "x")]


def _workbook(member: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(member, "text")
    return packed.getvalue()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (_workbook("xl/workbook.xml"), r"is an Excel workbook \(\.xlsx\)"),
        (_workbook("a.csv"), r"is a zip archive\. Unpack it"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500), r"is an Excel workbook \(\.xls\)"),
        (b"PAR1\x15\x04", r"is a Parquet file.*name end in \.parquet"),
        (b"BZh91AY&SY", r"is a bzip2 archive"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", r"git lfs pull"),
        (b"\n<!DOCTYPE html>\n<html>", r"is a web page"),
    ],
    ids=["xlsx", "zip", "xls", "parquet", "bzip2", "lfs", "html"],
)
def test_what_only_its_name_calls_a_csv_file(tmp_path: Path, data: bytes, expected: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(data)
    with pytest.raises(DataError, match=expected):
        read_table(path)


def test_a_gzip_file_is_known_by_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(gzip.compress(b"text,label\none,x\n"))
    assert read_table(path).frame.rows() == [("one", "x")]


OBJECTS = [{"text": f"text {i}", "label": "ab"[i % 2]} for i in range(4)]
COLUMNS = {name: [row[name] for row in OBJECTS] for name in ("text", "label")}


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_of_objects(tmp_path: Path, name: str, indent: int | None) -> None:
    table = read_table(_write(tmp_path / name, json.dumps(OBJECTS, indent=indent)))
    assert table.frame.to_dicts() == OBJECTS


@pytest.mark.parametrize(
    "text",
    [
        "".join(json.dumps(row) + "\n" for row in OBJECTS),
        json.dumps(COLUMNS),
        json.dumps({"data": OBJECTS, "version": 1}, indent=1),
        json.dumps({n: {str(i): v for i, v in enumerate(c)} for n, c in COLUMNS.items()}),
        json.dumps({str(i): row for i, row in enumerate(OBJECTS)}),
        json.dumps({"columns": [*COLUMNS], "index": [], "data": [[*r.values()] for r in OBJECTS]}),
    ],
    ids=["lines", "columns", "under data", "pandas", "pandas index", "pandas split"],
)
def test_the_layouts_of_json(tmp_path: Path, text: str) -> None:
    assert read_table(_write(tmp_path / "a.json", text)).frame.to_dicts() == OBJECTS
