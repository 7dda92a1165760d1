"""Which rows meet in which optimizer step, and how a step is cut into micro-batches.

The rows of a step depend on the seed and the global batch size alone, never on the number of
processes or micro-batches: any split of the same run sees the same steps. Rows of similar length
meet, so that little is padded.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MEGABATCH_STEPS = (
    50  # steps' worth of shuffled rows that are sorted together (as Trainer's group_by_length does)
)


@dataclass(frozen=True)
class Step:
    """One optimizer step: ``accumulation x world_size`` micro-batches, some of which may be
    empty."""

    rows: np.ndarray
    """All rows of the step, int64."""
    micro_batches: list[list[np.ndarray]]
    """``[micro-batch][rank]`` -> rows; the same number for every rank, since collectives must pair
    up."""


def accumulation_steps(global_batch_size: int, micro_batch_size: int, world_size: int) -> int:
    """Micro-batches per rank and step, so that none exceeds ``micro_batch_size`` rows."""
    return -(-global_batch_size // (micro_batch_size * world_size))


def plan_epoch(
    lengths: np.ndarray,
    *,
    global_batch_size: int,
    micro_batch_size: int,
    world_size: int,
    seed: int,
    epoch: int,
) -> list[Step]:
    """Plan one epoch over rows of the given lengths (in tokens); every row occurs exactly once.

    One step, anywhere in the epoch, holds what is left over and may be smaller; nothing is dropped.

    ``micro_batch_size``: rows of one forward pass at most; ``world_size``: number of processes;
    ``seed`` and ``epoch``, from 0, decide the order.
    """
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(lengths))
    megabatch = MEGABATCH_STEPS * global_batch_size
    chunks = []
    for start in range(0, len(order), megabatch):
        rows = order[start : start + megabatch]
        rows = rows[np.argsort(-lengths[rows], kind="stable")]
        chunks += [rows[i : i + global_batch_size] for i in range(0, len(rows), global_batch_size)]
    # The step with the longest rows comes first: if memory does not suffice, it fails now, not in
    # an hour.
    longest = int(np.argmax([lengths[rows].max() for rows in chunks]))
    shuffled = generator.permutation(len(chunks))
    shuffled = np.concatenate([[longest], shuffled[shuffled != longest]])
    slots = accumulation_steps(global_batch_size, micro_batch_size, world_size)
    return [_cut(chunks[i], slots, world_size) for i in shuffled]


def _cut(rows: np.ndarray, accumulation: int, world_size: int) -> Step:
    """A step cut into micro-batches: neighbours in length share one, and ranks get neighbouring
    ones, so that their times agree."""
    parts = np.array_split(rows, accumulation * world_size)
    micro_batches = [parts[i * world_size : (i + 1) * world_size] for i in range(accumulation)]
    return Step(rows=rows, micro_batches=micro_batches)


def plan_prediction(
    lengths: np.ndarray, *, batch_size: int, rank: int, world_size: int
) -> list[np.ndarray]:
    """Batches of one rank for a forward pass over all rows, longest first; each row belongs to
    exactly one rank. ``lengths``: tokens of each row; ``batch_size``: rows of a batch at most."""
    order = np.argsort(-lengths, kind="stable")
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    return batches[rank::world_size]


def padding_share(plan: list[Step], lengths: np.ndarray) -> float:
    """Share of a plan's computed token positions that are padding, 0 to 1."""
    parts = [part for step in plan for ranks in step.micro_batches for part in ranks if len(part)]
    computed = sum(len(part) * int(lengths[part].max()) for part in parts)
    return 1.0 - int(lengths.sum()) / computed
