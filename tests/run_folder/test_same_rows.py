"""A run goes on with the rows that it began with, whatever the approach, or not at all."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from rich.console import Console

from llmclf import Classical, FineTune, Prompt, run
from llmclf.classical.config import BaselineConfig
from llmclf.config import ConfigError
from llmclf.data.config import DataConfig
from llmclf.data.corpus import Splits, load_splits
from llmclf.methods.method import Experiment
from llmclf.model.config import LanguageModelConfig, ModelConfig
from llmclf.prompt.config import PromptConfig
from llmclf.run_folder.same_rows import FILE, check_same, write_rows
from llmclf.train.config import TrainConfig
from tests.tiny import write_corpus

QUIET = Console(quiet=True)
Rows = list[list[str]]


def load(path: Path) -> Splits:
    return load_splits(DataConfig(source=str(path), id="id", test=str(path) + ".test.csv"), 0)


def write(path: Path, rows: Rows) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["id", "text", "label"], *rows])


def rows_of(path: Path, tmp_path: Path) -> Rows:
    plain = write_corpus(tmp_path / path, 90)
    with plain.open(encoding="utf-8") as file:
        return [[f"row-{i}", *row] for i, row in enumerate(list(csv.reader(file))[1:])]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Training rows in one file, test rows in another; the ids do not depend on the order."""
    rows = rows_of(Path("plain.csv"), tmp_path)
    write(tmp_path / "data.csv", rows[:60])
    write(tmp_path / "data.csv.test.csv", rows[60:])
    return tmp_path / "data.csv"


def change(source: Path, how: Callable[[Rows], Rows]) -> Path:
    with source.open(encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    write(source, how(rows))
    return source


CHANGES: dict[str, tuple[Callable[[Rows], Rows], str]] = {
    "text": (lambda r: [[r[0][0], r[0][1] + " more", r[0][2]], *r[1:]], "texts or labels differ"),
    "label": (lambda r: [[r[0][0], r[0][1], r[1][2]], *r[1:]], "in another split|labels differ"),
    "gone": (lambda r: r[1:], "gone: 1"),
    "new": (lambda r: [*r, ["new", "okay balan", "meh"]], "new: 1"),
    "order": (lambda r: r[::-1], "in another split|another order"),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_any_change_of_the_rows_is_refused_and_named(
    tmp_path: Path, source: Path, kind: str
) -> None:
    write_rows(load(source), {}, tmp_path / FILE)
    assert check_same(tmp_path, load(source)) == []
    how, told = CHANGES[kind]
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(ConfigError, match=told) as refused:
        check_same(tmp_path, load(change(source, how)))
    assert str(refused.value).startswith("--resume: the data have changed since the run in ")
    assert "\n" not in str(refused.value)
    assert (tmp_path / FILE).read_bytes() == before


@pytest.mark.parametrize("columns", [["id", "split"], ["id", "split", "words", "text", "seen"]])
def test_a_folder_of_an_older_version_is_compared_by_what_it_tells(
    tmp_path: Path, source: Path, columns: list[str]
) -> None:
    write_rows(load(source), {}, tmp_path / FILE)
    pl.read_parquet(tmp_path / FILE).select(columns).write_parquet(tmp_path / FILE)
    (note,) = check_same(tmp_path, load(source))
    assert "older version" in note
    with pytest.raises(ConfigError, match="gone: 1"):
        check_same(tmp_path, load(change(source, lambda rows: rows[1:])))


def test_a_folder_without_rows_has_learnt_nothing(tmp_path: Path, source: Path) -> None:
    assert check_same(tmp_path, load(source)) == []
    (tmp_path / FILE).write_bytes(b"cut off")
    (note,) = check_same(tmp_path, load(source))
    assert "cannot be read" in note


@pytest.mark.parametrize("approach", ["fine_tune", "prompt", "classical"])
def test_no_approach_goes_on_with_other_rows(
    tmp_path: Path, bert: Path, byte_llama: Path, approach: str
) -> None:
    source = write_corpus(tmp_path / "data.csv", 90)
    base = {"name": "x", "output_dir": tmp_path / "run", "data": DataConfig(source=str(source))}
    experiment: Experiment = {
        "fine_tune": lambda: FineTune(
            **base,
            model=ModelConfig(checkpoint=str(bert)),
            train=TrainConfig(max_steps=2, precision="fp32"),
        ),
        "prompt": lambda: Prompt(
            **base,
            model=LanguageModelConfig(checkpoint=str(byte_llama)),
            prompt=PromptConfig(precision="fp32"),
        ),
        "classical": lambda: Classical(**base, baseline=BaselineConfig(classifier="majority")),
    }[approach]()
    folder = run(experiment, console=QUIET)
    (folder / "results.json").unlink()  # as if it had been killed just before
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    write_corpus(source, 91, seed=1)
    with pytest.raises(ConfigError, match="the data have changed"):
        run(experiment, resume=True, console=QUIET)
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    write_corpus(source, 90)
    run(dataclasses.replace(experiment), resume=True, console=QUIET)
    assert (folder / "results.json").exists()
