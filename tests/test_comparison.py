"""A list of experiments: what is run, what is used again, what fails, and what is refused."""

from __future__ import annotations

import dataclasses
import errno
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from llmclf.classical.baseline import Baseline
from llmclf.classical.config import BaselineConfig
from llmclf.cli.recipe import chosen_by_name
from llmclf.comparison import check, compare, repeated, run_all
from llmclf.config import ConfigError, RunError, UserError
from llmclf.data.config import DataConfig
from llmclf.methods.classical import Classical
from llmclf.methods.fine_tune import FineTune
from llmclf.methods.method import Experiment
from llmclf.model.config import ModelConfig
from llmclf.supervise import lock
from llmclf.train.config import TrainConfig
from tests.tiny import make_bert, make_poisoned_bert, write_corpus

QUIET = Console(quiet=True)


def classical(folder: Path, name: str = "majority", **data: object) -> Classical:
    settings = {"source": str(folder / "corpus.csv"), **data}
    return Classical(
        name=name,
        output_dir=folder / "runs" / name,
        data=DataConfig(**settings),  # type: ignore[arg-type]
        baseline=BaselineConfig(classifier="majority", search_folds=0),
    )


@pytest.fixture
def here(tmp_path: Path) -> Path:
    write_corpus(tmp_path / "corpus.csv", 90)
    return tmp_path


def folders(experiments: Sequence[Experiment]) -> list[str]:
    return [e.folder.name for e in experiments]


def test_folds_seeds_and_budgets_have_folders_of_their_own(here: Path) -> None:
    made = repeated([classical(here)], 2, (3, 4), (8,))
    assert folders(made) == [
        f"majority-seed{seed}{budget}-fold{fold}"
        for fold in (0, 1)
        for budget in ("", "-8")
        for seed in (3, 4)
    ]
    assert {e.seed for e in made} == {3, 4} and {e.data.seed for e in made} == {3}
    assert {e.data.labels_per_class for e in made} == {None, 8}
    assert {e.name for e in made} == {"majority"}
    assert repeated([classical(here)], None) == [classical(here)]


def test_a_method_with_its_own_budget_keeps_it(here: Path) -> None:
    made = repeated([classical(here, labels_per_class=16)], None, (), (8, 32))
    assert [e.data.labels_per_class for e in made] == [16]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"folds": 1}, "--folds 1: must be 2 or more"),
        ({"folds": 2, "seeds": (1, 1)}, "--seeds 1 1: each may be given once"),
        ({"folds": None, "budgets": (8, 8)}, "--budgets 8 8"),
    ],
)
def test_repeats_that_make_no_sense_are_refused(here: Path, given: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        repeated([classical(here)], **given)


def test_only_takes_methods_by_name(here: Path) -> None:
    both = [classical(here, "one"), classical(here, "two")]
    assert chosen_by_name(both, ["two"]) == both[1:]
    with pytest.raises(ConfigError, match=r"--only three: no such method. Allowed: one, two"):
        chosen_by_name(both, ["three"])


def test_experiments_on_other_rows_are_refused_before_anything_runs(here: Path) -> None:
    other = [classical(here, "one"), classical(here, "two", test_fraction=0.3)]
    with pytest.raises(ConfigError, match=r"two: data.test_fraction differs"):
        check(other, resume=False)
    with pytest.raises(ConfigError, match="two runs in"):
        check([classical(here), classical(here)], resume=False)
    longer = [classical(here, "one"), classical(here, "two", max_length=16)]
    check(longer, resume=False)  # the rows are the same
    assert not (here / "runs").exists()


def test_a_failure_is_told_and_the_others_are_run(here: Path) -> None:
    """One experiment that cannot start, one whose logits are not numbers, one that works."""
    lines = (here / "corpus.csv").read_text().splitlines()
    poisoned = [line.replace(",", " poison,") if "great" in line else line for line in lines]
    (here / "corpus.csv").write_text("\n".join(poisoned))
    base = classical(here, "absent")
    absent = FineTune(
        name=base.name,
        output_dir=base.output_dir,
        data=base.data,
        model=ModelConfig(checkpoint=str(here / "nowhere")),
    )
    broken = dataclasses.replace(
        absent,
        name="broken",
        output_dir=here / "runs" / "broken",
        model=ModelConfig(checkpoint=str(make_poisoned_bert(here / "poisoned"))),
        train=TrainConfig(max_steps=2, precision="fp32"),
    )
    failed = run_all([absent, broken, classical(here)], resume=False, console=QUIET)
    assert len(failed) == 2
    assert failed[0].startswith("absent failed: ") and "nowhere" in failed[0]
    assert failed[1].startswith("broken failed: ")
    assert (here / "runs" / "majority" / "results.json").is_file()
    assert not (here / "runs" / "absent").exists()


def test_a_mistake_in_the_data_of_all_is_told_once(here: Path) -> None:
    wrong = [
        dataclasses.replace(e, data=dataclasses.replace(e.data, source=str(here / "nowhere.csv")))
        for e in (classical(here, "one"), classical(here, "two"))
    ]
    with pytest.raises(UserError, match=r"nowhere\.csv"):
        run_all(wrong, resume=False, console=QUIET)


def test_a_wrong_launch_is_told_once(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    like = classical(here, "tuned")
    tuned = FineTune(
        name=like.name,
        output_dir=like.output_dir,
        data=like.data,
        model=ModelConfig(checkpoint=str(make_bert(here / "bert"))),
    )
    with pytest.raises(UserError, match="fp16"):
        run_all([tuned, tuned], resume=False, console=QUIET)


def test_finished_runs_are_used_again_unless_the_rows_have_changed(here: Path) -> None:
    experiment = classical(here)
    assert run_all([experiment], resume=False, console=QUIET) == []
    before = (experiment.folder / "results.json").read_text()
    assert run_all([experiment], resume=False, console=QUIET) == []
    assert (experiment.folder / "results.json").read_text() == before
    write_corpus(here / "corpus.csv", 90, seed=1)
    (failure,) = run_all([experiment], resume=False, console=QUIET)
    assert "finished, but on other rows" in failure


def test_a_folder_that_another_run_holds_is_told_before_anything_runs(here: Path) -> None:
    both = [classical(here, "one"), classical(here, "two")]
    lock.take(both[1].folder)
    with pytest.raises(ConfigError, match="in use by process"):
        compare(both, resume=True, console=QUIET)
    lock.give_back(both[1].folder)
    assert not (here / "runs" / "one").exists()


def test_a_full_disk_stops_the_others(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(Baseline, "save", full)
    both = [classical(here, "one"), classical(here, "two")]
    with pytest.raises(RunError, match=r"No space left on device\. Make room there"):
        run_all(both, resume=False, console=QUIET)
    assert not (here / "runs" / "two").exists()
    monkeypatch.undo()
    assert run_all(both, resume=True, console=QUIET) == []


def test_seeds_share_the_test_rows(here: Path) -> None:
    like = classical(here, "tiny")
    bert = FineTune(
        name=like.name,
        output_dir=like.output_dir,
        data=like.data,
        model=ModelConfig(checkpoint=str(make_bert(here / "bert"))),
        train=TrainConfig(max_steps=1),
    )
    made = repeated([bert], None, (0, 1))
    assert run_all(made, resume=False, console=QUIET) == []
    found = [json.loads((e.folder / "results.json").read_text()) for e in made]
    assert found[0]["membership"] == found[1]["membership"]
    assert found[0]["test"]["nll"] != found[1]["test"]["nll"]
    assert {r["calibration"]["note"] for r in found} == {"7 validation rows; at least 20"}
