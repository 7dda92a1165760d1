"""What a run asks: for each wording and choice of demonstrations, the rows to be answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from llmclf.data.corpus import Split, Splits
from llmclf.data.repeats import normalised
from llmclf.prompt.calibrate import CONTENT_FREE
from llmclf.prompt.config import PromptConfig, TemplateName
from llmclf.prompt.demos import Draw, Embed, Nearest, choose_shared, draws, stream
from llmclf.prompt.injection import Attacked, attack
from llmclf.prompt.template import Answers, Wording, word


@dataclass(frozen=True)
class PromptSpec:
    """One prompt, not worded yet."""

    shown: tuple[int, ...]
    """Indices of the training rows that demonstrate, in order."""
    text: str
    pair: str | None


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One wording with one choice of demonstrations, and all that is asked with it."""

    template: TemplateName
    draw: Draw
    wording: Wording
    parts: dict[str, list[PromptSpec]]
    """Prompts by purpose: test, validation, reference, content_free, and one for each attack. The
    validation rows are asked with the first variant only."""
    attacked: dict[str, Attacked]
    """Attack -> its rows and the labels they ask for."""

    def specs(self) -> list[PromptSpec]:
        """All prompts of all parts, one part behind the other."""
        return [spec for part in self.parts.values() for spec in part]


def variants(
    config: PromptConfig,
    splits: Splits,
    answers: Answers,
    *,
    seed: int,
    embed: Embed | None,
) -> list[Variant]:
    """All variants: templates x demonstration seeds x orders; the first is the run's result.
    ``seed``: of the experiment; ``embed``: what demonstrations are compared by, None: TF-IDF."""
    queries = {"test": splits.test}
    if len(splits.validation):
        queries["validation"] = splits.validation
    excluded = {text for split in queries.values() for text in normalised(split)}
    queries["reference"] = reference_rows(config, splits, seed)
    queries["content_free"] = _without_content(splits.test)
    attacked = attack(splits, config.injection_rows, seed) if config.injection_rows else {}
    nearest = config.shots and config.demonstrations == "nearest"
    similar = Nearest(config, splits, embed) if nearest else None

    def demonstrations(draw: Draw) -> dict[str, list[tuple[int, ...]]]:
        """The training rows that each row is shown, by part."""
        if similar:
            chosen = {name: similar(split, draw, seed) for name, split in queries.items()}
            return {name: list(map(tuple, rows_NK.tolist())) for name, rows_NK in chosen.items()}
        rows: tuple[int, ...] = ()
        if config.shots:
            rows = tuple(choose_shared(config, splits, excluded, draw, seed).tolist())
        return {name: [rows] * len(split) for name, split in queries.items()}

    shown = {draw: demonstrations(draw) for draw in draws(config)}
    asked: list[Variant] = []
    for template, draw in product(config.templates, shown):
        first, by_part = not asked, shown[draw]
        parts = {
            name: _specs(split, by_part[name])
            for name, split in queries.items()
            if first or name != "validation"
        }
        if first:
            for name, one in attacked.items():
                parts[name] = _specs(one.split, [by_part["test"][row] for row in one.rows])
        asked.append(
            Variant(
                template=template,
                draw=draw,
                wording=word(template, config, answers),
                parts=parts,
                attacked=attacked if first else {},
            )
        )
    return asked


def reference_rows(config: PromptConfig, splits: Splits, seed: int) -> Split:
    """Rows whose mean is what the model prefers: validation rows, or else test rows; their labels
    are not used."""
    source = splits.validation if len(splits.validation) else splits.test
    rng = stream("reference", seed)
    return source.take(np.sort(rng.permutation(len(source))[: config.calibration_rows]))


def _without_content(like: Split) -> Split:
    pairs = None if like.pairs is None else list(CONTENT_FREE)
    ids = [f"content-free-{i}" for i in range(len(CONTENT_FREE))]
    targets = np.zeros(len(ids), np.int64)
    return Split(ids=ids, texts=list(CONTENT_FREE), pairs=pairs, targets=targets, groups=None)


def _specs(split: Split, shown: Sequence[tuple[int, ...]]) -> list[PromptSpec]:
    return [PromptSpec(rows, *split.text_and_pair(i)) for i, rows in enumerate(shown)]
