"""Error analysis: by hand, against cleanlab, with planted label noise, and for any order of rows.

The vectors of cleanlab were computed with version 2.9.0 by ``reference`` below, which checks them
again where it is installed. It is no dependency.
"""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from llmclf.config import DataError
from llmclf.evaluate.errors import (
    ConfidentError,
    ConfusionDifference,
    confident_errors,
    confusion_differences,
    length_buckets,
    seen_rows,
    suspect_labels,
)
from llmclf.evaluate.predictions import Predictions

ALL = 10**9


def predictions(
    targets: Any, probabilities: Any, *, multilabel: bool = False, invalid: Any = None, **more: Any
) -> Predictions:
    p = np.array(probabilities, dtype=np.float64)
    return Predictions(
        ids=[f"r{i:07}" for i in range(len(p))],
        labels=tuple("abcdefghijklmnopqrstuvwxyz"[: p.shape[1]]),
        targets=np.array(targets, dtype=np.float32 if multilabel else np.int64),
        probabilities=p,
        scored_by="softmax",
        multilabel=multilabel,
        invalid=None if invalid is None else np.array(invalid),
        **more,
    )


def drawn(seed: int, rows: int, labels: int, noise: float) -> Predictions:
    """A method better than chance, on labels of which a share is replaced by others."""
    random = np.random.default_rng(seed)
    p = random.dirichlet(np.full(labels, 0.4), size=rows)
    targets = (p.cumsum(axis=1) > random.random((rows, 1))).argmax(axis=1)
    flipped = random.random(rows) < noise
    return predictions(np.where(flipped, random.integers(0, labels, rows), targets), p)


def drawn_multilabel(seed: int, rows: int, labels: int) -> Predictions:
    random = np.random.default_rng(seed)
    p = random.beta(0.5, 0.5, size=(rows, labels))
    targets = (random.random((rows, labels)) < p) ^ (random.random((rows, labels)) < 0.1)
    return predictions(targets, p, multilabel=True)


def number(id_: str) -> int:
    return int(id_[1:])


# Confident errors


def test_errors_by_hand_the_surest_first_and_by_id_on_a_tie() -> None:
    p = [[0.9, 0.1], [0.2, 0.8], [0.1, 0.9], [0.8, 0.2], [0.3, 0.7]]
    texts = ["zero", "one", "two", "three", "four"]
    found = confident_errors(predictions([0, 0, 0, 1, 1], p), texts)
    assert [(e.id[-1], e.text, e.confidence) for e in found] == [
        ("2", "two", 0.9),
        ("1", "one", 0.8),
        ("3", "three", 0.8),
    ]
    assert (found[2].label, found[2].predicted) == ("b", "a")
    assert [e.text for e in confident_errors(predictions([0, 0, 0, 1, 1], p), None)] == [None] * 3
    assert confident_errors(predictions([0, 0, 0, 1, 1], p), texts, most=2) == found[:2]


def test_a_row_with_any_wrong_label_is_an_error_as_sure_as_the_surest_of_them() -> None:
    p = [[0.9, 0.2, 0.4], [0.7, 0.1, 0.6], [0.9, 0.9, 0.9]]
    given = predictions([[0, 0, 1], [1, 0, 1], [1, 0, 1]], p, multilabel=True)
    rows = {"text": None}
    assert confident_errors(given, None) == (
        ConfidentError(id="r0000000", label="c", predicted="a", confidence=0.9, **rows),
        ConfidentError(id="r0000002", label="a, c", predicted="a, b, c", confidence=0.9, **rows),
    )


def test_a_label_missed_for_its_threshold_is_as_sure_as_its_absence() -> None:
    given = predictions([[1.0, 0.0]], [[0.6, 0.1]], multilabel=True, thresholds=(0.7, 0.5))
    (error,) = confident_errors(given, None)
    assert (error.label, error.predicted, error.confidence) == ("a", "", 0.4)


def test_an_invalid_row_is_neither_a_confident_error_nor_a_suspect() -> None:
    p = [[0.5, 0.5], [0.9, 0.1], [0.1, 0.9], [0.9, 0.1], [0.5, 0.5]]
    given = predictions([1, 1, 1, 0, 0], p, invalid=[True, False, False, False, True])
    assert [number(e.id) for e in confident_errors(given, None)] == [1]
    assert [number(e.id) for e in suspect_labels(given, None)] == [1]


def test_without_errors_there_are_none() -> None:
    perfect = predictions([0, 1, 2], np.eye(3))
    assert confident_errors(perfect, None) == suspect_labels(perfect, None) == ()
    assert confident_errors(predictions([1], [[1, 0]]), None, most=0) == ()


# Suspect labels


def reference(given: Predictions) -> list[int]:
    filters = pytest.importorskip("cleanlab.filter")
    return filters.find_label_issues(
        given.targets,
        given.probabilities,
        filter_by="confident_learning",
        return_indices_ranked_by="normalized_margin",
    ).tolist()


SMALL = {
    (1, 40, 2): [8, 12, 39, 14, 6],
    (2, 40, 3): [29, 16, 8, 30, 15],
    (3, 45, 5): [12, 6, 25, 28, 34, 2, 37, 1, 43, 17, 30, 5, 3, 11, 40],
}


@pytest.mark.parametrize("case", SMALL)
def test_suspects_are_those_of_cleanlab(case: tuple[int, int, int]) -> None:
    found = suspect_labels(drawn(*case, noise=0.2), None, most=ALL)
    assert [number(s.id) for s in found] == SMALL[case]


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("labels", [2, 3, 20])
def test_suspects_equal_cleanlab_where_it_is_installed(labels: int, noise: float) -> None:
    for case in SMALL:
        assert reference(drawn(*case, noise=0.2)) == SMALL[case]
    for seed in range(5):
        given = drawn(seed, 1000, labels, noise)
        found = suspect_labels(given, None, most=ALL)
        assert [number(s.id) for s in found] == reference(given)


def test_multilabel_suspects_equal_cleanlab_label_by_label() -> None:
    multi = pytest.importorskip("cleanlab.multilabel_classification.filter")
    given = drawn_multilabel(0, 500, 4)
    sets = [np.flatnonzero(row).tolist() for row in given.targets]
    changed = multi.find_multilabel_issues_per_class(
        sets, given.probabilities, filter_by="confident_learning"
    )
    suggested = np.where(changed, 1 - given.targets, given.targets)
    expected = {
        given.ids[row]: ", ".join(given.labels[c] for c in np.flatnonzero(suggested[row]))
        for row in np.flatnonzero(changed.any(axis=1))
    }
    found = suspect_labels(given, None, most=ALL)
    assert {s.id: s.suggested for s in found} == expected


@pytest.mark.parametrize("labels", [2, 4])
def test_planted_label_noise_is_found(labels: int) -> None:
    random = np.random.default_rng(labels)
    truth = random.integers(0, labels, 2000)
    logits = 4 * np.eye(labels)[truth] + random.normal(size=(2000, labels))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    planted = random.choice(2000, 100, replace=False)
    wrong = truth.copy()
    wrong[planted] = (truth[planted] + 1) % labels
    found = suspect_labels(predictions(wrong, p), None, most=ALL)
    hit = [s for s in found if number(s.id) in planted]
    # Rows less sure than the mean of their true label are not named, hence not all.
    assert len(hit) >= 70 and len(hit) >= 0.9 * len(found)
    assert all(ord(s.suggested) - ord("a") == truth[number(s.id)] for s in hit)
    assert all(s.confidence > s.given for s in hit)


def test_multilabel_suspect_by_hand() -> None:
    p = [[0.9, 0.1], [0.9, 0.2], [0.95, 0.9], [0.1, 0.1], [0.1, 0.9], [0.1, 0.9]]
    given = predictions([[1, 0], [1, 0], [0, 1], [0, 0], [0, 1], [0, 1]], p, multilabel=True)
    (suspect,) = suspect_labels(given, ["one", "two", "three", "four", "five", "six"])
    assert (suspect.text, suspect.label, suspect.suggested) == ("three", "b", "a, b")
    assert (suspect.confidence, suspect.given) == (0.95, pytest.approx(0.05))


# Lengths


@pytest.mark.parametrize(
    ("words", "buckets", "expected"),
    [
        ([1, 2, 3, 4, 5, 6], 3, [(1, 2, 2), (3, 4, 2), (5, 6, 2)]),
        ([6, 5, 4, 3, 2, 1, 9], 2, [(1, 4, 4), (5, 9, 3)]),
        ([7, 7, 7, 7], 5, [(7, 7, 4)]),
        ([1, 1, 1, 1, 1, 1, 9, 9], 4, [(1, 1, 6), (9, 9, 2)]),
        ([0], 5, [(0, 0, 1)]),
        ([3, 1], 5, [(1, 1, 1), (3, 3, 1)]),
    ],
)
def test_buckets_of_lengths(words: list[int], buckets: int, expected: list) -> None:
    given = predictions([0] * len(words), [[1, 0]] * len(words))
    found = length_buckets(given, words, buckets=buckets)
    assert [(b.low, b.high, b.rows) for b in found] == expected


@given(st.lists(st.integers(0, 12), min_size=1, max_size=60), st.integers(1, 7))
def test_buckets_hold_every_row_once_in_order_of_length(words: list[int], buckets: int) -> None:
    found = length_buckets(
        predictions([0] * len(words), [[1, 0]] * len(words)), words, buckets=buckets
    )
    assert 1 <= len(found) <= buckets
    assert sum(b.rows for b in found) == len(words) and all(b.rows > 0 for b in found)
    assert all(b.low <= b.high for b in found)
    assert all(a.high < b.low for a, b in pairwise(found))
    for b in found:
        assert b.rows == sum(b.low <= w <= b.high for w in words)
    if len(set(words)) == len(words):
        assert max(b.rows for b in found) - min(b.rows for b in found) <= 1


def test_scores_of_a_bucket_equal_scikit_learn_on_its_rows() -> None:
    drawn_ = drawn(0, 300, 5, noise=0.2)
    p = drawn_.probabilities.copy()
    p[::10] = 0.2
    given = predictions(drawn_.targets, p, invalid=np.arange(300) % 10 == 0)
    words = np.random.default_rng(0).geometric(0.1, 300)
    for bucket in length_buckets(given, words):
        rows = (words >= bucket.low) & (words <= bucket.high)
        true, guess = given.targets[rows], given.predicted[rows]
        assert bucket.accuracy == pytest.approx(accuracy_score(true, guess))
        f1 = f1_score(true, guess, labels=np.unique(true), average="macro", zero_division=0.0)
        assert bucket.macro_f1 == pytest.approx(f1)


def test_macro_f1_of_a_bucket_leaves_absent_labels_out_and_is_0_without_any() -> None:
    (bucket,) = length_buckets(predictions([0, 1], np.eye(3)[:2]), [1, 1])
    assert bucket.macro_f1 == 1
    (bucket,) = length_buckets(predictions([[0, 0]], [[0.1, 0.1]], multilabel=True), [1])
    assert (bucket.accuracy, bucket.macro_f1) == (1, 0)


# Seen rows


def test_scores_with_and_without_seen_rows() -> None:
    given = predictions([0, 0, 1, 1], [[1, 0], [1, 0], [1, 0], [0, 1]])
    seen = {"r0000000": "near", "r0000002": "exact", "r0000003": "near", "no test row": "exact"}
    by_id = seen_rows(given, seen, "accuracy")
    assert by_id is not None
    assert (by_id.rows, by_id.kinds) == (3, {"exact": 1, "near": 2})
    assert (by_id.score, by_id.score_without) == (0.75, 1)
    assert seen_rows(given, ["near", None, "exact", "near"], "accuracy") == by_id
    assert seen_rows(given, {"no test row": "exact"}, "accuracy") is None
    assert seen_rows(given, [None] * 4, "macro_f1") is None


def test_a_label_of_seen_rows_alone_does_not_count_against_the_others() -> None:
    right = predictions([0, 0, 1, 1, 2], np.eye(3)[[0, 0, 1, 1, 2]])
    found = seen_rows(right, {"r0000004": "exact"}, "macro_f1")
    assert found is not None and (found.score, found.score_without) == (1, 1)
    with_wrong = predictions([0, 0, 1, 1, 2], np.eye(3)[[0, 2, 1, 1, 2]])
    found = seen_rows(with_wrong, {"r0000004": "exact"}, "macro_f1")
    assert found is not None and found.score_without == pytest.approx((2 / 3 + 1 + 0) / 3)


def test_where_every_row_was_seen_there_is_no_score_without() -> None:
    found = seen_rows(predictions([0], [[1, 0]]), ["exact"], "macro_f1")
    assert found is not None
    assert (found.rows, found.score, found.score_without) == (1, 0.5, None)


# Confusions of two methods


def test_confusions_by_hand() -> None:
    targets = [0, 0, 0, 1, 1, 2]
    a = predictions(targets, np.eye(3)[[1, 1, 1, 0, 1, 2]])
    b = predictions(targets, np.eye(3)[[1, 0, 0, 2, 2, 2]])
    assert confusion_differences(a, b) == (
        ConfusionDifference(label="a", predicted="b", rows_a=3, rows_b=1),
        ConfusionDifference(label="b", predicted="c", rows_a=0, rows_b=2),
        ConfusionDifference(label="b", predicted="a", rows_a=1, rows_b=0),
    )
    assert confusion_differences(a, b, most=1) == confusion_differences(a, b)[:1]
    assert confusion_differences(a, a) == ()


def test_an_answer_that_is_no_label_is_a_confusion_of_its_own() -> None:
    a = predictions([0, 1], [[0.5, 0.5], [0, 1]], invalid=[True, False])
    (found,) = confusion_differences(a, predictions([0, 1], np.eye(2)))
    assert (found.label, found.predicted, found.rows_a, found.rows_b) == ("a", None, 1, 0)


def test_confusions_of_several_labels_are_not_defined() -> None:
    given = predictions([[1, 0]], [[0.1, 0.9]], multilabel=True)
    assert confusion_differences(given, given) == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": ["r0000000", "other"]}, "1 of the first are missing, such as 'r0000001'"),
        ({"labels": ("a", "z")}, "other labels than the first method: b, z"),
        (
            {"targets": np.array([0, 0])},
            "another true label than in the first method, such as 'r0000001'",
        ),
    ],
)
def test_methods_of_other_rows_are_refused(change: dict, message: str) -> None:
    a = predictions([0, 1], np.eye(2))
    with pytest.raises(DataError, match=message):
        confusion_differences(a, replace(a, **change))


# Order and size


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 5), st.booleans(), st.booleans())
def test_order_of_rows_and_labels_does_not_matter(
    seed: int, labels: int, coarse: bool, multilabel: bool
) -> None:
    random = np.random.default_rng(seed)
    first = drawn_multilabel(seed, 50, labels) if multilabel else drawn(seed, 50, labels, 0.3)
    rows, columns = random.permutation(50), random.permutation(labels)
    if multilabel:  # names are joined in the order of labels
        columns = np.arange(labels)
    elif coarse:  # many ties; between labels, the first one would decide
        p = np.eye(labels)[first.probabilities.argmax(axis=1)] * 0.5 + 0.5 / labels
        first, columns = replace(first, probabilities=p), np.arange(labels)
    other = replace(first, probabilities=first.probabilities[random.permutation(50)])
    words, texts = random.integers(0, 9, 50), [f"text {i}" for i in range(50)]
    seen = [[None, None, "near", "exact"][i % 4] for i in range(50)]
    names = tuple(first.labels[c] for c in columns)
    again = first.take(rows).with_labels(names)
    moved = [texts[row] for row in rows]
    assert confident_errors(again, moved) == confident_errors(first, texts)
    assert suspect_labels(again, moved) == suspect_labels(first, texts)
    assert length_buckets(again, words[rows]) == tuple(
        replace(b, macro_f1=pytest.approx(b.macro_f1)) for b in length_buckets(first, words)
    )
    assert seen_rows(again, [seen[row] for row in rows], "accuracy") == seen_rows(
        first, seen, "accuracy"
    )
    assert confusion_differences(again, other) == confusion_differences(first, other)


@pytest.mark.parametrize("multilabel", [False, True])
def test_a_million_rows_take_seconds(multilabel: bool) -> None:
    few = drawn_multilabel(0, 1000, 5) if multilabel else drawn(0, 1000, 5, noise=0.1)
    rows = np.arange(1_000_000) % 1000  # each confidence a thousand times
    large = predictions(few.targets[rows], few.probabilities[rows], multilabel=multilabel)
    other = predictions(few.targets[rows], few.probabilities[::-1][rows], multilabel=multilabel)
    started = time.perf_counter()
    assert len(confident_errors(large, None)) == len(suspect_labels(large, None)) == 20
    assert len(length_buckets(large, rows)) == 5
    seen = seen_rows(large, dict.fromkeys(large.ids[::7], "near"), "macro_f1")
    assert seen is not None and seen.rows == 142_858
    assert len(confusion_differences(large, other)) == (0 if multilabel else 10)
    assert time.perf_counter() - started < 60
