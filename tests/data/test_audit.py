"""The audit finds what was planted, drops what leaks, and says so."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from llmclf.config import DataError
from llmclf.data.audit import Audit, audit
from llmclf.data.config import DataConfig
from llmclf.data.corpus import Split, Splits, load_splits

LONG = "the patients who were given the new treatment for {} recovered sooner than all the others"


def _split(name: str, rows: list[tuple[str, int]], pairs: list[str] | None = None) -> Split:
    return Split(
        ids=[f"{name}{i}" for i in range(len(rows))],
        texts=[text for text, _ in rows],
        pairs=pairs,
        targets=np.array([target for _, target in rows], np.int64),
        groups=None,
    )


def _filler(name: str, count: int) -> list[tuple[str, int]]:
    """Texts that share no shingles to speak of."""
    rng = np.random.default_rng([*name.encode()])
    words = ["".join(map(chr, rng.integers(97, 123, 6))) for _ in range(count * 6)]
    return [(" ".join(words[6 * i : 6 * i + 6]), i % 2) for i in range(count)]


@pytest.fixture
def planted() -> Splits:
    """Counts in the tests below follow from these lines."""
    train = [
        *_filler("train", 40),
        ("Seen in the test rows.", 0),
        ("SEEN, in the  test rows", 0),
        ("Seen in validation", 1),
        ("twice in train", 0),
        ("twice in train", 1),
        (LONG.format("sleep"), 0),
        ("a text with a hidden\u200b mark", 0),
    ]
    validation = [*_filler("valid", 6), ("seen in validation!", 1), ("In validation and test", 0)]
    test = [
        *_filler("test", 8),
        ("Seen in the test rows.", 0),
        ("in validation and test", 0),
        (LONG.format("sleeps"), 1),
    ]
    return Splits(
        train=_split("train", train),
        validation=_split("validation", validation),
        test=_split("test", test),
        labels=("no", "yes"),
        multilabel=False,
        empty_rows=("a.csv row 7",),
    )


def _text(found: Audit) -> str:
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(found.table())
    return console.export_text()


def test_repeats_across_splits_are_counted_by_kind(planted: Splits) -> None:
    _, found = audit(planted, "keep")
    counts = {pair: [k["rows"] for k in kinds.values()] for pair, kinds in found.across.items()}
    assert counts == {
        "train/validation": [0, 1, 0],
        "train/test": [1, 1, 1],
        "validation/test": [0, 1, 0],
    }
    assert found.across["train/test"]["exact"]["examples"] == [["train40", "test8"]]
    near = found.across["train/test"]["near"]["examples"][0]
    assert near[:2] == ["train45", "test10"]
    assert 0.8 <= near[2] < 1


def test_repeats_within_a_split(planted: Splits) -> None:
    _, found = audit(planted, "keep")
    assert found.within["train"] == {"exact": 1, "normalised": 2, "near": 0}
    assert found.within["test"] == {"exact": 0, "normalised": 0, "near": 0}


def test_rows_that_leak_are_dropped_and_counted(planted: Splits) -> None:
    cleaned, found = audit(planted, "drop")
    assert found.dropped == {"train": 3, "validation": 1, "test": 0}
    assert found.rows == {"train": 44, "validation": 7, "test": 11}
    assert not {"train40", "train41", "train42"} & set(cleaned.train.ids)
    assert "validation7" not in cleaned.validation.ids
    assert found.leaked == {"validation": 0, "test": 0}
    assert audit(cleaned, "refuse")[0].membership == cleaned.membership != planted.membership


def test_kept_leaks_are_told_loudly(planted: Splits) -> None:
    kept, found = audit(planted, "keep")
    assert kept.membership == planted.membership
    assert found.leaked == {"validation": 1, "test": 2}
    assert "LEAK test rows that train or validation has, too: 2 (18.2%)" in _text(found)


def test_other_findings(planted: Splits) -> None:
    _, found = audit(planted, "drop")
    assert found.conflicts == {"texts": 1, "rows": 2, "examples": [["train43", "train44"]]}
    assert found.empty == {"rows": 1, "names": ["a.csv row 7"]}
    assert found.odd_characters == {"rows": 1, "ids": ["train46"]}
    assert found.classes["yes"] == {"train": 21, "validation": 4, "test": 5}


def test_a_label_that_every_training_row_has_is_named(planted: Splits) -> None:
    """scikit-learn would say: Label 0 is present in all training examples."""
    several = {
        name: replace(of, targets=np.stack([np.ones(len(of)), of.targets], axis=1))
        for name, of in planted.named()
    }
    _, found = audit(replace(planted, multilabel=True, **several))
    assert "labels that every train row has, so they are given always: 'no'" in _text(found)
    assert "every train row" not in _text(audit(planted)[1])


def test_classes_absent_or_small(planted: Splits) -> None:
    validation = planted.validation.take(np.flatnonzero(planted.validation.targets == 0))
    rows = [*np.flatnonzero(planted.train.targets == 0), 1, 3, 5]
    few = replace(planted, validation=validation, train=planted.train.take(rows))
    _, found = audit(few, "drop")
    assert found.absent == {"train": [], "validation": ["yes"], "test": []}
    assert found.small == {"yes": 3}
    assert "classes without a validation row: 'yes'" in _text(found)


def test_a_class_that_only_leaks_is_an_error(planted: Splits) -> None:
    train = [*[(text, 0) for text, _ in _filler("train", 9)], ("Seen in the test rows.", 1)]
    with pytest.raises(DataError, match=r"labels without a training row.*'yes'"):
        audit(replace(planted, train=_split("train", train)), "drop")


def test_text_and_pair_are_compared_together() -> None:
    texts = _filler("pair", 20)
    train = _split("train", texts, pairs=[f"answer {i}" for i in range(20)])
    other = _split("test", texts[:3], pairs=["answer 0", "Answer 1!", "answer 7"])
    splits = Splits(train, other.take([]), other, ("no", "yes"), False)
    _, found = audit(splits, "drop")
    assert found.dropped["train"] == 2


def test_multilabel_conflicts_and_counts() -> None:
    train = _split("train", [*_filler("train", 20), ("same", 0), ("Same.", 1), ("same", 0)])
    sets = np.eye(2, dtype=np.float32)[train.targets]
    sets[0] = 1
    train = replace(train, targets=sets)
    test = _split("test", _filler("test", 4))
    test = replace(test, targets=np.zeros((4, 2), np.float32))
    _, found = audit(Splits(train, test.take([]), test, ("no", "yes"), True), "drop")
    assert found.conflicts["texts"] == 1
    assert found.classes == {
        "no": {"train": 12, "validation": 0, "test": 0},
        "yes": {"train": 12, "validation": 0, "test": 0},
    }


def test_groups_in_two_given_splits(planted: Splits) -> None:
    test = replace(planted.test, groups=["g1"] * len(planted.test))
    train = replace(planted.train, groups=["g1"] * len(planted.train))
    _, found = audit(replace(planted, train=train, test=test), "drop")
    assert found.shared_groups == {"train/validation": 0, "train/test": 1, "validation/test": 0}


def test_the_audit_is_plain_json_and_a_table(planted: Splits) -> None:
    _, found = audit(planted, "drop")
    assert json.loads(json.dumps(found.to_json(), allow_nan=False)) == found.to_json()
    shown = _text(found)
    for part in ("train", "44", "no", "also in train", "a.csv row 7"):
        assert part in shown


def test_the_table_is_safe_against_markup_in_labels(planted: Splits) -> None:
    _, found = audit(replace(planted, labels=("[red]no", "[/]yes")), "drop")
    assert "[red]no" in _text(found)


def test_banking77_as_published_has_leaks(shared_data: object) -> None:
    folder = f"{shared_data}/banking77_"
    config = DataConfig(source=f"{folder}train.csv", test=f"{folder}test.csv")
    cleaned, found = audit(load_splits(config, seed=0), "drop")
    assert found.across["train/test"]["exact"]["rows"] == 5
    assert found.dropped == {"train": 27, "validation": 2, "test": 0}
    assert len(cleaned.test) == 3080
