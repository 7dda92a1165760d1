"""Scores against scikit-learn's, against figures worked out by hand, and at their limits."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from llmclf.config import dump_json
from llmclf.evaluate.predictions import Predictions
from llmclf.evaluate.scores import score


def predictions(
    targets: Any, probabilities: Any, multilabel: bool = False, invalid: Any = None
) -> Predictions:
    probabilities = np.array(probabilities, dtype=np.float64)
    return Predictions(
        ids=[str(i) for i in range(len(probabilities))],
        labels=tuple(f"label {i}" for i in range(probabilities.shape[1])),
        targets=np.array(targets),
        probabilities=probabilities,
        scored_by="softmax",
        multilabel=multilabel,
        invalid=invalid,
    )


def drawn(seed: int, rows: int, labels: int) -> Predictions:
    random = np.random.default_rng(seed)
    p = random.dirichlet(np.full(labels, 0.3), size=rows)
    # Better than chance, and the last label rarely true.
    targets = np.where(random.random(rows) < 0.6, p.argmax(axis=1), 0)
    return predictions(targets, p)


@pytest.mark.filterwarnings("ignore:A single label was found")
@pytest.mark.parametrize("labels", [2, 3, 8])
@pytest.mark.parametrize("rows", [1, 5, 400])
def test_single_label_scores_equal_scikit_learn(rows: int, labels: int) -> None:
    given = drawn(seed=rows + labels, rows=rows, labels=labels)
    true, guess, p = given.targets, given.predicted, given.probabilities
    every = np.arange(labels)
    options = {"labels": every, "zero_division": 0.0}
    found = score(given)
    expected = {
        "n": rows,
        "accuracy": metrics.accuracy_score(true, guess),
        "macro_f1": metrics.f1_score(true, guess, average="macro", **options),
        "weighted_f1": metrics.f1_score(true, guess, average="weighted", **options),
        "mcc": metrics.matthews_corrcoef(true, guess),
        "nll": metrics.log_loss(true, p, labels=every),
        "brier": ((p - np.eye(labels)[true]) ** 2).sum() / rows,
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-12)
    matrix = metrics.confusion_matrix(true, guess, labels=every)
    assert found["confusion"] == matrix.tolist()
    rates = metrics.precision_recall_fscore_support(true, guess, **options)
    for label, precision, recall, f1, support in zip(given.labels, *rates, strict=True):
        expected = {"precision": precision, "recall": recall, "f1": f1, "support": support}
        assert found["per_label"][label] == pytest.approx(expected)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_invalid_rows_count_as_wrong_as_in_scikit_learn(share: float) -> None:
    given, invalid = drawn(seed=4, rows=300, labels=3), np.arange(300) % 10 < 10 * share
    p = np.where(invalid[:, None], 1 / 3, given.probabilities)
    found = score(predictions(given.targets, p, invalid=invalid))
    # To scikit-learn an invalid answer is a fourth label that is never true.
    true, guess = given.targets, np.where(invalid, 3, given.predicted)
    options: dict[str, Any] = {"labels": range(3), "zero_division": 0.0}
    expected = {
        "accuracy": metrics.accuracy_score(true, guess),
        "macro_f1": metrics.f1_score(true, guess, average="macro", **options),
        "weighted_f1": metrics.f1_score(true, guess, average="weighted", **options),
        "mcc": metrics.matthews_corrcoef(true, guess),
        "nll": metrics.log_loss(true, p, labels=range(3)),
        "invalid": invalid.sum(),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-12)
    assert found["confusion"] == metrics.confusion_matrix(true, guess, labels=range(3)).tolist()
    rates = metrics.precision_recall_fscore_support(true, guess, **options)
    for row, values in zip(found["per_label"].values(), zip(*rates, strict=True), strict=True):
        assert list(row.values()) == pytest.approx(values)


def test_number_of_invalid_rows_is_there_only_when_they_are_known() -> None:
    assert "invalid" not in score(drawn(seed=0, rows=10, labels=2))


def test_multilabel_scores_equal_scikit_learn() -> None:
    random = np.random.default_rng(0)
    p = random.random((300, 4))
    true = (random.random((300, 4)) < p * [1, 0.8, 0.5, 0]).astype(np.float32)
    given = predictions(true, p, multilabel=True)
    guess, found = given.predicted, score(given)
    columns = range(4)
    expected = {
        "accuracy": metrics.accuracy_score(true, guess),
        "macro_f1": metrics.f1_score(true, guess, average="macro", zero_division=0.0),
        "weighted_f1": metrics.f1_score(true, guess, average="weighted", zero_division=0.0),
        "mcc": np.mean([metrics.matthews_corrcoef(true[:, i], guess[:, i]) for i in columns]),
        "nll": np.mean([metrics.log_loss(true[:, i], p[:, i], labels=[0, 1]) for i in columns]),
        "brier": np.sum([metrics.mean_squared_error(true[:, i], p[:, i]) for i in columns]),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-7)
    matrices = metrics.multilabel_confusion_matrix(true, guess)
    assert found["confusion"] == matrices.tolist()
    assert found["per_label"]["label 3"]["support"] == 0


def test_binary_brier_is_twice_the_halved_form() -> None:
    given = drawn(seed=1, rows=50, labels=2)
    halved = metrics.brier_score_loss(given.targets, given.probabilities[:, 1])
    assert score(given)["brier"] == pytest.approx(2 * halved)


def test_ece_by_hand() -> None:
    # Bin (9/15, 10/15] holds 0.62 and 0.66 with one hit, bin (13/15, 14/15] holds 0.9, missed.
    p = [[0.62, 0.38], [0.34, 0.66], [0.9, 0.1]]
    assert score(predictions([0, 0, 1], p))["ece"] == pytest.approx((abs(1 - 1.28) + 0.9) / 3)


def test_ece_bins_hold_their_upper_edge() -> None:
    # 10/15 belongs with 0.65: their errors cancel out to |1 - 10/15 - 0.65|, not in two bins.
    top = [10 / 15, 0.65]
    p = [[value, 1 - value] for value in top]
    assert score(predictions([0, 1], p))["ece"] == pytest.approx(abs(1 - sum(top)) / 2)


def test_ece_equals_a_loop_over_bins() -> None:
    given = drawn(seed=2, rows=500, labels=4)
    top, hit = given.probabilities.max(axis=1), given.predicted == given.targets
    expected = 0.0
    for i in range(15):
        inside = (top > i / 15) & (top <= (i + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(hit[inside].mean() - top[inside].mean())
    assert score(given)["ece"] == pytest.approx(expected)


def test_multilabel_ece_takes_each_label_as_a_decision() -> None:
    # Confidences 0.9 (a hit) and 0.8 (a no, wrong).
    given = predictions([[1.0, 1.0]], [[0.9, 0.2]], multilabel=True)
    assert score(given)["ece"] == pytest.approx((0.1 + 0.8) / 2)


def test_certain_and_wrong_is_clipped() -> None:
    found = score(predictions([0, 1], [[0, 1], [0, 1]]))
    assert found["nll"] == pytest.approx(-np.log(np.finfo(float).eps) / 2)
    assert found["brier"] == 1


@pytest.mark.parametrize(
    "given",
    [
        predictions([0], [[1.0, 0.0]]),
        predictions([1, 1], [[1.0, 0.0], [1.0, 0.0]]),
        predictions([[0.0, 0.0]], [[0.0, 0.0]], multilabel=True),
        predictions([[1.0], [0.0]], [[0.5], [0.5]], multilabel=True),
    ],
)
def test_no_score_is_ever_nan(given: Predictions) -> None:
    dump_json(score(given))  # refuses NaN and infinity


def test_perfect_predictions() -> None:
    found = score(predictions([0, 1, 2], np.eye(3)))
    best = {
        "accuracy": 1,
        "macro_f1": 1,
        "macro_f1_present": 1,
        "weighted_f1": 1,
        "mcc": 1,
        "nll": 0,
        "brier": 0,
    }
    assert {name: found[name] for name in best} == best
    assert found["ece"] == 0


def test_absent_label_counts_as_0_in_macro_f1() -> None:
    p = np.eye(3)[[0, 1, 0]]
    found = score(predictions([0, 1, 0], p))
    assert found["macro_f1"] == pytest.approx(2 / 3)
    assert found["macro_f1_present"] == 1.0


@pytest.mark.parametrize("given", [[0, 1, 0], [0, 3, 0], [2, 2, 2]])
def test_present_labels_are_those_of_scikit_learn(given: list[int]) -> None:
    """Of four labels, some have no row; one that is given all the same counts 0 in both."""
    found = score(predictions([0, 1, 0], np.eye(4)[given]))["macro_f1_present"]
    expected = metrics.f1_score([0, 1, 0], given, average="macro", zero_division=0.0)
    assert found == pytest.approx(expected)


def test_order_of_rows_and_labels_does_not_matter() -> None:
    given = drawn(seed=3, rows=100, labels=5)
    rows, columns = np.random.default_rng(0).permutation(100), np.array([3, 0, 4, 1, 2])
    turned = Predictions(
        ids=[given.ids[i] for i in rows],
        labels=tuple(given.labels[i] for i in columns),
        targets=np.argsort(columns)[given.targets[rows]],
        probabilities=given.probabilities[np.ix_(rows, columns)],
        scored_by=given.scored_by,
    )
    before, after = score(given), score(turned)
    assert after["per_label"] == before["per_label"]
    for name in ("accuracy", "macro_f1", "macro_f1_present", "mcc", "nll", "brier", "ece"):
        assert after[name] == pytest.approx(before[name])


def test_evaluation_needs_no_torch() -> None:
    code = "import llmclf.evaluate.scores, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
