"""The command line as a user calls it: what it prints, and its exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

NUMBERS = {
    "test": ("macro_f1", "accuracy", "mcc", "nll", "ece"),
    "prior": ("macro_f1",),
    "cost": (
        "trainable_parameters",
        "train_seconds",
        "predict_examples_per_second",
        "peak_memory_bytes",
    ),
}


def llmclf(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "llmclf.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for name, value in (("good", 0.75), ("better", 0.875)):
        numbers = {key: dict.fromkeys(names, value) for key, names in NUMBERS.items()}
        names = {"name": name, "method": "full", "model": "minilm-l6"}
        same = {"schema": 1, "labels": ["a", "b"], "membership": "f" * 64}
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(json.dumps({**names, **same, **numbers}))
    return tmp_path


def test_compare_prints_the_best_first_and_writes_markdown(runs: Path) -> None:
    done = llmclf("compare", runs / "good", runs / "better", "--markdown", runs / "new" / "t.md")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.index("0.875") < done.stdout.index("0.750")
    lines = (runs / "new" / "t.md").read_text(encoding="utf-8").splitlines()
    assert [line.split(" | ")[0] for line in lines[2:4]] == ["| better", "| good"]


def test_unfinished_run_is_refused_unless_skipped(runs: Path) -> None:
    (runs / "running").mkdir()
    (runs / "running" / "experiment.json").write_text("{}")
    refused = llmclf("compare", runs)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("error: not finished")
    assert str(runs / "running") in refused.stderr
    assert llmclf("compare", runs, "--skip-unfinished").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare"], "nothing to compare"),
        (["compare", "absent"], "absent: no such folder"),
        (["compare", "{runs}", "--markdwon", "t.md"], "--markdown"),
        (["compare", "{runs}", "--markdown", "{runs}"], "cannot be written"),
        (["comapre", "{runs}"], "compare"),
        ([], "compare"),
    ],
)
def test_mistake_is_one_message_and_exit_code_2(
    arguments: list[str], message: str, runs: Path
) -> None:
    done = llmclf(*(a.format(runs=runs) for a in arguments))
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_failure_of_ours_is_a_traceback_and_exit_code_1(runs: Path) -> None:
    code = (
        "import sys; from llmclf import cli; from llmclf.report import comparison\n"
        "def broken(runs): raise RuntimeError('ours')\n"
        f"comparison.compare = broken; sys.argv = ['llmclf', 'compare', {str(runs)!r}]\n"
        "cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ours" in done.stderr


def test_help_lists_commands_and_options() -> None:
    assert "compare" in llmclf("--help").stdout
    text = llmclf("compare", "--help").stdout
    assert "--markdown" in text
    assert "Run folders" in text


def test_version() -> None:
    assert llmclf("--version").stdout == version("llmclf") + "\n"


def test_comparing_imports_no_torch(runs: Path) -> None:
    code = (
        f"import sys; sys.argv = ['llmclf', 'compare', {str(runs)!r}]\n"
        "from llmclf.cli import main; main()\n"
        "assert not {'torch', 'transformers', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
