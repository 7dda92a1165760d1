"""Parameters of a recipe's function: options of every command that reads a recipe."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import llmclf
from llmclf import ConfigError, FineTune, LanguageModelConfig
from llmclf.cli import parameters
from llmclf.cli.recipe_file import read_recipe
from llmclf.report.command import command
from llmclf.run_folder.read import read
from tests.tiny import write_corpus

ROOT = Path(__file__).parents[2]
COMPARE = ROOT / "recipes" / "compare.py"
EMBEDDED = ["--encoder", "minilm-l6", "--decoder", "smollm2-135m"]

RECIPE = """
from typing import Annotated
from llmclf import DataConfig, FineTune, ModelConfig, main


def experiment(
    checkpoint: Annotated[str, "What learns."] = "google-bert/bert-base-uncased", blocks: int = 1
) -> FineTune:
    model = ModelConfig(checkpoint=checkpoint, tune="last_n", last_n=blocks)
    return FineTune(name="mine", data=DataConfig(source="corpus.csv"), model=model)


if __name__ == "__main__":
    main(experiment)
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    write_corpus(tmp_path / "corpus.csv", 120)
    (tmp_path / "mine.py").write_text(RECIPE)
    return tmp_path / "mine.py"


def shell(words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """As a user types it, in a folder."""
    python = Path(sys.executable).parent
    env = os.environ | {
        "COLUMNS": "100",
        "HF_HUB_OFFLINE": "1",
        "PATH": f"{python}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(Path(llmclf.__file__).parents[1]),
    }
    return subprocess.run(
        ["sh", "-c", words], cwd=folder, env=env, capture_output=True, text=True, check=False
    )


def test_help_says_what_they_are_and_which_values_they_have(mine: Path) -> None:
    text = shell("python mine.py --blocks 3 --help", mine.parent).stdout
    assert "--checkpoint STR" in text
    assert "What learns. (default: google-bert/bert-base-uncased)" in text
    assert "--blocks INT" in text and "(default: 3)" in text
    assert text.index("--resume") < text.index("--checkpoint STR") < text.index("--data.source")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--chekpoint minilm-l6", "--checkpoint"),
        ("--blocks many", "many"),
        ("--checkpoint", "--checkpoint"),
    ],
)
def test_a_mistake_is_told_and_ends_with_2(options: str, message: str, mine: Path) -> None:
    done = shell(f"python mine.py {options}", mine.parent)
    assert done.returncode == 2
    assert message in done.stderr and "Traceback" not in done.stderr


def test_settings_win_over_parameters(mine: Path) -> None:
    (chosen,) = read_recipe(mine).resolved(["--blocks", "2", "--model.last-n", "4"])
    assert isinstance(chosen, FineTune)
    assert chosen.model.last_n == 4
    assert chosen.model.checkpoint == "google-bert/bert-base-uncased"


def test_a_parameter_without_a_default_is_refused() -> None:
    def experiment(checkpoint: str) -> FineTune:
        raise AssertionError(checkpoint)

    with pytest.raises(ConfigError, match=r"experiment\(checkpoint\).*needs a default"):
        parameters.given(experiment, [])


def test_a_parameter_named_as_an_option_is_refused(mine: Path) -> None:
    mine.write_text(RECIPE.replace("blocks", "seed"))
    done = shell("python mine.py --dry-run", mine.parent)
    assert done.returncode == 2
    assert "seed: a parameter of this recipe" in done.stderr and "Traceback" not in done.stderr


def test_compare_runs_on_the_embedded_models() -> None:
    chosen = {e.name: e for e in read_recipe(COMPARE).resolved(EMBEDDED)}
    checkpoints = {
        name: e.model.checkpoint
        for name, e in chosen.items()
        if isinstance(getattr(e, "model", None), LanguageModelConfig)
    }
    assert checkpoints == {
        "features": "minilm-l6",
        "head": "minilm-l6",
        "lora": "minilm-l6",
        "full": "minilm-l6",
        "decoder-lora": "smollm2-135m",
        "decoder-16-shot": "smollm2-135m",
    }


def test_plan_and_slurm_read_them(mine: Path) -> None:
    planned = shell("llmclf plan mine.py --checkpoint minilm-l6 --length 32", mine.parent)
    assert planned.returncode == 0, planned.stderr
    assert "--checkpoint minilm-l6" in " ".join(planned.stdout.split())
    line = f"llmclf slurm recipes/compare.py {shlex.join(EMBEDDED)}"
    script = shell(line, ROOT)
    assert script.returncode == 0, script.stderr
    assert script.stdout.rstrip().endswith(shlex.join(EMBEDDED))
    assert shell(f"{line} --decodr x", ROOT).returncode == 2


def test_the_command_of_a_report_repeats_the_run(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus.csv", 120)
    (tmp_path / "compare.py").write_text(COMPARE.read_text())
    options = "--data.source corpus.csv --only head --train.max-steps 2 --output-dir runs"
    done = shell(f"python compare.py {shlex.join(EMBEDDED)} {options}", tmp_path)
    assert done.returncode == 0, done.stderr
    typed = command(read(tmp_path / "runs" / "head"))
    assert "--only head" in typed and "--model.checkpoint minilm-l6" in typed
    again = shell(typed, tmp_path)
    assert again.returncode == 0, again.stderr
    first, second = (
        (tmp_path / folder / "predictions" / "test.parquet").read_bytes()
        for folder in ("runs/head", "runs/again/head")
    )
    assert first == second


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("def experiment(): pass", "experiment() returned None"),
        ("def experiments(): return []", "experiments() returned []"),
        ("def experiments(): return [1]", "experiments() returned 1 among others"),
        ("def experiment(x: 'Foo' = 0): pass", "name 'Foo' is not defined"),
        ("def experiment(x): pass", "a parameter of a recipe needs a default value"),
    ],
)
def test_what_is_no_recipe_is_said_in_one_line(body: str, message: str, tmp_path: Path) -> None:
    (name,) = [word for word in ("experiments", "experiment") if f"def {word}(" in body]
    path = tmp_path / "mine.py"
    path.write_text(
        f"from llmclf import main\n{body}\nmain({name}) if __name__ == '__main__' else 0\n"
    )
    for words in ([path], ["-m", "llmclf", "plan", path]):
        done = subprocess.run(
            [sys.executable, *map(str, words)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 2, done.stderr
        assert message in done.stderr and "Traceback" not in done.stderr
