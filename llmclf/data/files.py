"""Read one file: CSV, TSV, JSON, JSON lines or Parquet, plain or gzipped."""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path
from typing import NoReturn

import polars as pl
import pyarrow.parquet

from llmclf.config import DataError, did_you_mean
from llmclf.data import lines
from llmclf.data.class_names import name_classes, of_parquet
from llmclf.data.delimited import read_delimited
from llmclf.data.json_rows import read_json
from llmclf.data.lines import TextFormat
from llmclf.data.table import SourceTable, from_frame, listed
from llmclf.invisible import quoted

DELIMITED = (".csv", ".tsv")
FORMATS = (*DELIMITED, ".jsonl", ".ndjson", ".json", ".parquet")
PLAIN = TextFormat()


def suffix(path: Path) -> str:
    """Format of a file by its name, ``.gz`` aside: ``.csv`` for ``a.CSV.gz``."""
    name = path.name.lower().removesuffix(".gz")
    return Path(name).suffix


def is_table(path: Path) -> bool:
    """Whether the file's name says that it can be read."""
    return suffix(path) in FORMATS and not path.name.startswith(".")  # macOS: ._a.csv


def read_table(path: Path, form: TextFormat = PLAIN) -> SourceTable:
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
            return _read_parquet(path)
        lines.refuse_binary(path, form)
        if suffix(path) in DELIMITED:
            return read_delimited(path, form)
        return read_json(path, form)
    except UnicodeDecodeError:
        lines.raise_encoding(path, form.encoding)
    except UnicodeError as error:  # utf-16 without a byte order mark, for one
        raise DataError(f"{path}: is not {form.encoding} ({error}). Set --data.encoding.") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: is not a whole gzip file ({error}). Copy it again.") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from None


def _raise_missing(path: Path) -> NoReturn:
    if path.is_dir():
        raise DataError(f"{path}: is a folder; a file is needed here.")
    folder = path.parent
    if not folder.is_dir():
        raise DataError(f"{path}: no such file, and no folder {quoted(str(folder))} either.")
    names = sorted(p.name for p in folder.iterdir() if is_table(p))
    there = f" Files there: {listed(names)}." if names else ""
    raise DataError(f"{path}: no such file.{did_you_mean(path.name, names)}{there}")


def _read_parquet(path: Path) -> SourceTable:
    with lines.open_bytes(path) as file:
        head = file.read(32)
        if not head.startswith(b"PAR1"):
            lines.refuse_other_kind(path, head)
        file.seek(0)
        unpacked = file.read(lines.MAX_UNPACKED) if lines.packed(path) else None
    try:
        frame = pl.read_parquet(unpacked) if unpacked else pl.read_parquet(path, glob=False)
        data = io.BytesIO(unpacked) if unpacked else path
        names = of_parquet(pyarrow.parquet.read_schema(data).metadata)
    except (pl.exceptions.PolarsError, pyarrow.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: is not a whole Parquet file ({reason}).") from None
    return from_frame(path.name, name_classes(frame, names, path.name), names)
