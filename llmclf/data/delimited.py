"""Read a CSV or TSV file: its delimiter, its header, its quotes, its rows.

The csv module takes about three seconds for a million rows and says which line is wrong; a parser
in native code is faster, but reads a stray quote as it likes.
"""

from __future__ import annotations

import csv
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from llmclf.config import DataError
from llmclf.data.lines import Remembered, TextFormat, blank, read_lines
from llmclf.data.quotes import Swallowed, swallowed_rows
from llmclf.data.table import SourceTable, listed, shown

DELIMITERS = (",", ";", "\t", "|")
_BATCH = 50_000
_SAMPLE = 400
"""Lines from which the delimiter is told."""
_SEP = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)


@dataclass(frozen=True)
class _Dialect:
    """How one file is written."""

    path: Path
    form: TextFormat
    delimiter: str
    skipped: int = 0
    """Lines above the header."""
    spaced: bool = False
    """Whether a space follows each delimiter."""
    literal: bool = False
    """Whether quotes are characters like others."""
    decisions: tuple[str, ...] = ()


def read_delimited(path: Path, form: TextFormat) -> SourceTable:
    """Read a CSV or TSV file. Raises DataError that names the line."""
    dialect = _dialect(path, form)
    if form.quotes == "literal":
        dialect = replace(dialect, literal=True)
        return _named(dialect, *_parse(dialect))
    said = f"quotes in {path.name}: taken literally (they do not pair as in a CSV file)"
    literal = replace(dialect, literal=True, decisions=(*dialect.decisions, said))
    try:
        header, frame = _parse(dialect)
    except csv.Error as error:
        # The tab-separated format proper has no quoting, yet spreadsheets do quote.
        if dialect.delimiter != "\t" or form.quotes == "paired":
            raise DataError(str(error)) from None
        return _named(literal, *_parse(literal))
    found = None if form.quotes == "paired" else swallowed_rows(frame, dialect.delimiter)
    if found is not None:
        return _named(literal, *_taken_literally(literal, frame.height, found))
    return _named(dialect, header, frame)


def _taken_literally(
    literal: _Dialect, rows: int, found: Swallowed
) -> tuple[list[str], pl.DataFrame]:
    """Header and rows of a file whose quotes pair across rows: those with quotes taken literally
    if it is tab-separated, where quoting is not usual; else DataError."""
    try:
        header, frame = _parse(literal)
    except DataError:
        counts = ""
    else:
        if literal.delimiter == "\t":
            return header, frame
        counts = f"; {frame.height:,} rows if they are taken literally"
    raise DataError(
        f"{literal.path.name} row {found.row + 1:,}: a text of {found.characters:,} characters "
        f"between quotes holds {found.lines:,} lines that look like rows of their own, such as "
        f"{shown(found.example)}. Quotes that pair across lines leave {rows:,} rows{counts}. Set "
        "--data.quotes literal if quotes are characters like others, --data.quotes paired if "
        "that text is one."
    )


def _dialect(path: Path, form: TextFormat) -> _Dialect:
    """The dialect of a file, from its name, its header and its first rows."""
    sample = list(islice(read_lines(path, form), _SAMPLE))
    whole = len(sample) < _SAMPLE
    skipped = 0
    while skipped < len(sample) - 1 and blank(sample[skipped]):
        skipped += 1
    named = _SEP.fullmatch(sample[skipped])  # Excel's first line, sep=;
    skipped += bool(named)
    lines = sample[skipped:]
    if not lines:
        raise DataError(f"{path}: is empty.")
    delimiter, decisions = _delimiter(path, lines, whole)
    said = form.delimiter or (named and named[1])
    if said:
        _refuse_absent(path, said, lines[0], delimiter)
        delimiter, decisions = said, ()
    names = next(csv.reader(lines, delimiter=delimiter))
    # "text, label": then the space before a quoted field is no part of it, either.
    spaced = len(names) > 1 and all(n.startswith(" ") and n.strip() for n in names[1:])
    return _Dialect(path, form, delimiter, skipped, spaced, decisions=decisions)


def _delimiter(path: Path, lines: list[str], whole: bool) -> tuple[str, tuple[str, ...]]:
    """The delimiter that gives each row as many fields as the header; the usual one of several."""
    header = lines[0]
    usual = [*dict.fromkeys(("\t", *DELIMITERS))] if _is_tsv(path) else DELIMITERS
    found = [d for d in usual if d in header]
    if not found or found == [usual[0]] or (_is_tsv(path) and "\t" in found):
        return usual[0], ()
    even = [d for d in found if _even(lines, d, whole)]
    chosen = even[0] if even else found[0]
    others = ", ".join(map(repr, even[1:]))
    if others:
        reason = f"{others} gives rows of equal width, too; set --data.delimiter"
    elif chosen == usual[0]:
        return chosen, ()
    elif usual[0] not in found:
        reason = f"the header has no {'tab' if _is_tsv(path) else 'comma'}"
    else:
        reason = f"the rows have equal width by it, and not by {found[0]!r}"
    return chosen, (f"delimiter of {path.name}: {chosen!r} ({reason})",)


def _refuse_absent(path: Path, said: str, header: str, fitting: str) -> None:
    """Refuse a delimiter that was named and is not in the header, where another one fits."""
    if said in header or fitting not in header:
        return
    fits = "tab" if fitting == "\t" else shlex.quote(fitting)
    raise DataError(
        f"{path}: the delimiter that is set, {said!r}, does not occur in the header, "
        f"{shown(header.strip())}. {fitting!r} fits: set --data.delimiter {fits}."
    )


def _is_tsv(path: Path) -> bool:
    return path.name.lower().removesuffix(".gz").endswith(".tsv")


def _even(lines: list[str], delimiter: str, whole: bool) -> bool:
    """Whether the rows of a sample all have the same number of fields, above one."""
    csv.field_size_limit(sys.maxsize)
    rows = [row for row in csv.reader(lines, delimiter=delimiter) if not _empty(row)]
    rows = rows if whole or len(rows) < 2 else rows[:-1]  # the last one may be cut
    return len(rows[0]) > 1 and len({len(row) for row in rows}) == 1


def _empty(row: list[str]) -> bool:
    return not row or (len(row) == 1 and blank(row[0]))


def _parse(dialect: _Dialect) -> tuple[list[str], pl.DataFrame]:
    """The header and the rows of a file; csv.Error where quotes do not pair."""
    csv.field_size_limit(sys.maxsize)
    lines = Remembered(islice(read_lines(dialect.path, dialect.form), dialect.skipped, None))
    reader = csv.reader(
        lines,
        delimiter=dialect.delimiter,
        quoting=csv.QUOTE_NONE if dialect.literal else csv.QUOTE_MINIMAL,
        strict=not dialect.literal,
        skipinitialspace=dialect.spaced,
    )
    records = _records(dialect, reader, lines)
    header = next(records, None)
    if header is None:
        raise DataError(f"{dialect.path}: is empty.")
    schema = dict.fromkeys(map(str, range(len(header))), pl.String)
    frames = [pl.DataFrame(schema=schema)]
    while batch := list(islice(records, _BATCH)):
        frames.append(pl.DataFrame(batch, schema=schema, orient="row"))
    return header, pl.concat(frames)


def _named(dialect: _Dialect, header: list[str], frame: pl.DataFrame) -> SourceTable:
    """The table with the names of its header: stripped, without columns that have none or share
    one."""
    file, decisions = dialect.path.name, list(dialect.decisions)
    names = [name.strip() for name in header]
    spaced = [old for old, name in zip(header, names, strict=True) if old != name and name]
    if spaced:
        decisions.append(f"header of {file}: spaces around {listed(spaced)} removed")
    unnamed = [str(i) for i, name in enumerate(names) if not name]
    if len(unnamed) == len(names):
        raise DataError(f"{dialect.path}: the first line must name the columns, but it is empty.")
    filled = sum((frame[column] != "").sum() for column in unnamed)
    if filled and unnamed != ["0"]:  # the first one alone is the index that pandas writes
        decisions.append(
            f"columns of {file} without a name: not used ({filled:,} cells are filled)"
        )
    repeated = tuple(sorted({name for name in names if name and names.count(name) > 1}))
    used = {str(i): n for i, n in enumerate(names) if n and n not in repeated}
    if not used:
        raise DataError(f"{dialect.path}: the header names {listed(repeated)} twice; rename one.")
    return SourceTable(
        file,
        frame.select(*used).rename(used),
        {name: {"string": 0} for name in used.values()},
        tuple(decisions),
        repeated,
    )


def _records(dialect: _Dialect, reader: Any, lines: Remembered) -> Iterator[list[str]]:
    """Records of the same width as the header. As pandas.read_csv has it, lines of blanks are
    passed over, and a line that holds nothing but separators or "" is a row of empty cells."""
    path, width, row = dialect.path, 0, 0
    blanks = " \t\r\n\x1a".replace(dialect.delimiter, "")  # DOS ended its files with Ctrl-Z
    while True:
        first_line = reader.line_num + 1 + dialect.skipped
        try:
            record = next(reader, None)
        except csv.Error as error:
            raise csv.Error(
                f"{path} line {first_line:,} (row {row:,}): the quotes do not pair ({error}). Put "
                'the text between quotes and write each quote inside it twice: "a ""b"" c"; or '
                "set --data.quotes literal if quotes are characters like others."
            ) from None
        if record is None:
            return
        if not record or not lines.last.strip(blanks):
            continue
        width = width or len(record)
        if all(map(blank, record)):
            record += [""] * (width - len(record))
        if len(record) != width:
            message = (
                f"{path} line {first_line:,} (row {row:,}): has {len(record)} fields, the header "
                f"has {width}. {_remedy(dialect, len(record) > width)}"
            )
            # Over several lines it is its quotes that are in doubt.
            raise (
                DataError(message)
                if reader.line_num + dialect.skipped == first_line
                else csv.Error(
                    f"{message} Its quotes go on to line {reader.line_num + dialect.skipped:,}."
                )
            )
        row += 1
        yield record


def _remedy(dialect: _Dialect, more: bool) -> str:
    """What to do about a row of another width than the header."""
    delimiter = dialect.delimiter
    if dialect.literal:
        return f"With quotes taken literally, no text may hold {delimiter!r}."
    if not more:
        return (
            f"Complete the row, or set --data.delimiter if the fields are not parted by "
            f"{delimiter!r}."
        )
    return (
        f"Put texts that hold {delimiter!r} between quotes, or set --data.delimiter if the fields "
        "are parted by another character."
    )
