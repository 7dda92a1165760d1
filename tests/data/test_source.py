"""Folders and hub data sets bring their own splits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pytest

from llmclf.config import ConfigError, DataError
from llmclf.data.config import DataConfig
from llmclf.data.corpus import load_splits
from llmclf.data.hub import from_hub
from llmclf.data.source import find


def _write(path: Path, start: int, count: int = 20) -> None:
    rows = [f"text {i},{'ab'[i % 2]}" for i in range(start, start + count)]
    path.write_text("\n".join(["text,label", *rows]))


@pytest.mark.parametrize("validation", ["validation", "dev", "valid", "val"])
def test_files_named_after_splits(tmp_path: Path, validation: str) -> None:
    _write(tmp_path / "train-00000-of-00002.csv", 0)
    _write(tmp_path / "train-00001-of-00002.csv", 100)
    _write(tmp_path / f"{validation}.csv", 200, 6)
    _write(tmp_path / "test.csv", 300, 8)
    (tmp_path / "README.md").write_text("not data")
    splits = load_splits(DataConfig(source=str(tmp_path)), seed=0)
    assert [len(split) for _, split in splits.named()] == [40, 6, 8]
    assert splits.train.ids[20] == "train:21"
    assert f"{validation}.csv as validation" in splits.decisions[0]


def test_a_test_file_is_never_used_for_validation(tmp_path: Path) -> None:
    _write(tmp_path / "train.csv", 0, 40)
    _write(tmp_path / "test.csv", 300, 8)
    splits = load_splits(DataConfig(source=str(tmp_path)), seed=0)
    assert [len(split) for _, split in splits.named()] == [36, 4, 8]
    assert all(int(text.split()[1]) < 40 for text in splits.validation.texts)


def test_a_folder_with_one_file(tmp_path: Path) -> None:
    _write(tmp_path / "all.csv", 0, 50)
    assert len(load_splits(DataConfig(source=str(tmp_path)), seed=0).test) == 10


def test_folders_named_after_classes(tmp_path: Path) -> None:
    for split, count in (("train", 20), ("test", 5)):
        for label in ("neg", "pos"):
            folder = tmp_path / split / label
            folder.mkdir(parents=True)
            for i in range(count):
                (folder / f"{i}.txt").write_text(f"{split} {label} film {i}")
    splits = load_splits(DataConfig(source=str(tmp_path)), seed=0)
    assert splits.labels == ("neg", "pos")
    assert [len(split) for _, split in splits.named()] == [36, 4, 10]
    one = load_splits(DataConfig(source=str(tmp_path / "train")), seed=0)
    assert one.train.ids[0].endswith(".txt")


@pytest.mark.parametrize(
    ("names", "settings", "expected"),
    [
        ([], {}, r"no data found. Allowed are one file"),
        (["a.csv", "b.csv"], {}, r"several files \('a\.csv', 'b\.csv'\); name one"),
        (["test.csv"], {}, r"has 'test\.csv' but no train file"),
        (["train.csv", "test.csv"], {"test": "x.csv"}, r"has a test split of its own"),
        (
            ["train.csv", "test.csv"],
            {"fold": 0, "folds": 5},
            r"test rows of its own; leave data\.f",
        ),
    ],
)
def test_folders_that_leave_a_doubt(
    tmp_path: Path, names: list[str], settings: dict[str, Any], expected: str
) -> None:
    for name in names:
        _write(tmp_path / name, 0)
    with pytest.raises((DataError, ConfigError), match=expected):
        find(DataConfig(source=str(tmp_path), **settings))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("someone/something", r"no such file or folder, and the hub did not give it.*Offline, use"),
        ("opinion", r"Did you mean 'opinions'\?"),
        ("https://a.org/b.csv", r"is an address; download it"),
        ("health-advice", r"data\.source='health-advice': .*hub did not give it"),
        ("opinions/tweet", r"no such domain. Did you mean 'tweets'\? Allowed: tweets, amazon"),
    ],
)
def test_names_that_cannot_be_had(source: str, expected: str) -> None:
    with pytest.raises((DataError, ConfigError), match=expected):
        find(DataConfig(source=source))


def _hub(test_labels: list[int]) -> datasets.DatasetDict:
    label = datasets.ClassLabel(names=["bad", "good"])
    features = datasets.Features({"sentence": datasets.Value("string"), "label": label})
    labels = {"train": [0, 1] * 20, "validation": [1, 0, 1], "test": test_labels, "extra": [0]}
    return datasets.DatasetDict(
        {
            split: datasets.Dataset.from_dict(
                {"sentence": [f"{split} {i}" for i in range(len(of))], "label": of}, features
            )
            for split, of in labels.items()
        }
    )


def test_a_hub_data_set_keeps_its_splits_and_class_names() -> None:
    source = from_hub("someone/films", _hub([1, 1, 0]))
    labels = {split: table.frame["label"].to_list() for split, table in source.tables}
    assert labels == {
        "train": ["bad", "good"] * 20,
        "validation": ["good", "bad", "good"],
        "test": ["good", "good", "bad"],
    }
    assert source.decisions == ("hub split 'extra': not used (its name is none of ours)",)


def test_a_hub_test_split_with_hidden_labels_is_left_out() -> None:
    source = from_hub("glue:sst2", _hub([-1, -1]))
    assert [split for split, _ in source.tables] == ["train", "validation"]
    assert "hub split 'test': not used, its labels are hidden (-1)" in source.decisions
