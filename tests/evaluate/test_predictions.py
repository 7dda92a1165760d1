"""Predictions: what is refused, how rows are decided, and what a file gives back."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmclf.config import DataError
from llmclf.evaluate.predictions import Predictions

# Out of alphabetical order, and with all that could upset a column name.
LABELS = ("weak", "", "label", "p_id", 'a|b "c", d\n', "日本 🙂")


def single(**changes: Any) -> Predictions:
    random = np.random.default_rng(0)
    values: dict[str, Any] = {
        "ids": [f"row {i}" for i in range(20)],
        "labels": LABELS,
        "targets": random.integers(len(LABELS), size=20),
        "probabilities": random.dirichlet(np.ones(len(LABELS)), size=20),
        "scored_by": "softmax",
    }
    return Predictions(**{**values, **changes})


def several(**changes: Any) -> Predictions:
    values: dict[str, Any] = {
        "ids": ["a", "b", "c"],
        "labels": ("x", "y"),
        "targets": np.array([[0, 0], [1, 0], [1, 1]], dtype=np.float32),
        "probabilities": np.array([[0.5, 0.4999], [0.0, 1.0], [0.9, 0.8]]),
        "scored_by": "sigmoid",
        "multilabel": True,
    }
    return Predictions(**{**values, **changes})


def unanswered(**changes: Any) -> Predictions:
    """Rows 3 and 5 are invalid."""
    given = single()
    p = given.probabilities.copy()
    p[[3, 5]] = 1 / len(LABELS)
    invalid = np.isin(np.arange(20), (3, 5))
    return single(**{"probabilities": p, "invalid": invalid, **changes})


@pytest.mark.parametrize(
    "written",
    [single(), several(), unanswered()],
    ids=["single-label", "multilabel", "with invalid rows"],
)
def test_file_gives_back_what_was_written(written: Predictions, tmp_path: Path) -> None:
    written.write(tmp_path / "new" / "test.parquet")
    read = Predictions.read(tmp_path / "new" / "test.parquet")
    for field in dataclasses.fields(Predictions):
        before, after = getattr(written, field.name), getattr(read, field.name)
        if isinstance(before, np.ndarray):
            np.testing.assert_array_equal(before, after, strict=True)
        else:
            assert before == after
    assert [f.name for f in (tmp_path / "new").iterdir()] == ["test.parquet"]


def test_file_has_the_columns_of_the_contract(tmp_path: Path) -> None:
    several().write(tmp_path / "p.parquet")
    table = pq.read_table(tmp_path / "p.parquet")
    assert table.to_pylist()[2] == {
        "id": "c",
        "label": ["x", "y"],
        "p_x": 0.9,
        "p_y": 0.8,
        "scored_by": "sigmoid",
    }
    assert table.schema.field("label").type == pa.list_(pa.string())


def test_invalid_column_is_there_only_when_given(tmp_path: Path) -> None:
    single().write(tmp_path / "without.parquet")
    unanswered().write(tmp_path / "with.parquet")
    assert "invalid" not in pq.read_schema(tmp_path / "without.parquet").names
    assert pq.read_table(tmp_path / "with.parquet")["invalid"].to_pylist().count(True) == 2


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    several().write(path)
    before = path.read_bytes()
    with pytest.raises(UnicodeEncodeError):
        several(ids=["a", "b", "\ud800"]).write(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_rows_and_labels_can_be_put_in_another_order() -> None:
    given = several(thresholds=(0.4, 0.7))
    turned = given.take([2, 0, 1]).with_labels(("y", "x"))
    assert (turned.ids, turned.labels, turned.thresholds) == (
        ["c", "a", "b"],
        ("y", "x"),
        (0.7, 0.4),
    )
    np.testing.assert_array_equal(turned.predicted, given.predicted[[2, 0, 1]][:, [1, 0]])
    np.testing.assert_array_equal(turned.targets, given.targets[[2, 0, 1]][:, [1, 0]])
    kept = unanswered().take([5, 0])
    assert kept.invalid is not None and kept.invalid.tolist() == [True, False]
    one = single()
    names = [one.labels[i] for i in one.targets]
    other = one.with_labels(sorted(LABELS))
    assert [other.labels[i] for i in other.targets] == names
    assert [other.labels[i] for i in other.predicted] == [LABELS[i] for i in one.predicted]
    with pytest.raises(ValueError, match="labels"):
        one.with_labels(LABELS[1:])


def test_decision_is_the_likeliest_label_and_the_first_on_a_tie() -> None:
    p = np.array([[0.2, 0.4, 0.4], [0.1, 0.2, 0.7]])
    found = single(
        ids=["a", "b"], labels=("x", "y", "z"), targets=np.array([0, 0]), probabilities=p
    )
    assert found.predicted.tolist() == [1, 2]


def test_invalid_row_has_no_decision() -> None:
    found = unanswered().predicted
    assert np.flatnonzero(found == -1).tolist() == [3, 5]
    valid = np.delete(np.arange(20), [3, 5])
    np.testing.assert_array_equal(found[valid], single().predicted[valid])


def test_multilabel_decision_includes_one_half() -> None:
    assert several().predicted.tolist() == [[1, 0], [0, 1], [1, 1]]


EVEN = np.full((20, len(LABELS)), 1 / len(LABELS))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"ids": ["same"] * 20}, "id occurs twice"),
        ({"ids": []}, "no rows"),
        ({"labels": ("x",) * 6}, "label occurs twice"),
        ({"labels": ("x", "y")}, r"\(20, 6\), expected \(20, 2\)"),
        ({"targets": np.zeros(19, dtype=int)}, r"\(19,\), expected \(20,\)"),
        ({"targets": np.full(20, 6)}, "no index"),
        ({"targets": np.full(20, -1)}, "no index"),
        ({"targets": np.zeros(20)}, "no index"),
        ({"probabilities": EVEN.astype(np.float32)}, "float64"),
        ({"probabilities": EVEN * np.nan}, "between 0 and 1"),
        ({"probabilities": EVEN + np.inf}, "between 0 and 1"),
        ({"probabilities": EVEN - [0.5, -0.5, 0, 0, 0, 0]}, "between 0 and 1"),
        ({"probabilities": EVEN * (1 + 1e-5)}, "sum is not 1"),
        ({"invalid": np.ones(20, dtype=bool)}, "not uniform"),
        ({"invalid": np.zeros(19, dtype=bool)}, r"bool \(19,\), expected bool \(20,\)"),
        ({"invalid": np.zeros(20, dtype=int)}, "int64"),
    ],
)
def test_what_disagrees_is_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        single(**changes)


def test_multilabel_has_no_invalid_rows() -> None:
    with pytest.raises(ValueError, match="not for multilabel"):
        several(invalid=np.zeros(3, dtype=bool))


def test_sum_may_be_off_by_rounding() -> None:
    assert len(single(probabilities=EVEN * (1 + 9e-7)).ids) == 20


def test_multilabel_targets_are_0_or_1() -> None:
    with pytest.raises(ValueError, match="neither 0 nor 1"):
        several(targets=np.full((3, 2), 0.5, dtype=np.float32))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda t: t.drop_columns(["scored_by"]), "no column scored_by"),
        (lambda t: t.drop_columns(["label", "id"]), "no column id, label"),
        (lambda t: t.drop_columns(["p_x"]), "no column for label 'x'"),
        (lambda t: t.slice(0, 0), "scored_by holds 0 values"),
        (lambda t: pa.concat_tables([t, t]), "id occurs twice"),
        (lambda t: t.set_column(2, "p_x", [[None, 0.1, 0.2]]), "between 0 and 1"),
        (lambda t: t.set_column(4, "scored_by", [["a", "b", "a"]]), "scored_by holds 2 values"),
        (lambda t: t.append_column("invalid", [[0, 0, 1]]), "invalid: int64, expected bool"),
    ],
)
def test_file_of_another_kind_is_named(change: Any, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "test.parquet"
    several().write(path)
    pq.write_table(change(pq.read_table(path)), path)
    with pytest.raises(DataError, match=rf"test\.parquet: not a file of predictions.*{problem}"):
        Predictions.read(path)


@pytest.mark.parametrize("content", [b"", b"id,label\n1,x\n", b"PAR1 cut short"])
def test_damaged_file_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "test.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"test\.parquet"):
        Predictions.read(tmp_path / "test.parquet")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.parquet"):
        Predictions.read(tmp_path / "absent.parquet")
