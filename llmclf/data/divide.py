"""Choose rows for a split: seeded, stratified, and whole groups only.

Rows without groups are dealt like cards: shuffled, put in order of their stratum, every k-th taken.
Groups are placed one after the other where their classes are needed most (Sechidis et al. 2011, "On
the stratification of multi-label data", with the classes of a group for the labels of a row). Both
serve any fraction as well as folds, which scikit-learn's StratifiedGroupKFold does not; it is
10 times slower, too, and balances the classes of opinions and health-advice no better.
"""

from __future__ import annotations

import numpy as np
import polars as pl

_FEW = 10
"""Label sets with fewer rows than this are pooled by their rarest label."""


def strata(label: pl.Series) -> np.ndarray:
    """Number of the stratum of each row, int64 (N,): its label, or its set of labels (multilabel).

    A rare set of labels is too small to deal from, so it joins the other rare sets that share its
    rarest label; thus each rare label is still spread over the splits.
    """
    if label.dtype != pl.List:
        return label.rank("dense").cast(pl.Int64).to_numpy() - 1
    sets = pl.DataFrame({"set": label.list.sort().list.join("\x1f"), "label": label})
    each = sets.with_row_index().explode("label").drop_nulls()
    rarest = (
        each.with_columns(pl.len().over("label").alias("rows"))
        .sort("rows", "label")
        .unique("index", keep="first")
        .select("index", pl.format("\x1e{}", "label").alias("rarest"))
    )
    sets = sets.with_row_index().join(rarest, on="index", how="left", maintain_order="left")
    # A row without a label has no rarest one; those rows are a stratum, however few.
    pooled = pl.when(pl.len().over("set") < _FEW).then("rarest")
    key = pl.coalesce(pooled, "set").rank("dense").cast(pl.Int64) - 1
    return sets.select(key).to_series().to_numpy()


def pick_fold(
    stratum: np.ndarray,
    group: np.ndarray | None,
    fold: int,
    folds: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Boolean (N,): the rows of fold ``fold``, from 0, of ``folds``; the folds of one seed part the
    rows. ``stratum``, ``group``: number of each row's, (N,), ``group`` None where rows have
    none."""
    if group is None:
        return _dealing_place(stratum, rng) % folds == fold
    return _place_groups(stratum, group, np.full(folds, 1 / folds), rng) == fold


def pick_fraction(
    stratum: np.ndarray, group: np.ndarray | None, fraction: float, rng: np.random.Generator
) -> np.ndarray:
    """Boolean (N,): ``round(fraction * N)`` rows; close to it where groups must stay whole.
    ``stratum``, ``group``: number of each row's, (N,), ``group`` None where rows have none."""
    if group is None:
        place, rows = _dealing_place(stratum, rng), len(stratum)
        take = round(fraction * rows)
        return (place + 1) * take // rows > place * take // rows
    return _place_groups(stratum, group, np.array([fraction, 1 - fraction]), rng) == 0


def beyond_budget(stratum: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """Boolean (N,): the rows of each stratum beyond ``most`` in a random order, so that a larger
    ``most`` keeps the rows of a smaller one."""
    order = np.lexsort((rng.permutation(len(stratum)), stratum))
    starts = np.searchsorted(stratum[order], stratum[order])
    beyond = np.empty(len(stratum), bool)
    beyond[order] = np.arange(len(stratum)) - starts >= most
    return beyond


def _dealing_place(stratum: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Place of each row in a random order that is sorted by stratum, int64 (N,)."""
    place = np.empty(len(stratum), np.int64)
    place[np.lexsort((rng.permutation(len(stratum)), stratum))] = np.arange(len(stratum))
    return place


def _place_groups(
    stratum: np.ndarray, group: np.ndarray, shares: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Part of each row, int64 (N,); part ``p`` gets about ``shares[p]`` of each stratum and of all.

    With x_ps the share of stratum s that part p still lacks, a group goes where it lowers
    sum_ps x_ps^2 / shares[p] most; all rows together are one more stratum, which keeps the parts at
    their size. Large groups go first: small ones can even out what they leave.
    """
    rows = np.bincount(stratum)
    _, group, sizes = np.unique(group, return_inverse=True, return_counts=True)
    cells, counts = np.unique(group * len(rows) + stratum, return_counts=True)
    starts = np.searchsorted(cells, np.arange(len(sizes) + 1) * len(rows))
    cell_stratum = cells % len(rows)
    cell_share, group_share = counts / rows[cell_stratum], sizes / len(stratum)
    lacking, lacking_rows = np.tile(shares[:, None], len(rows)), shares.copy()
    part = np.empty(len(sizes), np.int64)
    # Groups of similar size (the same power of two) come in random order, else seeds hardly differ.
    for g in np.lexsort((rng.permutation(len(sizes)), -np.floor(np.log2(sizes)))):
        cell = slice(starts[g], starts[g + 1])
        which, share, all_share = cell_stratum[cell], cell_share[cell], group_share[g]
        drop = (lacking[:, which] - share / 2) @ share + (lacking_rows - all_share / 2) * all_share
        part[g] = best = int(np.argmax(drop / shares))
        lacking[best, which] -= share
        lacking_rows[best] -= all_share
    return part[group]
