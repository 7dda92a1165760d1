"""Which rows meet in which step: a property of seed and global batch size, and of nothing else."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmclf.data.batches import (
    accumulation_steps,
    padding_share,
    plan_epoch,
    plan_prediction,
)

Lengths = st.lists(st.integers(1, 60), min_size=1, max_size=300).map(np.array)
few = settings(max_examples=60, deadline=None)


def lengths_of(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(3, 100, rows)


@few
@given(lengths=Lengths, batch=st.integers(1, 40), micro=st.integers(1, 40), world=st.integers(1, 5))
def test_an_epoch_holds_each_row_once_and_ranks_keep_step(
    lengths: np.ndarray, batch: int, micro: int, world: int
) -> None:
    plan = plan_epoch(
        lengths, global_batch_size=batch, micro_batch_size=micro, world_size=world, seed=0, epoch=0
    )
    rows = np.concatenate([step.rows for step in plan])
    assert sorted(rows.tolist()) == list(range(len(lengths)))
    assert len(plan) == -(-len(lengths) // batch)
    assert sorted(len(step.rows) for step in plan)[1:] == [batch] * (len(plan) - 1)
    accumulation = accumulation_steps(batch, micro, world)
    assert (accumulation - 1) * micro * world < batch <= accumulation * micro * world
    for step in plan:
        assert len(step.micro_batches) == accumulation
        assert all(len(ranks) == world for ranks in step.micro_batches)
        parts = [part for ranks in step.micro_batches for part in ranks]
        assert max(len(part) for part in parts) <= micro
        assert np.concatenate(parts).tolist() == step.rows.tolist()


@few
@given(
    lengths=Lengths,
    batch=st.integers(1, 40),
    splits=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 5)), min_size=2, max_size=2),
    seed=st.integers(0, 3),
    epoch=st.integers(0, 3),
)
def test_steps_do_not_depend_on_ranks_or_micro_batches(
    lengths: np.ndarray, batch: int, splits: list[tuple[int, int]], seed: int, epoch: int
) -> None:
    one, other = (
        plan_epoch(
            lengths,
            global_batch_size=batch,
            micro_batch_size=micro,
            world_size=world,
            seed=seed,
            epoch=epoch,
        )
        for micro, world in splits
    )
    assert [s.rows.tolist() for s in one] == [s.rows.tolist() for s in other]


def test_plan_follows_seed_and_epoch_alone() -> None:
    def plan(seed: int, epoch: int) -> list[list[int]]:
        np.random.seed(np.random.randint(2**31))  # the global state is not used
        steps = plan_epoch(
            lengths_of(500),
            global_batch_size=16,
            micro_batch_size=8,
            world_size=2,
            seed=seed,
            epoch=epoch,
        )
        return [step.rows.tolist() for step in steps]

    assert plan(0, 0) == plan(0, 0)
    different = [plan(0, 0), plan(0, 1), plan(1, 0), plan(1, 1)]
    assert all(a != b for i, a in enumerate(different) for b in different[:i])
    # Not the same batches in another order, either: who meets whom changes.
    assert {frozenset(rows) for rows in plan(0, 0)}.isdisjoint(map(frozenset, plan(0, 1)))


def test_the_longest_rows_come_first_and_the_other_steps_in_no_order() -> None:
    lengths = lengths_of(5000)
    for seed in range(5):
        plan = plan_epoch(
            lengths,
            global_batch_size=32,
            micro_batch_size=32,
            world_size=1,
            seed=seed,
            epoch=0,
        )
        widths = [int(lengths[step.rows].max()) for step in plan]
        assert widths[0] == lengths.max()
        longer_than_the_last = np.mean(np.diff(widths[1:]) > 0)
        assert 0.35 < longer_than_the_last < 0.65


def test_ranks_get_micro_batches_of_like_length() -> None:
    lengths = lengths_of(4096)
    plan = plan_epoch(
        lengths, global_batch_size=64, micro_batch_size=8, world_size=4, seed=0, epoch=0
    )
    spread = [
        np.ptp([lengths[part].max() for part in ranks])
        for step in plan
        for ranks in step.micro_batches
    ]
    assert np.mean(spread) < 3  # of up to 100 tokens


@pytest.mark.parametrize(("batch", "micro", "world"), [(32, 32, 1), (32, 8, 1), (32, 8, 2)])
def test_less_than_a_tenth_is_padding(
    shared_data: Path, batch: int, micro: int, world: int
) -> None:
    """Word counts stand in for tokens; random batches of the same rows pad more than they read."""
    with (shared_data / "health_advice.csv").open(encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    lengths = np.array([2 + len(re.findall(r"\w+|[^\w\s]", text)) for text in texts])
    plan = plan_epoch(
        lengths,
        global_batch_size=batch,
        micro_batch_size=micro,
        world_size=world,
        seed=0,
        epoch=0,
    )
    assert 0 < padding_share(plan, lengths) < 0.10
    order = np.random.default_rng(0).permutation(len(lengths))
    batches = [order[i : i + 32] for i in range(0, len(order), 32)]
    computed = sum(len(rows) * int(lengths[rows].max()) for rows in batches)
    assert 1 - lengths.sum() / computed > 0.4


def test_padding_share_counts_micro_batches_as_they_are_padded() -> None:
    lengths = np.array([10, 10, 5, 1])
    plan = plan_epoch(
        lengths, global_batch_size=4, micro_batch_size=4, world_size=1, seed=0, epoch=0
    )
    assert padding_share(plan, lengths) == pytest.approx(1 - 26 / 40)
    plan = plan_epoch(
        lengths, global_batch_size=4, micro_batch_size=2, world_size=1, seed=0, epoch=0
    )
    assert padding_share(plan, lengths) == pytest.approx(1 - 26 / (20 + 10))
    # More places than rows: the empty ones cost nothing.
    plan = plan_epoch(
        lengths, global_batch_size=16, micro_batch_size=1, world_size=2, seed=0, epoch=0
    )
    assert padding_share(plan, lengths) == 0.0


@few
@given(lengths=Lengths, batch=st.integers(1, 40), world=st.integers(1, 5))
def test_prediction_scores_each_row_on_one_rank(
    lengths: np.ndarray, batch: int, world: int
) -> None:
    ranks = [
        plan_prediction(lengths, batch_size=batch, rank=rank, world_size=world)
        for rank in range(world)
    ]
    rows = [row for batches in ranks for rows in batches for row in rows.tolist()]
    assert sorted(rows) == list(range(len(lengths)))
    counts = [len(batches) for batches in ranks]
    assert max(counts) - min(counts) <= 1
    for batches in ranks:
        assert all(len(rows) <= batch for rows in batches)
        widths = [int(lengths[rows].max()) for rows in batches]
        assert widths == sorted(widths, reverse=True)
