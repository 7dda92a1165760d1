"""The page: every part in its place, nothing made up, and nothing that a text could start."""

from __future__ import annotations

import base64
import hashlib
import html as standard_html
import re
import subprocess
import sys
import time
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from llmclf.report import data_tables as data
from llmclf.report.analysis import Curve, MethodCost
from llmclf.report.html import html
from llmclf.report.html_parts import facts, headline, parts
from llmclf.report.render.html import unhyphenated
from llmclf.report.tables import costs, standing
from llmclf.report.texts import cut, unbroken, visible
from llmclf.report.words import amount, count, difference, p_is, p_value, percent, score
from tests.report.example import HOSTILE, example, hostile


class Page(HTMLParser):
    """Tags, attributes and texts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text.append(data)

    def has(self, text: str) -> bool:
        return text in " ".join(" ".join(self.text).split())


@pytest.fixture(scope="module")
def whole() -> str:
    return html(example())


@pytest.fixture(scope="module")
def feared() -> str:
    return html(hostile())


def bare(**changes):
    """One method of which hardly anything is known."""
    one = example(methods=1)
    method = replace(
        one.methods[0], cost=MethodCost(), calibration=None, coverage=None, lengths=(), errors=(),
        suspects=(), seen=None, curves=(), confusion=None, model="",
    )  # fmt: skip
    return replace(
        one, methods=(method,), break_even=None, audit={}, left_out=(), published={}, **changes
    )


def test_the_policy_allows_the_one_style_sheet_and_nothing_else(whole):
    style = re.search(r"<style>(.*?)</style>", whole, re.S)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', whole)[1]
    policy = standard_html.unescape(policy)
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}'")
    assert whole.count("<style") == 1 and "@import" not in style and "url(" not in style


def test_no_script_no_style_attribute_no_address(whole, feared):
    for page in (Page(whole), Page(feared)):
        assert not {"script", "img", "link", "iframe", "object", "base"} & set(page.tags)
        for name, value in page.attributes:
            assert name != "style" and not name.startswith("on")
            if name in ("href", "src"):
                assert value.startswith("#")


def test_the_verdict_is_the_headline_and_parts_follow_in_order(whole):
    analysis = example()
    page = Page(whole)
    assert page.has(analysis.verdict.sentence)
    assert all(page.has(reason) for reason in analysis.verdict.reasons)
    assert all(page.has(text) for text in analysis.left_out)
    keys = re.findall(r'<section class="part" id="([\w-]+)"', whole)
    assert keys == [
        "comparison", "learning", "confusion", "calibration", "cost", "labels", "coverage",
        "break-even", "lengths", "rows", "mistakes", "repeat",
    ]  # fmt: skip
    assert not [part for part in parts(analysis) if part.missing]


def test_the_same_analysis_gives_the_same_page(whole):
    assert html(example()) == whole


def test_every_method_score_and_setting_is_there(whole):
    analysis, page = example(), Page(whole)
    for m in analysis.methods:
        estimate = analysis.statistics.estimates[m.name]["macro_f1"]
        assert page.has(m.name) and page.has(f"{estimate.value:.3f}")
        assert page.has(" ".join(m.command.split()))
    for text in ("BERT-base (Li et al. 2021)", "published, not measured here",
                 "train.learning_rate", "packages.torch", "2.13.0", "row 91",
                 "Great, another Monday."):  # fmt: skip
        assert page.has(text), text


def test_a_part_without_data_says_so_in_one_line():
    missing = {part.key: part.missing for part in parts(bare())}
    assert {key for key, text in missing.items() if text} == {
        "learning", "confusion", "calibration", "cost", "coverage", "break-even", "lengths",
        "rows", "mistakes",
    }  # fmt: skip
    page = Page(html(bare()))
    assert all(page.has(text) for text in missing.values())
    assert page.tags.count("svg") == 2


def test_several_labels_a_row_explain_why_there_is_no_confusion_matrix():
    analysis = example()
    methods = tuple(replace(m, confusion=None) for m in analysis.methods)
    multilabel = replace(analysis, multilabel=True, methods=methods)
    assert Page(html(multilabel)).has("several labels here, so there is no confusion matrix")


@pytest.mark.parametrize(("methods", "labels", "folds"), [(1, 2, 1), (2, 2, 5), (3, 13, 1)])
def test_other_shapes(methods, labels, folds):
    page = Page(html(example(methods=methods, labels=labels, folds=folds)))
    assert page.has("5 folds") == (folds == 5)


def sparse():
    """Analyses at the edge of what there may be."""
    whole = example(methods=3)
    prompt = (replace(whole.break_even.curves["prompt"][0], budget=0),)
    curves = {**whole.break_even.curves, "prompt": prompt}
    yield replace(whole, break_even=replace(whole.break_even, curves=curves))
    alone = replace(whole.break_even, curves={"prompt": prompt}, crossings=())
    yield replace(whole, break_even=alone)
    short_curve = (Curve(examples=(10.0,), device_hours=(), score=(0.5,)),)
    for change in (
        lambda m: {"cost": replace(m.cost, train_price=0.0, price_per_1000=0.5)},
        lambda m: {"errors": (), "suspects": (), "seen": None},
        lambda m: {"calibration": replace(m.calibration, before=(), after=())},
        lambda m: {"curves": short_curve},
    ):
        yield replace(whole, methods=tuple(replace(m, **change(m)) for m in whole.methods))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("place", range(6))
def test_the_edges_are_drawn_without_a_warning(place):
    page = Page(html(list(sparse())[place]))
    assert page.tags.count("svg") >= 10


def test_columns_that_nobody_measured_are_named_and_left_out():
    grid = costs(bare()).measured()
    assert [column.title for column in grid.columns] == ["run"]
    assert "Measured in no run: train s, device-hours, " in grid.note
    assert grid.rows == (("full fine-tune",),)
    assert Page(html(bare())).has("training Wh, Wh per 1,000 texts")


def test_speeds_of_different_precisions_are_said_not_to_compare(whole):
    first, *others = example().methods
    names = {m.method: m.name for m in (first, *others)}
    assert Page(whole).has(f"{names['prompt']} in bf16; {names['full']}")
    assert "speeds compare" not in html(replace(example(), methods=(first,)))


def test_the_error_of_seeds_and_folds_is_shown_where_there_are_several():
    whole = example()
    one = replace(whole.statistics, seeds=dict.fromkeys(whole.statistics.seeds, 1), folds=1)
    title = "Where the uncertainty comes from"
    assert title in html(whole)
    assert title not in html(replace(whole, statistics=one))
    assert title in html(replace(whole, statistics=replace(one, folds=5)))


def test_rows_of_all_splits_and_what_the_audit_found_are_told(whole):
    page = Page(whole)
    told = dict(facts(example()))
    assert [told[f"{split} rows"] for split in ("training", "validation", "test")] == [
        "8,000", "1,000", "1,000",
    ]  # fmt: skip
    assert (told["conflicting rows"], told["dropped rows"]) == ("7", "22")
    assert page.has("3 texts with more than one label, 7 rows (such as a, b).")
    counts = data.rows(example())
    assert counts.values("rows") == [8000, 1000, 1000]
    assert counts.values("dropped") == [20, 2, 0]
    nothing = bare()
    assert not {"training rows", "conflicting rows", "dropped rows"} & dict(facts(nothing)).keys()
    assert data.rows(nothing).rows == () and data.remarks(nothing) == ()


def test_an_audit_of_another_version_is_shown_as_far_as_it_goes():
    odd = {
        "rows": {"train": "many", "test": 5},
        "conflicts": 3,
        "dropped": None,
        "empty": {"rows": 2},
    }
    told = replace(example(), audit=odd, labels=("a", "b"))
    assert data.rows(told).rows == (("test", 5, None, None, None, None, None),)
    assert data.remarks(told) == ("2 rows without text dropped.",)
    assert data.classes(told).rows == ()


def test_published_scores_have_nothing_but_their_score():
    grid = headline(example())
    name, *others = grid.rows[-1]
    assert grid.styles[name] == "published"
    known = [value for value in others if value is not None]
    assert known == [0.861, "published, not measured here"]


def test_no_line_ends_within_an_interval_or_a_short_word(whole):
    said = "macro-F1 0.548 [-0.010, 0.565], p = 0.900; p < 0.001 (lora-16)"
    assert unbroken(said) == (
        "macro-F1 0.548 [-0.010,\u00a00.565], p\u00a0=\u00a00.900; p\u00a0<\u00a00.001 (lora-16)"
    )
    assert '<span class="whole">macro-F1</span>' in whole.split("</h1>")[0]
    assert str(unhyphenated("<a-b> " + "W-" * 20)) == (
        '<span class="whole">&lt;a-b&gt;</span> ' + "W-" * 20
    )


def test_pairs_on_the_page_are_corrected_for_all_pairs(whole):
    titles = re.findall(r'<th scope="col"[^>]*><bdi>(.*?)</bdi>', whole)
    assert "p (Holm)" in titles and "interval (Holm)" in titles and "p" not in titles


def test_marks_against_the_best():
    analysis = example()
    marks = [standing(analysis, m.name) for m in analysis.methods]
    assert marks == ["best", "equal", "worse", "worse", "worse", "worse"]


def test_hostile_texts_stay_text(feared):
    page = Page(feared)
    for text in HOSTILE:
        assert page.has(visible(text, 400)[:400].rstrip()), text
    whole = " ".join(page.text)
    assert not re.search("[\x00\u202e\x1b\ud800-\udfff]", whole)
    feared.encode("utf-8")


def test_many_methods_and_labels_take_seconds_and_few_megabytes():
    analysis = example(methods=12, labels=77, folds=5)
    start = time.process_time()
    text = html(analysis)
    assert time.process_time() - start < 30  # about 5 on an idle machine
    assert len(text.encode()) < 5e6


def test_the_page_is_made_without_torch():
    code = (
        "import sys, llmclf.report.html; "
        "print([m for m in ('torch', 'transformers', 'datasets', 'matplotlib.pyplot') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_template_and_style_sheet_are_in_the_package():
    from importlib.resources import files

    for name in ("page.html.j2", "page.css"):
        assert files("llmclf.report").joinpath(name).is_file()


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (amount(1234.5), "1,234"),
        (amount(0.00001), "0.00001"),
        (amount(0.0000038754), "0.00000388"),
        (amount(0), "0"),
        (count(22_713_216), "22.7M"),
        (score(-0.0001), "0.000"),
        (difference(-0.0123), "-0.012"),
        (difference(-0.0001), "+0.000"),
        (percent(0.996), "99.6%"),
        (p_value(0.0001), "<0.001"),
        (p_is(0.0001), "p < 0.001"),
        (p_is(0.81), "p = 0.810"),
        (cut("W" * 99, 17), "W" * 10 + "\u2026"),
        (cut("few-shot prompt", 17), "few-shot prompt"),
        (visible("a\n\tb"), "a b"),
        (visible("x" * 12, 10), "xxxxxxxxxx\u2026 (12 characters)"),
    ],
)
def test_numbers_and_texts(shown, expected):
    assert shown == expected
