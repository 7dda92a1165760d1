"""Every recipe: its help, its dry run, two steps of it, and the command line's mistakes."""

import csv
import importlib.util
import json
import random
import re
import runpy
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from llmclf import Experiment, Features, FineTune, Prompt, ZeroShot
from llmclf.cli.recipe_file import read_recipe
from llmclf.config import flatten
from tests.tiny import byte_llama  # noqa: F401

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "recipes").glob("*.py"))
# The embedded BERT stands in for the checkpoints of the hub.
SMALL = ["--model.checkpoint", "minilm-l6", "--data.max-length", "32"]


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"recipe_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its docstring becomes the help
    spec.loader.exec_module(module)
    return module


def recipe(path: Path) -> Callable:
    module = load(path)
    return getattr(module, "experiment", None) or module.experiments


def made_by(path: Path) -> Experiment | None:
    """What a recipe of one run returns; None for a comparison."""
    made = recipe(path)()
    return None if isinstance(made, list) else made


SINGLE = {path: made for path in RECIPES if (made := made_by(path))}
COMPARISONS = [path.stem for path in RECIPES if path not in SINGLE]
FINE_TUNES = [path for path, made in SINGLE.items() if isinstance(made, FineTune)]
# Those that ask a server have tests of their own.
PROMPTS = [
    path for path, made in SINGLE.items() if isinstance(made, Prompt) and not made.api.base_url
]


def launch(path: Path, *options: str) -> int:
    """Run a recipe in this process; returns the exit code."""
    before, sys.argv = sys.argv, [str(path), *options]
    try:
        runpy.run_path(str(path), run_name="__main__")
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:
        sys.argv = before
    return 0


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ninety short texts, each with a word that gives its label away."""
    random.seed(0)
    filler = ["the", "a", "study", "of", "patients", "in", "our", "ward", "shows", "that", "some"]
    path = tmp_path_factory.mktemp("corpus") / "corpus.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for i in range(90):
            label = ("good", "bad", "fair")[i % 3]
            words = [*random.sample(filler, 6), str(i), label]
            writer.writerow([" ".join(words), label])
    return path


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_help_shows_commands_and_options(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert launch(path, "--help") == 0
    text = capsys.readouterr().out
    assert f"python recipes/{path.name}" in text or path.stem in ("demo", "llama_full_zero3")
    made = recipe(path)()
    for experiment in made if isinstance(made, list) else [made]:
        for key in flatten(experiment.to_json()):
            option = re.escape(key.replace("_", "-"))
            assert key == "method" or re.search(f"--{option}[ ,]", text)
    assert "--dry-run" in text
    others = {
        "--train.epochs", "--prompt.shots", "--baseline.classifier", "--features.pooling",
        "--zero-shot.kind", "--folds",
    }  # fmt: skip
    assert sum(option in text for option in others) == {
        Features: 1,
        FineTune: 1,
        Prompt: 1,
        ZeroShot: 1,
    }.get(type(made), len({type(e).__name__ for e in made} if isinstance(made, list) else ()) + 1)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_commands_in_the_docstring_are_valid(path: Path) -> None:
    """Each command of the docstring parses; nothing is run."""
    commands = [
        line.strip()
        for line in (load(path).__doc__ or "").splitlines()
        if line.startswith("    ") and f"recipes/{path.name}" in line
        if not line.startswith("    llmclf plan")  # tests/cli/test_plan.py
    ]
    assert commands
    for command in commands:
        words = shlex.split(command)
        options = words[words.index(f"recipes/{path.name}") + 1 :]
        assert read_recipe(path).resolved(options)
        if "--config_file" in words:
            assert (ROOT / words[words.index("--config_file") + 1]).is_file()


@pytest.mark.parametrize("path", FINE_TUNES, ids=lambda path: path.stem)
def test_dry_run_then_two_steps(path: Path, corpus: Path, tmp_path: Path) -> None:
    options = ["--data.source", str(corpus), *SMALL, "--output-dir", str(tmp_path / "run")]
    assert launch(path, *options, "--dry-run") == 0
    assert not (tmp_path / "run").exists()
    assert launch(path, *options, "--train.max-steps", "2") == 0
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["test"]["n"] == 18
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["global_batch_size"] == recipe(path)().train.global_batch_size


@pytest.mark.parametrize("path", PROMPTS, ids=lambda path: path.stem)
def test_dry_run_then_a_prompted_run(
    path: Path,
    corpus: Path,
    byte_llama: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ["--data.source", str(corpus), "--model.checkpoint", str(byte_llama)]
    options += ["--output-dir", str(tmp_path / "run")]
    assert launch(path, *options, "--dry-run") == 0
    assert not (tmp_path / "run").exists()
    assert "longest prompt tokens" in capsys.readouterr().out
    assert launch(path, *options) == 0
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert (results["method"], results["model"]) == ("prompt", str(byte_llama))
    assert results["labels"] == ["bad", "fair", "good"]
    assert results["test"]["n"] == 18 and 0 <= results["test"]["accuracy"] <= 1
    assert set(results["test"]) == set(results["validation"])
    cost = results["cost"]
    assert cost["trainable_parameters"] == 0 and cost["total_parameters"] > 0
    assert cost["predict_seconds"] > 0 and cost["train_seconds"] is None
    assert cost["latency_p50_seconds"] > 0 and cost["latency_p99_seconds"] is None
    config, prompt = recipe(path)().prompt, results["prompt"]
    variants = len(config.templates) * config.seeds * config.orders
    assert len(prompt["variants"]) == variants
    assert set(prompt["variants"][0]["scores"]) == {"none", "mean", "pmi", "contextual", "batch"}
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert (environment["world_size"], environment["strategy"]) == (1, "single")
    for part in ("test", "validation"):
        assert (tmp_path / "run" / "predictions" / f"{part}.parquet").is_file()
    shown = json.loads((tmp_path / "run" / "prompt" / "prompts.json").read_text())
    assert [len(one["demonstrations"]) for one in shown] == [config.shots] * variants


@pytest.mark.parametrize("name", ["features", "zero_shot_encoder"])
def test_dry_run_then_a_run_of_a_frozen_encoder(name: str, corpus: Path, tmp_path: Path) -> None:
    options = ["--data.source", str(corpus), *SMALL, "--output-dir", str(tmp_path / "run")]
    path = ROOT / "recipes" / f"{name}.py"
    assert launch(path, *options, "--dry-run") == 0
    assert not (tmp_path / "run").exists()
    assert launch(path, *options) == 0
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["test"]["n"] == 18 and results["method"] == recipe(path)().approach


STEPS = ["--train.max-steps", "2"]
SHORTENED = {  # what a laptop without a hub runs of them in seconds
    "baselines": [],
    "demo": STEPS,
    "compare": ["--only", "majority", "tfidf-svm"],
    "health_advice": ["--only", "majority", "linear-svm", "head", "--folds", "2", *STEPS],
    "break_even": ["--only", "majority", "full", "--seeds", "0", "1", "--budgets", "8", *STEPS],
}


@pytest.mark.parametrize("name", COMPARISONS)
def test_comparisons_end_in_a_report(name: str, corpus: Path, tmp_path: Path) -> None:
    path, options = ROOT / "recipes" / f"{name}.py", SHORTENED[name]
    assert launch(path, "--data.source", str(corpus), "--output-dir", str(tmp_path), *options) == 0
    table = (tmp_path / "report.md").read_text()
    names = {experiment.name for experiment in recipe(path)()}
    if "--only" in options:
        names &= set(options)
    assert all(f"| {name} |" in table for name in names)
    page = (tmp_path / "report.html").read_text()
    assert all(name in page for name in names) and "<script" not in page
    results = [json.loads(file.read_text()) for file in tmp_path.glob("*/results.json")]
    per_name = [sum(found["name"] == name for found in results) for name in names]
    assert per_name == {"health_advice": [2] * 3}.get(name, per_name)
    assert len({found["test"]["n"] for found in results}) == 1


def test_a_grid_goes_on_where_it_stopped(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = ROOT / "recipes" / "break_even.py"
    options = ["--data.source", str(corpus), "--output-dir", str(tmp_path), "--seeds", "0", "1"]
    options += ["--only", "majority", "linear-svm"]
    assert launch(path, *options, "--budgets", "8") == 0
    capsys.readouterr()
    assert launch(path, *options, "--budgets", "8", "12") == 0
    assert capsys.readouterr().out.count("finished earlier") == 2 + 4
    crossings = (tmp_path / "tables" / "crossings.csv").read_text()
    assert "linear-svm,majority" in crossings


def test_a_finished_comparison_is_not_run_again(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = ROOT / "recipes" / "baselines.py"
    options = ["--data.source", str(corpus), "--output-dir", str(tmp_path)]
    assert launch(path, *options) == 0
    first = (tmp_path / "linear-svm" / "results.json").read_text()
    capsys.readouterr()
    assert launch(path, *options) == 0
    assert capsys.readouterr().out.count("finished earlier") == 6
    assert (tmp_path / "linear-svm" / "results.json").read_text() == first
    assert launch(path, *options, "--seed", "1") == 2  # other settings: refused, not mixed


BERT = ROOT / "recipes" / "bert_base.py"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--train.learnig-rate", "1"], "--train.learning-rate"),
        (["--train.learning-rate", "fast"], "could not convert"),
        (["--train.learning-rate", "-1"], "train.learning_rate=-1.0: must be a number above 0"),
        (["--train.epochs", "nan"], "train.epochs=nan: must be a number above 0"),
        (["--data.fold", "1"], "give both or neither"),
        (["--data.fold", "7", "--data.folds", "5"], "allowed are 0 to 4"),
        (["--model.save", "adapter"], "needs model.tune='lora' (got 'full')"),
        (["--train.loss", "focal", "--train.label-smoothing", "0.1"], "has no meaning with"),
        (
            ["--data.validation-fraction", "0", "--train.patience", "3"],
            "train.patience=3: counts evaluations on validation rows",
        ),
        (["--name", "../up"], "name='../up': allowed are letters"),
        (["--baseline.classifier", "majority"], "--baseline.classifier"),
        (["--data.source", "no/such.csv"], "no/such.csv"),
        (["--model.checkpoint", "./no-such-model"], "there is no such folder"),
        (["--model.checkpoint", "minilm-l6", "--data.max-length", "9999"], "at most 512 tokens"),
        (
            ["--model.checkpoint", "minilm-l6", "--model.tune", "last_n", "--model.last-n", "9"],
            "the model has 6 blocks",
        ),
    ],
)
def test_mistakes_are_told_and_nothing_is_written(
    options: list[str],
    message: str,
    corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = [] if "--data.source" in options else ["--data.source", str(corpus)]
    assert launch(BERT, *source, "--output-dir", str(tmp_path / "run"), *options) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert message in told
    assert "Traceback" not in told
    assert not (tmp_path / "run").exists()


def test_all_problems_are_told_at_once(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--data.source", str(corpus), "--data.fold", "1", "--model.save", "adapter"]
    assert launch(BERT, *options, "--name", "a b", "--output-dir", str(tmp_path / "run")) == 2
    told = capsys.readouterr().err
    assert "data.fold" in told and "model.save" in told and "name='a b'" in told


def test_existing_and_unwritable_folders(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    options = ["--data.source", str(corpus), *SMALL]
    assert launch(BERT, *options, "--output-dir", str(tmp_path / "run")) == 2
    assert "holds a run already" in capsys.readouterr().err
    assert launch(BERT, *options, "--output-dir", str(tmp_path / "run" / "notes.txt" / "x")) == 2
    assert "not a folder that can be written" in " ".join(capsys.readouterr().err.split())
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["notes.txt"]


def test_an_unreachable_hub_says_what_to_do_offline(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--data.source", str(corpus), "--output-dir", str(tmp_path / "run")]
    assert launch(ROOT / "recipes" / "bert_large.py", *options) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "google-bert/bert-large-uncased" in told and "minilm-l6" in told
    assert not (tmp_path / "run").exists()


def test_an_option_in_which_the_runs_differ_is_refused(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--data.source", str(corpus), "--output-dir", str(tmp_path), "--model.tune", "full"]
    assert launch(ROOT / "recipes" / "demo.py", *options) == 2
    assert "the runs of this recipe differ in it" in capsys.readouterr().err
