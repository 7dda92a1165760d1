"""The rows of a run, from its splits.parquet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from llmclf.config import DataError


@dataclass(frozen=True, kw_only=True)
class SplitRows:
    """How many rows a run had, and what is known of its test rows."""

    sizes: dict[str, int]
    """Split -> rows."""
    texts: dict[str, str] | None
    """Id -> text of each test row; None in folders of older versions."""
    words: dict[str, int] | None
    """Id -> words of each test row; None in folders of older versions."""
    seen: dict[str, str] | None
    """Id -> exact, normalised or near, of the test rows that an earlier split repeats; None in
    folders of older versions."""


def read_rows(path: Path) -> SplitRows:
    """Read ``splits.parquet``. Raises DataError, naming the file, if it is not that."""
    try:
        table = pq.read_table(path, partitioning=None)
        splits, ids = table["split"].to_pylist(), table["id"].to_pylist()
    except (OSError, KeyError, pa.ArrowException) as error:
        raise DataError(
            f"{path}: cannot be read ({error}). Expected Parquet with the columns id and split; "
            "run this experiment again."
        ) from error
    names = ("train", "validation", "test")
    test = [i for i, name in enumerate(splits) if name == "test"]

    def column(name: str) -> dict | None:
        if name not in table.column_names:
            return None
        values = table[name].to_pylist()
        return {ids[i]: values[i] for i in test if values[i] is not None}

    return SplitRows(
        sizes={name: splits.count(name) for name in names},
        texts=column("text"),
        words=column("words"),
        seen=column("seen"),
    )
