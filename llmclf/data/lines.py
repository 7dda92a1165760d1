"""The lines of a text file, plain or gzipped, and what a file is that only its name calls text."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, NoReturn

from llmclf.config import DataError
from llmclf.data.table import shown

MAX_UNPACKED = 8 * 2**30
"""Characters (bytes for Parquet) that a gzip file may hold: a small one can unpack to terabytes."""
_BOMS = (b"\xff\xfe", b"\xfe\xff")
# What a file begins with -> what it is, and what to do. After the manuals of each format.
_MAGIC = {
    b"\xd0\xcf\x11\xe0": ("an Excel workbook (.xls)", "Save the sheet as CSV UTF-8."),
    b"BZh": ("a bzip2 archive", "Unpack it: bunzip2."),
    b"\xfd7zXZ": ("an xz archive", "Unpack it: unxz."),
    b"\x28\xb5\x2f\xfd": ("a zstd archive", "Unpack it: unzstd."),
    b"7z\xbc\xaf": ("a 7z archive", "Unpack it."),
    b"PAR1": ("a Parquet file", "Let its name end in .parquet."),
    b"ARROW1": ("an Arrow file", "Save it as Parquet."),
    b"SQLite format 3": ("an SQLite database", "Export the table as CSV."),
    b"%PDF": ("a PDF document", "A table is needed."),
    b"version https://git-lfs": ("a Git LFS pointer", "Fetch the file itself: git lfs pull."),
}


@dataclass(frozen=True)
class TextFormat:
    """How text files are read; None: seen from the file."""

    encoding: str = "utf-8"
    delimiter: str | None = None
    """Character between the fields of a CSV file."""
    quotes: Literal["paired", "literal"] | None = None
    """Whether quotes in a CSV file hold fields together, or are characters like others."""

    @property
    def wide(self) -> bool:
        """Whether the encoding has zero bytes in plain text."""
        return self.encoding.lower().replace("_", "-").startswith(("utf-16", "utf-32"))

    @property
    def codec(self) -> str:
        """The codec's name: utf-8-sig takes a byte order mark away if there is one."""
        plain = self.encoding.lower().replace("_", "-") in ("utf-8", "utf8")
        return "utf-8-sig" if plain else self.encoding


def packed(path: Path) -> bool:
    """Whether a file is gzipped, by its name or by how it begins."""
    if path.name.lower().endswith(".gz"):
        return True
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def open_bytes(path: Path) -> IO[bytes]:
    """The bytes of a file, unpacked."""
    return gzip.open(path) if packed(path) else path.open("rb")  # type: ignore[return-value]


def refuse_binary(path: Path, form: TextFormat) -> None:
    """Refuse an empty file and the kinds of file that are no text, by what they are.

    Some would decode without an error and still be wrong.
    """
    with open_bytes(path) as file:
        head = file.read(4096)
    if not head.strip():
        raise DataError(f"{path}: is empty.")
    refuse_other_kind(path, head)
    if form.wide:
        return
    if head.startswith(_BOMS) or head.count(0) > len(head) // 5:
        raise DataError(
            f"{path}: looks like UTF-16, as Windows programs write it. "
            "Save it as UTF-8, or set --data.encoding utf-16."
        )


def refuse_other_kind(path: Path, head: bytes) -> None:
    """Refuse a file that begins as no table does, such as a workbook that is named .csv."""
    if head.startswith(b"PK\x03\x04"):
        if not packed(path) and zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
            if any(name.startswith("xl/") for name in names):
                raise DataError(
                    f"{path}: is an Excel workbook (.xlsx), not a text file. "
                    "Save the sheet as CSV UTF-8."
                )
        raise DataError(f"{path}: is a zip archive. Unpack it: unzip.")
    for magic, (what, remedy) in _MAGIC.items():
        if head.startswith(magic):
            raise DataError(f"{path}: is {what}, whatever its name says. {remedy}")
    if head.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")):
        raise DataError(f"{path}: is a web page, not a table. Download the file itself.")


def read_lines(path: Path, form: TextFormat) -> Iterator[str]:
    """Lines of a file with their ends, which may be LF, CR LF or CR."""
    size, limited = 0, packed(path)
    with open_bytes(path) as file, io.TextIOWrapper(file, encoding=form.codec, newline="") as text:
        for number, line in enumerate(text, 1):
            size += len(line)
            if size > MAX_UNPACKED and limited:
                raise DataError(
                    f"{path}: unpacks to more than {MAX_UNPACKED >> 30} GiB; unpack it yourself."
                )
            if "\0" in line:
                raise DataError(
                    f"{path} line {number:,}: holds a NUL byte: damaged, or not a text file. "
                    "Remove it: tr -d '\\000' < old > new."
                )
            yield line


@dataclass
class Remembered:
    """Lines, of which the one that was given last is remembered."""

    lines: Iterator[str]
    last: str = ""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self.last = next(self.lines)
        return self.last


def blank(line: str) -> bool:
    """Whether a line holds nothing: blanks, or the Ctrl-Z with which DOS ended its files."""
    return not line.strip(" \t\r\n\x0b\x0c\x1a\xa0\ufeff")


def raise_encoding(path: Path, encoding: str) -> NoReturn:
    """Find the line that does not decode and show how it reads in cp1252, the usual suspect."""
    with open_bytes(path) as file:
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
