"""The eleven parts of the page, in order; a part without data says so in one line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from llmclf.report import html_tables as tables
from llmclf.report.analysis import Analysis, MethodReport
from llmclf.report.figures import grids, lines, price, scores
from llmclf.report.figures.draw import Drawn
from llmclf.report.show import metric_name, score, visible
from llmclf.report.table import Table


@dataclass(frozen=True, kw_only=True)
class Block:
    """Something of a part: figures, tables, sentences or a command."""

    heading: str = ""
    text: str = ""
    figures: tuple[Drawn, ...] = ()
    layout: str = "pair"
    """Class of the figures' box: one, pair or many."""
    tables: tuple[Table, ...] = ()
    items: tuple[str, ...] = ()
    command: str = ""
    beside: bool = False
    """Whether the figure's numbers and the sentences stand next to it and not below."""
    open: bool = True
    """Whether numbers beside a figure are open from the start."""
    folded: bool = False
    """Whether it opens only on a click, below its heading."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A section of the page."""

    key: str
    title: str
    blocks: tuple[Block, ...] = ()
    missing: str = ""
    """Why there is nothing; "" where there is something."""


def parts(analysis: Analysis) -> list[Part]:
    """All parts. Raises KeyError for a method that the statistics lack."""
    makers: tuple[Callable[[Analysis], Part], ...] = (
        _comparison, _learning, _confusion, _calibration, _cost, _labels, _coverage, _break_even,
        _lengths, _mistakes, _repeat,
    )  # fmt: skip
    return [make(analysis) for make in makers]


def _repeated(analysis: Analysis) -> bool:
    """Whether there is more than one seed or fold, to tell their error from that of the rows."""
    return analysis.statistics.folds > 1 or max(analysis.statistics.seeds.values(), default=1) > 1


def _part(key: str, title: str, blocks: list[Block], missing: str) -> Part:
    return Part(key=key, title=title, blocks=tuple(blocks), missing="" if blocks else missing)


def _comparison(analysis: Analysis) -> Part:
    compared, costs, absent = tables.headline(analysis)
    legend = tables.LEGEND.format(margin=analysis.statistics.margin)
    bold = "Bold: the best of its column."
    if absent:
        bold += f" Measured in no run, so left out: {', '.join(absent)}."
    blocks = [
        Block(tables=(compared, costs), text=f"{legend} {bold}"),
        Block(figures=(scores.score_intervals(analysis),), layout="pair",
              tables=(tables.spreads(analysis),) if _repeated(analysis) else ()),
    ]  # fmt: skip
    if analysis.statistics.differences:
        blocks.append(
            Block(
                heading="Every pair of methods",
                text="Difference: the better method minus the worse one, row by row. McNemar's "
                "test counts the rows that only one of the two classified rightly (first seed of "
                "each fold).",
                tables=(tables.differences(analysis),),
            )
        )
    return _part("comparison", "Which method is best", blocks, "")


def _learning(analysis: Analysis) -> Part:
    metric = metric_name(analysis.statistics.metric)
    drawn = [lines.learning_curves(analysis.methods, over, metric) for over in lines.AXES]
    figures = tuple(figure for figure in drawn if figure is not None)
    return _part(
        "learning",
        "How fast they learn",
        [Block(figures=figures)] if figures else [],
        "No run recorded validation scores while it learnt, so there are no learning curves.",
    )


def _confusion(analysis: Analysis) -> Part:
    known = [(m, m.confusion) for m in analysis.methods if m.confusion is not None]
    blocks = []
    if known:
        confusions = [confusion for _, confusion in known]
        labels, chosen = analysis.labels, grids.most_confused(confusions)
        panels = [
            grids.confusion_matrix(m.name, c, labels, chosen, f"confusion-{i}")
            for i, (m, c) in enumerate(known)
        ]
        text = "Each row adds up to 100%: how the rows of a label were classified."
        if len(chosen) < len(labels):
            text += (
                f" Of {len(labels)} labels the {len(chosen)} most confused are drawn, the same for "
                "all methods, so a row may add up to less; tables list the commonest confusions."
            )
        layout = "many" if len(labels) <= 4 else "pair"
        blocks.append(Block(figures=tuple(panels), layout=layout, text=text))
        if len(known) > 1:
            pair = (known[0][0].name, known[1][0].name)
            figure = grids.confusion_difference(
                pair, (confusions[0], confusions[1]), labels, chosen
            )
            blocks.append(
                Block(heading="Where the two best differ", figures=(figure,), layout=layout)
            )
    reason = (
        "Rows can have several labels here, so there is no confusion matrix; see the scores by "
        "label."
        if analysis.multilabel
        else "No run has a confusion matrix."
    )
    return _part("confusion", "What is taken for what", blocks, reason)


def _calibration(analysis: Analysis) -> Part:
    panels = tuple(
        grids.reliability(m.name, m.calibration, f"reliability-{i}")
        for i, m in enumerate(analysis.methods)
        if m.calibration is not None
    )
    text = (
        "On the dotted line a method is right as often as it says. ECE: mean distance from it. T: "
        "the temperature fitted on validation rows; above 1, the method was too sure of itself."
    )
    return _part(
        "calibration",
        "Whether probabilities can be trusted",
        [Block(figures=panels, layout="many", text=text)] if panels else [],
        "No run has probabilities to calibrate.",
    )


def _cost(analysis: Analysis) -> Part:
    keys = ("cost-training", "cost-prediction", "cost-latency")
    figures = tuple(
        price.pareto(analysis, measure, key)
        for measure, key in zip(price.measures(analysis), keys, strict=True)
        if measure is not None
    )
    return _part(
        "cost",
        "What the score costs",
        [Block(figures=figures)] if figures else [],
        "No run measured a cost, and no price was given.",
    )


def _labels(analysis: Analysis) -> Part:
    shown = bool(analysis.methods[0].labels)
    figures = (scores.label_scores(analysis),) if shown else ()
    few = len(analysis.labels) <= scores.MOST_LABELS
    return _part(
        "labels",
        "Which labels are hard",
        [Block(figures=figures, layout="one", beside=True, open=few)] if shown else [],
        "The best method has no scores by label.",
    )


def _coverage(analysis: Analysis) -> Part:
    known = any(m.coverage is not None and len(m.coverage.share) for m in analysis.methods)
    return _part(
        "coverage",
        "Leaving the unsure rows to people",
        [Block(figures=(lines.coverage(analysis.methods),), layout="one", beside=True)]
        if known
        else [],
        "No run has probabilities to rank rows by.",
    )


def _break_even(analysis: Analysis) -> Part:
    found = analysis.break_even
    blocks = []
    if found is not None and found.curves:
        order = [m.name for m in analysis.methods]
        metric = metric_name(analysis.statistics.metric)
        said = tuple(visible(lines.crossing_sentence(c)) for c in found.crossings)
        figure = lines.break_even(found, order, metric)
        blocks.append(Block(figures=(figure,), layout="one", items=said, beside=True, open=False))
    return _part(
        "break-even",
        "How many labels pay off",
        blocks,
        "The runs share one number of labelled rows, so there is no break-even curve.",
    )


def _lengths(analysis: Analysis) -> Part:
    known = any(m.lengths for m in analysis.methods)
    return _part(
        "lengths",
        "Short and long texts",
        [Block(figures=(scores.length_scores(analysis.methods),), layout="one", beside=True)]
        if known
        else [],
        "No run folder holds the texts, so their length is not known.",
    )


def _mistakes(analysis: Analysis) -> Part:
    methods, blocks = analysis.methods, []
    for make, title, of in (
        (tables.confident_errors, "The most confident mistakes", "errors"),
        (tables.suspect_labels, "Labels that may be wrong", "suspects"),
    ):
        known = [m for m in methods if getattr(m, of)]
        for i, m in enumerate(known):
            heading = f"{title}: {visible(m.name, 80)}"
            blocks.append(Block(heading=heading, tables=(make(m),), folded=i > 0))
    blocks += _seen(analysis)
    missing = "No mistakes, suspected labels or repeated rows were found."
    return _part("mistakes", "Mistakes worth a look", blocks, missing)


def _seen(analysis: Analysis) -> list[Block]:
    found, metric = [], analysis.statistics.metric
    if any(m.seen is not None for m in analysis.methods):
        found.append(tables.seen_rows(analysis.methods, metric))
    if (audit := tables.audit_rows(analysis.audit)) is not None:
        found.append(audit)
    if not found:
        return []
    text = (
        f"Test rows that training or validation rows repeat, and {metric_name(metric)} without "
        "them. Splits are counted as found, before rows were dropped."
    )
    return [Block(heading="Rows that training has seen", text=text, tables=tuple(found))]


def _repeat(analysis: Analysis) -> Part:
    blocks = [_settings(m, folded=i > 0) for i, m in enumerate(analysis.methods)]
    return _part("repeat", "Settings, versions and how to repeat a run", blocks, "")


def _settings(m: MethodReport, *, folded: bool) -> Block:
    found = [
        tables.flat(values, f"{what} of {visible(m.name, 80)}")
        for what, values in (("Settings", m.settings), ("Environment", m.environment))
        if values
    ]
    folders = ", ".join(visible(folder, 200) for folder in m.folders)
    return Block(
        heading=visible(m.name, 80),
        text=f"First of {len(m.folders)} runs: {folders}." if m.folders else "",
        command=visible(m.command, 2000),
        tables=tuple(found),
        folded=folded,
    )


def facts(analysis: Analysis) -> list[tuple[str, str]]:
    """Figures for the top of the page: name and value."""
    stats, best = analysis.statistics, analysis.verdict.recommended
    estimate = stats.estimates.get(best, {}).get(stats.metric)
    found = [
        (f"{metric_name(stats.metric)} of what to ship", score(estimate.value) if estimate else ""),
        ("test rows", f"{stats.rows:,}"),
        ("labels" + (", several a row" if analysis.multilabel else ""), str(len(analysis.labels))),
        ("methods compared", str(len(analysis.methods))),
        ("folds", str(stats.folds) if stats.folds > 1 else ""),
        ("margin that does not matter", f"{stats.margin:g}"),
    ]  # fmt: skip
    return [(name, value) for name, value in found if value]
