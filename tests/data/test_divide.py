"""Splits keep the shares of the classes, keep groups whole, and follow the seed."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmclf.data.divide import pick_fold, pick_fraction, strata


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=200),
    st.floats(0.01, 0.99),
    st.integers(0, 99),
)
def test_a_fraction_of_each_class(classes: list[int], fraction: float, seed: int) -> None:
    stratum = np.array(classes)
    chosen = pick_fraction(stratum, None, fraction, _rng(seed))
    assert chosen.sum() == round(fraction * len(stratum))
    for one in np.unique(stratum):
        share = len(stratum[stratum == one]) * chosen.mean()
        assert abs(chosen[stratum == one].sum() - share) < 1 + 1e-9


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 20)), min_size=1, max_size=120),
    st.integers(2, 6),
    st.booleans(),
)
def test_folds_part_the_rows_and_keep_groups_whole(
    rows: list[tuple[int, int]], folds: int, grouped: bool
) -> None:
    stratum, group = np.array(rows).T
    picked = [
        pick_fold(stratum, group if grouped else None, fold, folds, _rng()) for fold in range(folds)
    ]
    assert (np.sum(picked, axis=0) == 1).all()
    if grouped:
        for chosen in picked:
            assert not set(group[chosen]) & set(group[~chosen])


def test_groups_of_mixed_size_keep_the_shares_of_classes_and_rows() -> None:
    rng = _rng(1)
    sizes = rng.geometric(0.1, 400)
    group = np.repeat(np.arange(400), sizes)
    # Groups lean to one class each, so that groups drawn at random would miss the shares.
    leaning = np.repeat(rng.integers(0, 3, 400), sizes)
    stratum = np.where(rng.random(len(group)) < 0.8, leaning, rng.integers(0, 3, len(group)))
    for fraction in (0.1, 0.2, 0.35):
        chosen = pick_fraction(stratum, group, fraction, _rng(2))
        assert chosen.mean() == pytest.approx(fraction, abs=0.002)
        for one in range(3):
            assert chosen[stratum == one].mean() == pytest.approx(fraction, abs=0.005)


@pytest.mark.parametrize("grouped", [False, True])
def test_the_seed_decides(grouped: bool) -> None:
    stratum, group = _rng(3).integers(0, [[4], [150]], (2, 600))
    draws = [
        pick_fraction(stratum, group if grouped else None, 0.2, _rng(seed)) for seed in (0, 0, 1)
    ]
    assert (draws[0] == draws[1]).all()
    assert (draws[0] & draws[2]).sum() < 0.6 * draws[0].sum()


def test_rare_sets_of_labels_join_by_their_rarest_label() -> None:
    sets = [["a"]] * 30 + [["a", "b"]] * 12 + [["b", "c"], ["c", "a"], ["c"]] + [[]] * 20
    found = strata(pl.Series(sets, dtype=pl.List(pl.String)))
    assert len(set(found[:30])) == len(set(found[30:42])) == len(set(found[45:])) == 1
    assert len(set(found[42:45])) == 1  # c is the rarest in each
    assert len(set(found)) == 4
