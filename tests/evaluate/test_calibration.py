"""Temperature, thresholds, reliability and risk-coverage, against known generators and by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit, softmax
from sklearn.metrics import f1_score

from llmclf.evaluate.calibration import (
    Calibration,
    best_threshold,
    fit,
    reliability,
    risk_coverage,
    summary,
    tempered,
)
from llmclf.evaluate.predictions import Predictions
from llmclf.evaluate.scores import score


def single(logits: np.ndarray, targets: np.ndarray) -> Predictions:
    return Predictions(
        ids=[str(i) for i in range(len(targets))],
        labels=tuple("abcdefgh"[: logits.shape[1]]),
        targets=targets,
        probabilities=softmax(logits, axis=1),
        scored_by="softmax",
    )


def several(p: np.ndarray, targets: np.ndarray) -> Predictions:
    return Predictions(
        ids=[str(i) for i in range(len(targets))],
        labels=tuple("abcdefgh"[: p.shape[1]]),
        targets=targets.astype(np.float32),
        probabilities=p,
        scored_by="sigmoid",
        multilabel=True,
    )


def drawn(rows: int, true_temperature: float, seed: int = 0) -> Predictions:
    """Labels drawn from softmax(logits / T), so that T is the right temperature."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=3, size=(rows, 3))
    p = softmax(logits / true_temperature, axis=1)
    return single(logits, (rng.random((rows, 1)) > p.cumsum(axis=1)).sum(axis=1))


@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 2.5])
def test_the_right_temperature_is_found(true_temperature: float) -> None:
    assert fit(drawn(20_000, true_temperature)).temperature == pytest.approx(
        true_temperature, rel=0.05
    )


def test_the_right_temperature_is_found_for_several_labels() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=3, size=(20_000, 4))
    targets = rng.random(logits.shape) < expit(logits / 2)
    assert fit(several(expit(logits), targets)).temperature == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize("multilabel", [False, True])
def test_a_row_that_is_surely_wrong_does_not_decide_alone(multilabel: bool) -> None:
    """Nearest neighbours give 0 to labels that no neighbour has."""
    found = drawn(100, 1.0)
    if multilabel:
        rng = np.random.default_rng(0)
        p = expit(rng.normal(scale=2, size=(100, 3)))
        found = several(p, rng.random(p.shape) < p)
    p = found.probabilities.copy()
    row = 0 if multilabel else int(np.flatnonzero(found.predicted == found.targets)[0])
    if multilabel:
        p[row, 0] = 1.0 - found.targets[row, 0]
    else:
        p[row] = np.eye(3)[(found.targets[row] + 1) % 3]
    surely_wrong = replace(found, probabilities=p)
    fitted = fit(surely_wrong)
    assert 0.6 < fitted.temperature < 2.5
    before, after = summary(surely_wrong), summary(fitted.apply(surely_wrong))
    assert after["nll"] <= before["nll"]
    assert after["ece"] < before["ece"] + 0.05


def test_a_temperature_at_the_bound_of_its_search_is_said() -> None:
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(scale=200, size=(200, 3)), rng.integers(0, 3, 200)
    note = fit(single(logits.clip(-15, 15) * 2, targets)).note
    assert note is not None and "at the bound of its search, 20" in note


def test_other_rows_are_better_calibrated_by_it() -> None:
    fitted = fit(drawn(500, 2.5))
    test = drawn(5000, 2.5, seed=1)
    before, after = summary(test), summary(fitted.apply(test))
    assert all(after[name] < before[name] for name in ("nll", "brier", "ece"))
    assert after["ece"] < 0.03 < before["ece"]


@given(st.floats(0.1, 10), st.floats(0, 0.5), st.integers(0, 100))
@settings(max_examples=30, deadline=None)
def test_calibration_changes_no_decision_and_can_be_undone(
    temperature: float, smoothing: float, seed: int
) -> None:
    found = drawn(50, 1.0, seed)
    calibration = Calibration(temperature=temperature, smoothing=smoothing)
    applied = calibration.apply(found)
    assert (applied.predicted == found.predicted).all()
    if not smoothing or temperature > 0.5:  # what is sharpened and smoothed has lost its digits
        undone = calibration.undo(applied).probabilities
        np.testing.assert_allclose(undone, found.probabilities, atol=1e-6 if smoothing else 1e-9)


def neighbours(rows: int, chance: float, seed: int = 0) -> Predictions:
    """Shares of five votes, many of them 0, and labels of which so much a share is by chance."""
    rng = np.random.default_rng(seed)
    p = rng.multinomial(5, (0.7, 0.2, 0.1), rows) / 5
    p = np.take_along_axis(p, rng.permuted(np.tile(np.arange(3), (rows, 1)), axis=1), axis=1)
    mixed = (1 - chance) * p + chance / 3
    targets = (rng.random((rows, 1)) > mixed.cumsum(axis=1)).sum(axis=1).clip(0, 2)
    return replace(single(np.zeros((rows, 3)), targets), probabilities=p)


@pytest.mark.parametrize("chance", [0.0, 0.1, 0.3])
def test_the_right_share_of_chance_is_found(chance: float) -> None:
    fitted = fit(neighbours(5000, chance), smooth=True)
    assert fitted.smoothing == pytest.approx(chance, abs=0.03)
    assert fitted.temperature == pytest.approx(1, rel=0.1)
    alone = fit(neighbours(5000, chance))
    test = neighbours(2000, chance, seed=1)
    assert alone.smoothing == 0
    smooth, sharp = (summary(c.apply(test)) for c in (fitted, alone))
    if chance:
        assert smooth["nll"] < sharp["nll"] - 0.05 and smooth["ece"] < sharp["ece"]


def test_what_was_smoothed_can_be_told_again() -> None:
    """A report shows calibration before and after; both are of the predictions as calibrated."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        p = rng.dirichlet((0.5, 0.3, 0.2), 60)
        found = replace(drawn(60, 1.0, seed), probabilities=p)
        fitted = fit(found, smooth=True)
        undone = fitted.undo(fitted.apply(found))
        assert score(undone)["nll"] == pytest.approx(score(found)["nll"], abs=1e-3)


def test_smoothing_that_gains_next_to_nothing_is_left_out() -> None:
    found = [fit(drawn(200, 1.5, seed), smooth=True).smoothing for seed in range(40)]
    assert sum(share > 0 for share in found) <= 8  # of chance alone, one in six would gain enough


def test_a_temperature_on_probabilities_is_one_on_logits() -> None:
    logits = np.random.default_rng(0).normal(scale=4, size=(40, 3))
    found = single(logits, np.zeros(40, np.int64))
    np.testing.assert_allclose(tempered(found, 1.7), softmax(logits / 1.7, axis=1))


def test_a_certain_row_stays_certain() -> None:
    found = replace(drawn(30, 1.0), probabilities=np.eye(3)[np.arange(30) % 3])
    np.testing.assert_array_equal(tempered(found, 2.0), found.probabilities)
    assert np.isfinite(fit(found).temperature)  # rows that are surely wrong do not blow it up


def test_probabilities_a_rounding_above_1_are_1() -> None:
    found = several(np.array([[1.0 + 5e-7, 0.25]]), np.array([[1, 0]]))
    np.testing.assert_allclose(tempered(found, 2.0), [[1, expit(logit(0.25) / 2)]])


@pytest.mark.parametrize(
    ("validation", "note"),
    [
        (None, "0 validation rows; at least 20"),
        (drawn(19, 2.0), "19 validation rows; at least 20"),
        (single(np.tile([1.0, 2.0], (30, 1)), np.arange(30) % 2), "every row has the same"),
        (single(np.eye(3)[np.arange(30) % 3], np.arange(30) % 3), "every validation row is class"),
    ],
)
def test_what_cannot_be_fitted_is_left_alone_and_said(
    validation: Predictions | None, note: str
) -> None:
    found = fit(validation)
    assert found.temperature == 1 and found.thresholds is None
    assert found.note is not None and found.note.startswith(note)


def test_written_answers_have_no_temperature() -> None:
    answers = replace(
        drawn(40, 1.0), probabilities=np.full((40, 3), 1 / 3), invalid=np.ones(40, bool)
    )
    assert fit(answers).note == "written answers have no probabilities"


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_no_threshold_gives_a_higher_f1(seed: int) -> None:
    rng = np.random.default_rng(seed)
    targets = rng.random(60) < 0.3
    if targets.sum() < 5:
        return
    p = np.round(expit(rng.normal(size=60) + targets), 1)  # rounded: with ties
    chosen = f1_score(targets, p >= best_threshold(p, targets))
    for threshold in np.unique(p):
        assert chosen >= f1_score(targets, p >= threshold) - 1e-12


def test_a_label_with_few_rows_keeps_one_half() -> None:
    assert best_threshold(np.array([0.1, 0.9, 0.2]), np.array([1, 0, 0])) == 0.5


def test_thresholds_decide_and_survive_the_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    targets = rng.random((400, 3)) < [0.5, 0.2, 0.1]
    p = expit(rng.normal(size=(400, 3)) + 2 * targets - 2.5)  # too low throughout
    fitted = fit(several(p, targets))
    assert fitted.thresholds is not None and len(fitted.thresholds) == 3
    before, after = several(p, targets), fitted.apply(several(p, targets))
    assert score(after)["macro_f1"] > score(before)["macro_f1"] + 0.1
    after.write(tmp_path / "test.parquet")
    again = Predictions.read(tmp_path / "test.parquet")
    assert again.thresholds == after.thresholds and (again.predicted == after.predicted).all()
    labels = before.labels
    assert Calibration.from_json(fitted.to_json(labels), labels) == fitted


@pytest.mark.parametrize("thresholds", [(0.5,), (0.5, 0.0), (0.5, 1.5)])
def test_wrong_thresholds_are_refused(thresholds: tuple[float, ...]) -> None:
    good = several(np.full((4, 2), 0.5), np.zeros((4, 2)))
    with pytest.raises(ValueError, match="thresholds"):
        replace(good, thresholds=thresholds)
    with pytest.raises(ValueError, match="thresholds are for multilabel"):
        replace(drawn(4, 1.0), thresholds=(0.5, 0.5, 0.5))


def test_reliability_sums_to_the_calibration_error() -> None:
    found = drawn(700, 2.0)
    bins = reliability(found)
    assert sum(b.count for b in bins) == 700
    gaps = sum(b.count * abs(b.accuracy - b.confidence) for b in bins) / 700
    assert gaps == pytest.approx(score(found)["ece"])
    assert all(b.low < b.confidence <= b.high + 1e-12 for b in bins)


def test_coverage_by_hand() -> None:
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.8, 0.2], [0.4, 0.6]])
    found = Predictions(
        ids=list("wxyz"),
        labels=("a", "b"),
        targets=np.array([0, 0, 1, 0]),
        probabilities=p,
        scored_by="softmax",
    )
    coverage = risk_coverage(found)
    np.testing.assert_allclose(coverage.share, [0.25, 0.75, 1.0])
    np.testing.assert_allclose(coverage.accuracy, [1, 2 / 3, 0.5])
    np.testing.assert_allclose(coverage.confidence, [0.9, 0.8, 0.6])
    assert coverage.area == pytest.approx((0 + 2 * 1 / 3 + 0.5) / 4)


def test_the_surest_rows_of_several_labels_are_far_from_their_thresholds() -> None:
    p = np.array([[0.95, 0.05], [0.55, 0.05], [0.95, 0.45]])
    found = several(p, np.array([[1, 0], [0, 0], [1, 1]]))
    coverage = risk_coverage(found)
    np.testing.assert_allclose(coverage.accuracy, [1, 0.5, 1 / 3])
    assert coverage.confidence[0] == pytest.approx(0.9)
