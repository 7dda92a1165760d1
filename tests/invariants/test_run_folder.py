"""What a fine-tune leaves behind: every file of the contract, in agreement with the others, and a
model folder that a stranger's ``transformers.pipeline`` reads to the same probabilities."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from transformers import pipeline

from llmclf import Experiment, FineTune, run
from llmclf.data.config import DataConfig
from llmclf.data.corpus import load_splits
from llmclf.evaluate.predictions import Predictions
from llmclf.evaluate.scores import score
from llmclf.model.config import ModelConfig
from llmclf.train.config import TrainConfig

FILES = {
    "audit.json", "checkpoints", "curves.png", "environment.json", "experiment.json",
    "metrics.jsonl", "model", "predictions", "results.json", "splits.parquet",
}  # fmt: skip
RESULTS = {
    "schema", "name", "method", "model", "labels", "membership", "validation", "test", "prior",
    "cost", "calibration",
}  # fmt: skip
SCORES = {
    "n", "accuracy", "macro_f1", "macro_f1_present", "weighted_f1", "mcc", "nll", "brier", "ece",
    "per_label", "confusion",
}  # fmt: skip
COST = {
    "train_seconds", "predict_seconds", "predict_examples_per_second", "peak_memory_bytes",
    "total_parameters", "trainable_parameters", "train_tokens", "train_tokens_per_second", "flops",
    "mfu", "devices", "device_hours", "input_tokens", "output_tokens", "price",
    "train_energy_joules", "predict_energy_joules", "energy_meters", "latency_p50_seconds",
    "latency_p99_seconds", "predict_precision",
}  # fmt: skip
IN_FORCE = {
    "world_size", "strategy", "precision", "micro_batch_size", "accumulation", "global_batch_size",
}  # fmt: skip


@pytest.fixture(scope="module")
def experiment(bert: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """One that has run."""
    experiment = FineTune(
        name="toy",
        output_dir=tmp_path_factory.mktemp("runs") / "toy",
        data=DataConfig(source=str(corpus)),
        model=ModelConfig(checkpoint=str(bert)),
        train=TrainConfig(epochs=2, min_steps=0, learning_rate=5e-3),
    )
    assert run(experiment, console=Console(quiet=True)) == experiment.folder
    return experiment


def read(folder: Path, name: str) -> dict[str, Any]:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def test_all_files_of_the_contract(experiment: Experiment) -> None:
    folder = experiment.folder
    assert {path.name for path in folder.iterdir()} == FILES
    assert {p.name for p in (folder / "predictions").iterdir()} == {
        "validation.parquet",
        "test.parquet",
    }
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert not [p for p in folder.rglob("*") if p.suffix in {".bin", ".pt", ".pkl", ".pickle"}]


def test_results_and_cost_have_every_key(experiment: Experiment) -> None:
    results = read(experiment.folder, "results.json")
    assert results.keys() == RESULTS
    assert results["validation"].keys() == results["test"].keys() == SCORES
    cost = results["cost"]
    assert cost.keys() == COST
    # No peak is known for a CPU, no server was asked, and there are few rows for a 99th percentile.
    unknown = {"mfu", "input_tokens", "output_tokens", "price", "latency_p99_seconds"}
    energy = {"train_energy_joules", "predict_energy_joules", "energy_meters"}
    assert {key for key in COST - energy if cost[key] is None} == unknown
    # Whether there is a meter depends on the machine; all are there, or none.
    assert len({cost[key] is None for key in energy}) == 1
    assert cost["predict_precision"] == "fp32"
    unknown |= energy | {"predict_precision"}
    assert all(cost[key] > 0 for key in COST - unknown)
    assert cost["devices"] == 1
    assert cost["trainable_parameters"] == cost["total_parameters"]
    speed = cost["train_tokens"] / cost["train_seconds"]
    assert cost["train_tokens_per_second"] == pytest.approx(speed)


def test_environment_tells_what_was_in_force(experiment: Experiment) -> None:
    environment = read(experiment.folder, "environment.json")
    assert environment.keys() >= IN_FORCE
    assert environment["packages"]["torch"]
    assert environment["cpu_cores"] > 0


def test_the_experiment_can_be_loaded_again(experiment: Experiment) -> None:
    assert Experiment.from_json(read(experiment.folder, "experiment.json")) == experiment


@pytest.mark.parametrize("split", ["validation", "test"])
def test_scores_and_membership_agree_with_the_predictions(
    experiment: Experiment, split: str
) -> None:
    results = read(experiment.folder, "results.json")
    path = experiment.folder / "predictions" / f"{split}.parquet"
    predictions = Predictions.read(path)
    assert list(predictions.labels) == results["labels"]
    assert pq.read_table(path).column_names == [
        "id", "label", *(f"p_{label}" for label in results["labels"]), "scored_by",
    ]  # fmt: skip
    assert score(predictions) == results[split]
    membership = pq.read_table(experiment.folder / "splits.parquet").to_pylist()
    assert {r["id"] for r in membership if r["split"] == split} == set(predictions.ids)


def assert_pipeline_agrees(
    folder: Path, texts: Sequence[str], *, rows: int, tolerance: float = 1e-5
) -> None:
    """``transformers.pipeline``, batch by batch, against predictions/test.parquet."""
    ours = Predictions.read(folder / "predictions" / "test.parquet")
    classify = pipeline("text-classification", model=str(folder / "model"), device="cpu")
    theirs = classify(list(texts[:rows]), truncation=True, top_k=None, batch_size=16)
    assert len(theirs) == rows
    for row, scores in enumerate(theirs):
        found = {entry["label"]: entry["score"] for entry in scores}
        assert found.keys() == set(ours.labels)
        np.testing.assert_allclose(
            [found[label] for label in ours.labels],
            ours.probabilities[row],
            rtol=0,
            atol=tolerance,
            err_msg=ours.ids[row],
        )


@pytest.mark.parametrize(
    "model",
    [
        {},
        {"tune": "lora"},
        {"tune": "lora", "save": "adapter"},
        {"tune": "lora", "quantize": "nf4"},
        {"tune": "head", "quantize": "int8"},
    ],
    ids=["full", "merged", "adapter", "merged-nf4", "merged-int8"],
)
def test_pipeline_gives_our_probabilities(
    shared_data: Path, tmp_path: Path, model: dict[str, Any]
) -> None:
    """minilm-l6 on 200 real rows, some of which are cut to the maximum length."""
    data = DataConfig(source=str(shared_data / "health_advice.csv"), limit=1010, max_length=48)
    experiment = FineTune(
        name="pipeline",
        output_dir=tmp_path / "run",
        data=data,
        model=ModelConfig(checkpoint="minilm-l6", **model),
        train=TrainConfig(max_steps=4, learning_rate=1e-3, global_batch_size=16),
    )
    folder = run(experiment, console=Console(quiet=True))
    truncated = read(folder, "audit.json")["truncated"]["test"]["rows"]
    assert truncated > 0
    assert_pipeline_agrees(folder, load_splits(data, 0).test.texts, rows=200)


@pytest.mark.parametrize("tune", ["full", "lora"])
def test_pipeline_gives_our_probabilities_of_a_decoder(
    llama: Path, corpus: Path, tmp_path: Path, tune: Any
) -> None:
    data = DataConfig(source=str(corpus))
    experiment = FineTune(
        name="pipeline",
        output_dir=tmp_path / "run",
        data=data,
        model=ModelConfig(checkpoint=str(llama), tune=tune),
        train=TrainConfig(max_steps=10, learning_rate=1e-2),
    )
    folder = run(experiment, console=Console(quiet=True))
    assert_pipeline_agrees(folder, load_splits(data, 0).test.texts, rows=60)


def test_pipeline_gives_our_probabilities_of_several_labels(
    bert: Path, corpus: Path, tmp_path: Path
) -> None:
    source = tmp_path / "several.csv"
    lines = corpus.read_text(encoding="utf-8").splitlines()
    both = [f"{line};long" if len(line) > 90 else line for line in lines[1:]]
    source.write_text("\n".join([lines[0], *both]) + "\n", encoding="utf-8")
    data = DataConfig(source=str(source), label_separator=";")
    experiment = FineTune(
        name="pipeline",
        output_dir=tmp_path / "run",
        data=data,
        model=ModelConfig(checkpoint=str(bert)),
        train=TrainConfig(epochs=2, min_steps=0, learning_rate=1e-2, class_weights="balanced"),
    )
    folder = run(experiment, console=Console(quiet=True))
    assert read(folder, "results.json")["labels"] == ["bad", "good", "long", "meh"]
    assert_pipeline_agrees(folder, load_splits(data, 0).test.texts, rows=40)
