"""A disk that is full, or a folder that cannot be written any more, amid a run."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

from llmclf.config import RunError, plain

_FULL = {errno.ENOSPC, errno.EDQUOT}
_CLOSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ESTALE}
_IN_TEXT = re.compile(r"\(os error (\d+)\)")
"""How libraries in Rust (safetensors, tokenizers, polars) tell the number."""


@contextlib.contextmanager
def one_line(folder: Path) -> Iterator[None]:
    """Raise RunError, which names the path and the cure, where the disk of the folder is full or
    something in it cannot be written. Files that were whole are whole still."""
    try:
        yield
    except Exception as error:
        found = _found(error, folder)
        if found is None:
            raise
        number, path = found
        reason, cure = os.strerror(number), "Make it writable again"
        if number in _FULL:
            cure = "Make room there"
        elif number == errno.ENOENT:
            cure = "Put it back"
        raise RunError(
            plain(f"{path} cannot be written: {reason}. {cure}, and go on with --resume.")
        ) from error


def _found(error: BaseException | None, folder: Path) -> tuple[int, Path] | None:
    """The error of the disk behind an error, and where it was."""
    if error is None:
        return None
    number = error.errno if isinstance(error, OSError) else None
    name = error.filename if isinstance(error, OSError) else None
    if number is None and (told := _IN_TEXT.search(str(error))):
        number = int(told[1])
    path = Path(os.fsdecode(name)) if isinstance(name, (str, bytes)) else folder
    if number == errno.ENOENT and not folder.exists():
        return number, folder
    inside = name is not None and path.absolute().is_relative_to(folder.absolute())
    if number in _FULL or (number in _CLOSED and inside):
        return number, path
    return _found(error.__cause__ or error.__context__, folder)
