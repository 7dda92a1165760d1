"""Files and folders that are whole or absent: written under another name beside their place, then
renamed.

The other name begins with a dot, so that no pattern for finished files finds it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path


def temporary_name(path: Path) -> Path:
    """Where ``path`` is written until it is whole. It is the same each time: what a killed process
    left there is overwritten, and two must not write the same path at once."""
    return path.with_name(f".{path.name}.tmp")


def sync(path: Path) -> None:
    """Return once the file's content is on the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Yield a path to write a file to, which takes the place of ``path`` when the block ends well.

    Where it does not, ``path`` stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, folders above it included."""
    with replaced(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def replace_folder(temporary: Path, target: Path) -> None:
    """Put a folder whose files are synced in the place of ``target``."""
    shutil.rmtree(target, ignore_errors=True)
    os.replace(temporary, target)


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder to fill, which becomes ``target`` when the block ends well.

    What killed processes left of earlier attempts goes first, so hold a lock. Where locks are not
    honoured, each process still fills a folder of its own, and the last rename raises OSError.
    """
    for abandoned in target.parent.glob(f".{target.name}.*.partial"):
        shutil.rmtree(abandoned, ignore_errors=True)
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}.partial")
    try:
        partial.mkdir(parents=True)
        yield partial
        os.replace(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
