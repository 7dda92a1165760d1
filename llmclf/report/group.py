"""From runs to methods: which runs are one method, on which test sets and with which seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from llmclf.config import DataError, plain
from llmclf.evaluate.paired import Tested
from llmclf.invisible import quoted
from llmclf.report.align import require_equal, same_labels, same_rows, test_set
from llmclf.run_folder.read import Finished

REPEATS = {"seed", "output_dir", "data.fold", "data.seed", "data.labels_per_class"}
"""Settings in which the runs of one method may differ, trackers aside."""
REFERENCES = ("prompt", "zero_shot", "classical", "majority")
"""Methods that others must beat to be worth their labels."""
_ABSENT = "not set"


@dataclass(frozen=True, eq=False, kw_only=True)
class Repeat:
    """One run of a method."""

    unit: int
    """Index of the test set that the run was tested on."""
    run: Finished

    @property
    def tested(self) -> Tested:
        return Tested(fold=self.unit, seed=self.run.seed, predictions=self.run.test)


@dataclass(frozen=True, eq=False, kw_only=True)
class MethodRuns:
    """The runs of one method: they differ in fold, seed and number of labelled rows alone."""

    name: str
    budgets: Mapping[int | None, tuple[Repeat, ...]]
    """Labelled rows of each class (None: all there were) -> the method's runs, by test set and
    seed; from few to many."""

    @property
    def budget(self) -> int | None:
        """The largest number of labelled rows of each class; None: all there were."""
        return list(self.budgets)[-1]

    @property
    def repeats(self) -> tuple[Repeat, ...]:
        """The runs with the most labelled rows."""
        return self.budgets[self.budget]

    @property
    def tested(self) -> tuple[Tested, ...]:
        return tuple(repeat.tested for repeat in self.repeats)

    @property
    def first(self) -> Finished:
        return self.repeats[0].run

    @property
    def first_of_units(self) -> tuple[Finished, ...]:
        """The run with the first seed, of each test set."""
        return tuple({r.unit: r.run for r in reversed(self.repeats)}.values())[::-1]


@dataclass(frozen=True, eq=False, kw_only=True)
class Groups:
    """Methods on the same test sets, with labels and rows in the same order."""

    methods: tuple[MethodRuns, ...]
    left_out: tuple[str, ...]


def group(runs: Sequence[Finished]) -> Groups:
    """Sort runs into methods.

    Raises DataError, naming folders, if there are none, if they did not use the same rows and
    labels, or if the runs of one method differ in more than REPEATS.
    """
    if not runs:
        raise DataError("nothing to compare: give one or more folders of finished runs.")
    repeats = _repeats(same_labels(runs))
    _check_membership(repeats)
    named = _named(repeats)
    for name, members in named.items():
        _check_settings(name, [r.run for r in members])
    kept = _common_test_sets(named)
    if any(kept.isdisjoint(r.unit for r in members) for members in named.values()):
        require_equal("rows in each split", runs, lambda run: run.membership[:12])
        raise DataError(
            "these runs differ in the true labels of their test rows: "
            + plain(", ".join(str(run.folder) for run in runs))
        )
    _check_overlap([r for r in repeats if r.unit in kept])
    left_out = _of_test_sets(repeats, kept)
    methods = []
    for name, members in named.items():
        budgets, lacking = _complete(name, members, kept)
        left_out += lacking
        if budgets:
            methods.append(MethodRuns(name=name, budgets=budgets))
    if not methods:
        raise DataError("these runs differ in the test rows:\n" + "\n".join(left_out))
    return Groups(methods=tuple(methods), left_out=(*left_out, *_of_budgets(methods)))


def _repeats(runs: Sequence[Finished]) -> list[Repeat]:
    """Runs with the index of their test set, ordered by test set and seed."""
    keys = [test_set(run) for run in runs]
    firsts: dict[str, Finished] = {}
    for key, run in sorted(zip(keys, runs, strict=True), key=lambda pair: _order(pair[1])):
        firsts.setdefault(key, run)
    index = {key: unit for unit, key in enumerate(firsts)}
    repeats = [
        Repeat(unit=index[key], run=same_rows(run, firsts[key]))
        for key, run in zip(keys, runs, strict=True)
    ]
    return sorted(repeats, key=lambda r: (r.unit, r.run.seed))


def _order(run: Finished) -> tuple[int, int]:
    return run.fold, run.seed


def _check_membership(repeats: Sequence[Repeat]) -> None:
    """Equal test rows must come with equal training rows; fewer labels are drawn by seed."""
    same: dict[tuple, list[Finished]] = {}
    for r in repeats:
        budget = r.run.labels_per_class
        same.setdefault((r.unit, budget, budget and r.run.seed), []).append(r.run)
    for runs in same.values():
        require_equal("rows in each split", runs, lambda run: run.membership[:12])


def _check_overlap(repeats: Sequence[Repeat]) -> None:
    """Test sets are those of folds, which share no row: else rows would be counted twice."""
    of: dict[str, Repeat] = {}
    for one in {r.unit: r for r in repeats}.values():
        for id_ in one.run.test.ids:
            other = of.setdefault(id_, one)
            if other is not one:
                shared = len(set(other.run.test.ids) & set(one.run.test.ids))
                raise DataError(
                    plain(
                        f"the test rows of {other.run.folder} and {one.run.folder} are not the "
                        f"same, but they share {shared:,}, such as {quoted(id_)}, so these are "
                        "neither seeds on one test set nor folds. Run all with one --data.seed, so "
                        "that --seed leaves the test rows alone, or with --data.folds, or compare "
                        "them apart."
                    )
                )


def _named(repeats: Sequence[Repeat]) -> dict[str, list[Repeat]]:
    """Runs by name. Runs of one name that cannot be repeats of one method are told apart by the
    folder they lie in, or by their own."""
    named: dict[str, list[Repeat]] = {}
    for r in repeats:
        named.setdefault(plain(r.run.name), []).append(r)
    methods: dict[str, list[Repeat]] = {}
    for name, members in named.items():
        if _distinct(members):
            methods[name] = members
            continue
        parents: dict[Any, list[Repeat]] = {}
        for r in members:
            parents.setdefault(r.run.folder.parent, []).append(r)
        if all(map(_distinct, parents.values())) and any(len(m) > 1 for m in parents.values()):
            methods |= {plain(f"{name} ({parent})"): m for parent, m in parents.items()}
        else:
            methods |= {plain(f"{name} ({r.run.folder})"): [r] for r in members}
    return methods


def _distinct(members: Sequence[Repeat]) -> bool:
    return len({(r.unit, r.run.seed, r.run.labels_per_class) for r in members}) == len(members)


def _check_settings(name: str, runs: Sequence[Finished]) -> None:
    keys = sorted({key for run in runs for key in run.experiment})
    for key in keys:
        if key in REPEATS or key.startswith("track."):
            continue
        folders: dict[str, list[str]] = {}
        for run in runs:
            value = quoted(run.experiment[key]) if key in run.experiment else _ABSENT
            folders.setdefault(value, []).append(str(run.folder))
        if len(folders) > 1:
            listing = "\n".join(plain(f"  {value}: {', '.join(f)}") for value, f in folders.items())
            raise DataError(
                f"{name}: its runs differ in {key}, so they are not repeats of one method:\n"
                f"{listing}\nGive them names of their own (--name), or compare them apart."
            )


def _common_test_sets(named: Mapping[str, Sequence[Repeat]]) -> set[int]:
    """The test sets to compare on: those of one method that make the most runs, counting each
    method that has them all; of equal ones, those with the most methods.

    So one method that failed on a fold is left out, and a fold that one method alone has leaves out
    no other.
    """
    sets = [
        frozenset(r.unit for r in budget)
        for members in named.values()
        for budget in _by_budget(members).values()
    ]

    counts = [sum(kept <= units for units in sets) for kept in sets]
    _, _, best = max((len(kept) * n, n, sorted(kept)) for kept, n in zip(sets, counts, strict=True))
    return set(best)


def _of_test_sets(repeats: Sequence[Repeat], kept: set[int]) -> list[str]:
    """Runs on test sets that not all methods have."""
    others = [r for r in repeats if r.unit not in kept]
    if not others:
        return []
    folders = ", ".join(str(r.run.folder) for r in others)
    sets = len({r.unit for r in others})
    which = "a test set" if sets == 1 else f"{sets} test sets"
    return [plain(f"runs on {which} that the other methods lack: {folders}.")]


def _by_budget(members: Sequence[Repeat]) -> dict[int | None, list[Repeat]]:
    """Runs by labelled rows of each class, from few to many."""
    by_budget: dict[int | None, list[Repeat]] = {}
    for r in sorted(members, key=_budget_order):
        by_budget.setdefault(r.run.labels_per_class, []).append(r)
    return by_budget


def _budget_order(repeat: Repeat) -> tuple[bool, int]:
    budget = repeat.run.labels_per_class
    return budget is None, budget or 0


def _complete(
    name: str, members: Sequence[Repeat], everywhere: set[int]
) -> tuple[dict[int | None, tuple[Repeat, ...]], list[str]]:
    """Budgets of a method with which it ran on all test sets, from few labels to many, and what is
    left out."""
    complete, left_out = {}, []
    for budget, runs in _by_budget(members).items():
        units = {r.unit for r in runs} & everywhere
        if units == everywhere:
            complete[budget] = tuple(r for r in runs if r.unit in everywhere)
            continue
        folders = ", ".join(str(r.run.folder) for r in runs)
        which = "" if budget is None else f" with {budget} labelled rows of each class"
        left_out.append(
            plain(
                f"{name}{which}: tested on {len(units)} of the {len(everywhere)} test sets of "
                f"these runs, so it cannot be compared ({folders})."
            )
        )
    return complete, left_out


def _of_budgets(methods: Sequence[MethodRuns]) -> list[str]:
    """Where the main tables show a method with fewer labels than others."""
    if len({m.budget for m in methods}) == 1:
        return []
    return [
        f"{m.name}: shown with {m.budget} labelled rows of each class, the most it was run with."
        for m in methods
        if m.budget is not None
    ]


def labelled_rows(methods: Sequence[MethodRuns]) -> dict[int | None, int]:
    """Labelled rows of each class -> labelled rows in all, training and validation, mean over
    runs."""
    counts: dict[int | None, list[int]] = {}
    for method in methods:
        for budget, repeats in method.budgets.items():
            sizes = [repeat.run.rows.sizes for repeat in repeats]
            counts.setdefault(budget, []).extend(s["train"] + s["validation"] for s in sizes)
    return {budget: round(fmean(totals)) for budget, totals in counts.items()}
