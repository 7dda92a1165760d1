"""States of a frozen model, how they are pooled, and the classifier on them."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from transformers import AutoConfig, AutoModel

from llmclf import ConfigError, DataConfig, DataError, Features, FeaturesConfig, load_run, run
from llmclf.data.corpus import Split
from llmclf.evaluate.predictions import Predictions
from llmclf.features import once
from llmclf.features.states import FrozenModel, OneProcess
from llmclf.model.config import LanguageModelConfig
from llmclf.model.pooling import declared_pooling, pool
from tests.processes import run as launch

QUIET = Console(quiet=True)
TEXTS = ["short", "a longer text of more words", "one two three four five six seven eight nine ten"]


def rows(texts: list[str]) -> Split:
    ids = [str(i) for i in range(len(texts))]
    return Split(ids, texts, None, np.zeros(len(texts), np.int64), None)


def frozen(checkpoint: Path, **settings: Any) -> FrozenModel:
    once._kept.clear()
    return FrozenModel.of(
        LanguageModelConfig(checkpoint=str(checkpoint)),
        FeaturesConfig(**settings),
        precision="fp32",
        max_length=None,
        accelerator=OneProcess(torch.device("cpu")),
    )


@pytest.mark.parametrize("side", ["left", "right"])
def test_pooling_by_hand(side: str) -> None:
    states_BTD = torch.arange(24.0).reshape(2, 4, 3)
    attended = [[1, 1, 1, 1], [0, 0, 1, 1]] if side == "left" else [[1, 1, 1, 1], [1, 1, 0, 0]]
    mask = torch.tensor(attended)
    tokens = [(0, 4), (2, 4) if side == "left" else (0, 2)]
    for i, (start, end) in enumerate(tokens):
        text = states_BTD[i, start:end]
        assert pool(states_BTD, mask, "mean")[i].tolist() == text.mean(0).tolist()
        assert pool(states_BTD, mask, "first")[i].tolist() == text[0].tolist()
        assert pool(states_BTD, mask, "last")[i].tolist() == text[-1].tolist()


def test_pooling_is_as_declared(bert: Path, llama: Path, tmp_path: Path) -> None:
    found = {path: AutoConfig.from_pretrained(path) for path in (bert, llama)}
    assert declared_pooling("minilm-l6", found[bert]) == "mean"
    assert declared_pooling(str(bert), found[bert]) == "mean"
    assert declared_pooling(str(llama), found[llama]) == "last"
    copy = Path(shutil.copytree(bert, tmp_path / "bert"))
    (copy / "1_Pooling").mkdir()
    (copy / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    assert declared_pooling(str(copy), found[bert]) == "first"
    found[bert].classifier_pooling = "cls"  # as ModernBERT has it
    assert declared_pooling(str(bert), found[bert]) == "first"


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_states_are_those_of_transformers(kind: str, request: pytest.FixtureRequest) -> None:
    """Each text alone, without padding, through AutoModel."""
    checkpoint = request.getfixturevalue(kind)
    model = frozen(checkpoint, layer=1)
    by_layer, seconds = model.states(rows(TEXTS))
    plain = AutoModel.from_pretrained(checkpoint).eval()
    for text, state in zip(TEXTS, by_layer[1], strict=True):
        batch = model.tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            hidden = plain(**batch, output_hidden_states=True).hidden_states[1][0]
        expected = hidden.mean(0) if kind == "bert" else hidden[-1]
        np.testing.assert_allclose(state, expected, atol=1e-5)
    assert seconds > 0


def test_a_text_is_computed_once(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[int] = []
    real = FrozenModel._compute
    monkeypatch.setattr(
        FrozenModel, "_compute", lambda self, s: computed.append(len(s)) or real(self, s)
    )
    model = frozen(bert)
    first, seconds = model.states(rows([*TEXTS, TEXTS[0]]))
    again, same_seconds = model.states(rows([TEXTS[1], "new", TEXTS[0]]))
    assert computed == [3, 1]
    layer = model.layers[0]
    np.testing.assert_array_equal(first[layer][0], first[layer][3])
    np.testing.assert_array_equal(again[layer][0], first[layer][1])
    assert same_seconds > 0 and seconds > 0
    monkeypatch.setattr(once, "MOST_KEPT_BYTES", 0)
    kept_none, _ = frozen(bert).states(rows(TEXTS))
    np.testing.assert_allclose(kept_none[layer], first[layer][:3], atol=1e-6)


def test_another_seed_computes_no_state_again(
    bert: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even behind the timing of texts that come alone, which are computed each time."""
    made = experiment(bert, corpus, tmp_path / "one", search_folds=2)
    made = dataclasses.replace(made, data=dataclasses.replace(made.data, seed=0))
    sizes: list[int] = []
    real = FrozenModel._compute
    monkeypatch.setattr(
        FrozenModel, "_compute", lambda self, s: sizes.append(len(s)) or real(self, s)
    )
    once._kept.clear()
    run(made, console=QUIET)
    assert sum(sizes) > 300
    sizes.clear()
    folder = run(dataclasses.replace(made, seed=1, output_dir=tmp_path / "two"), console=QUIET)
    assert set(sizes) == {1}
    assert load_run(folder).results["cost"]["predict_seconds"] > 0


CLASSIFIERS = ("logistic_regression", "linear_svm", "nearest_centroid", "nearest_neighbours")


def experiment(checkpoint: Path, source: Path, folder: Path, **settings: Any) -> Features:
    return Features(
        name="features",
        output_dir=folder,
        data=DataConfig(source=str(source)),
        model=LanguageModelConfig(checkpoint=str(checkpoint)),
        features=FeaturesConfig(precision="fp32", **settings),
    )


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_a_run_of_each_classifier(
    bert: Path,
    corpus: Path,
    tmp_path: Path,
    classifier: str,
) -> None:
    folder = run(experiment(bert, corpus, tmp_path / "run", classifier=classifier), console=QUIET)
    loaded = load_run(folder)
    results = loaded.results
    assert results["test"]["macro_f1"] > results["prior"]["macro_f1"]
    assert results["method"] == "features" and results["cost"]["total_parameters"] > 1000
    test = loaded.predictions()
    found_NC = loaded.probabilities(test["text"].tolist())
    expected = test[[f"p_{label}" for label in loaded.labels]].to_numpy()
    np.testing.assert_allclose(found_NC, expected, atol=1e-4)


@pytest.mark.parametrize("classifier", CLASSIFIERS)
@pytest.mark.parametrize("each", [1, 2])
def test_a_row_or_two_of_each_label(
    bert: Path, corpus: Path, tmp_path: Path, classifier: str, each: int
) -> None:
    lines = corpus.read_text(encoding="utf-8").splitlines()
    by_label: dict[str, list[str]] = {}
    for line in lines[1:]:
        by_label.setdefault(line.rpartition(",")[2], []).append(line)
    few = [line for rows in by_label.values() for line in rows[:each]]
    rest = [line for rows in by_label.values() for line in rows[each : each + 5]]
    for name, part in (("train.csv", few), ("test.csv", rest)):
        (tmp_path / name).write_text("\n".join([lines[0], *part]) + "\n", encoding="utf-8")
    made = experiment(bert, tmp_path / "train.csv", tmp_path / "run", classifier=classifier)
    data = DataConfig(
        source=str(tmp_path / "train.csv"), test=str(tmp_path / "test.csv"), validation_fraction=0
    )
    folder = run(dataclasses.replace(made, data=data), console=QUIET)
    assert load_run(folder).results["test"]["n"] == 15


def test_two_ranks_give_what_one_gives(bert: Path, corpus: Path, tmp_path: Path) -> None:
    found = []
    for ranks in (1, 2):
        folder = tmp_path / str(ranks)
        options = (
            "--model.checkpoint", str(bert), "--data.source", str(corpus),
            "--features.precision", "fp32", "--output-dir", str(folder),
        )  # fmt: skip
        launch(tmp_path / f"log{ranks}", "recipes/features.py", *options, ranks=ranks)
        found.append(Predictions.read(folder / "predictions" / "test.parquet"))
        environment = json.loads((folder / "environment.json").read_text())
        assert environment["world_size"] == ranks
    assert found[0].ids == found[1].ids
    np.testing.assert_allclose(found[0].probabilities, found[1].probabilities, atol=1e-4)


def test_a_layer_that_is_not_there(bert: Path) -> None:
    with pytest.raises(ConfigError, match=r"features\.layer=99: .* has \d+ blocks; allowed are 1"):
        frozen(bert, layer=99)
    for wrong in ({"layer": 0}, {"search_folds": 1}, {"batch_size": 0}):
        with pytest.raises(ConfigError, match="must be"):
            FeaturesConfig(**wrong)


def test_another_checkpoint_by_the_same_name_is_refused(
    bert: Path,
    corpus: Path,
    tmp_path: Path,
) -> None:
    copy = Path(shutil.copytree(bert, tmp_path / "bert"))
    folder = run(experiment(copy, corpus, tmp_path / "run"), console=QUIET)
    model = AutoModel.from_pretrained(copy)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    model.save_pretrained(copy)
    with pytest.raises(DataError, match="is not the model that the classifier was learnt on"):
        load_run(folder).classify(["a text"])
    (folder / "model" / "features.json").write_text("{}")
    with pytest.raises(DataError, match="no saved classifier on features"):
        load_run(folder).classify(["a text"])
