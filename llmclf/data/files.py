"""Read one file: CSV, TSV, JSONL or Parquet, plain or gzipped.

The csv and json modules read the text files. They take about three seconds for a million rows and
say which line is wrong; a parser in native code is faster, but reads a stray quote as it likes.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any, NoReturn

import polars as pl

from llmclf.config import DataError, did_you_mean
from llmclf.data.table import SourceTable, cell, from_frame, listed, shown

FORMATS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
MAX_UNPACKED = 8 * 2**30
"""Characters (bytes for Parquet) that a .gz file may hold: a small one can unpack to terabytes."""
_BATCH = 50_000


def suffix(path: Path) -> str:
    """Format of a file by its name, ``.gz`` aside: ``.csv`` for ``a.CSV.gz``."""
    name = path.name.lower().removesuffix(".gz")
    return Path(name).suffix


def is_table(path: Path) -> bool:
    """Whether the file's name says that it can be read."""
    return suffix(path) in FORMATS and not path.name.startswith(".")


def read_table(path: Path, encoding: str = "utf-8") -> SourceTable:
    """Read a file, all of it as text.

    Raises DataError for a missing, empty, damaged or wrongly encoded file, naming the line.
    """
    if not path.is_file():
        _raise_missing(path)
    if suffix(path) not in FORMATS:
        raise DataError(
            f"{path}: cannot tell its format; allowed are {', '.join(FORMATS)}, each also with .gz."
        )
    try:
        if suffix(path) == ".parquet":
            return from_frame(path.name, _read_parquet(path))
        _refuse_binary(path, encoding)
        if suffix(path) in (".csv", ".tsv"):
            return _read_delimited(path, encoding)
        return _read_jsonl(path, encoding)
    except UnicodeDecodeError:
        _raise_encoding(path, encoding)
    except UnicodeError as error:  # utf-16 without a byte order mark, for one
        raise DataError(f"{path}: is not {encoding} ({error}). Set --data.encoding.") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: is not a whole gzip file ({error}). Copy it again.") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from None


def _raise_missing(path: Path) -> NoReturn:
    if path.is_dir():
        raise DataError(f"{path}: is a folder; a file is needed here.")
    folder = path.parent
    if not folder.is_dir():
        raise DataError(f"{path}: no such file, and no folder {str(folder)!r} either.")
    names = sorted(p.name for p in folder.iterdir() if is_table(p))
    there = f" Files there: {listed(names)}." if names else ""
    raise DataError(f"{path}: no such file.{did_you_mean(path.name, names)}{there}")


def _open(path: Path) -> IO[bytes]:
    if path.name.lower().endswith(".gz"):
        return gzip.open(path)  # type: ignore[return-value]
    return path.open("rb")


def _read_parquet(path: Path) -> pl.DataFrame:
    with _open(path) as file:
        data: Any = path if not path.name.endswith(".gz") else io.BytesIO(file.read(MAX_UNPACKED))
        try:
            return (
                pl.read_parquet(data, glob=False)
                if isinstance(data, Path)
                else (pl.read_parquet(data))
            )
        except pl.exceptions.PolarsError as error:
            reason = str(error).splitlines()[0]
            raise DataError(f"{path}: is not a whole Parquet file ({reason}).") from None


def _refuse_binary(path: Path, encoding: str) -> None:
    """Refuse the two kinds of file that decode without an error and are still wrong, by name."""
    with _open(path) as file:
        head = file.read(4096)
    if not head.strip():
        raise DataError(f"{path}: is empty.")
    if encoding.lower().replace("_", "-").startswith(("utf-16", "utf-32")):
        return
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or head.count(0) > len(head) // 5:
        raise DataError(
            f"{path}: looks like UTF-16, as Windows programs write it. "
            "Save it as UTF-8, or set --data.encoding utf-16."
        )


def _lines(path: Path, encoding: str) -> Iterator[str]:
    """Lines of a file with their ends, which may be LF, CR LF or CR."""
    # utf-8-sig takes a byte order mark away if there is one.
    codec = "utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding
    size = 0
    with _open(path) as file, io.TextIOWrapper(file, encoding=codec, newline="") as text:
        for number, line in enumerate(text, 1):
            size += len(line)
            if size > MAX_UNPACKED and path.name.lower().endswith(".gz"):
                raise DataError(
                    f"{path}: unpacks to more than {MAX_UNPACKED >> 30} GiB; unpack it yourself."
                )
            if "\0" in line:
                raise DataError(
                    f"{path} line {number:,}: holds a NUL byte: damaged, or not a text file. "
                    "Remove it: tr -d '\\000' < old > new."
                )
            yield line


def _raise_encoding(path: Path, encoding: str) -> NoReturn:
    """Find the line that does not decode and show how it reads in cp1252, the usual suspect."""
    with _open(path) as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode(encoding)
            except UnicodeDecodeError as error:
                near = line[max(0, error.start - 20) : error.start + 20].decode("cp1252", "replace")
                raise DataError(
                    f"{path} line {number:,}: is not {encoding} (byte 0x{line[error.start]:02x}). "
                    f"In cp1252 (Windows) it reads {shown(near.strip())}: if that is right, "
                    "set --data.encoding cp1252."
                ) from None
    raise DataError(f"{path}: is not {encoding}. Set --data.encoding.")


def _read_delimited(path: Path, encoding: str) -> SourceTable:
    delimiter, decisions = _delimiter(path, encoding)
    try:
        return _parse_delimited(path, encoding, delimiter, csv.QUOTE_MINIMAL, decisions)
    except csv.Error as error:
        if delimiter != "\t":
            raise DataError(str(error)) from None
    # The tab-separated format proper has no quoting, yet spreadsheets do quote.
    decision = f"quotes in {path.name}: taken literally (they do not pair as in a CSV file)"
    return _parse_delimited(path, encoding, delimiter, csv.QUOTE_NONE, (*decisions, decision))


def _delimiter(path: Path, encoding: str) -> tuple[str, tuple[str, ...]]:
    if suffix(path) == ".tsv":
        return "\t", ()
    header = next(_lines(path, encoding))
    if "," not in header:
        for other in (";", "\t", "|"):
            if other in header:
                return other, (f"delimiter of {path.name}: {other!r} (the header has no comma)",)
    return ",", ()


def _parse_delimited(
    path: Path, encoding: str, delimiter: str, quoting: Any, decisions: tuple[str, ...]
) -> SourceTable:
    csv.field_size_limit(sys.maxsize)
    reader = csv.reader(
        _lines(path, encoding), delimiter=delimiter, quoting=quoting, strict=quoting == 0
    )
    records = _records(path, reader)
    header = next(records, None)
    if header is None:
        raise DataError(f"{path}: is empty.")
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise DataError(f"{path}: the header names {listed(repeated)} twice; rename one.")
    schema = dict.fromkeys(header, pl.String)
    frames = [pl.DataFrame(schema=schema)]
    while batch := list(islice(records, _BATCH)):
        frames.append(pl.DataFrame(batch, schema=schema, orient="row"))
    kinds = {name: {"string": 0} for name in header}
    return SourceTable(path.name, pl.concat(frames), kinds, decisions)


def _records(path: Path, reader: Any) -> Iterator[list[str]]:
    """Records of the same width as the header; empty lines are passed over."""
    width = row = 0
    while True:
        first_line = reader.line_num + 1
        try:
            record = next(reader, None)
        except csv.Error as error:
            raise csv.Error(
                f"{path} line {first_line:,} (row {row:,}): the quotes do not pair ({error}). Put "
                'the text between quotes and write each quote inside it twice: "a ""b"" c".'
            ) from None
        if record is None:
            return
        if not record:
            continue
        width = width or len(record)
        if len(record) != width:
            raise DataError(
                f"{path} line {first_line:,} (row {row:,}): has {len(record)} fields, the header "
                f"has {width}. Put texts that hold {reader.dialect.delimiter!r} between quotes."
            )
        row += 1
        yield record


def _read_jsonl(path: Path, encoding: str) -> SourceTable:
    columns: dict[str, list[str | None]] = {}
    kinds: dict[str, dict[str, int]] = {}
    row = 0
    for number, line in enumerate(_lines(path, encoding), 1):
        if not line.strip():
            continue
        for name, value in _json_object(path, number, line).items():
            kind, text = cell(value)
            if name not in columns:
                columns[name], kinds[name] = [None] * row, {}
            columns[name].append(text)
            if kind != "missing":
                kinds[name].setdefault(kind, row)
        row += 1
        for values in columns.values():
            if len(values) < row:
                values.append(None)
    if not row:
        raise DataError(f"{path}: is empty.")
    return SourceTable(
        path.name, pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String)), kinds
    )


def _json_object(path: Path, number: int, line: str) -> dict[str, Any]:
    where = f"{path} line {number:,}"
    try:
        value = json.loads(line)
        if "\\ud" in line.lower():
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise DataError(f"{where}: holds half a surrogate pair (\\ud...); remove it.") from None
    except (json.JSONDecodeError, RecursionError) as error:
        hint = " Write one object per line, not one array." if line.lstrip()[:1] == "[" else ""
        reason = getattr(error, "msg", "nested too deeply")
        raise DataError(f"{where}: is not JSON ({reason}): {shown(line.strip())}.{hint}") from None
    if not isinstance(value, dict):
        raise DataError(
            f"{where}: is not an object but {shown(line.strip())}. "
            'Each line must be like {"text": "...", "label": "..."}.'
        )
    return value
