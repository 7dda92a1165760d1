"""``make demo`` typed again: it goes on after an interruption, and repeats nothing that is done."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.processes import REPOSITORY, start, wait_until
from tests.tiny import make_bert, write_corpus

RECIPE = """
from pathlib import Path

from llmclf import BaselineConfig, Classical, DataConfig, FineTune, ModelConfig, TrainConfig, main

SHARED = {"data": DataConfig(source="%s"), "output_dir": Path("%s")}


def experiments():
    return [
        Classical(name="first", baseline=BaselineConfig(classifier="majority"), **SHARED),
        FineTune(
            name="second",
            model=ModelConfig(checkpoint="%s"),
            train=TrainConfig(max_steps=60, checkpoint_every=2, log_every=1),
            **SHARED,
        ),
    ]


if __name__ == "__main__":
    main(experiments)
"""


@pytest.fixture
def options_of_make(tmp_path: Path) -> list[str]:
    """What ``make demo`` gives to Python, behind the recipe's name."""
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text('#!/bin/sh\necho "$@" > "$ARGUMENTS"\n')
    python.chmod(0o755)
    subprocess.run(
        ["make", "-o", "install", "demo", f"BIN={python.parent}"],
        cwd=REPOSITORY,
        env=os.environ | {"ARGUMENTS": str(tmp_path / "arguments")},
        check=True,
        capture_output=True,
    )
    recipe, *options = (tmp_path / "arguments").read_text().split()
    assert recipe == "recipes/demo.py"
    return options


def test_a_demo_that_was_interrupted_goes_on(tmp_path: Path, options_of_make: list[str]) -> None:
    source, runs = write_corpus(tmp_path / "corpus.csv", 90), tmp_path / "runs"
    recipe = tmp_path / "recipe.py"
    recipe.write_text(RECIPE % (source, runs, make_bert(tmp_path / "bert")))
    killed = start(tmp_path / "killed.log", str(recipe), *options_of_make)
    wait_until(runs / "second" / "metrics.jsonl", '{"step": 8, ', killed)
    assert killed.kill(), killed.text()
    assert not (runs / "second" / "results.json").exists()
    again = start(tmp_path / "again.log", str(recipe), *options_of_make)
    assert again.wait() == 0, again.text()
    assert again.text().count("finished earlier: ") == 1
    assert again.text().count("going on with what was interrupted: ") == 1
    files = {path: path.stat().st_mtime_ns for path in runs.glob("*/results.json")}
    assert len(files) == 2
    once_more = start(tmp_path / "once_more.log", str(recipe), *options_of_make)
    assert once_more.wait() == 0, once_more.text()
    assert once_more.text().count("finished earlier: ") == 2
    assert "going on with" not in once_more.text()
    assert files == {path: path.stat().st_mtime_ns for path in files}
