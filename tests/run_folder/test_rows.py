"""splits.parquet as a run writes it, and as a report reads it."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from llmclf.config import DataError
from llmclf.data.audit import audit
from llmclf.data.config import DataConfig
from llmclf.data.corpus import load_splits
from llmclf.run_folder.rows import read_rows
from llmclf.run_folder.write import write_rows

LONG = "the patients of this ward were seen again after two weeks and after a year, number"


def write_corpus(path: Path) -> Path:
    """Test rows of a given file: one as in training, one but for case, one nearly, one new."""
    train = [f"{LONG} {i} and {i * 7}" for i in range(40)]
    test = [train[0], train[1].upper(), train[2] + " and one", "something else altogether"]
    for name, texts in (("train", train), ("test", test)):
        rows = [f'"{text}",{"ab"[i % 2]}' for i, text in enumerate(texts)]
        (path / f"{name}.csv").write_text("\n".join(["text,label", *rows]))
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    config = DataConfig(
        source=str(tmp_path / "train.csv"), test=str(tmp_path / "test.csv"), duplicates="keep"
    )
    splits, report = audit(load_splits(config, 0), "keep")
    write_rows(splits, report.seen, tmp_path / "splits.parquet")
    rows = read_rows(tmp_path / "splits.parquet")
    assert rows.sizes == {name: len(split) for name, split in splits.named()}
    assert rows.texts == dict(zip(splits.test.ids, splits.test.texts, strict=True))
    assert rows.words is not None and list(rows.words.values()) == [
        len(text.split()) for text in splits.test.texts
    ]
    kinds = dict(zip(splits.test.ids, ("exact", "normalised", "near"), strict=False))
    assert rows.seen == kinds
    assert "seen" not in report.to_json()


def test_dropped_repeats_are_not_seen(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    config = DataConfig(source=str(tmp_path / "train.csv"), test=str(tmp_path / "test.csv"))
    _, report = audit(load_splits(config, 0), "drop")
    assert sorted(report.seen.values()) == ["near"] * len(report.seen)


def test_folders_of_older_versions_have_no_texts(tmp_path: Path) -> None:
    pl.DataFrame({"id": ["1", "2"], "split": ["train", "test"]}).write_parquet(tmp_path / "s")
    rows = read_rows(tmp_path / "s")
    assert rows.sizes == {"train": 1, "validation": 0, "test": 1}
    assert rows.texts is rows.words is rows.seen is None


def test_what_is_no_such_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "splits.parquet").write_text("cut off")
    with pytest.raises(DataError, match=r"splits\.parquet: cannot be read"):
        read_rows(tmp_path / "splits.parquet")
