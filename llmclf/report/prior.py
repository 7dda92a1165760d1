"""What a method must beat to be worth anything: always giving the commonest training label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from llmclf.evaluate.paired import Difference, Statistics, Tested
from llmclf.evaluate.predictions import Predictions
from llmclf.evaluate.prior import of_shares
from llmclf.invisible import quoted
from llmclf.report.group import MethodRuns
from llmclf.report.texts import visible
from llmclf.report.verdict import against
from llmclf.report.words import joined
from llmclf.run_folder.read import Finished


@dataclass(frozen=True, kw_only=True)
class Prior:
    """The prior on the test rows of a comparison."""

    tested: tuple[Tested, ...]
    """Its predictions on each test set."""
    same_as: str | None
    """A method that gives every row the same answer as the prior; None where there is none."""

    @property
    def words(self) -> str:
        """What it does: always answering 'positive'."""
        given = {self._given(one.predictions) for one in self.tested}
        labels = given.pop() if len(given) == 1 else None
        if labels is None:
            return "always answering the commonest label"
        if not labels:
            return "never giving a label"
        return f"always answering {joined([quoted(visible(label, 40)) for label in labels])}"

    @staticmethod
    def _given(predictions: Predictions) -> tuple[str, ...]:
        first = predictions.predicted[0]
        chosen = np.flatnonzero(first) if predictions.multilabel else [first]
        return tuple(predictions.labels[i] for i in chosen)


def prior_of(methods: Sequence[MethodRuns]) -> Prior | None:
    """The prior of the method that knew most labels; None where its runs do not say how often each
    label was among their training rows."""
    firsts = {repeat.unit: repeat for repeat in reversed(knowing(methods).repeats)}
    tested = []
    for unit, repeat in sorted(firsts.items()):
        predictions = _predictions(repeat.run)
        if predictions is None:
            return None
        tested.append(Tested(fold=unit, seed=repeat.run.seed, predictions=predictions))
    same = (m.name for m in methods if _same(m, tested))
    return Prior(tested=tuple(tested), same_as=next(same, None))


def knowing(methods: Sequence[MethodRuns]) -> MethodRuns:
    """The method that knew most labels, the first one of several."""
    return max(methods, key=lambda m: m.first.rows.sizes["train"])


def _predictions(run: Finished) -> Predictions | None:
    classes, rows = run.audit.get("classes"), run.rows.sizes["train"]
    if not isinstance(classes, dict) or not rows:
        return None
    counts = [(classes.get(label) or {}).get("train", 0) for label in run.labels]
    if not run.test.multilabel and sum(counts) != rows:
        return None
    return of_shares(np.array(counts) / rows, replace(run.test, invalid=None, thresholds=None))


def _same(method: MethodRuns, tested: Sequence[Tested]) -> bool:
    """Whether a method gives every row of every run what the prior gives it."""
    answers = {one.fold: one.predictions.predicted for one in tested}
    return all(
        np.array_equal(repeat.run.test.predicted, answers[repeat.unit]) for repeat in method.repeats
    )


def leads(statistics: Statistics, same_as: str | None) -> Mapping[str, Difference]:
    """Each method's lead over the prior: where a method is the same, by the tests of pairs, so that
    no two p values are told of one thing."""
    if same_as is None:
        return statistics.above_prior
    return {
        name: against(statistics, name, same_as) for name in statistics.estimates if name != same_as
    }
