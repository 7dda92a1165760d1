"""The table of methods: what is shown and in which order, and hostile names."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from llmclf.config import plain
from llmclf.report.analyse import analyse
from llmclf.report.comparison import Comparison
from llmclf.report.config import ReportConfig
from llmclf.run_folder.read import read
from tests.report.made import predicted, write_run

CONFIG = ReportConfig(resamples=1000)


def compared(tmp_path: Path, *runs: tuple[int, dict[str, Any]]) -> Comparison:
    """Runs that classify so many of 10 rows rightly, with changes of results.json."""
    found = []
    for i, (right, changes) in enumerate(runs):
        options = {"name": f"right-{right}", **changes}
        found.append(read(write_run(tmp_path / f"run{i}", predicted(right), **options)))
    return Comparison(analyse(found, CONFIG, title="t"))


def printed(table: Any, width: int = 300, color: bool = False) -> str:
    file = io.StringIO()
    console = Console(
        width=width,
        file=file,
        color_system="standard" if color else None,
        force_terminal=color,
    )
    console.print(table)
    return file.getvalue()


def test_markdown_table(tmp_path: Path) -> None:
    cost = {"trainable_parameters": None, "train_seconds": 2.0, "predict_examples_per_second": 1.5}
    other = {"method": "classical", "model": "tfidf+linear_svm", "cost": cost}
    lines = compared(tmp_path, (8, other), (9, {})).markdown().splitlines()
    assert lines[0] == (
        "| run | method | model | macro-F1 | 95% interval | against best | accuracy | MCC | NLL "
        "| Brier score | ECE | lift | seeds | trainable parameters | train s | rows/s | peak GiB |"
    )
    assert lines[1] == (
        "| :-- | :-- | :-- | --: | --: | :-- | --: | --: | --: | --: | --: | --: | --: | --: "
        "| --: | --: | --: |"
    )
    assert re.fullmatch(
        r"\| right-9 \| full \| minilm-l6 \| \*\*0\.899\*\* \| \[[-.\d]+, [.\d]+\] \| best "
        r"\| \*\*0\.900\*\* \| \*\*0\.816\*\* \| \*\*0\.325\*\* "
        r"\| \*\*0\.180\*\* \| \*\*0\.000\*\* \| \*\*\+0\.566\*\* \| 1 \| 22\.7M "
        r"\| 1,235 \| \*\*98,765\*\* \| \*\*1\.50\*\* \|",
        lines[2],
    )
    assert lines[3].startswith("| right-8 | classical | tfidf+linear_svm | 0.800 |")
    assert lines[3].endswith("| +0.467 | 1 | n/a | **2** | 1.5 | **1.50** |")
    assert "Lift: macro-F1 above that of the majority class." in lines[-1]


def test_best_macro_f1_comes_first_and_names_break_ties(tmp_path: Path) -> None:
    table = compared(tmp_path, (7, {}), (9, {"name": "b"}), (10, {}), (9, {"name": "a"}))
    assert [row[0] for row in table.grid.rows] == ["right-10", "a", "b", "right-7"]


def test_single_run_has_no_best(tmp_path: Path) -> None:
    assert "**" not in compared(tmp_path, (9, {})).markdown()


def test_runs_of_one_name_are_told_apart_by_folder(tmp_path: Path) -> None:
    text = printed(compared(tmp_path, (9, {}), (9, {})))
    assert f"right-9 ({tmp_path / 'run0'})" in text
    assert f"right-9 ({tmp_path / 'run1'})" in text


@pytest.mark.parametrize(
    ("count", "shown"),
    [(3, "3"), (999, "999"), (999_600, "1M"), (74_496, "74.5k"), (134_515_008, "135M")],
)
def test_parameters_have_a_unit(count: int, shown: str, tmp_path: Path) -> None:
    cost = {"trainable_parameters": count}
    assert f"| {shown} |" in compared(tmp_path, (9, {"cost": cost})).markdown()


def test_terminal_shows_every_digit_at_any_width(tmp_path: Path) -> None:
    table = compared(tmp_path, (8, {}), (9, {"name": "tfidf-logistic-regression"}))
    wide, narrow = printed(table), printed(table, width=80)
    assert len(re.findall(r"(?m)^ +right-8 ", wide)) == 1
    assert len(re.findall(r"(?m)^ +right-8 ", narrow)) == 3
    for text in (wide, narrow):
        assert "…" not in text
        for figure in ("0.899", "0.816", "0.325", "+0.566", "22.7M", "1,235", "98,765", "1.50"):
            assert figure in text
        assert "undecided" in text or "worse" in text


def test_verdict_and_what_was_left_out_follow(tmp_path: Path) -> None:
    found = [read(write_run(tmp_path / "a", predicted(9)))]
    analysis = analyse(found, CONFIG, title="t", failed=["[bold]b failed"])
    text = printed(Comparison(analysis))
    assert analysis.verdict.sentence in text
    assert "left out: [bold]b failed" in text


def test_best_value_is_bold_in_the_terminal(tmp_path: Path) -> None:
    text = printed(compared(tmp_path, (8, {}), (9, {})), color=True)
    assert re.search(r"\x1b\[1m *0\.899", text)
    assert not re.search(r"\x1b\[1m *0\.800", text)


HOSTILE = "a|b `c` **d** <img>\n\x1b[31m\x1b]0;title\x07[link](x)\x9b\u202e_e_ f_g"


def test_hostile_names_stay_in_their_cell(tmp_path: Path) -> None:
    table = compared(tmp_path, (9, {"name": HOSTILE, "model": "[bold]m"}), (8, {}))
    row = table.markdown().splitlines()[2]
    expected = r"| a\|b \`c\` \*\*d\*\* \<img\> \[link\](x)  \_e\_ f_g | full | \[bold\]m |"
    assert row.startswith(expected)
    text = printed(table)
    assert "a|b `c` **d** <img> [link](x)  _e_ f_g" in text
    assert "[bold]m" in text
    assert not set(text) & set("\x1b\x07\x9b\u202e")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("a\tb\r\nc", "a b  c"),
        ("\x1b", ""),
        ("日本 🙂", "日本 🙂"),
    ],
)
def test_plain(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_comparing_needs_no_torch() -> None:
    code = "import llmclf.report.comparison, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
