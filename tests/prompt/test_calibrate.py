"""Calibration: the papers' formulas worked by hand, and what each must not depend on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from llmclf.prompt.calibrate import CONTENT_FREE, KINDS, Likelihoods, mass, probabilities

ROWS = np.log([[0.5, 0.2], [0.1, 0.3]])
TOKENS = np.array([[1, 2], [1, 2]])


def found(rows_NC: np.ndarray = ROWS, **changes: np.ndarray) -> Likelihoods:
    values = {
        "rows_NC": rows_NC,
        "tokens_NC": TOKENS,
        "premise_C": np.log([0.4, 0.1]),
        "content_free_KC": np.log([[0.06, 0.02], [0.1, 0.1], [0.3, 0.2]]),
        "reference_MC": np.log([[0.2, 0.2], [0.09, 0.01]]),
    }
    return Likelihoods(**{**values, **changes})


def normalised(p: list[list[float]]) -> np.ndarray:
    return np.array(p) / np.sum(p, axis=1, keepdims=True)


BY_HAND = {
    "none": normalised([[0.5, 0.2], [0.1, 0.3]]),
    # exp(log p / tokens): the second answer has two tokens.
    "mean": normalised([[0.5, 0.2**0.5], [0.1, 0.3**0.5]]),
    # Holtzman et al. 2021: p(answer | prompt) / p(answer | premise).
    "pmi": normalised([[0.5 / 0.4, 0.2 / 0.1], [0.1 / 0.4, 0.3 / 0.1]]),
    # Zhao et al. 2021: each content-free answer distribution normalised, their mean (.75 + .5 + .6)
    # / 3, W = diag(mean)^-1, W p normalised.
    "contextual": normalised(
        [[0.5 / (1.85 / 3), 0.2 / (1.15 / 3)], [0.1 / (1.85 / 3), 0.3 / (1.15 / 3)]]
    ),
    # Zhou et al. 2023: the same, with the mean over rows: (.5 + .9) / 2.
    "batch": normalised([[0.5 / 0.7, 0.2 / 0.3], [0.1 / 0.7, 0.3 / 0.3]]),
}


def test_every_kind_is_worked_out_here() -> None:
    assert set(BY_HAND) == set(KINDS)
    assert CONTENT_FREE == ("N/A", "[MASK]", "")


@pytest.mark.parametrize("kind", KINDS)
def test_by_hand(kind: str) -> None:
    np.testing.assert_allclose(probabilities(kind, found()), BY_HAND[kind], rtol=1e-12)


def test_contextual_is_the_matrix_of_the_paper() -> None:
    cf = np.exp(found().content_free_KC)
    mean_C = (cf / cf.sum(axis=1, keepdims=True)).mean(axis=0)
    for row, p in zip(np.exp(ROWS), probabilities("contextual", found()), strict=True):
        q = np.linalg.inv(np.diag(mean_C)) @ (row / row.sum())
        np.testing.assert_allclose(p, q / q.sum())


LOGS = st.floats(-60, 0)


def cases(rows: int) -> st.SearchStrategy[np.ndarray]:
    return arrays(np.float64, (rows, 3), elements=LOGS)


@given(rows_NC=cases(4), free_KC=cases(3), seen_MC=cases(5), premise=cases(1), each=cases(1))
def test_probabilities_whatever_comes(
    rows_NC: np.ndarray,
    free_KC: np.ndarray,
    seen_MC: np.ndarray,
    premise: np.ndarray,
    each: np.ndarray,
) -> None:
    likelihoods = found(
        rows_NC,
        tokens_NC=np.array([[1, 2, 3]] * 4),
        premise_C=premise[0],
        content_free_KC=free_KC,
        reference_MC=seen_MC,
    )
    for kind in KINDS:
        p = probabilities(kind, likelihoods)
        assert p.shape == (4, 3) and p.dtype == np.float64 and np.isfinite(p).all()
        np.testing.assert_allclose(p.sum(axis=1), 1)
        if kind != "mean":  # there a constant weighs less where the answer is longer
            shifted = found(
                rows_NC + each[0, 0] * np.arange(4)[:, None],
                tokens_NC=likelihoods.tokens_NC,
                premise_C=premise[0] + each[0, 1],
                content_free_KC=free_KC + each[0, 2] * np.arange(3)[:, None],
                reference_MC=seen_MC + each[0, 0] * np.arange(5)[:, None],
            )
            np.testing.assert_allclose(probabilities(kind, shifted), p, atol=1e-9)


@pytest.mark.parametrize("kind", ["pmi", "contextual", "batch"])
def test_a_preference_for_a_label_is_taken_out(kind: str) -> None:
    """Exactly, where the rows that it is measured on are alike; else the mean comes between."""
    bias = np.array([3.0, -2.0])
    seen = np.log([[0.3, 0.7], [0.3, 0.7]])
    plain = found(content_free_KC=seen, reference_MC=seen)
    biased = found(
        ROWS + bias,
        premise_C=plain.premise_C + bias,
        content_free_KC=seen + bias,
        reference_MC=seen + bias,
    )
    np.testing.assert_allclose(probabilities(kind, biased), probabilities(kind, plain))
    assert not np.allclose(probabilities("none", biased), probabilities("none", plain))
    # What the rows prefer as a whole is what is taken out.
    even = probabilities(kind, found(seen[:1], tokens_NC=TOKENS[:1], premise_C=seen[0],
                                     content_free_KC=seen, reference_MC=seen))  # fmt: skip
    np.testing.assert_allclose(even, [[0.5, 0.5]])


@pytest.mark.parametrize("kind", KINDS)
def test_very_unlikely_answers_still_count(kind: str) -> None:
    low = found(ROWS - 5000.0, premise_C=found().premise_C - 900, tokens_NC=np.ones((2, 2)))
    p = probabilities(kind, low)
    assert np.isfinite(p).all() and (p > 0).all()


@given(cases(5))
def test_mass(rows_NC: np.ndarray) -> None:
    rows_NC = rows_NC - np.log(3)  # three answers that do not overlap
    found = mass(rows_NC)
    assert ((found > 0) & (found <= 1 + 1e-12)).all()
    np.testing.assert_allclose(found, np.exp(rows_NC).sum(axis=1))


def test_mass_by_hand() -> None:
    np.testing.assert_allclose(mass(ROWS), [0.7, 0.4])
