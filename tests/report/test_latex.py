"""tables/scores.tex: the numbers of the grid, and names that LaTeX sets as they are."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmclf.report.grid import Column, Grid
from llmclf.report.render.latex import escaped, latex_table
from llmclf.report.tables import paper
from llmclf.report.words import DIFFERENCE, MEAN, TEXT
from llmclf.report.write import write
from tests.report.example import HOSTILE, example, hostile
from tests.report.test_tables import Cells, check


def latex_rows(text: str) -> Cells:
    body = text.split("\\midrule\n")[1].split("\\bottomrule")[0]
    return [line.removesuffix(" \\\\").split(" & ") for line in body.splitlines()]


def test_scores_for_a_paper(tmp_path: Path) -> None:
    analysis = example(folds=5)
    path = write(analysis, tmp_path)["tables/scores.tex"]
    text = path.read_text(encoding="utf-8")
    assert text == latex_table(paper(analysis))
    head = text.split("\\toprule\n")[1].splitlines()[0]
    assert head == r"run & macro-F1 & 95\% interval & accuracy & MCC & NLL & n \\"
    rows = latex_rows(text)
    assert rows[0][:3] == [
        "full fine-tune", r"\textbf{0.872 $\pm$ 0.004}", "[0.851, 0.891]",
    ]  # fmt: skip
    for shown, row in zip(rows, paper(analysis).rows, strict=True):
        for cell, value in zip(shown[1:], row[1:], strict=True):
            check(cell.replace("\\textbf{", "").replace("$\\pm$", "").strip("}"), value)
    assert [row[-1] for row in rows] == ["15"] * 6
    caption = re.search(r"\\caption\{(.*)\}", text)[1]
    assert "5,000 test rows of opinions, 5 folds." in caption
    one_seed = latex_table(paper(example(seeds=1)))
    assert "\\pm$" not in one_seed.split("\\midrule")[1]


def test_equal_means_are_both_the_best_whatever_their_spread() -> None:
    columns = (Column("run"), Column("macro-F1", MEAN, max))
    rows = (("a", (0.8721, 0.004)), ("b", (0.8719, None)), ("c", (0.5, 0.1)))
    shown = [row[1] for row in latex_rows(latex_table(Grid("g", "G", columns, rows)))]
    assert shown == [r"\textbf{0.872 $\pm$ 0.004}", r"\textbf{0.872}", r"0.500 $\pm$ 0.100"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a_b & 50% #1 {x} $y$", r"a\_b \& 50\% \#1 \{x\} \$y\$"),
        ("\\input{x} ~^", r"\textbackslash{}input\{x\} \textasciitilde{}\textasciicircum{}"),
        ("[2em] a [b]", "{[}2em] a [b]"),
        ("*a", "{*}a"),
        ("a--b---c-d", "a-{}-b-{}-{}-c-d"),
        ("Müller, Łódź", "Müller, Łódź"),
        ("日本", r"\ifdefined\Umathcode{日本}\else{??}\fi{}"),
        ("a\n\x1b[31mb", "a b"),
    ],
)
def test_latex_sets_a_text_as_it_is(text: str, expected: str) -> None:
    assert escaped(text) == expected


def hostile_grids() -> Iterator[Grid]:
    yield paper(hostile())
    columns = (Column('"a"\\b', TEXT), Column("x", DIFFERENCE, max))
    names = (*HOSTILE, "[2em]", "*", "`'\"?`--", "\\end{tabular}", "ÄöŁ ąß", "%", "&&", "a^b_c~")
    yield Grid("any", "100% of $x_1$ & more", columns, tuple((n, -0.5) for n in names), "note: #1")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_hostile_names_compile(tmp_path: Path) -> None:
    floats = "\n".join(map(latex_table, hostile_grids()))
    (tmp_path / "paper.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs,graphicx}\\begin{document}\n"
        f"{floats}\\listoftables\\end{{document}}\n",
        encoding="utf-8",
    )
    for _ in range(2):  # the list of tables is set by the second one
        done = subprocess.run(
            ["pdflatex", "-halt-on-error", "-no-shell-escape", "paper.tex"],
            cwd=tmp_path, capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-2000:].decode(errors="replace")
