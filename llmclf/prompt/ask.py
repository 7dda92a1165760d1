"""What a run asks: for each wording and choice of demonstrations, the rows to be answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llmclf.data.corpus import Split, Splits
from llmclf.prompt.calibrate import CONTENT_FREE
from llmclf.prompt.config import PromptConfig, TemplateName
from llmclf.prompt.demos import Draw, Embed, choose_nearest, choose_shared, draws, folded, stream
from llmclf.prompt.injection import ATTACKS, Attacked, attack
from llmclf.prompt.template import Answers, Wording, word


@dataclass(frozen=True)
class Ask:
    """One prompt, not worded yet."""

    shown: tuple[int, ...]
    """Training rows that demonstrate, in order."""
    text: str
    pair: str | None


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One wording with one choice of demonstrations, and all that is asked with it."""

    template: TemplateName
    draw: Draw
    wording: Wording
    parts: dict[str, list[Ask]]
    """By purpose: test, validation, reference, content_free, and one for each attack. The
    validation rows are asked with the first variant only."""
    attacked: dict[str, Attacked]
    """Attack -> its rows and the labels they ask for."""

    def asks(self) -> list[Ask]:
        """All parts, one behind the other."""
        return [ask for part in self.parts.values() for ask in part]


def variants(
    config: PromptConfig,
    splits: Splits,
    answers: Answers,
    *,
    seed: int,
    embed: Embed | None,
) -> list[Variant]:
    """Templates x demonstration seeds x orders; the first is the run's result."""
    asked = [splits.test] + ([splits.validation] if len(splits.validation) else [])
    excluded = {text for split in asked for text in folded(split)}
    reference = reference_rows(config, splits, seed)
    found: list[Variant] = []
    for template in config.templates:
        for draw in draws(config):
            choose = _Chooser(config, splits, excluded, draw, seed, embed)
            parts = {"test": choose(splits.test)}
            attacked: dict[str, Attacked] = {}
            first = not found
            if first and len(splits.validation):
                parts["validation"] = choose(splits.validation)
            parts["reference"] = choose(reference)
            parts["content_free"] = choose(_without_content(splits.test))
            if first and config.injection_rows:
                attacked = attack(splits, config.injection_rows, seed)
                rows = next(iter(attacked.values())).rows
                shown = [parts["test"][row].shown for row in rows]
                for name in ATTACKS:
                    parts[name] = _asks(attacked[name].split, shown)
            found.append(
                Variant(
                    template=template,
                    draw=draw,
                    wording=word(template, config, answers),
                    parts=parts,
                    attacked=attacked,
                )
            )
    return found


def reference_rows(config: PromptConfig, splits: Splits, seed: int) -> Split:
    """The rows whose mean is what the model prefers: validation rows, or else test rows; their
    labels are not used."""
    source = splits.validation if len(splits.validation) else splits.test
    rng = stream("reference", seed)
    return source.take(np.sort(rng.permutation(len(source))[: config.calibration_rows]))


def _without_content(like: Split) -> Split:
    pairs = None if like.pairs is None else list(CONTENT_FREE)
    ids = [f"content-free-{i}" for i in range(len(CONTENT_FREE))]
    targets = np.zeros(len(ids), np.int64)
    return Split(ids=ids, texts=list(CONTENT_FREE), pairs=pairs, targets=targets, groups=None)


@dataclass(frozen=True)
class _Chooser:
    """Gives each row its demonstrations."""

    config: PromptConfig
    splits: Splits
    excluded: set[str]
    draw: Draw
    seed: int
    embed: Embed | None

    def __call__(self, split: Split) -> list[Ask]:
        config = self.config
        if not config.shots:
            return _asks(split, [()] * len(split))
        if config.demonstrations == "nearest":
            rows_NK = choose_nearest(config, self.splits, split, self.draw, self.seed, self.embed)
            return _asks(split, [tuple(rows) for rows in rows_NK.tolist()])
        rows = choose_shared(config, self.splits, self.excluded, self.draw, self.seed)
        return _asks(split, [tuple(rows.tolist())] * len(split))


def _asks(split: Split, shown: Sequence[tuple[int, ...]]) -> list[Ask]:
    pairs = [None] * len(split) if split.pairs is None else split.pairs
    return [Ask(*row) for row in zip(shown, split.texts, pairs, strict=True)]
