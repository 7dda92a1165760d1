"""Similarity of pooled states, and what stands for the labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from llmclf import ConfigError, DataConfig, LanguageModelConfig, ZeroShot, ZeroShotConfig
from llmclf.data.corpus import Split, Splits
from llmclf.features.states import OneProcess
from llmclf.model.build import load_config
from llmclf.zero_shot.label_texts import label_texts, label_warnings
from llmclf.zero_shot.zero_shot_model import ZeroShotModel, build, kind_of
from tests.zero_shot.conftest import OUTPUTS, make_nli

LABELS = ("food", "sport", "weather")
TEXTS = ["The soup was cold.", "They won by two goals.", "It will rain all day in the north."]


def classifier(checkpoint: str, texts: tuple[str, ...], **changes: Any) -> ZeroShotModel:
    settings = {"multilabel": False, "temperature": None, **changes}
    return build(
        ZeroShotConfig(kind="embeddings", temperature=settings["temperature"]),
        LanguageModelConfig(checkpoint=checkpoint),
        texts,
        labels=LABELS,
        multilabel=settings["multilabel"],
        max_length=None,
        precision="fp32",
        accelerator=OneProcess(torch.device("cpu")),
    )


def unit_states(checkpoint: Path, texts: list[str]) -> np.ndarray:
    """Mean of the last states of each text alone, of length 1, by transformers."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = AutoModel.from_pretrained(checkpoint).eval()
    with torch.no_grad():
        states = [
            model(**tokenizer(t, return_tensors="pt")).last_hidden_state[0].mean(0) for t in texts
        ]
    return torch.nn.functional.normalize(torch.stack(states), dim=-1).double().numpy()


@pytest.mark.parametrize("several", [False, True], ids=["one label", "several labels"])
def test_probabilities_are_those_of_cosines(bert: Path, several: bool) -> None:
    texts, of_labels = ["lovely great", "dull balan", "okay komos mipit"], ("bad", "great", "okay")
    model = classifier(str(bert), of_labels, multilabel=several, temperature=0.2)
    cosines_NC = unit_states(bert, texts) @ unit_states(bert, list(of_labels)).T
    if several:
        above = cosines_NC - cosines_NC.mean(axis=1, keepdims=True)
        expected = 1 / (1 + np.exp(-above / 0.2))
    else:
        odds = np.exp(cosines_NC / 0.2)
        expected = odds / odds.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model.probabilities(texts), expected, atol=1e-5)


def test_the_embedded_encoder_knows_what_words_mean() -> None:
    by_name = classifier("minilm-l6", LABELS).probabilities(TEXTS)
    assert by_name.argmax(axis=1).tolist() == [0, 1, 2]
    sharper = classifier("minilm-l6", LABELS, temperature=0.01).probabilities(TEXTS)
    assert (sharper.max(axis=1) > by_name.max(axis=1)).all()


def test_what_stands_for_a_label_must_fit(bert: Path) -> None:
    long = " ".join(["balan"] * 31)
    with pytest.raises(ConfigError, match=r"max_length=32: what stands .*'balan balan.* 33 tokens"):
        classifier(str(bert), ("bad", "good", long))


def test_a_model_of_two_stacks_has_no_states(tmp_path: Path) -> None:
    folder = make_nli(tmp_path / "bart", "bart", OUTPUTS["plain"])
    with pytest.raises(ConfigError, match=r"\(bart\) has an encoder and a decoder"):
        classifier(str(folder), LABELS)


def test_the_kind_follows_the_checkpoint(nli: Path, bert: Path, llama: Path) -> None:
    auto = ZeroShotConfig()
    assert kind_of(auto, load_config(str(nli))) == "nli"
    assert kind_of(auto, load_config(str(bert))) == "embeddings"
    assert kind_of(auto, load_config(str(llama))) == "embeddings"
    assert kind_of(auto, load_config("minilm-l6")) == "embeddings"
    forced = ZeroShotConfig(kind="embeddings")
    assert kind_of(forced, load_config(str(nli))) == "embeddings"
    with pytest.raises(ConfigError, match=r"zero_shot\.temperature=0\.1: has no effect with nli"):
        kind_of(ZeroShotConfig(temperature=0.1), load_config(str(nli)))


def splits(labels: tuple[str, ...], descriptions: tuple[str, ...] | None = None) -> Splits:
    rows = Split.of_texts(["x", "y"])
    return Splits(rows, rows, rows, labels, multilabel=False, descriptions=descriptions)


def test_what_stands_for_a_label() -> None:
    plain, told = splits(("a", "b")), splits(("a", "b"), ("It is {a}.", "It is {label}."))
    auto, own = ZeroShotConfig(), ZeroShotConfig(hypothesis="{label}: {description}")
    assert label_texts(auto, "nli", plain) == ("This text is about a.", "This text is about b.")
    assert label_texts(auto, "embeddings", plain) == ("a", "b")
    for kind in ("nli", "embeddings"):
        assert label_texts(auto, kind, told) == ("It is {a}.", "It is {label}.")
        assert label_texts(own, kind, told) == ("a: It is {a}.", "b: It is {label}.")
        assert label_warnings(auto, kind, told) == label_warnings(auto, kind, plain) == []


def test_labels_that_say_nothing_and_descriptions_that_nobody_reads_are_remarked() -> None:
    numbers, told = splits(("0", "1")), splits(("0", "1"), ("No.", "Yes."))
    (said,) = label_warnings(ZeroShotConfig(), "embeddings", numbers)
    assert "labels are numbers ('0', '1')" in said and "--data.descriptions 0=... 1=..." in said
    assert "--prompt.verbaliser" in said
    assert label_warnings(ZeroShotConfig(), "embeddings", told) == []
    unread = label_warnings(ZeroShotConfig(hypothesis="It is {label}."), "nli", told)
    assert len(unread) == 2 and "data.descriptions are not read" in unread[0]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"hypothesis": "It is so."}, r"zero_shot\.hypothesis='It is so\.': it is the same for"),
        ({"hypothesis": "{}"}, r"the same for all labels. Put \{label\} or \{description\}"),
        ({"temperature": 0.0}, r"zero_shot\.temperature=0\.0: must be a number above 0"),
        ({"temperature": float("nan")}, "must be a number above 0"),
        ({"batch_size": 0}, r"zero_shot\.batch_size=0: must be 1 or more"),
        ({"kind": "nli", "pooling": "mean"}, r"zero_shot\.pooling='mean': has no effect with nli"),
    ],
)
def test_settings_that_cannot_work(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        ZeroShotConfig(**settings)


def test_a_hypothesis_of_descriptions_needs_them() -> None:
    own = ZeroShotConfig(hypothesis="It is so: {description}")
    data = DataConfig(source="opinions")
    (problem,) = ZeroShot(name="x", data=data, zero_shot=own).problems()
    assert "there are no descriptions" in problem and "--data.descriptions" in problem
    described = DataConfig(source="opinions", descriptions=("a=b",))
    assert ZeroShot(name="x", data=described, zero_shot=own).problems() == []
