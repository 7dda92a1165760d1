"""What the last lines of a run say of its score."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmclf import BaselineConfig, Classical, DataConfig, run
from llmclf.run_folder import read_results
from llmclf.run_folder.write import summary

TEXTS = {"joy": "what a lovely day number", "anger": "how dare you do this number", "fear": "help"}


def corpus(path: Path, labels: tuple[str, ...], rows: int) -> Path:
    lines = [f"{TEXTS[label]} {i},{label}" for i in range(rows) for label in labels]
    path.write_text("\n".join(["text,label", *lines]) + "\n")
    return path


@pytest.mark.parametrize("labels", [("joy", "anger"), ("joy", "anger", "fear")])
def test_a_label_without_test_rows_is_told_beside_the_score(
    tmp_path: Path, labels: tuple[str, ...]
) -> None:
    """Absent labels count 0 in macro-F1, and not in scikit-learn's of the same rows."""
    data = DataConfig(
        source=str(corpus(tmp_path / "train.csv", tuple(TEXTS), 20)),
        test=str(corpus(tmp_path / "test.csv", labels, 30)),
        duplicates="keep",
    )
    baseline = BaselineConfig(classifier="logistic_regression", search_folds=2)
    folder = run(Classical(name="tfidf", output_dir=tmp_path / "run", data=data, baseline=baseline))
    found, test = summary(folder), read_results(folder)["test"]
    assert test["accuracy"] == test["macro_f1_present"] == 1.0
    assert test["macro_f1"] == pytest.approx(len(labels) / 3)
    assert ("no test row has the label 'fear': it counts 0 in macro-F1." in found) == (
        len(labels) == 2
    )
    assert found.endswith("(macro_f1_present) it is 1.0000.") == (len(labels) == 2)
