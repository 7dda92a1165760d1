"""The twelve parts of the page, in order; a part without data says so in one line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from llmclf.config import flatten
from llmclf.report import data_tables as data
from llmclf.report import detail_tables as details
from llmclf.report import tables
from llmclf.report.analysis import Analysis, MethodReport
from llmclf.report.figures import lines, panels, price, scores
from llmclf.report.figures.draw import Drawn
from llmclf.report.grid import Column, Grid
from llmclf.report.texts import visible, visible_lines
from llmclf.report.words import PROSE, metric_name, score, times, whole


@dataclass(frozen=True, kw_only=True)
class Block:
    """What a part is made of: figures, tables, sentences or a command."""

    heading: str = ""
    text: str = ""
    figures: tuple[Drawn, ...] = ()
    layout: str = "pair"
    """Class of the figures' box: one, pair or many."""
    tables: tuple[Grid, ...] = ()
    items: tuple[str, ...] = ()
    command: str = ""
    beside: bool = False
    """Whether the figure's numbers and the sentences stand next to it and not below."""
    open: bool = True
    """Whether numbers beside a figure are open from the start."""
    folded: bool = False
    """Whether the block opens only on a click, below its heading."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A section of the page."""

    key: str
    title: str
    blocks: tuple[Block, ...] = ()
    missing: str = ""
    """Why the part shows nothing; "" where there is something."""


def parts(analysis: Analysis) -> list[Part]:
    """All parts of the page. Raises KeyError for a method that the statistics lack."""
    makers: tuple[Callable[[Analysis], Part], ...] = (
        _comparison, _learning, _confusion, _calibration, _cost, _labels, _coverage, _break_even,
        _lengths, _rows, _mistakes, _repeat,
    )  # fmt: skip
    return [make(analysis) for make in makers]


def _repeated(analysis: Analysis) -> bool:
    """Whether there is more than one seed or fold, to tell their error from that of the rows."""
    return analysis.statistics.folds > 1 or max(analysis.statistics.seeds.values(), default=1) > 1


def _part(key: str, title: str, blocks: list[Block], missing: str) -> Part:
    return Part(key=key, title=title, blocks=tuple(blocks), missing="" if blocks else missing)


def _comparison(analysis: Analysis) -> Part:
    metric = metric_name(analysis.statistics.metric)
    spread = tables.intervals(analysis).measured()
    repeated, figure = _repeated(analysis), scores.score_intervals(analysis)
    title = "Where the uncertainty comes from" if repeated else "Scores and intervals"
    decisive = replace(spread.where("score", metric).without("score"), title=title)
    costs = tables.costs(analysis).without("s per 1,000 texts").measured()
    blocks = [
        Block(tables=(headline(analysis), costs)),
        Block(figures=(figure if repeated else replace(figure, numbers=decisive),),
              tables=(decisive,) if repeated else ()),
        Block(heading="Every score with its interval", tables=(spread,), folded=True),
    ]  # fmt: skip
    if analysis.statistics.differences:
        pairs = tables.differences(analysis).without(*tables.OF_ONE_PAIR)
        blocks.insert(2, Block(heading="Every pair of methods", tables=(pairs,)))
    return _part("comparison", "Which method is best", blocks, "")


def headline(analysis: Analysis) -> Grid:
    """The main table: scores in the order of their weight, published ones below the measured;
    without the costs, which have a table of their own."""
    metric = metric_name(analysis.config.metric)
    grid = tables.scores(analysis).without(*tables.COST_TITLES).measured()
    if len(set(analysis.statistics.seeds.values())) == 1:
        grid = grid.without("seeds")  # the facts at the top have them
    titles = [c.title for c in grid.columns]
    names = [title for title in ("method", "model") if title in titles]
    first = ["run", metric, *tables.DECISIVE]
    grid = grid.only([*first, *(t for t in titles if t not in (*first, *names)), *names])
    rows, place = [], names[-1]  # where there is room
    for name, value in tables.published(analysis).rows:
        known = {"run": name, metric: value, place: "published, not measured here"}
        rows.append(tuple(known.get(c.title) for c in grid.columns))
    styles = dict(grid.styles) | dict.fromkeys(analysis.published, "published")
    return replace(grid, rows=(*grid.rows, *rows), styles=styles)


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
        labels, chosen = analysis.labels, panels.most_confused(confusions)
        drawn = [
            panels.confusion_matrix(m.name, c, labels, chosen, f"confusion-{i}")
            for i, (m, c) in enumerate(known)
        ]
        if len(chosen) == len(labels):
            squares = [_square(analysis, m.name) for m, _ in known]
            drawn = [replace(d, numbers=s) for d, s in zip(drawn, squares, strict=True)]
        text = "Each row adds up to 100%: how the rows of a label were classified."
        if len(chosen) < len(labels):
            text += (
                f" Of {len(labels)} labels the {len(chosen)} most confused are drawn, the same for "
                "all methods, so a row may add up to less; tables list the commonest confusions."
            )
        layout = "many" if len(labels) <= 4 else "pair"
        blocks.append(Block(figures=tuple(drawn), layout=layout, text=text))
        if len(known) > 1:
            pair = (known[0][0].name, known[1][0].name)
            figure = panels.confusion_difference(
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


def _square(analysis: Analysis, name: str) -> Grid:
    """Counts of one method's rows by true and predicted label."""
    square = details.confusion(analysis).where("run", name).pivot("true", "predicted", "rows")
    return replace(square, title=f"Rows by true and predicted label, {name}", note="")


def _calibration(analysis: Analysis) -> Part:
    drawn = tuple(
        panels.reliability(m.name, m.calibration, f"reliability-{i}")
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
        [
            Block(figures=drawn, layout="many", text=text),
            Block(heading="Before and after", tables=(details.calibration(analysis),)),
        ]
        if drawn
        else [],
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
        [Block(figures=figures, text=_precisions(analysis))] if figures else [],
        "No run measured a cost, and no price was given.",
    )


def _precisions(analysis: Analysis) -> str:
    """What keeps speeds from being compared: language models that predict in different
    precisions."""
    names: dict[str, list[str]] = {}
    for method in analysis.methods:
        if method.predict_precision is not None:
            names.setdefault(method.predict_precision, []).append(visible(method.name))
    if len(names) < 2:
        return ""
    groups = "; ".join(f"{', '.join(names[key])} in {visible(key)}" for key in sorted(names))
    return (
        f"Predicted by {groups}: speeds compare within a precision. Prompts take that of "
        "--prompt.precision."
    )


def _labels(analysis: Analysis) -> Part:
    shown = bool(analysis.methods[0].labels)
    numbers = details.per_label(analysis).pivot("label", "run", "F1", beside=["test rows"])
    numbers = replace(numbers, title="F1 of each label")
    figures = (replace(scores.label_scores(analysis), numbers=numbers),) if shown else ()
    few = len(analysis.labels) <= scores.MOST_LABELS
    return _part(
        "labels",
        "Which labels are hard",
        [Block(figures=figures, layout="one", beside=True, open=few)] if shown else [],
        "The best method has no scores by label.",
    )


def _coverage(analysis: Analysis) -> Part:
    numbers = details.coverage(analysis).without("accuracy at 95%")
    blocks = []
    if numbers.rows:
        narrow = (replace(c, title=c.title.removeprefix("accuracy ")) for c in numbers.columns)
        numbers = replace(numbers, title="Accuracy by share answered", columns=tuple(narrow))
        figure = replace(lines.coverage(analysis.methods), numbers=numbers)
        blocks.append(Block(figures=(figure,), layout="one", beside=True))
    missing = "No run has probabilities to rank rows by."
    return _part("coverage", "Leaving the unsure rows to people", blocks, missing)


def _break_even(analysis: Analysis) -> Part:
    study = analysis.break_even
    blocks = []
    if study is not None and study.curves:
        order = [m.name for m in analysis.methods]
        metric = metric_name(analysis.statistics.metric)
        said = tuple(visible(lines.crossing_sentence(c)) for c in study.crossings)
        figure = lines.break_even(study, order, metric)
        figure = replace(figure, numbers=details.budgets(analysis))
        blocks.append(Block(figures=(figure,), layout="one", items=said, beside=True, open=False))
        if study.crossings:
            blocks.append(Block(tables=(details.crossings(analysis),)))
    return _part(
        "break-even",
        "How many labels pay off",
        blocks,
        "The runs share one number of labelled rows, so there is no break-even curve.",
    )


def _lengths(analysis: Analysis) -> Part:
    grid = details.lengths(analysis)
    blocks = []
    if grid.rows:
        start = f"{details.length_unit(analysis.methods)} from"
        numbers = grid.pivot(start, "run", "macro-F1", beside=["to", "rows"])
        numbers = replace(numbers, title="Macro-F1 by length")
        figure = replace(scores.length_scores(analysis.methods), numbers=numbers)
        blocks.append(Block(figures=(figure,), layout="one", beside=True))
    missing = "No run folder holds the texts, so their length is not known."
    return _part("lengths", "Short and long texts", blocks, missing)


def _rows(analysis: Analysis) -> Part:
    counts, labels = data.rows(analysis).measured(), data.classes(analysis)
    blocks = []
    if counts.rows:
        blocks.append(Block(items=data.remarks(analysis), tables=(counts,)))
    if labels.rows:
        heading = labels.title
        blocks.append(Block(heading=heading, tables=(labels,), folded=len(labels.rows) > 12))
    return _part(
        "rows", "What was learnt from", blocks, "The runs do not say how many rows they had."
    )


def _mistakes(analysis: Analysis) -> Part:
    blocks = []
    for grid, title in (
        (details.errors(analysis), "The most confident mistakes"),
        (details.suspects(analysis), "Labels that may be wrong"),
    ):
        for i, name in enumerate(dict.fromkeys(grid.values("run"))):
            heading = f"{title}: {visible(name, 80)}"
            one = replace(grid.where("run", name).without("run"), title=heading)
            blocks.append(Block(heading=heading, tables=(one,), folded=i > 0))
    repeated = [g for g in (details.seen(analysis), details.repeats(analysis)) if g.rows]
    if repeated:
        blocks.append(Block(heading="Rows that training has seen", tables=tuple(repeated)))
    missing = "No mistakes, suspected labels or repeated rows were found."
    return _part("mistakes", "Mistakes worth a look", blocks, missing)


def _repeat(analysis: Analysis) -> Part:
    blocks = [_settings(m, folded=i > 0) for i, m in enumerate(analysis.methods)]
    return _part("repeat", "Settings, versions and how to repeat a run", blocks, "")


def _settings(m: MethodReport, *, folded: bool) -> Block:
    shown = [
        _flat(values, f"{what} of {visible(m.name, 80)}")
        for what, values in (("Settings", m.settings), ("Environment", m.environment))
        if values
    ]
    folders = ", ".join(visible(folder, 200) for folder in m.folders)
    return Block(
        heading=visible(m.name, 80),
        text=f"First of {times(len(m.folders), 'run')}: {folders}." if m.folders else "",
        command=visible_lines(m.command),
        tables=tuple(shown),
        folded=folded,
    )


def _flat(values: dict[str, Any], title: str) -> Grid:
    """A table of keys and values, nested ones with dotted keys."""
    rows = tuple(
        (key, ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value)
        for key, value in flatten(values).items()
    )
    rows = tuple((key, None if value == "" else value) for key, value in rows)
    return Grid("settings", title, (Column("setting"), Column("value", PROSE)), rows)


def facts(analysis: Analysis) -> list[tuple[str, str]]:
    """Figures for the top of the page: name and value."""
    stats, shipped = analysis.statistics, analysis.verdict.recommended
    estimate = stats.estimates.get(shipped or analysis.verdict.best, {}).get(stats.metric)
    sizes = [
        (data.SPLITS[split], data.row_count(analysis, split)) for split in ("train", "validation")
    ]
    sizes += [("conflicting", data.conflicting(analysis)), ("dropped", data.dropped(analysis))]
    whose = "what to ship" if shipped else "the best"
    seeds = set(stats.seeds.values())
    named = [
        (f"{metric_name(stats.metric)} of {whose}", score(estimate.value) if estimate else ""),
        ("test rows", f"{stats.rows:,}"),
        *((f"{name} rows", whole(n)) for name, n in sizes if n),
        ("labels" + (", several a row" if analysis.multilabel else ""), str(len(analysis.labels))),
        ("methods compared", str(len(analysis.methods))),
        ("folds", str(stats.folds) if stats.folds > 1 else ""),
        ("seeds", str(seeds.pop()) if len(seeds) == 1 and max(seeds) > 1 else ""),
        ("margin that does not matter", f"{stats.margin:g}"),
    ]  # fmt: skip
    return [(name, value) for name, value in named if value]
