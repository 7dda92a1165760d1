"""From finished runs to an :class:`~llmclf.report.analysis.Analysis`: everything is computed here,
once, and rendered elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from statistics import fmean

from llmclf.evaluate.paired import compare
from llmclf.invisible import quoted
from llmclf.report.analysis import Analysis, BreakEven
from llmclf.report.break_even import break_even
from llmclf.report.config import ReportConfig
from llmclf.report.group import REFERENCES, Groups, MethodRuns, group, labelled_rows
from llmclf.report.method import method_report
from llmclf.report.prior import knowing, leads, prior_of
from llmclf.report.verdict import verdict
from llmclf.run_folder.read import Finished


def analyse(
    runs: Sequence[Finished], config: ReportConfig, *, title: str, failed: Sequence[str] = ()
) -> Analysis:
    """Compare the methods that the runs are of.

    ``failed``: lines on runs that could not be used, shown with what else is left out. Raises
    DataError, naming folders, for runs that cannot be compared.
    """
    groups = group(runs)
    methods = {method.name: method for method in groups.methods}
    known = prior_of(groups.methods)
    statistics = compare(
        {name: method.tested for name, method in methods.items()},
        prior=() if known is None or known.same_as else known.tested,
        metric=config.metric,
        margin=config.margin,
        resamples=config.resamples,
    )
    reports = {name: method_report(method, config) for name, method in methods.items()}
    first = groups.methods[0].first
    curves, noted = budgets(groups, config)
    return Analysis(
        title=title,
        config=config,
        labels=first.labels,
        multilabel=first.test.multilabel,
        verdict=verdict(
            statistics,
            {name: report.cost for name, report in reports.items()},
            leads={} if known is None else leads(statistics, known.same_as),
            prior="" if known is None else known.words,
        ),
        statistics=statistics,
        methods=tuple(
            sorted(
                reports.values(),
                key=lambda m: (-statistics.estimates[m.name][config.metric].value, m.name),
            )
        ),
        audit=first.audit,
        source=str(first.experiment.get("data.source") or ""),
        left_out=(*failed, *groups.left_out, *noted, *_untested(groups.methods[0])),
        break_even=curves,
        created=_created(first),
        published=dict(map(_published, config.published)),
        prior=_prior(groups.methods),
    )


def _prior(methods: Sequence[MethodRuns]) -> dict[str, float]:
    """Scores of the prior, mean over test sets, from the method that knew most labels."""
    firsts = knowing(methods).first_of_units
    return {
        key: fmean(r.results["prior"][key] for r in firsts)
        for key in ("accuracy", "macro_f1", "nll")
    }


def budgets(groups: Groups, config: ReportConfig) -> tuple[BreakEven | None, list[str]]:
    """Scores over the number of labelled rows, where a method was run with several; and what could
    not be shown of them."""
    if all(len(method.budgets) == 1 for method in groups.methods):
        return None, []
    rows, noted = labelled_rows(groups.methods), []
    per_class: dict[int, int | None] = {}
    for budget in sorted(rows, key=lambda b: (b is None, b)):
        if rows[budget] in per_class:
            noted.append(
                f"{per_class[rows[budget]]} labelled rows of each class are as many rows in all as "
                f"{'there are' if budget is None else budget}; the latter are shown."
            )
        per_class[rows[budget]] = budget
    curves = {
        method.name: {
            rows[budget]: [repeat.tested for repeat in repeats]
            for budget, repeats in method.budgets.items()
        }
        for method in groups.methods
    }
    references = [m.name for m in groups.methods if m.first.method in REFERENCES]
    scored = break_even(
        curves,
        per_class=per_class,
        references=references,
        metric=config.metric,
        resamples=config.resamples,
    )
    return scored, noted


def _untested(method: MethodRuns) -> list[str]:
    """Labels that no test row has, which decide macro-F1 all the same."""
    lines = []
    for index, label in enumerate(method.first.labels):
        sets = [
            run
            for run in method.first_of_units
            if not (
                run.test.targets[:, index] if run.test.multilabel else run.test.targets == index
            ).any()
        ]
        if sets:
            which = "" if len(method.first_of_units) == 1 else f" in {len(sets)} of the test sets"
            lines.append(
                f"label {quoted(label)} has no test row{which}: it counts 0 in macro-F1 there."
            )
    return lines


def _created(run: Finished) -> str:
    today = datetime.now(UTC).date().isoformat()
    commit = run.environment.get("git_commit")
    return f"{today}, commit {commit[:12]}" if isinstance(commit, str) else today


def _published(text: str) -> tuple[str, float]:
    name, _, value = text.rpartition("=")
    return name.strip(), float(value)
