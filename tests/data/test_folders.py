"""Folders as archives, Kaggle, the hub and file managers leave them."""

from __future__ import annotations

import gzip
from pathlib import Path

import datasets
import polars as pl
import pytest

from llmclf.config import DataError
from llmclf.data.audit import audit
from llmclf.data.config import DataConfig
from llmclf.data.corpus import Splits, load_splits


def _load(folder: Path | str, **settings: str) -> Splits:
    return load_splits(DataConfig(source=str(folder), **settings), seed=0)  # type: ignore[arg-type]


def _texts(folder: Path, count: int = 12, ending: str = ".txt") -> None:
    folder.mkdir(parents=True)
    for i in range(count):
        (folder / f"{i}{ending}").write_text(f"a text of {folder.name} number {i}")


def _csv(path: Path, header: str, count: int = 40) -> None:
    cells = {"text": "text {i}", "id": "{i}"}
    row = ",".join(cells.get(name, "{label}") for name in header.split(","))
    rows = [row.format(i=i, label="ab"[i % 2]) for i in range(count)]
    path.write_text("\n".join([header, *rows]) + "\n")


def test_hidden_folders_and_files_are_no_data(tmp_path: Path) -> None:
    for name in ("pos", "neg", ".ipynb_checkpoints", "__MACOSX"):
        _texts(tmp_path / name)
    (tmp_path / "pos" / "._1.txt").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    (tmp_path / "pos" / "bom.txt").write_bytes("a text with a mark".encode("utf-8-sig"))
    splits = _load(tmp_path)
    assert splits.labels == ("neg", "pos")
    texts = [text for _, split in splits.named() for text in split.texts]
    assert len(texts) == 25
    assert "a text with a mark" in texts
    assert any("'.ipynb_checkpoints', '__MACOSX'" in said for said in splits.decisions)


def _reviews(folder: Path, third: str) -> None:
    for split in ("train", "test"):
        for label in ("pos", "neg"):
            _texts(folder / split / label)
    _texts(folder / "train" / third)


def test_texts_without_labels_beside_the_classes_are_left_aside(tmp_path: Path) -> None:
    _reviews(tmp_path, "unsup")
    splits = _load(tmp_path)
    assert splits.labels == ("neg", "pos")
    assert any("unsup: 12 texts not used" in said for said in splits.decisions)


def test_a_class_that_the_test_folder_lacks_is_refused(tmp_path: Path) -> None:
    _reviews(tmp_path, "mixed")
    with pytest.raises(DataError, match=r"train/mixed: holds 12 texts .*make an empty folder"):
        _load(tmp_path)
    (tmp_path / "test" / "mixed").mkdir()
    assert _load(tmp_path).labels == ("mixed", "neg", "pos")


@pytest.mark.parametrize("ending", ["", ".eml", ".text"])
def test_texts_of_other_endings(tmp_path: Path, ending: str) -> None:
    for name in ("alt.atheism", "sci.space"):
        _texts(tmp_path / name, ending=ending)
    assert _load(tmp_path).labels == ("alt.atheism", "sci.space")


def test_what_is_not_read_of_a_class_is_said(tmp_path: Path) -> None:
    for name in ("pos", "neg"):
        _texts(tmp_path / name)
    _texts(tmp_path / "pos" / "more")
    (tmp_path / "neg" / "notes.md").write_text("no review")
    said = " ".join(_load(tmp_path).decisions)
    assert "pos: 12 texts, not used: 'more'" in said
    assert "neg: 12 texts, not used: 'notes.md'" in said


def test_pictures_are_no_texts(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.jpg").write_bytes(b"\xff\xd8\xff\xe0\0\x10JFIF")
    with pytest.raises(DataError, match=r"1\.jpg: is not utf-8.*move it out"):
        _load(tmp_path)


def test_class_folders_beside_a_table_are_a_doubt(tmp_path: Path) -> None:
    for name in ("sport", "tech"):
        _texts(tmp_path / name)
    (tmp_path / "index.csv").write_text("file,bytes\n1.txt,12\n")
    expected = r"holds 'index\.csv' and the folders 'sport', 'tech' with texts.*index\.csv\), or"
    with pytest.raises(DataError, match=expected):
        _load(tmp_path)


def test_data_further_down_are_named(tmp_path: Path) -> None:
    for name in ("pos", "neg"):
        _texts(tmp_path / "txt_sentoken" / name)
    with pytest.raises(DataError, match=r"no data found\. Name one of its folders: 'txt_sent"):
        _load(tmp_path)


def test_a_folder_of_kaggle(tmp_path: Path) -> None:
    _csv(tmp_path / "train.csv", "id,text,target")
    _csv(tmp_path / "sample_submission.csv", "id,target")
    _csv(tmp_path / "test.csv", "id,text", 6)
    expected = r"test\.csv: has no column 'target'\. Test rows need labels.*needs no labels"
    with pytest.raises(DataError, match=expected):
        _load(tmp_path)
    with pytest.raises(DataError, match=expected):
        _load(tmp_path / "train.csv", test=str(tmp_path / "test.csv"))
    _csv(tmp_path / "test.csv", "id,text,target", 6)
    said = " ".join(_load(tmp_path).decisions)
    assert "not used: 'sample_submission.csv'" in said
    assert "label column: 'target'" in said


def test_a_label_column_of_test_rows_that_is_empty(tmp_path: Path) -> None:
    _csv(tmp_path / "train.csv", "text,label")
    (tmp_path / "test.csv").write_text("text,label\none,\ntwo,\n")
    with pytest.raises(DataError, match=r"test\.csv: column 'label' is empty\. Test rows need la"):
        _load(tmp_path)


def test_json_that_is_no_data_is_passed_over(tmp_path: Path) -> None:
    _csv(tmp_path / "all.csv", "text,label")
    (tmp_path / "settings.json").write_text("{}")
    assert _load(tmp_path).labels == ("a", "b")


def _hub(count: int = 40, labels: int = 2) -> datasets.Dataset:
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["bad", "good"]),
            "topics": datasets.List(datasets.ClassLabel(names=["x", "y", "z"])),
        }
    )
    rows = {
        "text": [f"text {i} of {count}" for i in range(count)],
        "label": [i % 2 if labels else -1 for i in range(count)],
        "topics": [[i % 3] if i % 2 else [0, 2] for i in range(count)],
    }
    return datasets.Dataset.from_dict(rows, features)


@pytest.mark.parametrize("packed", [False, True])
def test_parquet_keeps_the_names_of_its_classes(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "a.parquet"
    _hub().to_parquet(path)
    if packed:
        data = gzip.compress(path.read_bytes())
        path = tmp_path / "a.parquet.gz"
        path.write_bytes(data)
    assert _load(path).labels == ("bad", "good")
    topics = _load(path, label="topics")
    assert topics.multilabel
    assert topics.labels == ("x", "y", "z")


def test_parquet_of_other_programs(tmp_path: Path) -> None:
    pl.DataFrame({"text": [f"text {i}" for i in range(40)], "label": [0, 1] * 20}).write_parquet(
        tmp_path / "a.parquet"
    )
    assert _load(tmp_path / "a.parquet").labels == ("0", "1")


@pytest.mark.parametrize("splits", [False, True])
def test_what_save_to_disk_writes(tmp_path: Path, splits: bool) -> None:
    saved = datasets.DatasetDict({"train": _hub(), "test": _hub(8)}) if splits else _hub()
    saved.save_to_disk(str(tmp_path / "saved"))
    loaded = _load(tmp_path / "saved")
    assert loaded.labels == ("bad", "good")
    assert len(loaded.test) == 8
    next((tmp_path / "saved").rglob("*.arrow")).write_bytes(b"cut")
    with pytest.raises(DataError, match=r"looks as save_to_disk writes it, but cannot be read"):
        _load(tmp_path / "saved")


def test_a_clone_of_the_hub(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    (tmp_path / "data").mkdir()
    _hub().to_parquet(tmp_path / "data" / "train-00000-of-00001-b42a775f407cee45.parquet")
    _hub(6).to_parquet(tmp_path / "data" / "validation-00000-of-00001.parquet")
    _hub(8, 0).to_parquet(tmp_path / "data" / "test-00000-of-00001.parquet")
    splits = _load(tmp_path)
    assert splits.labels == ("bad", "good")
    assert len(splits.validation) == 6
    assert any("its labels are hidden (-1)" in said for said in splits.decisions)


def test_folders_named_after_splits_with_tables(tmp_path: Path) -> None:
    for split, count in (("train", 40), ("test", 8)):
        (tmp_path / split).mkdir()
        _hub(count).to_parquet(tmp_path / split / "0000.parquet")
    assert len(_load(tmp_path).test) == 8


INSTRUCTION = "Decide whether the customer is happy or angry and answer with one word."


def test_a_constant_column_is_never_the_text(tmp_path: Path) -> None:
    rows = [
        {"instruction": INSTRUCTION, "input": f"flight {i} was late", "output": "ab"[i % 2]}
        for i in range(40)
    ]
    pl.DataFrame(rows).write_ndjson(tmp_path / "alpaca.jsonl")
    splits = _load(tmp_path / "alpaca.jsonl")
    assert "text column: 'input' (guessed; set --data.text)" in splits.decisions


def test_an_error_names_the_guesses_behind_it(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text("text,label\n" + "one,a\ntwo,a\n" * 20)
    guessed = r"Guessed: text column: 'text' \(set --data\.text\), label column: 'label' \(set"
    with pytest.raises(DataError, match=rf"same label.*{guessed}"):
        _load(tmp_path / "b.csv")
    rows = [f"{['yes', 'no', 'maybe'][i % 3]},{'ab'[i % 2]}" for i in range(60)]
    (tmp_path / "c.csv").write_text("\n".join(["text,label", *rows]))
    with pytest.raises(DataError, match=rf"They hold 3 different texts: is it.*{guessed}"):
        audit(_load(tmp_path / "c.csv"))
