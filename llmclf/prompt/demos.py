"""Which training rows stand in a prompt as demonstrations.

Never the row in question or one that says the same: leaking demonstrations are the classic fault of
few-shot scores. N: rows, K: demonstrations, C: labels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from llmclf.config import ConfigError
from llmclf.data.corpus import Split, Splits
from llmclf.data.repeats import normalised
from llmclf.invisible import quoted
from llmclf.prompt.config import PromptConfig

Embed = Callable[[list[str]], np.ndarray]
"""Texts to unit vectors, float32 (N, D)."""
CHUNK = 512  # rows compared at a time: bounds the (rows, training rows) similarities


@dataclass(frozen=True)
class Draw:
    """One choice of demonstrations: its seed and its order, both from 0."""

    seed: int
    order: int


def stream(
    purpose: Literal["draw", "order", "reference", "attack"], seed: int, *numbers: int
) -> np.random.Generator:
    """Random numbers of one purpose, which do not move when another one draws more."""
    tags = {"draw": 1, "order": 2, "reference": 3, "attack": 4}
    return np.random.default_rng([seed, tags[purpose], *numbers])


def draws(config: PromptConfig) -> list[Draw]:
    """All choices that a run makes, the one of its result first."""
    return [Draw(s, o) for s in range(config.seeds) for o in range(config.orders)]


def check_shots(config: PromptConfig, splits: Splits) -> None:
    """Raise ConfigError where the training rows cannot give so many demonstrations."""
    train, count = splits.train, config.shots
    if config.demonstrations == "balanced":
        _check_balanced(count, _counts(train.targets, splits), splits, "")
    if count > len(train):
        raise ConfigError(
            f"prompt.shots={count}: there are {len(train)} training rows. Set --prompt.shots "
            f"{len(train)} or less."
        )


def _counts(targets: np.ndarray, splits: Splits) -> np.ndarray:
    """Number of rows of each label, int64 (C,)."""
    return np.bincount(targets, minlength=len(splits.labels))


def _check_balanced(count: int, have: np.ndarray, splits: Splits, which: str) -> None:
    """Whether each label has its share of ``count`` rows, and enough labels one more.

    ``have``: rows that may be shown of each label; ``which``: what they must be, in words.
    """
    rarest = int(have.argmin())
    most = int(have[rarest]) * len(have) + int((have > have[rarest]).sum())
    if count > most:
        share, more = divmod(count, len(have))
        raise ConfigError(
            f"prompt.shots={count}: {share}{f' to {share + 1}' if more else ''} demonstrations of "
            f"each label, but the training rows hold {have[rarest]} of "
            f"{quoted(splits.labels[rarest])}{which}. Set --prompt.shots {most} or less, or "
            "--prompt.demonstrations random."
        )


def choose_shared(
    config: PromptConfig, splits: Splits, excluded: set[str], draw: Draw, seed: int
) -> np.ndarray:
    """Rows of the training split that demonstrate to every row in question, int64 (K,), in order.

    ``excluded``: folded texts (:func:`folded`) that may not be shown: those in question.

    ``draw``: which choice and order of demonstrations; ``seed``: of the experiment.
    """
    # The order has a stream of its own, so that another order is another order of the same rows.
    rng = stream("draw", seed, draw.seed)
    order_rng = stream("order", seed, draw.seed, draw.order)
    targets = splits.train.targets
    texts = normalised(splits.train).to_list()
    shuffled = [row for row in rng.permutation(len(texts)).tolist() if texts[row] not in excluded]
    shuffled = _first_of_each(shuffled, texts)
    if config.demonstrations == "balanced":
        have = _counts(targets[np.array(shuffled, np.int64)], splits)
        _check_balanced(
            config.shots, have, splits, " that repeat neither each other nor a row in question"
        )
        chosen = _balanced(shuffled, targets, config.shots, have, rng)
    else:
        chosen = shuffled[: config.shots]
    if len(chosen) < config.shots:
        raise ConfigError(
            f"prompt.shots={config.shots}: only {len(chosen)} training rows may be shown; the "
            "others repeat each other or a row in question. Set fewer --prompt.shots."
        )
    rows = np.array(chosen, np.int64)
    if config.resolved_order == "by_label":
        return rows[np.argsort(targets[rows], kind="stable")]
    return order_rng.permutation(rows)


def _first_of_each(rows: list[int], texts: list[str]) -> list[int]:
    seen: set[str] = set()
    kept = []
    for row in rows:
        if texts[row] not in seen:
            seen.add(texts[row])
            kept.append(row)
    return kept


def _balanced(
    rows: list[int], targets: np.ndarray, count: int, have: np.ndarray, rng: np.random.Generator
) -> list[int]:
    """As many rows of each label; those that get one more are drawn among the labels that have
    it."""
    share, more = divmod(count, len(have))
    wanted = np.full(len(have), share)
    wanted[[label for label in rng.permutation(len(have)) if have[label] > share][:more]] += 1
    chosen: list[int] = []
    for label, number in enumerate(wanted.tolist()):
        chosen += [row for row in rows if targets[row] == label][:number]
    return chosen


class Nearest:
    """The training rows that are most similar to others, by the cosine of TF-IDF vectors or of what
    ``embed`` gives. Their vectors are made once, and those of each split that is asked for."""

    def __init__(self, config: PromptConfig, splits: Splits, embed: Embed | None = None) -> None:
        train = splits.train
        self.config, self.targets, self.texts = config, train.targets, normalised(train).to_list()
        self.distinct = np.array(_first_of_each(list(range(len(train))), self.texts), np.int64)
        shown = train.take(self.distinct).joined("\n")
        self.vectors: Callable[[list[str]], Any] = embed or _tfidf(shown)
        self.shown_MD = self.vectors(shown)
        self._found: dict[Split, np.ndarray] = {}

    def __call__(self, queries: Split, draw: Draw, seed: int) -> np.ndarray:
        """For each row in question its demonstrations, int64 (N, K), in order.

        Rows that repeat the one in question are passed over, and of rows that repeat each other the
        first one counts.
        """
        if queries not in self._found:
            self._found[queries] = self._nearest_first(queries)
        return _ordered(self._found[queries], self.config, self.targets, draw, seed)

    def _nearest_first(self, queries: Split) -> np.ndarray:
        shots, query_texts = self.config.shots, normalised(queries).to_list()
        asked_ND = self.vectors(queries.joined("\n"))
        found_NK = np.zeros((len(queries), shots), np.int64)
        for start in range(0, len(queries), CHUNK):
            similar = asked_ND[start : start + CHUNK] @ self.shown_MD.T
            similar_NM = np.asarray(similar.toarray() if hasattr(similar, "toarray") else similar)
            # The row in question itself may be among them, once.
            order_NM = np.argsort(-similar_NM, axis=1, kind="stable")[:, : shots + 1]
            for i, order in enumerate(order_NM, start):
                near = self.distinct[order].tolist()
                rows = [row for row in near if self.texts[row] != query_texts[i]]
                if len(rows) < shots:
                    raise ConfigError(
                        f"prompt.shots={shots}: only {len(rows)} different training rows may "
                        "be shown. Set fewer --prompt.shots."
                    )
                found_NK[i] = rows[:shots]
        return found_NK


def _tfidf(shown: list[str]) -> Callable[[list[str]], Any]:
    """Texts to sparse unit vectors, float32 (N, D)."""
    vectorizer = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), dtype=np.float32)
    try:
        return vectorizer.fit(shown).transform
    except ValueError as error:  # an empty vocabulary
        raise ConfigError(
            "prompt.similarity='tfidf': the training texts hold no word of two letters or more to "
            "compare by. Set --prompt.similarity minilm-l6, or --prompt.demonstrations balanced."
        ) from error


def _ordered(
    found_NK: np.ndarray, config: PromptConfig, targets: np.ndarray, draw: Draw, seed: int
) -> np.ndarray:
    """Demonstrations in the order of the prompt, from those that stand nearest first."""
    order = config.resolved_order
    if order == "nearest_last":
        return found_NK[:, ::-1]
    if order == "by_label":
        rank = np.argsort(targets[found_NK], axis=1, kind="stable")
        return np.take_along_axis(found_NK, rank, axis=1)
    rng = stream("order", seed, draw.seed, draw.order)
    return rng.permuted(found_NK, axis=1)
