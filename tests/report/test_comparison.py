"""The comparison: what is shown and in which order, what is refused, and hostile names."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from llmclf.config import DataError
from llmclf.evaluate.predictions import Predictions
from llmclf.evaluate.scores import score
from llmclf.report.comparison import Comparison, compare, find_runs, plain, read_run

LABELS = ("advice", "no advice")


def results(right: int, **changes: Any) -> dict[str, Any]:
    """Results of a run that classifies ``right`` of 10 rows rightly."""
    targets = np.arange(10) % 2
    guess = np.where(np.arange(10) < right, targets, 1 - targets)
    predictions = Predictions(
        ids=[str(i) for i in range(10)],
        labels=LABELS,
        targets=targets,
        probabilities=np.array([[0.9, 0.1], [0.1, 0.9]])[guess],
        scored_by="softmax",
    )
    cost = {
        "train_seconds": 1234.56,
        "predict_examples_per_second": 98765.4,
        "peak_memory_bytes": 3 * 2**29,
        "trainable_parameters": 22_713_216,
    }
    return {
        "schema": 1,
        "name": f"right-{right}",
        "method": "full",
        "model": "minilm-l6",
        "labels": list(LABELS),
        "membership": "0f" * 32,
        "validation": None,
        "test": score(predictions),
        "prior": {"accuracy": 0.5, "macro_f1": 1 / 3, "nll": 0.7},
        "cost": {**cost, **changes.pop("cost", {})},
        **changes,
    }


def write(folder: Path, content: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "experiment.json").write_text("{}")
    if content is not None:
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / "results.json").write_text(text, encoding="utf-8")
    return folder


def compared(tmp_path: Path, *contents: dict[str, Any]) -> Comparison:
    folders = [write(tmp_path / f"run{i}", content) for i, content in enumerate(contents)]
    return compare([read_run(folder) for folder in folders])


def printed(table: Any, width: int = 300, color: bool = False) -> str:
    console = Console(
        width=width,
        file=io.StringIO(),
        color_system="standard" if color else None,
        force_terminal=color,
    )
    console.print(table)
    return console.file.getvalue()


def test_markdown_table(tmp_path: Path) -> None:
    cost = {"trainable_parameters": None, "train_seconds": 2.0, "predict_examples_per_second": 1.5}
    other = results(8, method="classical", model="tfidf+linear_svm", cost=cost)
    assert compared(tmp_path, other, results(9)).markdown() == (
        "| run | method | model | macro-F1 | accuracy | MCC | NLL | ECE | lift "
        "| trainable parameters | train s | rows/s | peak GiB |\n"
        "| :-- | :-- | :-- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |\n"
        "| right-9 | full | minilm-l6 | **0.899** | **0.900** | **0.816** | **0.325** | **0.000** "
        "| **+0.566** | 22.7M | 1,235 | **98,765** | **1.50** |\n"
        "| right-8 | classical | tfidf+linear_svm | 0.800 | 0.800 | 0.600 | 0.545 | 0.100 "
        "| +0.467 | n/a | **2** | 1.5 | **1.50** |\n"
        "\nScores on the test rows. Lift: macro-F1 above that of the majority class.\n"
    )


def test_best_macro_f1_comes_first_and_names_break_ties(tmp_path: Path) -> None:
    runs = [results(7), results(9, name="b"), results(10), results(9, name="a")]
    names = [run.name for run in compared(tmp_path, *runs).runs]
    assert names == ["right-10", "a", "b", "right-7"]


def test_single_run_has_no_best(tmp_path: Path) -> None:
    assert "**" not in compared(tmp_path, results(9)).markdown()


def test_runs_of_one_name_are_told_apart_by_folder(tmp_path: Path) -> None:
    text = printed(compared(tmp_path, results(9), results(9, membership="0f" * 32)))
    assert f"right-9 ({tmp_path / 'run0'})" in text
    assert f"right-9 ({tmp_path / 'run1'})" in text


@pytest.mark.parametrize(
    ("count", "shown"),
    [(3, "3"), (999, "999"), (999_600, "1M"), (74_496, "74.5k"), (134_515_008, "135M")],
)
def test_parameters_have_a_unit(count: int, shown: str, tmp_path: Path) -> None:
    cost = {"trainable_parameters": count}
    assert f"| {shown} |" in compared(tmp_path, results(9, cost=cost)).markdown()


def test_terminal_shows_every_digit_at_any_width(tmp_path: Path) -> None:
    table = compared(tmp_path, results(8), results(9, name="tfidf-logistic-regression"))
    wide, narrow = printed(table), printed(table, width=80)
    assert wide.count("right-8") == 1
    assert narrow.count("right-8") == 2
    for text in (wide, narrow):
        assert "…" not in text
        for figure in ("0.899", "0.816", "0.325", "+0.566", "22.7M", "1,235", "98,765", "1.50"):
            assert figure in text


def test_best_value_is_bold_in_the_terminal(tmp_path: Path) -> None:
    text = printed(compared(tmp_path, results(8), results(9)), color=True)
    assert re.search(r"\x1b\[1m *0\.899", text)
    assert not re.search(r"\x1b\[1m *0\.800", text)


HOSTILE = "a|b `c` **d** <img>\n\x1b[31m\x1b]0;title\x07[link](x)\x9b\u202e_e_ f_g"


def test_hostile_names_stay_in_their_cell(tmp_path: Path) -> None:
    table = compared(tmp_path, results(9, name=HOSTILE, model="[bold]m"), results(8))
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


@pytest.mark.parametrize(
    ("changes", "what", "key"),
    [
        ({"membership": "ab" * 32}, "rows in each split", "abababababab"),
        ({"labels": ["advice", "other"]}, "labels", "advice, other"),
    ],
)
def test_runs_that_cannot_be_compared_are_named(
    changes: dict[str, Any], what: str, key: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError) as caught:
        compared(tmp_path, results(9), results(8), results(7, **changes))
    message = str(caught.value)
    assert f"differ in the {what}" in message
    assert f"{tmp_path / 'run0'}, {tmp_path / 'run1'}\n" in message
    assert f"  {key}: {tmp_path / 'run2'}\n" in message


def test_order_of_labels_does_not_matter(tmp_path: Path) -> None:
    assert len(compared(tmp_path, results(9), results(8, labels=list(LABELS[::-1]))).runs) == 2


def without(*keys: str) -> dict[str, Any]:
    content = results(9)
    inner = content
    for key in keys[:-1]:
        inner = inner[key]
    del inner[keys[-1]]
    return content


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "not finished"),
        ("", "cannot be used"),
        ('{"schema": 1, "na', "cannot be used"),
        ("[]", "schema is None"),
        (results(9, schema=2), "schema is 2; .* reads schema 1"),
        (without("schema"), "schema is None"),
        (without("membership"), "membership is missing"),
        (without("test", "nll"), r"test\.nll is missing"),
        (without("prior"), r"prior\.macro_f1 is missing"),
        (without("cost"), r"cost\.\w+ is missing"),
        (results(9, test=[1]), r"test\.macro_f1 is missing"),
        (results(9, name=7), "name is 7"),
        (results(9, labels="ab"), "labels is 'ab'"),
        (results(9, cost={"train_seconds": "long"}), "train_seconds is 'long'"),
        (results(9, cost={"train_seconds": True}), "train_seconds is True"),
        (results(9, cost={"train_seconds": float("nan")}), "train_seconds is nan"),
        (json.dumps(results(9, cost={"train_seconds": 0.125})).replace("0.125", "1e999"), "is inf"),
    ],
)
def test_unusable_run_is_named(content: Any, problem: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "broken", content)
    with pytest.raises(DataError, match=rf"broken.*{problem}"):
        read_run(folder)


def test_results_of_another_encoding_are_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "broken", None)
    (folder / "results.json").write_bytes(json.dumps(results(9)).encode("utf-16"))
    with pytest.raises(DataError, match="broken"):
        read_run(folder)


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="absent: no such folder"):
        read_run(tmp_path / "absent")


def test_runs_are_found_in_a_parent_and_only_once(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write(tmp_path / "runs" / name, results(9))
    (tmp_path / "runs" / "plots").mkdir()
    (tmp_path / "runs" / "note.txt").write_text("no run")
    parent = tmp_path / "runs"
    assert find_runs([parent, parent / "b"]) == [parent / "a", parent / "b"]
    assert find_runs([parent / "b", parent / "a" / ".." / "b"]) == [parent / "b"]


def test_unfinished_runs_are_all_named_or_skipped(tmp_path: Path) -> None:
    done = write(tmp_path / "done", results(9))
    for name in ("early", "late"):
        write(tmp_path / name, None)
    with pytest.raises(DataError, match=r"not finished .*early, .*late\. .*--skip-unfinished"):
        find_runs([tmp_path])
    assert find_runs([tmp_path], skip_unfinished=True) == [done]


def test_folder_without_runs_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: no run folder"):
        find_runs([tmp_path / "empty"])
    with pytest.raises(DataError, match="absent: no such folder"):
        find_runs([tmp_path / "absent"])


def test_nothing_to_compare() -> None:
    with pytest.raises(DataError, match="nothing to compare"):
        compare([])


def test_comparing_needs_no_torch() -> None:
    code = "import llmclf.report.comparison, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
