"""From run folders to an analysis, and from it to Markdown and CSV files."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmclf.config import ConfigError, DataError
from llmclf.evaluate.calibration import Calibration
from llmclf.evaluate.predictions import Predictions
from llmclf.evaluate.scores import score
from llmclf.report.analyse import analyse
from llmclf.report.analysis import Analysis
from llmclf.report.config import ReportConfig
from llmclf.report.detail_tables import lengths
from llmclf.report.figures.scores import length_scores
from llmclf.report.grid import Column, Grid
from llmclf.report.html import html
from llmclf.report.markdown import markdown
from llmclf.report.render.csv import csv_table, neutral
from llmclf.report.render.markdown import markdown_table
from llmclf.report.tables import intervals, scores
from llmclf.report.write import write
from llmclf.run_folder.find import read_all
from tests.report.made import LABELS, predicted, write_run

CONFIG = ReportConfig(resamples=1000, published=("BERT (2021)=0.918",))


def analysed(folder: Path, config: ReportConfig = CONFIG, **options: Any) -> Analysis:
    return analyse(read_all([folder])[0], config, title="A study", **options)


def study(folder: Path) -> Path:
    """Two methods on two folds with two seeds."""
    for name, right in (("full", 36), ("tfidf", 24)):
        for fold in (0, 1):
            for seed in (0, 1):
                write_run(
                    folder / f"{name}-fold{fold}-seed{seed}",
                    predicted(right + seed, 40, first_id=100 * fold),
                    name=name,
                    method="full" if name == "full" else "classical",
                    fold=fold,
                    seed=seed,
                    membership=str(fold) * 64,
                )
    return folder


@pytest.fixture(scope="module")
def analysis(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    return analysed(study(tmp_path_factory.mktemp("study")), failed=["lora failed: no memory"])


def test_methods_are_in_order_with_everything_of_their_runs(analysis: Analysis) -> None:
    assert [m.name for m in analysis.methods] == ["full", "tfidf"]
    full = analysis.methods[0]
    assert len(full.folders) == 4
    assert full.confusion is not None and full.confusion.sum() == 4 * 40
    assert full.calibration is not None and full.calibration.scores["ece"][0] > 0
    assert full.coverage is not None and full.coverage.share[-1] == 1
    assert [row.support for row in full.labels] == [40, 40]
    assert analysis.statistics.folds == 2
    assert analysis.statistics.seeds == {"full": 2, "tfidf": 2}
    assert analysis.verdict.best == "full"
    assert analysis.left_out == ("lora failed: no memory",)
    assert analysis.published == {"BERT (2021)": 0.918}
    assert analysis.prior["macro_f1"] == pytest.approx(1 / 3)


def test_label_scores_are_means_over_folds_and_seeds(analysis: Analysis) -> None:
    expected = np.mean([score(predicted(36 + s, 40))["per_label"]["advice"]["f1"] for s in (0, 1)])
    assert analysis.methods[0].labels[0].f1 == pytest.approx(expected)


def test_errors_are_of_the_first_seed_of_each_fold_with_texts(analysis: Analysis) -> None:
    full = analysis.methods[0]
    assert {e.id for e in full.errors} == {"36", "37", "38", "39", "136", "137", "138", "139"}
    assert {e.text for e in full.errors} >= {"text 36 of full", "text 139 of full"}
    assert sum(bucket.rows for bucket in full.lengths) == 80


def test_a_method_that_answers_all_rows_alike_has_no_errors_worth_a_look(tmp_path: Path) -> None:
    alike = predicted(10)
    alike.probabilities[:] = (0.7, 0.3)
    write_run(tmp_path / "a", alike)
    (method,) = analysed(tmp_path).methods
    assert method.errors == method.suspects == ()
    assert method.lengths and method.confusion is not None


def test_calibration_is_told_before_and_after(tmp_path: Path) -> None:
    raw = predicted(9, 40)
    fitted = Calibration(temperature=2.5, rows=40)
    write_run(tmp_path / "a", fitted.apply(raw), calibration=fitted.to_json(LABELS))
    found = analysed(tmp_path).methods[0].calibration
    assert found is not None
    assert found.temperature == 2.5
    before, after = found.scores["nll"]
    assert before == pytest.approx(score(raw)["nll"])
    assert after == pytest.approx(score(fitted.apply(raw))["nll"])


def test_curve_counts_rows_and_shares_out_hours(tmp_path: Path) -> None:
    records = [
        {"step": 5, "split": "validation", "epoch": 1.0, "nll": 0.6, "macro_f1": 0.5},
        {"step": 10, "split": "validation", "epoch": 2.0, "nll": 0.5, "macro_f1": 0.7},
        {"step": 20, "split": "train", "epoch": 4.0, "loss": 0.1},
    ]
    write_run(tmp_path / "a", predicted(9), metrics=records, cost={"device_hours": 2.0})
    (curve,) = analysed(tmp_path).methods[0].curves
    assert (curve.examples, curve.score, curve.device_hours) == ((40, 80), (0.5, 0.7), (0.5, 1.0))


def test_lengths_without_spaces_between_words_are_in_characters(tmp_path: Path) -> None:
    path = write_run(tmp_path / "a", predicted(9, 10)) / "splits.parquet"
    rows = pl.read_parquet(path)
    texts = pl.Series("text", ["\u5f88\u597d\u770b" * (1 + i % 5) for i in range(rows.height)])
    kept = pl.when(pl.col("split") == "test").then(texts).alias("text")
    rows.with_columns(kept).write_parquet(path)
    analysis = analysed(tmp_path)
    (method,) = analysis.methods
    assert method.length_unit == "characters"
    assert {b.low for b in method.lengths} == {3, 6, 9, 12, 15}
    assert lengths(analysis).columns[1].title == "characters from"
    assert "characters in the text" in length_scores(analysis.methods).svg


def test_runs_without_texts_have_errors_without_them(tmp_path: Path) -> None:
    path = write_run(tmp_path / "a", predicted(9)) / "splits.parquet"
    pl.read_parquet(path).select("id", "split").write_parquet(path)
    (method,) = analysed(tmp_path).methods
    assert method.lengths == () and method.seen is None
    assert [e.text for e in method.errors] == [None]


def test_label_without_test_rows_is_told(tmp_path: Path) -> None:
    test = predicted(10, labels=(*LABELS, "rare"))
    only = test.take(np.flatnonzero(test.targets < 2))
    write_run(tmp_path / "a", only)
    analysis = analysed(tmp_path)
    assert "label 'rare' has no test row: it counts 0 in macro-F1 there." in analysis.left_out
    grid = scores(analysis)
    ((shown,), (present,)) = (grid.values(t) for t in ("macro-F1", "macro-F1 (present labels)"))
    assert 0 < shown < present
    assert "in macro-F1 the others count 0" in grid.note
    assert "macro-F1 (present labels)" in intervals(analysis).values("score")
    chosen = analysed(tmp_path, ReportConfig(metric="macro_f1_present", resamples=1000))
    assert f"macro-F1 (present labels) {present:.3f}" in chosen.verdict.sentence


def test_present_labels_are_no_column_where_all_are(analysis: Analysis) -> None:
    assert "macro-F1 (present labels)" not in [c.title for c in scores(analysis).columns]
    assert "macro-F1 (present labels)" not in intervals(analysis).values("score")


def test_multilabel_runs(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    targets = (rng.random((60, 3)) < 0.4).astype(np.float32)
    for name, noise in (("good", 0.2), ("bad", 0.45)):
        p = np.abs(targets - noise * rng.random((60, 3))).astype(np.float64)
        test = Predictions(
            ids=[str(i) for i in range(60)],
            labels=("a", "b", "c"),
            targets=targets,
            probabilities=p,
            scored_by="sigmoid",
            multilabel=True,
            thresholds=(0.4, 0.5, 0.7),
        )
        write_run(tmp_path / name, test, name=name)
    analysis = analysed(tmp_path)
    assert analysis.multilabel
    assert all(m.confusion is None for m in analysis.methods)
    assert "## Confusion" not in markdown(analysis)
    good = analysis.statistics.estimates["good"]["macro_f1"].value
    assert analysis.statistics.above_prior["good"].value == pytest.approx(good)  # it gives no label


def test_a_study_of_label_budgets_has_break_even_curves(tmp_path: Path) -> None:
    rights = {8: 60, 32: 150, None: 190}
    for budget, right in rights.items():
        for seed in (0, 1):
            write_run(
                tmp_path / f"full-{budget}-{seed}",
                predicted(right + seed, 200),
                name="full",
                labels_per_class=budget,
                seed=seed,
                membership=f"{budget}{seed if budget else ''}".ljust(64, "0"),
                train_rows=2 * (budget or 100),
            )
    write_run(
        tmp_path / "prompt",
        predicted(120, 200),
        name="prompt",
        method="prompt",
        labels_per_class=8,
        membership="80".ljust(64, "0"),
        train_rows=16,
    )
    analysis = analysed(tmp_path)
    assert analysis.verdict.best == "full"
    assert analysis.statistics.estimates["full"]["accuracy"].value == pytest.approx(190.5 / 200)
    found = analysis.break_even
    assert found is not None
    curve = [(p.budget, p.per_class, p.seeds) for p in found.curves["full"]]
    assert curve == [(16, 8, 2), (64, 32, 2), (200, None, 2)]
    assert [p.budget for p in found.curves["prompt"]] == [16]
    (crossing,) = found.crossings
    assert (crossing.method, crossing.reference, crossing.budget) == ("full", "prompt", 64)
    text = markdown(analysis)
    assert "| full | prompt | 64 |" in text
    assert "\n## Labelled rows\n" in text
    assert any("prompt: shown with 8 labelled rows" in line for line in analysis.left_out)


def test_what_does_not_beat_the_commonest_label_is_not_shipped(tmp_path: Path) -> None:
    """All rows are given the first label by both, as the prior does."""
    same = predicted(40, 40)
    same = replace(same, probabilities=np.tile([0.9, 0.1], (40, 1)))
    for name in ("svm", "forest"):
        write_run(tmp_path / name, same, name=name)
    found = analysed(tmp_path)
    assert found.verdict.recommended is None
    assert found.verdict.sentence == (
        "Nothing here is worth shipping: forest, the best, has macro-F1 0.333 "
        f"{interval(found, 'forest')}, no better than always answering 'advice'; measured on 40 "
        "test rows and 1 seed."
    )
    assert "macro-F1 of the best" in html(found)
    assert "recommended" not in csv_styles(found)


def interval(found: Analysis, name: str) -> str:
    estimate = found.statistics.estimates[name]["macro_f1"]
    return f"[{estimate.low:.3f}, {estimate.high:.3f}]"


def csv_styles(found: Analysis) -> str:
    return " ".join(scores(found).styles.values())


@pytest.mark.parametrize("metric", ["macro_f1", "mcc"])
@pytest.mark.parametrize(("rows", "shipped"), [(8, None), (60, "full")])
def test_few_rows_cannot_tell_a_method_from_the_commonest_label(
    tmp_path: Path, rows: int, shipped: str | None, metric: Any
) -> None:
    labels = ("a", "b", "c")
    test = predicted(rows, rows, labels=labels)
    write_run(tmp_path / "full", test)
    found = analysed(tmp_path, replace(CONFIG, metric=metric))
    assert found.verdict.recommended == shipped
    assert "always answering 'a'" in found.verdict.sentence
    lead = found.statistics.above_prior["full"]
    expected = score(replace(test, probabilities=np.tile([0.9, 0.05, 0.05], (rows, 1))))
    assert lead.value == pytest.approx(1 - expected[metric])


def test_the_commonest_label_among_the_methods_is_not_judged_twice(tmp_path: Path) -> None:
    same = predicted(40, 40)
    same = replace(same, probabilities=np.tile([0.6, 0.4], (40, 1)))
    write_run(tmp_path / "majority", same, name="majority", method="majority")
    write_run(tmp_path / "full", predicted(22, 40))
    found = analysed(tmp_path)
    assert not found.statistics.above_prior
    (pair,) = found.statistics.differences
    said = "yet" if pair.p_holm >= 0.05 else "Ship full"
    assert said in found.verdict.sentence


def test_metric_of_the_report_decides(tmp_path: Path) -> None:
    targets = np.arange(20) // 16
    for name, guess in (
        ("constant", np.zeros(20, int)),
        ("tries", np.where(targets, 1, [0, 1] * 10)),
    ):
        p = np.where(np.arange(2) == guess[:, None], 0.9, 0.1)
        test = Predictions([str(i) for i in range(20)], LABELS, targets, p, "softmax")
        write_run(tmp_path / name, test, name=name)
    best = {
        metric: analysed(tmp_path, ReportConfig(metric=metric, resamples=1000)).methods[0].name
        for metric in ("accuracy", "macro_f1")
    }
    assert best == {"accuracy": "constant", "macro_f1": "tries"}


HOSTILE = "=1+1|<img src=x>`\n\x1b[31m*x*"


def test_hostile_names_stay_in_their_cells(tmp_path: Path) -> None:
    labels = ("=cmd|a", "<script>")
    for i, name in enumerate((HOSTILE, "b")):
        write_run(tmp_path / f"r{i}", predicted(7 + i, labels=labels), name=name, model="[m](x)")
    analysis = analysed(tmp_path)
    text = markdown(analysis)
    outside = text.split("## Runs")[0]
    assert r"\<script\>" in outside
    assert not re.search(r"(?<!\\)<(script|img)", outside)
    assert "\x1b" not in text
    for line in outside.splitlines():
        if line.startswith("| ") and "=1+1" in line:
            assert r"=1+1\|\<img src=x\>\`" in line
    written = write(analysis, tmp_path / "out")
    for name, path in written.items():
        if name.endswith(".csv"):
            for row in csv.reader(io.StringIO(path.read_text(encoding="utf-8"))):
                assert not any(cell.startswith(("=", "+", "@", "\t", "\r")) for cell in row)


@given(st.text() | st.floats(allow_nan=False) | st.integers() | st.none())
def test_no_cell_starts_a_formula_and_numbers_stay(value: Any) -> None:
    grid = Grid("g", "G", (Column("x"),), ((value,), ("last",)))
    rows = list(csv.reader(io.StringIO(csv_table(grid), newline="")))
    cell = rows[1][0] if rows[1] else ""
    if isinstance(value, str):
        assert not cell.startswith(("=", "@", "\t", "\r"))
        assert not cell.startswith(("+", "-")) or set(cell) <= set("+-0123456789.,eE%")
        assert cell.removeprefix("'") == value.removeprefix("'")
    elif value is not None:
        assert type(value)(cell) == value


@pytest.mark.parametrize("text", ["=1", "+1+1", "-1-1", "-x", "+", "-1\n", "@x", "\tx", "\r-1"])
def test_formula_is_neutralised(text: str) -> None:
    assert neutral(text) == "'" + text


@pytest.mark.parametrize(
    "value", [-0.5, "-1", "+3.5", "-1e-5", "-1,5", "+.5", "-12%", "1", "+1E+3"]
)
def test_a_number_is_no_formula_also_as_a_text(value: Any) -> None:
    assert neutral(value) == value


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_markdown_rows_have_as_many_cells_as_columns(texts: list[str]) -> None:
    grid = Grid("g", "G", tuple(Column(t) for t in texts), (tuple(texts),))
    lines = markdown_table(grid).splitlines()
    assert len(lines) == 3
    for line in lines:
        assert len(line.replace("\\\\", "").replace("\\|", "").split("|")) == len(texts) + 2


def test_files_that_are_written(analysis: Analysis, tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "crossings.csv").write_text("of an earlier report")
    (tmp_path / "tables" / "mine.csv").write_text("mine")
    written = write(analysis, tmp_path)
    assert written["report.md"].read_text(encoding="utf-8").startswith("# A study\n\n**")
    tables = {p.name for p in (tmp_path / "tables").iterdir()}
    assert {"scores.csv", "differences.csv", "per_label.csv", "errors.csv", "mine.csv"} <= tables
    assert "crossings.csv" not in tables
    rows = list(csv.DictReader((tmp_path / "tables" / "scores.csv").open(encoding="utf-8")))
    full = analysis.statistics.estimates["full"]["macro_f1"]
    assert [row["run"] for row in rows] == ["full", "tfidf"]
    assert float(rows[0]["macro-F1"]) == full.value
    assert float(rows[0]["95% interval low"]) == full.low


def test_folder_that_cannot_be_written_is_named(analysis: Analysis, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file: the report cannot be written"):
        write(analysis, tmp_path / "file")


def test_markdown_has_every_part(analysis: Analysis) -> None:
    text = markdown(analysis)
    for title in (
        "Left out",
        "Scores",
        "Differences",
        "Costs",
        "Published scores",
        "Labels",
        "Confusion",
        "Calibration",
        "Abstaining",
        "Lengths",
        "Most confident errors",
        "Data",
        "Runs",
    ):
        assert f"\n## {title}\n" in text
    assert "python RECIPE" in text
    assert "lora failed: no memory" in text


def test_no_runs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to compare"):
        analyse([], CONFIG, title="t")


def test_the_report_needs_no_torch() -> None:
    modules = ("analyse", "comparison", "markdown", "write")
    code = "".join(f"import llmclf.report.{m}\n" for m in modules)
    code += "import sys; assert not {'torch', 'transformers', 'datasets'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_analysis_is_the_same_each_time(tmp_path: Path) -> None:
    folder = study(tmp_path)
    first, second = (markdown(analysed(folder)) for _ in range(2))
    assert first == second
