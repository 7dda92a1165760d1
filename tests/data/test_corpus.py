"""From files to splits: columns, labels, and rows that stay where they belong."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from llmclf.data.audit import audit
from llmclf.data.config import DataConfig
from llmclf.data.corpus import Split, Splits, load_splits


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """300 rows of three classes; four rows per author."""
    path = tmp_path / "corpus.csv"
    rows = [f"text {i} is unlike any other,{'xyz'[i % 3]},author {i // 4}" for i in range(300)]
    path.write_text("\n".join(["sentence,category,author", *rows]))
    return path


def _load(source: Path, seed: int = 0, data_seed: int | None = None, **settings: Any) -> Splits:
    return load_splits(DataConfig(source=str(source), seed=data_seed, **settings), seed)


def _shares(split: Split) -> np.ndarray:
    return np.bincount(split.targets) / len(split)


def test_guesses_are_made_and_said(corpus: Path) -> None:
    splits = _load(corpus)
    assert splits.labels == ("x", "y", "z")
    assert splits.decisions == (
        "text column: 'sentence' (guessed; set --data.text)",
        "label column: 'category' (guessed; set --data.label)",
    )
    assert splits.train.groups is None
    assert _load(corpus, text="sentence", label="category").decisions == ()


def test_the_longest_column_is_the_text_if_no_name_tells(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = [f"s{i},a long remark about film {i},{i % 2}" for i in range(30)]
    path.write_text("\n".join(["code,remark,label", *rows]))
    assert _load(path).train.texts[0].startswith("a long remark")


def test_rows_without_anything_count_and_decide_nothing(tmp_path: Path) -> None:
    """Lines of separators or "" have neither text nor id: what is guessed, and who is in which
    place, is as pandas.read_csv has it."""
    path = tmp_path / "a.csv"
    lines = [f"{i},Classify this.,some text {i},{'xyz'[i % 3]}" for i in range(60)]
    lines[7:7], lines[30:30] = ['""'], ["", ",,,", "  ", '""']
    path.write_text("\n".join(["id,text,sentence,label", *lines]))
    splits, theirs = _load(path), pd.read_csv(path)
    assert "text column: 'sentence' (guessed; set --data.text)" in splits.decisions
    assert "id column: 'id' (guessed; set --data.id)" in splits.decisions
    assert splits.empty_rows == ("a.csv row 8", "a.csv row 31", "a.csv row 32")
    for _, split in splits.named():
        rows = theirs.iloc[split.places]
        assert rows["sentence"].tolist() == split.texts
        assert rows["id"].astype(int).astype(str).tolist() == split.ids


def test_rows_are_divided_by_the_fractions(corpus: Path) -> None:
    splits = _load(corpus)
    assert [len(split) for _, split in splits.named()] == [216, 24, 60]
    for _, split in splits.named():
        assert _shares(split) == pytest.approx([1 / 3] * 3, abs=0.02)
    ids = [id_ for _, split in splits.named() for id_ in split.ids]
    assert sorted(map(int, ids)) == list(range(1, 301))


def test_each_row_keeps_its_text_label_and_group(corpus: Path) -> None:
    for _, split in _load(corpus, group="author").named():
        assert split.groups is not None
        for id_, text, target, group in zip(
            split.ids, split.texts, split.targets, split.groups, strict=True
        ):
            row = int(id_) - 1
            assert text == f"text {row} is unlike any other"
            assert (target, group) == (row % 3, f"author {row // 4}")


def test_test_rows_do_not_depend_on_the_validation_fraction(corpus: Path) -> None:
    usual = _load(corpus, group="author")
    for fraction in (0.0, 0.3):
        assert _load(corpus, group="author", validation_fraction=fraction).test.ids == (
            usual.test.ids
        )
    assert len(_load(corpus, validation_fraction=0.0).validation) == 0


def test_folds_part_the_corpus_and_groups_stay_whole(corpus: Path) -> None:
    folds = [_load(corpus, group="author", fold=fold, folds=5) for fold in range(5)]
    assert sorted(i for splits in folds for i in splits.test.ids) == sorted(map(str, range(1, 301)))
    for splits in folds:
        groups = [set(split.groups or ()) for _, split in splits.named()]
        assert not any(a & b for a, b in itertools.combinations(groups, 2))
        assert all(len(split) for _, split in splits.named())


def test_the_seed_decides_the_split(corpus: Path) -> None:
    assert _load(corpus, seed=1).membership == _load(corpus, seed=1).membership
    assert _load(corpus, seed=1).test.ids != _load(corpus, seed=2).test.ids


def test_membership_tells_rows_and_labels_but_no_order(corpus: Path) -> None:
    splits = _load(corpus)
    order = np.random.default_rng(0).permutation(len(splits.train))
    turned = replace(
        splits,
        labels=tuple(reversed(splits.labels)),
        **{
            name: replace(split, targets=2 - split.targets)  # same names, other numbers
            for name, split in splits.named()
        },
    )
    turned = replace(turned, train=turned.train.take(order))
    assert turned.membership == splits.membership
    other = splits.train.targets.copy()
    other[0] = (other[0] + 1) % 3
    assert replace(splits, train=replace(splits.train, targets=other)).membership != (
        splits.membership
    )
    assert replace(splits, train=splits.train.take(range(5))).membership != splits.membership
    assert replace(splits, test=splits.train, train=splits.test).membership != splits.membership


@pytest.mark.parametrize("seed", range(5))
def test_small_classes_keep_a_training_row(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["text,label", *(f"text {i},c{i % 40}" for i in range(100))]))
    assert len(_load(path, seed=seed).labels) == 40  # each has two or three rows


def test_a_given_test_file_is_the_test_split(corpus: Path, tmp_path: Path) -> None:
    test = tmp_path / "test.csv"
    test.write_text("sentence,category\nquite new,y\nnew as well,x\n")
    splits = _load(corpus, test=str(test))
    assert splits.test.texts == ["quite new", "new as well"]
    assert splits.test.ids == ["test:1", "test:2"]
    assert [len(splits.train), len(splits.validation)] == [270, 30]
    assert "validation rows: 10% of the training rows (none were given)" in splits.decisions
    validation = tmp_path / "validation.csv"
    validation.write_text("sentence,category\nnew for tuning,z\n")
    both = _load(corpus, test=str(test), validation=str(validation))
    assert [len(split) for _, split in both.named()] == [300, 1, 2]


def test_limit_takes_a_stratified_share_of_every_split(corpus: Path, tmp_path: Path) -> None:
    assert [len(split) for _, split in _load(corpus, limit=100).named()] == [72, 8, 20]
    test = tmp_path / "test.csv"
    test.write_text("\n".join(["sentence,category", *(f"n {i},{'xyz'[i % 3]}" for i in range(60))]))
    splits = _load(corpus, test=str(test), limit=120)
    assert [len(split) for _, split in splits.named()] == [90, 10, 20]
    assert _shares(splits.train) == pytest.approx([1 / 3] * 3, abs=0.02)


def test_empty_texts_are_dropped_and_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    empty = ["", "  \t", None, float("nan"), "\u200b\u2060"]
    rows = [{"text": f"text {i}", "label": i % 2} for i in range(40)]
    rows += [{"text": text, "label": 1} for text in empty]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    splits = _load(path)
    assert sum(len(split) for _, split in splits.named()) == 40
    assert splits.empty_rows == tuple(f"a.jsonl row {n}" for n in range(41, 46))


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["10", "2", "1"], ("1", "2", "10")),
        (["10", "b", "2"], ("10", "2", "b")),
        (["01", "1", "2"], ("01", "1", "2")),
        ([" a", "b ", "c"], ("a", "b", "c")),
    ],
)
def test_label_names_are_text_and_sorted(
    tmp_path: Path, labels: list[str], expected: tuple[str, ...]
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["text,label", *(f"text {i},{labels[i % 3]}" for i in range(60))]))
    splits = _load(path)
    assert splits.labels == expected
    assert any("spaces around ' a', 'b ' removed" in d for d in splits.decisions) == (
        labels[0] == " a"
    )


def test_numbers_in_json_and_text_in_csv_are_the_same_labels(tmp_path: Path) -> None:
    train, test = tmp_path / "train.jsonl", tmp_path / "test.csv"
    train.write_text("\n".join(json.dumps({"text": f"t {i}", "label": i % 3}) for i in range(60)))
    test.write_text("text,label\nnew,2\n")
    splits = _load(tmp_path)
    assert splits.labels == ("0", "1", "2")
    assert splits.test.targets.tolist() == [2]
    assert any("compared as text" in decision for decision in splits.decisions)


def test_an_id_column_is_guessed_only_if_it_is_one(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = [f"{i:03},text {i},{i % 2}" for i in range(40)]
    path.write_text("\n".join(["id,text,label", *rows]))
    assert _load(path).train.ids[0].startswith("0")
    path.write_text("\n".join(["id,text,label", *rows, "000,again,1"]))
    splits = _load(path)
    assert "id column: row numbers (the column 'id' has gaps or repeats)" in splits.decisions
    assert {len(id_) for id_ in splits.train.ids} == {1, 2}


def test_pairs_of_texts(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["text,answer,label", *(f"q {i},a {i},{i % 2}" for i in range(40))]))
    split = _load(path, pair="answer").train
    assert split.pairs == [text.replace("q", "a") for text in split.texts]


MULTILABEL = {
    "lists": ("a.jsonl", {}),
    "one cell": ("a.csv", {"label_separator": "|"}),
    "columns": ("b.csv", {"label": "news,odd,sport"}),
    "list column": ("a.parquet", {}),
}


@pytest.mark.parametrize("way", MULTILABEL)
def test_a_row_may_have_several_labels(tmp_path: Path, way: str) -> None:
    sets = [[["news"], ["news", "sport"], [], ["sport", "odd"]][i % 4] for i in range(240)]
    texts = [f"text {i}" for i in range(240)]
    frame = pl.DataFrame({"text": texts, "label": sets})
    flags = {n: [int(n in s) for s in sets] for n in ("news", "odd", "sport")}
    frame.write_ndjson(tmp_path / "a.jsonl")
    frame.write_parquet(tmp_path / "a.parquet")
    frame.with_columns(pl.col("label").list.join("|")).write_csv(tmp_path / "a.csv")
    pl.DataFrame({"text": texts, **flags}).write_csv(tmp_path / "b.csv")
    name, settings = MULTILABEL[way]
    splits = _load(tmp_path / name, **settings)
    assert splits.multilabel
    assert splits.labels == ("news", "odd", "sport")
    assert splits.train.targets.dtype == np.float32
    for _, split in splits.named():
        assert split.targets.mean(axis=0) == pytest.approx([0.5, 0.25, 0.5], abs=0.07)
        for index, text in enumerate(split.texts):
            assert splits.names_of(split, index) == sorted(sets[int(text.split()[1])])


def test_health_advice(shared_data: Path) -> None:
    path = shared_data / "health_advice.csv"
    splits = _load(path, fold=0, folds=5)
    assert splits.labels == ("no advice", "strong advice", "weak advice")
    assert [len(split) for _, split in splits.named()] == [4307, 478, 1197]
    grouped = _load(path, group="pmid")
    assert not set(grouped.train.groups or ()) & set(grouped.test.groups or ())


def test_banking77(shared_data: Path) -> None:
    splits = _load(
        shared_data / "banking77_train.csv", test=str(shared_data / "banking77_test.csv")
    )
    assert len(splits.labels) == 77
    assert [len(split) for _, split in splits.named()] == [9003, 1000, 3080]


def test_movie_reviews(shared_data: Path) -> None:
    splits = _load(shared_data / "movie_reviews.jsonl.gz")
    assert splits.labels == ("negative", "positive")
    assert "cv000_29416" in {id_ for _, split in splits.named() for id_ in split.ids}


def test_a_budget_of_labels_is_nested_and_leaves_the_test_rows_alone(corpus: Path) -> None:
    whole = _load(corpus, seed=3)
    kept: set[str] = set()
    for budget in (4, 10, 40):
        splits = _load(corpus, seed=3, labels_per_class=budget)
        assert splits.test.ids == whole.test.ids
        targets = np.concatenate([splits.train.targets, splits.validation.targets])
        assert np.bincount(targets).tolist() == [budget] * 3
        labelled = {*splits.train.ids, *splits.validation.ids}
        assert kept < labelled < {*whole.train.ids, *whole.validation.ids}
        kept = labelled
    more = _load(corpus, seed=3, labels_per_class=1000)
    assert more.membership == whole.membership


def test_a_budget_is_full_once_repeats_are_dropped(tmp_path: Path) -> None:
    """Half of the rows of a label repeat one another or a test row."""
    rows = [(f"{label} says {i % 40}{'!' * (i // 40)}", label) for label in "ab" for i in range(80)]
    path = tmp_path / "corpus.csv"
    path.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows))
    config = DataConfig(source=str(path), labels_per_class=20)
    splits, found = audit(load_splits(config, 0))
    labelled = [*splits.train.targets, *splits.validation.targets]
    assert np.bincount(labelled).tolist() == [20, 20]
    assert found.dropped == {"train": 0, "validation": 0, "test": 0}
    kept, _ = audit(load_splits(replace(config, duplicates="keep"), 0), "keep")
    assert len(kept.train) + len(kept.validation) == 40


def test_the_split_has_a_seed_of_its_own(corpus: Path) -> None:
    """Another seed then draws other labels for a budget, and changes nothing else."""
    first, second = (_load(corpus, seed=seed, data_seed=7) for seed in (0, 1))
    assert first.membership == second.membership
    few = [_load(corpus, seed=seed, data_seed=7, labels_per_class=8) for seed in (0, 1)]
    assert few[0].test.ids == few[1].test.ids == first.test.ids
    assert set(few[0].train.ids) != set(few[1].train.ids)
    assert _load(corpus, seed=0).membership != _load(corpus, seed=1).membership


def test_a_budget_counts_rows_of_groups_too(corpus: Path) -> None:
    splits = _load(corpus, labels_per_class=20, group="author")
    targets = np.concatenate([splits.train.targets, splits.validation.targets])
    assert np.bincount(targets).tolist() == [20] * 3
    assert not set(splits.train.groups or ()) & set(splits.test.groups or ())
