"""The command line as a user calls it: what it prints, and its exit code."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from llmclf.cli.app import COMMANDS, first_line
from tests.report.made import predicted, write_run

ROOT = Path(__file__).parents[2]


def llmclf(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "llmclf", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for name, right in (("good", 75), ("better", 87)):
        write_run(tmp_path / name, predicted(right, 100), name=name)
    return tmp_path


def test_compare_prints_the_best_first_and_writes_markdown(runs: Path) -> None:
    done = llmclf("compare", runs / "good", runs / "better", "--markdown", runs / "new" / "t.md")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.index("0.870") < done.stdout.index("0.750")
    assert "macro-F1 0.870 [" in done.stdout
    lines = (runs / "new" / "t.md").read_text(encoding="utf-8").splitlines()
    assert [line.split(" | ")[0] for line in lines[2:4]] == ["| better", "| good"]


def test_compare_writes_the_report(runs: Path) -> None:
    folder = runs.parent / "report"
    done = llmclf("compare", runs, "--output-dir", folder, "--report.margin", "0.2")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"report: {folder}" in done.stdout
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert text.startswith("# Comparison of better, good\n")
    assert "Margin of equivalence: 0.2" in text
    assert (folder / "tables" / "scores.csv").is_file()


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
        (["compare", "{runs}", "--output-dir", "{runs}/good/results.json"], "cannot be written"),
        (["compare", "{runs}", "--report.margin", "2"], "report.margin=2.0"),
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
        "import sys; from llmclf.cli import app as cli; from llmclf.report import analyse\n"
        "def broken(*a, **k): raise RuntimeError('ours')\n"
        f"analyse.analyse = broken; sys.argv = ['llmclf', 'compare', {str(runs)!r}]\n"
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
        "from llmclf.cli.app import main; main()\n"
        "assert not {'torch', 'transformers', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_help_lists_every_command_with_its_first_line() -> None:
    text = " ".join(llmclf("--help").stdout.replace("│", " ").split())
    for name, command in COMMANDS.items():
        assert f"• {name} {first_line(command)}" in text
    assert "Needs neither weights nor a GPU" not in text
    assert "Needs neither weights" in llmclf("plan", "--help").stdout


def test_recipes_are_listed_and_copied_never_over_a_file(tmp_path: Path) -> None:
    listed = llmclf("recipes").stdout
    assert all(path.stem in listed for path in (ROOT / "recipes").glob("*.py"))
    mine = tmp_path / "new" / "mine.py"
    assert llmclf("recipes", "copy", "bert_base", mine).returncode == 0
    assert mine.read_text() == (ROOT / "recipes" / "bert_base.py").read_text()
    again = llmclf("recipes", "copy", "bert_base", mine)
    assert again.returncode == 2 and "is there already" in again.stderr
    unknown = llmclf("recipes", "copy", "bert_bass")
    assert unknown.returncode == 2 and "Did you mean 'bert_base'?" in unknown.stderr
    assert "Traceback" not in again.stderr + unknown.stderr
