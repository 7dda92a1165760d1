"""Near duplicates by MinHash (Broder 1997) and locality-sensitive hashing.

Shape legend: N texts, K hash values per text, B bands.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
import rensa

THRESHOLD = 0.8
"""Two texts are near duplicates if they share at least this much (Jaccard) of their shingles."""
SHINGLE = 5
"""Bytes per shingle; of a 60-letter sentence, a changed letter leaves 0.84, a changed word 0.7."""
_BANDS, _BAND = 16, 6
"""Values per band: a pair at the threshold meets in some band with probability 0.992."""
_SEED = 7
_CHUNK_BYTES = 1 << 23


def near_pairs(texts: pl.Series, split: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of near duplicates, int64 (M, 2) with the lower index first, and similarity, (M,).

    ``split`` (N,) must ascend. The similarity is the MinHash estimate (standard error 0.04). In a
    bucket a text meets the one before it of each split, not all of them, so a million texts of one
    template take linear time; the number of *texts* with a near duplicate stays about right, the
    number of pairs does not. (rensa's own index returns whole buckets: quadratic time there.)
    """
    digests_NK = _digests(texts)
    blocks = []
    for band in range(_BANDS):
        hashes = _band_hash(digests_NK[:, band * _BAND : (band + 1) * _BAND])
        for pairs in _meetings(hashes, split):
            similarity = _similarity(digests_NK, pairs)
            near = similarity >= THRESHOLD
            blocks.append(np.column_stack([pairs[near], similarity[near]]))
    pairs_M3 = np.unique(np.concatenate(blocks), axis=0) if blocks else np.empty((0, 3))
    return pairs_M3[:, :2].astype(np.int64), pairs_M3[:, 2]


def _digests(texts: pl.Series) -> np.ndarray:
    """MinHash digests, uint32 (N, K)."""
    digests_NK = np.empty((len(texts), _BANDS * _BAND), np.uint32)
    ends = texts.str.len_bytes().cum_sum().to_numpy()
    start = 0
    while start < len(texts):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + _CHUNK_BYTES)))
        shingles, offsets = _shingles(texts[start:stop])
        matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(
            shingles, offsets, _BANDS * _BAND, _SEED
        )
        digests_NK[start:stop] = matrix.to_rows()
        start = stop
    return digests_NK


def _shingles(texts: pl.Series) -> tuple[np.ndarray, np.ndarray]:
    """All runs of SHINGLE bytes packed into uint64, and where each text's begin, uint64 (n + 1,).

    A shorter text is one shingle, filled up with zeros.
    """
    gap = "\0" * (SHINGLE - 1)
    data = np.frombuffer((gap.join(texts.to_list()) + 2 * gap).encode(), np.uint8)
    lengths = texts.str.len_bytes().to_numpy().astype(np.int64)
    counts = np.maximum(lengths - len(gap), 1)
    begins = np.cumsum(lengths + len(gap)) - lengths - len(gap)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    at = np.arange(offsets[-1]) + np.repeat(begins - offsets[:-1], counts)
    packed = np.zeros(len(at), np.uint64)
    for byte in range(SHINGLE):
        packed = (packed << np.uint64(8)) | data[at + byte]
    return packed, offsets.astype(np.uint64)


def _band_hash(values: np.ndarray) -> np.ndarray:
    """One uint64 per row of uint32 (N, _BAND), by multiply and add modulo 2^64."""
    hashes = np.zeros(len(values), np.uint64)
    for column in values.T:
        hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + column
    return hashes


def _meetings(hashes: np.ndarray, split: np.ndarray) -> Iterator[np.ndarray]:
    """Candidate pairs, (M, 2): each text with the one before it of each split in its bucket."""
    order = np.argsort(hashes, kind="stable")
    here, places = hashes[order], np.arange(len(order))
    first = np.maximum.accumulate(np.where(np.append(True, here[1:] != here[:-1]), places, 0))
    for name in np.unique(split):
        latest = np.maximum.accumulate(np.where(split[order] == name, places, -1))
        before = np.append(-1, latest[:-1])
        meets = before >= first
        yield np.column_stack([order[before[meets]], order[meets]])


def _similarity(digests_NK: np.ndarray, pairs: np.ndarray, chunk: int = 100_000) -> np.ndarray:
    parts = [
        (digests_NK[part[:, 0]] == digests_NK[part[:, 1]]).mean(axis=1)
        for part in (pairs[i : i + chunk] for i in range(0, len(pairs), chunk))
    ]
    return np.concatenate(parts) if parts else np.empty(0)
