"""splits.parquet: which rows a run has, and whether a resumed one has the same."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from llmclf.atomic import replaced
from llmclf.config import ConfigError
from llmclf.data.corpus import Splits
from llmclf.run_folder import PAIR

FILE = "splits.parquet"
_HASHES = ("membership", "sequence")
"""Keys of the file's metadata: hashes of all rows, see :class:`llmclf.data.corpus.Splits`."""


def write_rows(splits: Splits, seen: dict[str, str], path: Path) -> None:
    """Write which row is in which split, what a report needs of the rows, and the hashes by which
    :func:`check_same` knows them.

    Columns: ``id``, ``split``, ``row`` (its number in the file it comes from, from 0), ``words``
    (of text and pair); of test rows alone ``text`` (with the pair behind PAIR) and ``seen`` (the
    kind of repeat, where an earlier split has the row too).
    """
    test = pl.col("split") == "test"
    kinds = pl.Series("seen", [seen.get(id_) for id_ in splits.test.ids], dtype=pl.String)
    before = pl.Series("seen", [None], dtype=pl.String)
    rows = _table(splits)
    none = before.new_from_index(0, rows.filter(~test).height)
    hashes = {name: getattr(splits, name) for name in _HASHES}
    with replaced(path) as temporary:
        rows.with_columns(none.append(kinds)).write_parquet(temporary, metadata=hashes)


def _table(splits: Splits) -> pl.DataFrame:
    """The rows of all splits, the test rows last: id, split, row, words, text."""
    parts = []
    for name, split in splits.named():
        texts = [pl.Series(t, dtype=pl.String) for t in (split.texts, split.pairs) if t is not None]
        shown = split.joined(PAIR) if name == "test" else [None] * len(split)
        parts.append(
            pl.DataFrame(
                {
                    "id": pl.Series(split.ids, dtype=pl.String),
                    "split": pl.Series([name], dtype=pl.String).new_from_index(0, len(split)),
                    "row": pl.Series(split.places or [None] * len(split), dtype=pl.Int64),
                    "words": sum(t.str.count_matches(r"\S+").cast(pl.Int32) for t in texts),
                    "text": pl.Series(shown, dtype=pl.String),
                }
            )
        )
    return pl.concat(parts)


def check_same(folder: Path, splits: Splits) -> list[str]:
    """Raise ConfigError where an unfinished run in the folder has other rows, or the same in
    another order; returns a note where it is of an older version and tells less of its rows.

    Of a folder without rows nothing has been learnt yet.
    """
    path = folder / FILE
    if not path.exists():
        return []
    try:
        told = pq.read_metadata(path).metadata or {}
        stored = [told.get(name.encode(), b"").decode() for name in _HASHES]
        if stored == [getattr(splits, name) for name in _HASHES]:
            return []
        change = _change(pl.read_parquet(path), _table(splits))
    except (OSError, pa.ArrowException, pl.exceptions.PolarsError) as error:
        return [f"{path} cannot be read ({error}): whether the rows are the same is not known"]
    if change is None and not all(stored):
        return [f"{path} is of an older version: rows were compared without their training texts"]
    raise ConfigError(
        f"--resume: the data have changed since the run in {folder} was started "
        f"({change or 'texts or labels differ'}). Restore them, or choose another --output-dir or "
        "--name."
    )


def _change(before: pl.DataFrame, now: pl.DataFrame) -> str | None:
    """How two tables of rows differ; None where they do not."""
    both = before.select("id", "split").join(now.select("id", "split"), on="id", how="inner")
    counts = {
        "new": len(now) - len(both),
        "gone": len(before) - len(both),
        "in another split": both.filter(pl.col("split") != pl.col("split_right")).height,
    }
    if any(counts.values()):
        return "rows " + ", ".join(f"{what}: {count:,}" for what, count in counts.items() if count)
    common = [name for name in now.columns if name in before.columns]
    if before.select(common).sort("id").equals(now.select(common).sort("id")):
        same = before["id"].equals(now["id"])
        return None if same else "the rows come in another order"
    return "texts or labels differ"
