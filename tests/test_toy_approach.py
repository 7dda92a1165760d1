"""A new approach is one class: written here, it runs, is compared, and its settings reload."""

# The toy begins.
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from rich.console import Console

from llmclf import Experiment
from llmclf.data.corpus import Split, Splits
from llmclf.evaluate.cost import Cost
from llmclf.evaluate.measure import measured
from llmclf.evaluate.outcome import Outcome
from llmclf.evaluate.predictions import Predictions


@dataclass(frozen=True, kw_only=True)
class Keyword(Experiment):
    """A label is likelier where its name stands in the text."""

    approach: ClassVar[str] = "keyword"
    model_name: ClassVar[str] = "label names"

    weight: float = 9.0
    """How many times as likely."""

    def prepare(self, splits: Splits, *, weights: bool = True) -> "KeywordRun":
        return KeywordRun(splits, self.weight)


@dataclass(frozen=True)
class KeywordRun:
    splits: Splits
    weight: float

    def plan(self) -> dict[str, Any]:
        return {"world_size": 1, "strategy": "single"}

    def truncated(self) -> dict[str, Any]:
        return {}

    def warnings(self) -> list[str]:
        return []

    def run(self, folder: Path, console: Console) -> Outcome:
        with measured() as spent:
            validation, test = (self.predict(s) for s in (self.splits.validation, self.splits.test))
        return Outcome(
            validation=validation, test=test, cost=Cost(predict_seconds=spent.seconds, devices=1)
        )

    def predict(self, split: Split) -> Predictions:
        labels = self.splits.labels
        found_NC = np.array([[label in text.split() for label in labels] for text in split.texts])
        odds_NC = np.where(found_NC, self.weight, 1.0)
        p_NC = odds_NC / odds_NC.sum(axis=1, keepdims=True)
        return Predictions(split.ids, labels, split.targets, p_NC, scored_by="label names")


# The toy ends.
import csv
import json
import random
import subprocess
import sys

import pytest

import llmclf
from llmclf import BaselineConfig, Classical, ConfigError, DataConfig

LABELS = ("bad", "fair", "good")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy's run beside one of a classical baseline, on texts that mostly name their label."""
    folder = tmp_path_factory.mktemp("toy")
    draw = random.Random(0)
    with (folder / "corpus.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for i in range(150):
            label = LABELS[i % 3]
            word = label if draw.random() < 0.8 else draw.choice(LABELS)
            filler = [draw.choice(["a", "ward", "study", "shows", "that"]) for _ in range(5)]
            writer.writerow([" ".join([*filler, str(i), word]), label])
    data = DataConfig(source=str(folder / "corpus.csv"))
    llmclf.run(Keyword(name="toy", output_dir=folder / "runs" / "toy", data=data, weight=5.0))
    baseline = BaselineConfig(classifier="majority")
    llmclf.run(
        Classical(
            name="majority",
            output_dir=folder / "runs" / "majority",
            data=data,
            baseline=baseline,
        )
    )
    return folder / "runs"


def test_the_toy_is_short() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    toy = source.partition("# The toy begins.")[2].partition("# The toy ends.")[0]
    assert len(toy.splitlines()) < 60


def test_it_is_scored_as_every_approach(runs: Path) -> None:
    run = llmclf.load_run(runs / "toy")
    assert (run.results["method"], run.results["model"]) == ("keyword", "label names")
    assert run.results["test"]["n"] == 30 and run.results["test"]["accuracy"] > 0.6
    assert run.results["calibration"]["temperature"] > 0
    assert {"id", "label", "p_bad", "p_fair", "p_good", "text"} <= set(run.predictions())
    with pytest.raises(ConfigError, match="saves no classifier"):
        run.classify(["good"])


def test_it_stands_in_a_comparison(runs: Path) -> None:
    words = [sys.executable, "-m", "llmclf", "compare", str(runs), "--output-dir"]
    done = subprocess.run(
        [*words, str(runs.parent / "report")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    text = (runs.parent / "report" / "report.md").read_text()
    assert "| toy | keyword | label names |" in text and "| majority |" in text


def test_its_settings_reload_strictly(runs: Path) -> None:
    settings = json.loads((runs / "toy" / "experiment.json").read_text())
    again = Experiment.from_json(settings)
    assert isinstance(again, Keyword) and again.weight == 5.0 and again.to_json() == settings
    with pytest.raises(ConfigError, match="wieght"):
        Experiment.from_json({**settings, "wieght": 1.0})
    with pytest.raises(ConfigError, match="method='keywrod'"):
        Experiment.from_json({**settings, "method": "keywrod"})


def test_it_has_a_command_line(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def experiment() -> Keyword:
        return Keyword(name="toy", data=DataConfig(source=str(runs.parent / "corpus.csv")))

    with pytest.raises(SystemExit) as stop:
        llmclf.main(experiment, argv=["--help"])
    assert stop.value.code == 0
    assert "How many times as likely." in capsys.readouterr().out
    llmclf.main(experiment, argv=["--weight", "3", "--output-dir", str(runs.parent / "more")])
    again = llmclf.load_run(runs.parent / "more").experiment
    assert isinstance(again, Keyword) and again.weight == 3.0
