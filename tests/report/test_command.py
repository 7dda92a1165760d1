"""The command that repeats a run, given to the parser that would read it."""

from __future__ import annotations

import dataclasses
import html as standard_html
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import llmclf
from llmclf.classical.config import BaselineConfig
from llmclf.cli.recipe import RunCommand
from llmclf.cli.recipe import read as read_command
from llmclf.data.config import DataConfig
from llmclf.methods.classical import Classical
from llmclf.methods.fine_tune import FineTune
from llmclf.methods.method import Experiment
from llmclf.methods.prompt import Prompt
from llmclf.methods.zero_shot import ZeroShot
from llmclf.model.config import LanguageModelConfig, ModelConfig
from llmclf.prompt.config import PromptConfig
from llmclf.report.analyse import analyse
from llmclf.report.command import command
from llmclf.report.config import ReportConfig
from llmclf.report.html import html
from llmclf.run_folder.read import Finished, read
from llmclf.train.config import TrainConfig
from llmclf.zero_shot.config import ZeroShotConfig
from tests.report.made import predicted, write_run
from tests.tiny import write_corpus

DATA = DataConfig(source="my file.csv", fold=1, folds=5, text="$(text)", encoding="cp1252")
EXPERIMENTS = (
    FineTune(
        name="lora",
        seed=7,
        data=DATA,
        model=ModelConfig(checkpoint="minilm-l6", tune="lora", lora_rank=16),
        train=TrainConfig(epochs=2.5, learning_rate=3e-4, gradient_checkpointing=True),
    ),
    Prompt(
        name="few-shot",
        data=DATA,
        model=LanguageModelConfig(checkpoint="smollm2-135m"),
        prompt=PromptConfig(
            shots=16,
            templates=("quoted", "tagged"),
            instruction="Which  tone?\n\tThink <first>.\n" + "Then answer. " * 200,
        ),
    ),
    Classical(
        name="logistic",
        data=DATA,
        baseline=BaselineConfig(classifier="logistic_regression"),
    ),
    ZeroShot(
        name="zero-shot",
        data=dataclasses.replace(DATA, descriptions=("a=It says $a = 'b'.", "b=Else: {x}")),
        zero_shot=ZeroShotConfig(hypothesis="{label}: {description}", temperature=0.1),
    ),
)


def in_a_shell(words: str) -> list[str]:
    """The words as a shell hands them to a program."""
    done = subprocess.run(
        ["sh", "-c", f"printf '%s\\0' {words}"], capture_output=True, text=True, check=True
    )
    return done.stdout.split("\0")[:-1]


def on_the_page(run: Finished) -> str:
    """The command as a reader of the page copies it."""
    page = html(analyse([run], ReportConfig(resamples=1000), title="t"))
    (text,) = re.findall("<pre><code>(.*?)</code></pre>", page, re.S)
    return standard_html.unescape(text)


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda e: e.name)
def test_a_recipe_of_the_same_kind_repeats_the_run(experiment: Experiment, tmp_path: Path) -> None:
    settings: dict[str, Any] = experiment.to_json()
    run = read(write_run(tmp_path / "a", predicted(9), name=experiment.name, settings=settings))
    assert on_the_page(run) == command(run)
    assert not re.search(r"--[\w.-]*_", command(run))  # as --help writes options
    python, recipe, *options = in_a_shell(on_the_page(run))
    assert (python, recipe) == ("python", "RECIPE")
    plain = type(experiment)(name="other", data=DataConfig(source="opinions"))
    _, (repeated,) = read_command([plain], options, None, RunCommand())
    assert dataclasses.replace(repeated, output_dir=None) == experiment


def test_several_processes_are_launched(tmp_path: Path) -> None:
    run = read(write_run(tmp_path / "a", predicted(9)))
    run.environment["world_size"] = 4
    assert command(run).startswith("accelerate launch --num_processes 4 RECIPE \\\n")


RECIPE = """
from llmclf import BaselineConfig, Classical, DataConfig, main


def experiments():
    return [
        Classical(
            name=name,
            data=DataConfig(source="corpus.csv"),
            baseline=BaselineConfig(classifier=name, search_folds=2),
        )
        for name in ("naive_bayes", "majority")
    ]


if __name__ == "__main__":
    main(experiments, seeds=(0, 1), budgets=(8,))
"""


def test_the_command_of_a_report_repeats_a_run_of_a_comparison(tmp_path: Path) -> None:
    """Typed as it stands, in a real shell: the same predictions, and nothing else is run."""
    write_corpus(tmp_path / "corpus.csv", 120)
    (tmp_path / "mine.py").write_text(RECIPE)
    python = Path(sys.executable).parent
    env = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "PATH": f"{python}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(Path(llmclf.__file__).parents[1]),
    }

    def shell(words: str) -> None:
        subprocess.run(["sh", "-c", words], cwd=tmp_path, env=env, check=True, capture_output=True)

    shell("python mine.py --output-dir runs --baseline.search-folds 3")
    first = tmp_path / "runs" / "naive_bayes-seed1-8"
    typed = on_the_page(read(first))
    assert typed.startswith("python mine.py --only naive_bayes ")
    shell(typed)
    (again,) = (path.parent for path in (tmp_path / "runs" / "again").glob("*/results.json"))
    for name in ("predictions/test.parquet", "splits.parquet"):
        assert (again / name).read_bytes() == (first / name).read_bytes()
