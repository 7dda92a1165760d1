"""Near duplicates: found against the exact Jaccard similarity, in linear time for templates."""

from __future__ import annotations

import itertools
import time

import numpy as np
import polars as pl

from llmclf.data.near import SHINGLE, THRESHOLD, near_pairs


def _shingles(text: str) -> set[bytes]:
    data = text.encode()
    return {data[i : i + SHINGLE] for i in range(max(1, len(data) - SHINGLE + 1))}


def _jaccard(a: str, b: str) -> float:
    return len(_shingles(a) & _shingles(b)) / len(_shingles(a) | _shingles(b))


def _corpus(rows: int) -> list[str]:
    """Random sentences, a third of them changed copies of the one before."""
    rng = np.random.default_rng(0)
    words = ["".join(map(chr, rng.integers(97, 123, rng.integers(2, 9)))) for _ in range(500)]
    words[0] = "東京"
    texts: list[list[str]] = []
    for i in range(rows):
        text = [words[j] for j in rng.integers(0, 500, rng.integers(4, 40))]
        if i % 3 == 1:
            text = list(texts[-1])
            text[rng.integers(0, len(text))] = words[rng.integers(0, 500)]
        texts.append(text)
    return [" ".join(text) for text in texts]


def test_pairs_are_those_of_the_exact_similarity() -> None:
    texts = _corpus(300)
    pairs, similarity = near_pairs(pl.Series(texts), np.zeros(300, np.int64))
    found = {(int(a), int(b)): float(s) for (a, b), s in zip(pairs, similarity, strict=True)}
    exact = {(a, b): _jaccard(texts[a], texts[b]) for a, b in itertools.combinations(range(300), 2)}
    # Away from the threshold by three standard errors, the estimate decides as the truth does.
    surely = {pair for pair, value in exact.items() if value >= THRESHOLD + 0.12}
    assert len(surely) > 10
    assert surely <= set(found)
    assert all(exact[pair] >= THRESHOLD - 0.12 for pair in found)
    errors = [found[pair] - exact[pair] for pair in found]
    assert abs(np.mean(errors)) < 0.03


def test_a_text_meets_every_other_split() -> None:
    text = "the quick brown fox jumps over the lazy dog and runs into the deep forest"
    texts = pl.Series([text, text + "s", text + "ed", text + "er"])
    pairs, _ = near_pairs(texts, np.array([0, 0, 1, 2]))
    splits = np.array([0, 0, 1, 2])[pairs]
    assert {tuple(pair) for pair in splits.tolist()} == {(0, 0), (0, 1), (0, 2), (1, 2)}


def test_texts_shorter_than_a_shingle_and_no_texts() -> None:
    pairs, _ = near_pairs(pl.Series(["a", "b", "ab", "", "a"]), np.zeros(5, np.int64))
    assert pairs.tolist() == [[0, 4]]
    assert len(near_pairs(pl.Series([], dtype=pl.String), np.zeros(0))[0]) == 0


def test_one_template_many_times_takes_linear_time() -> None:
    template = "your parcel with the number {} left our house and will be with you on monday"
    texts = pl.Series([template.format(i) for i in range(20_000)])
    start = time.perf_counter()
    pairs, _ = near_pairs(texts, np.arange(20_000) // 10_000)
    assert time.perf_counter() - start < 20  # 2e8 pairs one by one would take minutes
    assert len(np.unique(pairs)) > 19_900
