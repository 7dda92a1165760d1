"""Figures: safe inside a strict page, the same every time, and right about what they say."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from llmclf.report.analysis import Crossing, Curve, MethodCost
from llmclf.report.figures import lines, panels, price, scores
from llmclf.report.figures.draw import Drawn, spread, style
from llmclf.report.figures.svg import svg
from tests.report.example import HOSTILE, example, hostile


def drawings(analysis) -> list[Drawn]:
    methods = analysis.methods
    confusions = [m.confusion for m in methods]
    chosen = panels.most_confused(confusions)
    names = [m.name for m in methods]
    training, prediction, alone = price.measures(analysis)
    return [
        scores.score_intervals(analysis),
        scores.label_scores(analysis),
        scores.length_scores(methods),
        *(lines.learning_curves(methods, over, "macro-F1") for over in lines.AXES),
        lines.coverage(methods),
        lines.break_even(analysis.break_even, names, "macro-F1"),
        *(
            panels.confusion_matrix(m.name, m.confusion, analysis.labels, chosen, f"c{i}")
            for i, m in enumerate(methods)
        ),
        panels.confusion_difference(
            (names[0], names[1]), (confusions[0], confusions[1]), analysis.labels, chosen
        ),
        panels.reliability(names[0], methods[0].calibration, "r0"),
        price.pareto(analysis, training, "p0"),
        price.pareto(analysis, prediction, "p1"),
        price.pareto(analysis, alone, "p2"),
    ]


@pytest.fixture(scope="module", params=["plain", "hostile"])
def drawn(request):
    return drawings(example() if request.param == "plain" else hostile())


def test_a_figure_needs_no_style_and_no_script_and_loads_nothing(drawn):
    for figure in drawn:
        root = ElementTree.fromstring(figure.svg)
        tags = {element.tag for element in root.iter()}
        assert tags <= {
            "svg", "title", "desc", "g", "path", "text", "tspan", "defs", "use", "clipPath", "rect"
        }  # fmt: skip
        for element in root.iter():
            assert not {"style", "onload", "onclick"} & set(element.attrib)
            for name, value in element.attrib.items():
                assert not (name == "href" and not value.startswith("#"))
                assert "://" not in value


def test_each_figure_has_a_name_and_says_its_numbers(drawn):
    for figure in drawn:
        root = ElementTree.fromstring(figure.svg)
        assert root.get("role") == "img"
        ids = {element.get("id"): element for element in root.iter() if element.get("id")}
        title, description = (ids[name] for name in root.get("aria-labelledby").split())
        assert (title.tag, description.tag) == ("title", "desc")
        assert title.text
        assert re.search(r"\d", description.text)


def test_ids_of_different_figures_differ_and_references_are_met(drawn):
    seen = set()
    for figure in drawn:
        root = ElementTree.fromstring(figure.svg)
        ids = [element.get("id") for element in root.iter() if element.get("id")]
        assert len(ids) == len(set(ids))
        assert not seen & set(ids)
        seen |= set(ids)
        assert set(re.findall(r"(?:url\(|href=\")#([^)\"]+)", figure.svg)) <= set(ids)


def test_no_colour_is_fixed_so_that_figures_follow_light_and_dark(drawn):
    for figure in drawn:
        assert not re.search(r"(?:fill|stroke)=\"#", figure.svg)


def test_the_same_analysis_gives_the_same_figures():
    first, second = drawings(example(methods=3)), drawings(example(methods=3))
    assert [d.svg for d in first] == [d.svg for d in second]


def test_texts_stay_text_even_between_dollars():
    figure = Figure()
    figure.text(0.5, 0.5, "a & b <c>")
    text = svg(figure, "k", HOSTILE[0], "d")
    assert "a &amp; b &lt;c&gt;" in text
    assert "<script" not in text
    assert "$</text>" not in text
    whole = "".join(d.svg for d in drawings(hostile()))
    assert "<script" not in whole and "<img" not in whole and "\x00" not in whole


def test_a_curve_is_the_mean_over_runs_up_to_where_the_shortest_ends():
    runs = [
        Curve(examples=(0.0, 10.0, 20.0), device_hours=(), score=(0.0, 0.5, 1.0)),
        Curve(examples=(0.0, 10.0), device_hours=(), score=(0.2, 0.7)),
    ]
    places, values = lines._mean_curve(runs, "examples")
    assert places.tolist() == [0, 10]
    assert values.mean(axis=0) == pytest.approx([0.1, 0.6])
    assert lines._mean_curve(runs, "device_hours") is None


def test_confusion_shares_add_up_and_an_absent_label_stays_zero():
    part = panels.shares(np.array([[3, 1], [0, 0]]))
    assert part.tolist() == [[0.75, 0.25], [0, 0]]


def test_of_many_labels_those_most_often_confused_are_shown_in_class_order():
    confusion = np.diag(np.full(77, 100))
    confusion[40, 7] = 90
    confusion[70, 3] = 80
    chosen = panels.most_confused([confusion])
    assert len(chosen) == panels.MOST_CELLS
    assert {40, 7, 70, 3} <= set(chosen.tolist())
    assert (np.diff(chosen) > 0).all()
    labels = [f"l{i}" for i in range(77)]
    assert panels._pairs(confusion, labels)[0] == ("l40", "l7", 90 / 190, 90)


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 1)), min_size=1, max_size=12))
def test_the_front_holds_just_what_nothing_dominates(points):
    costs, values = [c for c, _ in points], [v for _, v in points]
    on = price.front(costs, values)

    def beaten(i: int) -> bool:
        return any(
            c <= costs[i] and v >= values[i] and (c, v) != (costs[i], values[i]) for c, v in points
        )

    assert {points[i] for i in on} == {p for i, p in enumerate(points) if not beaten(i)}


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_labels_are_spread_within_the_panel_and_keep_their_order(places):
    moved = spread(places, 0.05, 0.0, 1.0)
    assert moved.min() >= -1e-9 and moved.max() <= 1 + 1e-9
    gaps = np.diff(np.sort(moved))
    assert (gaps >= 0.05 - 1e-9).all()
    order = np.argsort(places, kind="stable")
    assert (np.diff(moved[order]) >= -1e-9).all()


def test_methods_differ_in_more_than_colour():
    looks = [style(i) for i in range(12)]
    assert len({(look.marker, look.colour) for look in looks}) == 12
    assert len({look.marker for look in looks[:8]}) == 8


def test_a_label_that_is_cut_is_whole_where_a_reader_points_at_it():
    labels = ("card_payment_fee_charged", "card_payment_wrong_exchange_rate")
    for size in (2, 9):
        names = [*labels, *(f"l{i}" for i in range(size - 2))]
        confusion = np.diag(np.full(size, 9))
        drawn = panels.confusion_matrix("full", confusion, names, np.arange(size), "k")
        root = ElementTree.fromstring(drawn.svg)
        told = [element.text for element in root.findall("./g//title")]
        assert sorted(told) == sorted(labels * 2)  # beside and above
        assert "\u2026" in drawn.svg


def test_the_legend_of_reliability_lies_above_all_curves():
    root = ElementTree.fromstring(
        panels.reliability("head", example().methods[0].calibration, "r").svg
    )
    legend = [float(t.get("y")) for t in root.iter("text") if "ECE" in "".join(t.itertext())]
    ticks = [t for t in root.iter("text") if "".join(t.itertext()).strip() == "1.0"]
    assert len(legend) == 2 and len(ticks) == 1
    assert max(legend) < float(ticks[0].get("y")) - 15


COSTS = (16.2, 17.6, 18.2, 116.0, 0.967, 11.0, 0.155)
VALUES = (0.548, 0.539, 0.520, 0.484, 0.483, 0.463, 0.215)
RUNS = ("full", "lora", "last-2", "few-shot", "logistic-regression", "head", "majority")


@pytest.mark.parametrize("seed", range(8))
def test_a_cost_label_lies_beside_its_own_point(seed):
    """Three methods of the demo lie within a few points of the page of each other."""
    rng = np.random.default_rng(seed)
    across = 60 + 270 * (np.log10(COSTS) + 1) / 3.3 + rng.normal(0, 8, 7)
    up = 45 + 220 * (np.array(VALUES) - 0.2) / 0.4 + rng.normal(0, 4, 7)
    points = np.column_stack([across, up])
    upright = [(x - 1, y - 12, x + 1, y + 12) for x, y in points]
    on = price.front(list(across), list(up))
    boxes = price.places(RUNS, points, upright, on, (44, 40, 404, 290))
    joined = 0
    for i, box in enumerate(boxes):
        others = np.delete(points, i, axis=0)
        if price.apart(box, points[i], others):
            joined += 1  # by a line
        else:
            nearest = min(price.distance(box, other) for other in others)
            assert nearest > price.distance(box, points[i]), RUNS[i]
    assert joined <= 2


def test_the_cost_is_the_price_where_it_is_known_else_time():
    whole = example()
    assert price.measures(whole)[0].key == "train_price"
    cheap = tuple(replace(m, cost=MethodCost(train_seconds=1.0)) for m in whole.methods)
    training, prediction, alone = price.measures(replace(whole, methods=cheap))
    assert training.key == "train_seconds"
    assert prediction is alone is None


@pytest.mark.parametrize(
    ("budget", "low", "high", "words"),
    [
        (48, None, None, "a first beats b significantly with 48 labelled rows."),
        (1480, 30.2, 1200.0, "rows; the curves cross between 30 and 1,200 (95%)."),
        (48, None, 26.0, "with 48 labelled rows; the curves cross at 26 or fewer (95%)."),
        (None, 42.0, None, "at none of the budgets tested; the curves cross at 42 or more (95%)."),
    ],
)  # fmt: skip
def test_a_crossing_says_no_more_than_was_found(budget, low, high, words):
    crossing = Crossing(method="a", reference="b", budget=budget, low=low, high=high)
    assert lines.crossing_sentence(crossing).endswith(words)
