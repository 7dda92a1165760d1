"""What a frozen model computes of texts, once for each text in a process.

Folds, seeds and budgets of a comparison share most of their texts, so what was computed is kept by
text. N: rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np

from llmclf.data.corpus import Split

CHUNK = 8192
"""Texts that are on the device at once."""
MOST_KEPT_BYTES = 2 << 30
"""Most that is kept; beyond it texts are computed again."""


@dataclass(frozen=True)
class _Computed:
    values: np.ndarray
    seconds: float
    """Its share of what computing it took."""


_kept: dict[tuple[Any, ...], dict[bytes, _Computed]] = {}


def once(
    key: tuple[Any, ...],
    split: Split,
    compute: Callable[[Split], np.ndarray],
    *,
    chunk: int = CHUNK,
) -> tuple[np.ndarray, float]:
    """What ``compute`` gives for all rows, float32 (N, ...), and the seconds that it took, whenever
    that was. All ranks call it, and all have the result.

    ``key``: all that the result depends on but the text; ``chunk``: rows that are computed at once.
    """
    kept = _kept.setdefault(key, {})
    digests = [_digest(split, i) for i in range(len(split))]
    first = {d: i for i, d in reversed(list(enumerate(digests))) if d not in kept}
    new = sorted(first.values())
    found: dict[bytes, _Computed] = {}
    for start in range(0, len(new), chunk):
        rows = new[start : start + chunk]
        started = time.perf_counter()
        computed = compute(split.take(rows))
        each = (time.perf_counter() - started) / len(rows)
        found |= {
            digests[i]: _Computed(values.copy(), each)
            for i, values in zip(rows, computed, strict=True)
        }
    if _size(_kept) + _size({(): found}) <= MOST_KEPT_BYTES:
        kept |= found
    chosen = [kept[d] if d in kept else found[d] for d in digests]
    return np.stack([one.values for one in chosen]), sum(one.seconds for one in chosen)


def _digest(split: Split, row: int) -> bytes:
    pair = "" if split.pairs is None else f"\0{split.pairs[row]}"
    return blake2b(
        f"{split.texts[row]}{pair}".encode("utf-8", "surrogatepass"), digest_size=16
    ).digest()


def _size(kept: dict[tuple[Any, ...], dict[bytes, _Computed]]) -> int:
    firsts = [(len(of), next(iter(of.values()), None)) for of in kept.values()]
    return sum(count * one.values.nbytes for count, one in firsts if one is not None)
