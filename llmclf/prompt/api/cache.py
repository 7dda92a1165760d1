"""What a server answered, on the disk as soon as it came, so that no request is paid for twice."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from llmclf.config import ConfigError

BUSY_SECONDS = 60.0
FLUSH_SECONDS = 1.0


class ResponseCache:
    """Answers by the digest of their request, in one SQLite file that several processes may share.

    It holds digests, answers and token counts: no key, no address. A damaged file is set aside as
    ``<name>.damaged``, with a line on stderr, and what can still be read of it is taken over.

    Raises ConfigError where the file cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._flushed = -FLUSH_SECONDS
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = _sound(path) or _repaired(path)
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from None

    def get(self, digest: str) -> Any:
        """What :meth:`put` stored, or None."""
        try:
            query = "SELECT answer FROM answers WHERE digest = ?"
            row = self._connection.execute(query, (digest,)).fetchone()
            return None if row is None else json.loads(row[0])
        except ValueError:
            return None
        except sqlite3.Error as error:
            raise self._unusable(error) from None

    def put(self, digest: str, answer: Any) -> None:
        """Store JSON values. They outlive this process from now on, and the machine's power within
        about a second: a flush for each would take longer than many a response."""
        try:
            row = (digest, json.dumps(answer))
            due = time.monotonic() - self._flushed > FLUSH_SECONDS
            self._connection.execute(f"PRAGMA synchronous={'FULL' if due else 'OFF'}")
            self._flushed = time.monotonic() if due else self._flushed
            self._connection.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", row)
        except sqlite3.Error as error:
            raise self._unusable(error) from None

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def _unusable(self, error: Exception) -> ConfigError:
        return ConfigError(
            f"{self.path}: cannot keep the server's answers there ({error}). Make room, make the "
            "folder writable, or delete the file if it is damaged."
        )


def _connect(path: Path) -> sqlite3.Connection:
    # Used by one thread at a time, though not always by the one that opened it.
    connection = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    connection.execute("CREATE TABLE IF NOT EXISTS answers (digest TEXT PRIMARY KEY, answer TEXT)")
    return connection


def _sound(path: Path) -> sqlite3.Connection | None:
    """Open the file; None if it is damaged."""
    connection = None
    try:
        connection = _connect(path)
        if connection.execute("PRAGMA quick_check(1)").fetchone() == ("ok",):
            return connection
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError:
        pass
    if connection is not None:
        connection.close()
    return None


def _repaired(path: Path) -> sqlite3.Connection:
    damaged = path.with_name(f"{path.name}.damaged")
    os.replace(path, damaged)
    path.with_name(f"{path.name}-journal").unlink(missing_ok=True)
    connection = _connect(path)
    kept = 0
    for row in _readable(damaged):
        kept += connection.execute("INSERT OR IGNORE INTO answers VALUES (?, ?)", row).rowcount
    print(
        f"warning: {path} was damaged. It is set aside as {damaged.name}; {kept} of its answers "
        "could be read and are used, the others are asked for again.",
        file=sys.stderr,
    )
    return connection


def _readable(path: Path) -> Iterator[tuple[str, str]]:
    """Rows up to the first that cannot be read."""
    try:
        with closing(sqlite3.connect(path)) as connection:
            for digest, answer in connection.execute("SELECT digest, answer FROM answers"):
                json.loads(answer)
                yield digest, answer
    except (sqlite3.Error, ValueError, TypeError):
        return
