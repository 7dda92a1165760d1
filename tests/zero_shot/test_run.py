"""Zero-shot runs: from settings to a folder that classifies more texts, on one rank or two."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file

from llmclf import (
    ConfigError,
    DataConfig,
    DataError,
    LanguageModelConfig,
    ZeroShot,
    ZeroShotConfig,
    load_run,
    run,
)
from llmclf.evaluate.predictions import Predictions
from llmclf.features import once
from tests.processes import run as launch
from tests.zero_shot.conftest import make_nli

QUIET = Console(quiet=True)
DESCRIPTIONS = ("bad=It says awful or dull.", "good=It says great or lovely.", "meh=It says okay.")


def experiment(checkpoint: Path, source: Path, folder: Path, **settings: Any) -> ZeroShot:
    return ZeroShot(
        name="zero-shot",
        output_dir=folder,
        data=DataConfig(source=str(source), descriptions=DESCRIPTIONS),
        model=LanguageModelConfig(checkpoint=str(checkpoint)),
        zero_shot=ZeroShotConfig(precision="fp32", **settings),
    )


@pytest.mark.parametrize("kind", ["nli", "bert", "llama"])
def test_a_run_of_each_kind(
    kind: str, request: pytest.FixtureRequest, corpus: Path, tmp_path: Path
) -> None:
    checkpoint = request.getfixturevalue(kind)
    made = experiment(checkpoint, corpus, tmp_path / "run")
    loaded = load_run(run(made, console=QUIET))
    assert loaded.experiment == made
    results = loaded.results
    assert (results["method"], results["model"]) == ("zero_shot", str(checkpoint))
    cost = results["cost"]
    assert cost["train_seconds"] is None and cost["trainable_parameters"] == 0
    assert cost["predict_seconds"] > 0 and cost["latency_p50_seconds"] > 0
    assert cost["total_parameters"] > 1000 and cost["predict_precision"] == "fp32"
    assert results["calibration"]["rows"] == results["validation"]["n"] == 24
    told = results["zero_shot"]
    assert told["kind"] == ("nli" if kind == "nli" else "embeddings")
    assert told["label_texts"]["meh"] == "It says okay."
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["kind"] == told["kind"] and environment["world_size"] == 1
    audit = json.loads((tmp_path / "run" / "audit.json").read_text())
    assert audit["truncated"].keys() == {"validation", "test"}
    names = {path.name for path in (tmp_path / "run" / "model").iterdir()}
    assert names == {"zero_shot.json", "calibration.json"}
    once._kept.clear()
    test = loaded.predictions()
    found_NC = loaded.probabilities(test["text"].tolist())
    expected = test[[f"p_{label}" for label in loaded.labels]].to_numpy()
    np.testing.assert_allclose(found_NC, expected, atol=1e-5)


def test_without_validation_rows_nothing_is_calibrated(
    nli: Path, corpus: Path, tmp_path: Path
) -> None:
    made = experiment(nli, corpus, tmp_path / "run")
    data = dataclasses.replace(made.data, validation_fraction=0.0)
    results = load_run(run(dataclasses.replace(made, data=data), console=QUIET)).results
    assert results["validation"] is None and results["calibration"]["temperature"] == 1
    assert results["cost"]["predict_seconds"] > 0


@pytest.mark.parametrize("kind", ["nli", "bert"])
def test_two_ranks_give_what_one_gives(
    kind: str, request: pytest.FixtureRequest, corpus: Path, tmp_path: Path
) -> None:
    checkpoint, found = request.getfixturevalue(kind), []
    for ranks in (1, 2):
        folder = tmp_path / str(ranks)
        options = (
            "--model.checkpoint", str(checkpoint), "--data.source", str(corpus),
            "--zero-shot.precision", "fp32", "--output-dir", str(folder),
        )  # fmt: skip
        launch(tmp_path / f"log{ranks}", "recipes/zero_shot_encoder.py", *options, ranks=ranks)
        found.append(Predictions.read(folder / "predictions" / "test.parquet"))
        environment = json.loads((folder / "environment.json").read_text())
        assert environment["world_size"] == ranks
    assert found[0].ids == found[1].ids
    np.testing.assert_allclose(found[0].probabilities, found[1].probabilities, atol=1e-5)


def test_cut_texts_and_labels_that_are_numbers_are_told_once(
    nli: Path, corpus: Path, tmp_path: Path
) -> None:
    lines = corpus.read_text(encoding="utf-8").splitlines()
    numbers = [line.replace(",bad", ",0").replace(",good", ",1") for line in lines]
    path = tmp_path / "numbers.csv"
    path.write_text("\n".join(n.replace(",meh", ",2") for n in numbers) + "\n")
    made = experiment(nli, path, tmp_path / "run")
    made = dataclasses.replace(made, data=DataConfig(source=str(path)))
    printed = io.StringIO()
    run(made, console=Console(file=printed, width=400))
    said = printed.getvalue()
    assert said.count("labels are numbers") == 1
    assert said.count("are longer than 24 tokens") == 2
    assert "train:" not in said


def test_what_cannot_tell_entailment_is_refused_before_anything_is_written(
    corpus: Path, tmp_path: Path
) -> None:
    checkpoint = make_nli(tmp_path / "stars", "bert", {"1 star": 0, "2 stars": 1})
    with pytest.raises(ConfigError, match=r"its labels are '1 star', '2 stars'"):
        run(experiment(checkpoint, corpus, tmp_path / "run"), console=QUIET)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["nli", "bert"])
def test_another_checkpoint_by_the_same_name_is_refused(
    kind: str, request: pytest.FixtureRequest, corpus: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(request.getfixturevalue(kind), tmp_path / kind))
    folder = run(experiment(copy, corpus, tmp_path / "run"), console=QUIET)
    weights = load_file(copy / "model.safetensors")
    changed = {name: w + 0.3 * torch.randn_like(w) for name, w in weights.items()}
    save_file(changed, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DataError, match="is not the model of the run"):
        load_run(folder).classify(["a text"])
    (folder / "model" / "zero_shot.json").write_text("{}")
    with pytest.raises(DataError, match="no saved zero-shot classifier"):
        load_run(folder).classify(["a text"])
