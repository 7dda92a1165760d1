"""What labels mean, in the user's words: ``label=words`` for each of them. C: labels."""

from __future__ import annotations

import re
from collections.abc import Sequence

from llmclf.config import ConfigError, did_you_mean
from llmclf.data.table import listed
from llmclf.invisible import quoted


def by_label(setting: str, pairs: Sequence[str], labels: tuple[str, ...]) -> dict[str, str]:
    """Label -> its words, from pairs of ``label=words``. ``setting``: where they were given.

    Raises ConfigError for words for an unknown label, for one twice, and for some labels only.
    """
    words: dict[str, str] = {}
    for pair in pairs:
        # A label may hold a '=': take the longest label that fits.
        names = [name for name in labels if pair.startswith(f"{name}=")]
        if not names:
            given = pair.partition("=")[0]
            raise ConfigError(
                f"{setting}={quoted(pair)}: "
                + (
                    f"there is no label {quoted(given)}."
                    if "=" in pair
                    else "expected label=words."
                )
                + did_you_mean(given, labels)
                + f" Labels: {listed(labels)}."
            )
        name = max(names, key=len)
        if name in words:
            raise ConfigError(
                f"{setting}={quoted(pair)}: label {quoted(name)} is given twice, the first time as "
                f"{quoted(name + '=' + words[name])}. Give its words once."
            )
        words[name] = pair[len(name) + 1 :]
    missing = [name for name in labels if name not in words]
    if missing:
        raise ConfigError(
            f"{setting}: no words for {listed(missing)}. Give words for every label, or for none."
        )
    return words


def check_words(
    setting: str, labels: tuple[str, ...], words: tuple[str, ...], *, told_by: str
) -> None:
    """Raise ConfigError for a label without words, and for two that have the same. ``told_by``:
    what could then not be told apart."""
    seen: dict[str, str] = {}
    for name, word in zip(labels, words, strict=True):
        if not word:
            raise ConfigError(
                f"{setting}: label {quoted(name)} has no words. Give it some: {name}=words."
            )
        if word in seen:
            raise ConfigError(
                f"{setting}: labels {quoted(seen[word])} and {quoted(name)} both have the words "
                f"{quoted(word)}, so {told_by} cannot be told apart. Give each its own."
            )
        seen[word] = name


def described(pairs: Sequence[str] | None, labels: tuple[str, ...]) -> tuple[str, ...] | None:
    """The sentence of each label (C), spaces and line breaks made one space; None where none are
    given.

    Raises ConfigError as :func:`by_label` does, and for a sentence that is empty or another's too.
    """
    if not pairs:
        return None
    words = by_label("data.descriptions", pairs, labels)
    sentences = tuple(" ".join(words[name].split()) for name in labels)
    check_words("data.descriptions", labels, sentences, told_by="they")
    return sentences


def are_numbers(labels: Sequence[str]) -> bool:
    """Whether the labels are numbers, whose meaning no model can know."""
    return all(re.fullmatch(r"-?[\d.]+", label) for label in labels)


def for_example(labels: Sequence[str]) -> str:
    """How an option says what labels mean: ``0=... 1=...``, of three at most."""
    return " ".join(f"{label}=..." for label in labels[:3])
