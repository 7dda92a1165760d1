"""A checkpoint that is a classifier of more labels than the corpus has: every launch starts its
output layer afresh, in the same way."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from transformers import BertForSequenceClassification

from llmclf.run_folder.metrics import read_metrics
from tests.launch.test_other_strategy import LAUNCHES, RECIPE
from tests.processes import start


@pytest.fixture(scope="module")
def five_labels(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny BERT with a trained head of five labels."""
    folder = Path(shutil.copytree(bert, tmp_path_factory.mktemp("checkpoints") / "five"))
    torch.manual_seed(1)
    model = BertForSequenceClassification.from_pretrained(bert, num_labels=5)
    model.save_pretrained(folder)
    return folder


def losses(folder: Path, launch: str, checkpoint: Path, corpus: Path) -> list[float]:
    ranks, environment = LAUNCHES[launch]
    options = (
        "--model.checkpoint", str(checkpoint), "--data.source", str(corpus),
        "--model.dropout", "0", "--train.precision", "fp32", "--train.log-every", "1",
        "--train.max-steps", "3", "--output-dir", str(folder / launch),
    )  # fmt: skip
    run = start(folder / f"{launch}.log", RECIPE, *options, ranks=ranks, environment=environment)
    assert run.wait() == 0, run.text()[-3000:]
    assert "its output layer starts afresh" in run.text()
    records = read_metrics(folder / launch / "metrics.jsonl")
    return [r["loss"] if r["split"] == "train" else r["nll"] for r in records]


def test_every_launch_starts_the_same_head(five_labels: Path, corpus: Path, tmp_path: Path) -> None:
    single, zero3 = (losses(tmp_path, name, five_labels, corpus) for name in ("single", "zero3"))
    assert len(single) == 4
    assert zero3 == pytest.approx(single, abs=1e-5)
