"""Nothing heavy is loaded before it is needed: --help and mistakes are answered at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BERT = str(ROOT / "recipes" / "bert_base.py")
FRAMEWORKS = {"accelerate", "bitsandbytes", "peft", "polars", "sklearn", "torch", "transformers"}
# Prints a line for each of our interest, among what the program itself prints.
WATCH = """
import builtins, sys
FOUND, IMPORT = set(), builtins.__import__
def watched(name, *rest, **more):
    loaded = IMPORT(name, *rest, **more)
    for new in {FRAMEWORKS}:
        if new in sys.modules and new not in FOUND:
            FOUND.add(new)
            print("loaded:", new, flush=True)
    return loaded
builtins.__import__ = watched
"""


def python(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run Python with a module that watches what is loaded."""
    watch = folder / "watch"
    watch.mkdir()
    text = WATCH.replace("{FRAMEWORKS}", repr(FRAMEWORKS | {"pandas", "matplotlib"}))
    (watch / "sitecustomize.py").write_text(text)
    path = os.pathsep.join([str(watch), str(ROOT)])
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def loaded(text: str) -> set[str]:
    lines = text.splitlines()
    return {line.removeprefix("loaded: ") for line in lines if line.startswith("loaded: ")}


def test_what_is_loaded_is_seen(tmp_path: Path) -> None:
    done = python("-c", "import llmclf; llmclf.run", folder=tmp_path)
    assert {"polars", "sklearn"} & loaded(done.stdout)


def test_importing_llmclf_loads_nothing(tmp_path: Path) -> None:
    done = python("-c", "import llmclf; llmclf.FineTune, llmclf.main", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert loaded(done.stdout) == set()


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--help"], 0),
        (["--train.learnig-rate", "1"], 2),  # misspelt
        (["--train.epochs", "many"], 2),
        (["--data.fold", "1"], 2),  # without --data.folds
    ],
)
def test_help_and_mistakes_load_nothing(options: list[str], code: int, tmp_path: Path) -> None:
    done = python(BERT, *options, folder=tmp_path)
    assert done.returncode == code
    assert loaded(done.stdout) == set()


@pytest.mark.parametrize(
    "words", [["--help"], ["plan", "--help"], ["recipes"], ["slurm", "recipes/bert_base.py"]]
)
def test_commands_load_nothing(words: list[str], tmp_path: Path) -> None:
    for name in ("launch", "recipes"):
        (tmp_path / name).symlink_to(ROOT / name)
    done = python("-m", "llmclf", *words, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert loaded(done.stdout) == set()


def test_a_dry_run_shows_the_settings_first(tmp_path: Path) -> None:
    """Nothing is loaded before all of them are shown. That the file is missing is found later."""
    done = python(BERT, "--data.source", "missing.csv", "--dry-run", folder=tmp_path)
    assert done.returncode == 2 and "missing.csv" in done.stderr
    settings, found, _ = done.stdout.partition("loaded: ")
    assert found and "transformers" in loaded(done.stdout)
    assert "google-bert/bert-base-uncased" in settings and "train.learning-rate" in settings


def test_public_names_stay_what_they_are() -> None:
    """A module of the same name would take the place of a function once it is imported."""
    code = (
        "import importlib, llmclf\n"
        "first = {name: getattr(llmclf, name) for name in llmclf.__all__}\n"
        "[importlib.import_module(f'llmclf.{module}') for module in llmclf._WHERE.values()]\n"
        "assert first == {name: getattr(llmclf, name) for name in llmclf.__all__}\n"
        "assert callable(llmclf.compare) and callable(llmclf.run)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
