"""Entailment: scored as transformers' pipeline does, for each architecture and order of outputs."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, pipeline

from llmclf.config import ConfigError
from llmclf.data.corpus import Split
from llmclf.features import once
from llmclf.features.states import OneProcess
from llmclf.model.config import LanguageModelConfig
from llmclf.zero_shot import nli as module
from llmclf.zero_shot.config import ZeroShotConfig
from llmclf.zero_shot.nli import Entailment, contradiction_and_entailment
from llmclf.zero_shot.zero_shot_model import ZeroShotModel, build
from tests.zero_shot.conftest import CONFIGS, FILLERS, LENGTH, OUTPUTS, make_nli

LABELS = ("bad", "good", "meh")
TEXTS = [
    "lovely balan",
    " ".join(FILLERS * 3),  # cut
    "dull",
    " ".join(FILLERS[: LENGTH - 4]),  # cut by few tokens
    "okay plain balan komos mipit",
]
TEMPLATE = "This text is about {label}."


def classifier(checkpoint: Path, *, multilabel: bool = False, **settings: Any) -> ZeroShotModel:
    once._kept.clear()
    return build(
        ZeroShotConfig(kind="nli", batch_size=4),
        LanguageModelConfig(checkpoint=str(checkpoint)),
        tuple(TEMPLATE.replace("{label}", label) for label in LABELS),
        labels=LABELS,
        multilabel=multilabel,
        max_length=None,
        precision="fp32",
        accelerator=OneProcess(torch.device("cpu")),
        **settings,
    )


def of_pipeline(checkpoint: Path, *, multilabel: bool) -> np.ndarray:
    """Probabilities of the pipeline, (N, C)."""
    classify = pipeline("zero-shot-classification", model=str(checkpoint), device="cpu")
    found = classify(
        TEXTS,
        candidate_labels=list(LABELS),
        hypothesis_template=TEMPLATE.replace("{label}", "{}"),
        multi_label=multilabel,
    )
    by_label = [dict(zip(one["labels"], one["scores"], strict=True)) for one in found]
    return np.array([[one[label] for label in LABELS] for one in by_label])


def check(checkpoint: Path) -> None:
    for multilabel in (False, True):
        ours = classifier(checkpoint, multilabel=multilabel).probabilities(TEXTS)
        theirs = of_pipeline(checkpoint, multilabel=multilabel)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)
        assert np.ptp(theirs, axis=1).min() > 5e-4  # or everything would be equal to it


@pytest.mark.parametrize("kind", CONFIGS)
def test_each_architecture_scores_as_the_pipeline_does(kind: str, tmp_path: Path) -> None:
    check(make_nli(tmp_path / kind, kind, OUTPUTS["plain"]))


@pytest.mark.parametrize("names", OUTPUTS.values(), ids=OUTPUTS)
def test_entailment_is_found_by_its_name(names: dict[str, int], tmp_path: Path) -> None:
    check(make_nli(tmp_path / "nli", "bert", names))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        # The pipeline would take the last output, neutral, for contradiction.
        (["entailment", "contradiction", "neutral"], (1, 0)),
        (["neutral", "entailment", "contradiction"], (2, 1)),
        (["other", "entailment"], (0, 1)),
        (["entailment", "other"], (1, 0)),
    ],
)
def test_contradiction_is_found_by_its_name(names: list[str], expected: tuple[int, int]) -> None:
    by_id = BertConfig(id2label=dict(enumerate(names)), label2id=None)
    by_name = BertConfig(
        id2label={i: f"LABEL_{i}" for i in range(len(names))},
        label2id={name: i for i, name in enumerate(names)},
    )
    for config in (by_id, by_name):
        assert contradiction_and_entailment(config, "x") == expected


def test_where_the_pipeline_takes_neutral_for_contradiction(tmp_path: Path) -> None:
    """Alike for one label; for several ours is against contradiction, the pipeline's is not."""
    names = {"entailment": 0, "contradiction": 1, "neutral": 2}
    folder = make_nli(tmp_path / "nli", "bert", names)
    one = classifier(folder).probabilities(TEXTS)
    np.testing.assert_allclose(one, of_pipeline(folder, multilabel=False), rtol=0, atol=1e-5)
    model = classifier(folder, multilabel=True)
    assert isinstance(model.scorer, Entailment)
    found = model.probabilities(TEXTS)
    theirs = of_pipeline(folder, multilabel=True)
    assert np.abs(found - theirs).max() > 1e-3
    against_neutral = dataclasses.replace(model.scorer, outputs=(2, 0))
    once._kept.clear()
    again = dataclasses.replace(model, scorer=against_neutral).probabilities(TEXTS)
    np.testing.assert_allclose(again, theirs, rtol=0, atol=1e-5)


def test_a_checkpoint_without_entailment_is_refused_with_the_names_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "predict_logits", pytest.fail)
    folder = make_nli(tmp_path / "sentiment", "bert", {"NEGATIVE": 0, "POSITIVE": 1})
    with pytest.raises(ConfigError, match=r"its labels are 'NEGATIVE', 'POSITIVE'; none begins"):
        classifier(folder)
    with pytest.raises(ConfigError, match=r"'LABEL_0', 'LABEL_1'.*zero-shot\.kind embeddings"):
        classifier(Path("minilm-l6"))


def test_a_classifier_without_weights_is_refused(nli: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(nli, tmp_path / "nli"))
    weights = load_file(folder / "model.safetensors")
    left = {name: w for name, w in weights.items() if not name.startswith("classifier.")}
    save_file(left, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"weights of its classifier are missing"):
        classifier(folder).probabilities(TEXTS)


def test_only_the_text_is_cut_and_cut_texts_are_counted(nli: Path) -> None:
    scorer = classifier(nli).scorer
    assert isinstance(scorer, Entailment)
    encoded = scorer.encoded(Split.of_texts(TEXTS))
    assert encoded.num_truncated == 2 and len(encoded) == len(TEXTS)
    hypothesis = scorer.tokenizer(scorer.hypotheses[0], add_special_tokens=False).input_ids
    for row in range(len(TEXTS)):
        ids = encoded.input_ids[encoded.offsets[row] : encoded.offsets[row + 1]].tolist()
        assert len(ids) <= LENGTH and ids[-1 - len(hypothesis) : -1] == hypothesis
    room = LENGTH - 3 - len(hypothesis)
    lengths = [len(text.split()) for text in TEXTS]
    assert encoded.num_tokens_lost == sum(max(n - room, 0) for n in lengths)


def test_a_hypothesis_that_leaves_no_room_is_refused(nli: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.max_length=9: the hypothesis .* needs 10 tokens"):
        Entailment.of(
            LanguageModelConfig(checkpoint=str(nli)),
            ("This text is about good.",),
            multilabel=False,
            max_length=9,
            precision="fp32",
            batch_size=4,
            accelerator=OneProcess(torch.device("cpu")),
        )


def test_a_second_text_belongs_to_the_premise(nli: Path) -> None:
    model = classifier(nli)
    pairs = model.probabilities(["lovely", "dull"], ["balan", "komos"])
    joined = model.probabilities(["lovely balan", "dull komos"])
    np.testing.assert_allclose(pairs, joined, atol=1e-6)


def test_pairs_go_through_the_model_by_length_and_once(
    nli: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    widths: list[int] = []
    model = classifier(nli)
    assert isinstance(model.scorer, Entailment)
    inner = model.scorer.model
    real = inner.forward

    def forward(**batch: torch.Tensor) -> Any:
        widths.append(batch["input_ids"].shape[1])
        return real(**batch)

    monkeypatch.setattr(inner, "forward", forward)
    model.probabilities(TEXTS)
    assert len(widths) == -(-len(TEXTS) * len(LABELS) // 4)
    assert widths == sorted(widths, reverse=True)
    again = model.probabilities([TEXTS[2], *TEXTS])
    assert len(widths) == -(-len(TEXTS) * len(LABELS) // 4)
    np.testing.assert_array_equal(again[0], again[3])
