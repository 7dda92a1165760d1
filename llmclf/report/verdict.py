"""The answer in one sentence, by rules that are written down here.

best: the highest score. candidates: the best one, and those that a test of equivalence puts within
the margin of it, if they are worth it: significantly better than always giving the commonest
training label (the prior), and not within the margin of it. recommended: the cheapest candidate, by
price, or by time where it takes less than half; else the best. A method that is neither
significantly worse than the best nor equivalent to it is undecided, and the sentence says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from llmclf.evaluate.paired import Difference, Statistics
from llmclf.report.analysis import MethodCost, Verdict
from llmclf.report.words import (
    interval,
    joined,
    metric_name,
    p_is,
    score,
    significant,
    times,
    with_interval,
)

CLEARLY = 0.5
"""A method is cheaper by time where it takes less than this share of another's: what else a machine
does may well double a time."""


@dataclass(frozen=True, kw_only=True)
class _Case:
    """Facts that the sentence of the verdict is made of."""

    statistics: Statistics
    costs: Mapping[str, MethodCost]
    best: str
    against_best: Mapping[str, Difference]
    """Other method -> difference of the best minus it."""
    leads: Mapping[str, Difference]
    """Method -> its score minus the prior's; none for the prior itself."""
    prior: str
    """What the prior does: always answering 'positive'; "" where it is not known."""

    @property
    def metric(self) -> str:
        return metric_name(self.statistics.metric)

    @property
    def margin(self) -> str:
        return f"{self.statistics.margin:g}"

    def score(self, name: str) -> str:
        return with_interval(self.statistics.estimates[name][self.statistics.metric])

    def worth(self, name: str) -> bool:
        """Whether a method is better than the prior, as far as the prior is known."""
        lead = self.leads.get(name)
        if lead is None:
            return not self.prior
        return lead.value > 0 and significant(lead) and not lead.equivalent

    def value(self, name: str) -> float:
        return self.statistics.estimates[name][self.statistics.metric].value


def verdict(
    statistics: Statistics,
    costs: Mapping[str, MethodCost],
    *,
    leads: Mapping[str, Difference],
    prior: str,
) -> Verdict:
    """Judge the methods. ``leads``: of each method over the prior, but for one that is the prior;
    ``prior``: what it does, such as always answering 'positive', or "" where it is not known."""
    metric = statistics.metric
    names = sorted(
        statistics.estimates, key=lambda name: (-statistics.estimates[name][metric].value, name)
    )
    best = names[0]
    case = _Case(
        statistics=statistics,
        costs=costs,
        best=best,
        against_best={name: against(statistics, best, name) for name in names[1:]},
        leads=leads,
        prior=prior,
    )
    sentence, recommended = _judged(case)
    reasons = tuple(_reason(case, name) for name in names[1:])
    return Verdict(sentence=sentence, best=best, recommended=recommended, reasons=reasons)


def _judged(case: _Case) -> tuple[str, str | None]:
    """The sentence, and the method to ship, if there is one."""
    best = case.best
    if not any(map(case.worth, (best, *case.against_best))):
        return _nothing(case), None
    if not case.against_best:
        return _alone(case), best
    equivalent = [name for name, lead in case.against_best.items() if lead.equivalent]
    undecided = [name for name, lead in case.against_best.items() if _undecided(lead)]
    candidates = [name for name in (best, *equivalent) if case.worth(name)]
    if not candidates:
        return _no_winner(case, [*undecided, *equivalent]), None
    recommended, _ = cheapest(candidates, case.costs)
    if recommended != best:
        return _cheaper(case, recommended, undecided), recommended
    if undecided:
        return _no_winner(case, undecided), None
    return _winner(case, candidates[1:]), best


def cheapest(names: list[str], costs: Mapping[str, MethodCost]) -> tuple[str, str | None]:
    """The cheapest of the methods, and by what: price, else device-hours, of training and of
    classifying 1,000 texts. The first one where none is CLEARLY quicker than it; and None beside
    it, where neither is known of all."""
    for what, of in (("price", price), ("time", hours)):
        values = {name: of(costs[name]) for name in names}
        known = {name: value for name, value in values.items() if value is not None}
        if len(known) == len(names):
            least = min(names, key=known.__getitem__)
            clear = what == "price" or known[least] < CLEARLY * known[names[0]]
            return least if clear else names[0], what
    return names[0], None


def price(cost: MethodCost) -> float | None:
    """What training and classifying 1,000 texts cost together."""
    if cost.train_price is None or cost.price_per_1000 is None:
        return None
    return cost.train_price + cost.price_per_1000


def hours(cost: MethodCost) -> float | None:
    """Device-hours of training, and hours of classifying 1,000 texts, together."""
    if cost.predict_seconds_per_1000 is None:
        return None
    trained = cost.device_hours
    if trained is None:
        if cost.trainable_parameters != 0:
            return None
        trained = 0.0
    return trained + cost.predict_seconds_per_1000 / 3600


def on_what(statistics: Statistics) -> str:
    """What methods were compared on: 1,197 test rows, 5 folds and 3 seeds."""
    seeds = sorted(set(statistics.seeds.values()))
    count = times(seeds[-1], "seed") if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
    rows = times(statistics.rows, "test row")
    if statistics.folds == 1:
        return f"{rows} and {count}"
    return f"{rows}, {times(statistics.folds, 'fold')} and {count}"


def against(statistics: Statistics, best: str, other: str) -> Difference:
    """Difference of the best minus the other; equal scores may stand the other way round."""
    for pair in statistics.differences:
        if (pair.a, pair.b) == (best, other):
            return pair
        if (pair.a, pair.b) == (other, best):
            return turned(pair)
    raise AssertionError(f"no difference between {best} and {other}")


def turned(pair: Difference) -> Difference:
    """A difference seen from the other side: b minus a."""
    mcnemar = pair.mcnemar
    if mcnemar is not None:
        mcnemar = replace(mcnemar, only_a=mcnemar.only_b, only_b=mcnemar.only_a)
    return replace(
        pair,
        a=pair.b,
        b=pair.a,
        value=-pair.value,
        low=-pair.high,
        high=-pair.low,
        holm_low=-pair.holm_high,
        holm_high=-pair.holm_low,
        mcnemar=mcnemar,
    )


def _undecided(pair: Difference) -> bool:
    return not pair.equivalent and not significant(pair)


def _nothing(case: _Case) -> str:
    """The sentence where no method is better than the prior by more than does not matter."""
    lead = case.leads.get(case.best)
    rows, only = on_what(case.statistics), not case.against_best
    has = f"{case.best}, {'the only method' if only else 'the best'}, has {case.metric} "
    has += case.score(case.best)
    if lead is None or lead.value <= 0:
        said = f"{has}, no better than {case.prior}; measured on {rows}"
        return f"Nothing here is worth shipping: {said}."
    floor = f"{case.prior} ({score(case.value(case.best) - lead.value)}"
    if lead.equivalent:
        said = f"{has}, within {case.margin} of {floor}); measured on {rows}"
        return f"Nothing here is worth shipping: {said}."
    return (
        f"Nothing here is worth shipping yet: {has}, but {rows} cannot tell it from {floor}, "
        f"{p_is(lead.p_holm)})."
    )


def _alone(case: _Case) -> str:
    start = (
        f"{case.best} is the only method, so there is nothing to compare it with: {case.metric} "
        f"{case.score(case.best)}"
    )
    if case.leads:
        lead = case.leads[case.best]
        prior = score(case.value(case.best) - lead.value)
        start += f", significantly above the {prior} of {case.prior} ({p_is(lead.p_holm)})"
    return f"{start}; measured on {on_what(case.statistics)}."


def _winner(case: _Case, equivalent: list[str]) -> str:
    """The sentence where every other method is significantly worse, or equivalent and not
    cheaper."""
    start = f"Ship {case.best}: {case.metric} {case.score(case.best)}, "
    worse = [name for name in case.against_best if name not in equivalent]
    said = []
    if worse:
        nearest = min(worse, key=lambda name: case.against_best[name].value)
        lead = case.against_best[nearest]
        others = "all others" if not equivalent else joined(worse)
        said.append(
            f"significantly better than {others} (smallest lead {score(lead.value)} over "
            f"{nearest}, {p_is(lead.p_holm)})"
        )
    if equivalent:
        _, by = cheapest([case.best, *equivalent], case.costs)
        them = "it" if len(equivalent) == 1 else "them"
        cheaper = {
            "price": f"no dearer than {them}",
            "time": f"it takes less than twice the time of {them}",
            None: f"of unknown cost beside {them}",
        }[by]
        said.append(f"within {case.margin} of {joined(equivalent)}, and {cheaper}")
    return f"{start}{'; '.join(said)}; measured on {on_what(case.statistics)}."


def _cheaper(case: _Case, recommended: str, undecided: list[str]) -> str:
    sentence = (
        f"Ship {recommended}: {case.metric} {case.score(recommended)}, within {case.margin} of the "
        f"best ({case.best}, {score(case.value(case.best))}) {_share(case, recommended)}"
    )
    if undecided:
        rows = times(case.statistics.rows, "test row")
        sentence += f"; {rows} leave open how {joined(undecided)} would compare"
    return f"{sentence}; measured on {on_what(case.statistics)}."


def _share(case: _Case, name: str) -> str:
    """The cost as a share of another's, at 60% of its training time; whichever figure decided."""
    _, by = cheapest([case.best, name], case.costs)
    ours, best = case.costs[name], case.costs[case.best]
    if by == "price":
        return f"at {_percent(price(ours), price(best))} of its price"
    if ours.train_seconds and best.train_seconds and ours.train_seconds < best.train_seconds:
        return f"at {_percent(ours.train_seconds, best.train_seconds)} of its training time"
    return f"at {_percent(hours(ours), hours(best))} of its time for training and 1,000 texts"


def _percent(part: float | None, whole: float | None) -> str:
    share = (part or 0.0) / whole if whole else 1.0
    return "less than 1%" if share < 0.01 else f"{share:.0%}"


def _no_winner(case: _Case, undecided: list[str]) -> str:
    others = times(len(undecided), "other method")
    if len(undecided) < 4:
        others = joined(undecided, "or")
    ending = _cheapest_of(case, [n for n in (case.best, *undecided) if case.worth(n)])
    return (
        f"No clear winner: {case.best} leads with {case.metric} {case.score(case.best)}, but "
        f"{on_what(case.statistics)} can neither tell it from {others} nor show that they are "
        f"within {case.margin} of each other{ending}."
    )


def _cheapest_of(case: _Case, names: list[str]) -> str:
    """An ending that says which of the methods is the cheapest, where one clearly is."""
    by = cheapest(names, case.costs)[1] if len(names) > 1 else None
    if by is None:
        return ""
    known = {name: (price if by == "price" else hours)(case.costs[name]) or 0.0 for name in names}
    first, second = sorted(names, key=known.__getitem__)[:2]
    if by == "time" and known[first] >= CLEARLY * known[second]:
        return ""
    comparative = "cheaper of the two" if len(names) == 2 else "cheapest of these"
    return f"; {first} is the {comparative} by {by}"


def _reason(case: _Case, name: str) -> str:
    """How a method stands to the best one."""
    lead = case.against_best[name]
    facts = f"{score(lead.value)} {interval(lead.holm_low, lead.holm_high)}, {p_is(lead.p_holm)}"
    if significant(lead) and lead.equivalent:
        return (
            f"{name}: significantly worse than {case.best}, but within {case.margin} of it "
            f"(by {facts})."
        )
    if significant(lead):
        return f"{name}: significantly worse than {case.best} (by {facts})."
    if lead.equivalent:
        return (
            f"{name}: equivalent to {case.best}, within {case.margin} (behind by {facts}; of a "
            f"larger difference {p_is(lead.p_equivalent)})."
        )
    return (
        f"{name}: undecided, neither significantly worse than {case.best} nor shown to be within "
        f"{case.margin} of it (behind by {facts}; {on_what(case.statistics)})."
    )
