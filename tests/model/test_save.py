"""What is saved gives any user of transformers the labels and probabilities that we had."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import pipeline

from llmclf.model.tune import save_model


def check_pipeline(
    tiny: Any, folder: Path, expected_BC: torch.Tensor, texts: Sequence[str] = (), **settings: Any
) -> None:
    """The folder gives these probabilities, by name of label, one text at a time."""
    classify = pipeline("text-classification", str(folder), top_k=None, **settings)
    rows = [
        {row["label"]: row["score"] for row in rows} for rows in classify(list(texts or tiny.texts))
    ]
    assert all(set(row) == set(tiny.labels) for row in rows)
    got_BC = torch.tensor([[row[label] for label in tiny.labels] for row in rows])
    torch.testing.assert_close(got_BC, expected_BC, atol=1e-5, rtol=0)


def check_round_trip(tiny: Any, folder: Path, **settings: Any) -> None:
    model = tiny.model(**settings)
    before_BC = tiny.logits(model).softmax(-1)
    tiny.train(model, steps=3)
    logits_BC = tiny.logits(model)  # all texts in one padded batch
    assert (logits_BC.softmax(-1) - before_BC).abs().max() > 0.01  # there is something to lose
    calibration = {"temperature": 2.5, "thresholds": None, "rows": 9, "note": None}
    save_model(
        model,
        tiny.tokenizer,
        folder,
        config=tiny.config(**settings),
        max_length=32,
        calibration=calibration,
    )
    check_pipeline(tiny, folder, (logits_BC / 2.5).softmax(-1))
    stored = json.loads((folder / "config.json").read_text())
    assert stored["llmclf_calibration"] == calibration


@pytest.mark.parametrize("tune", ["full", "head"])
def test_plain_model(tiny: Any, tmp_path: Path, tune: str) -> None:
    check_round_trip(tiny, tmp_path, tune=tune)


@pytest.mark.parametrize("save", ["merged", "adapter"])
def test_lora(tiny: Any, tmp_path: Path, save: str) -> None:
    check_round_trip(tiny, tmp_path, tune="lora", save=save)
    assert (tmp_path / "adapter_config.json").exists() == (save == "adapter")
    assert (tmp_path / "model.safetensors").exists()
    assert not [p for p in tmp_path.iterdir() if p.suffix in {".bin", ".pt", ".pkl"}]


@pytest.mark.parametrize("save", ["merged", "adapter"])
@pytest.mark.parametrize("variant", ["rslora", "dora"])
@pytest.mark.parametrize("name", ["bert", "xlnet", "gpt2", "qwen3"])
def test_lora_variants(
    tiny_of: Callable[[str], Any], tmp_path: Path, name: str, variant: str, save: str
) -> None:
    check_round_trip(tiny_of(name), tmp_path, tune="lora", lora_variant=variant, save=save)


def test_adapter_folder_holds_the_checkpoint_and_may_be_moved(tiny: Any, tmp_path: Path) -> None:
    """Base weights are those of the checkpoint, to the bit, and no path points back to it."""
    settings = {"tune": "lora", "save": "adapter"}
    model = tiny.model(**settings)
    tiny.train(model, steps=2)
    expected_BC = tiny.logits(model).softmax(-1)
    folder = tmp_path / "trained" / "model"
    save_model(model, tiny.tokenizer, folder, config=tiny.config(**settings), max_length=32)
    for path in folder.iterdir():
        content = path.read_bytes()
        assert str(tmp_path).encode() not in content and str(tiny.folder).encode() not in content
    saved, base = load_file(folder / "model.safetensors"), tiny.model()
    for name, parameter in base.named_parameters():
        assert torch.equal(saved[name], parameter), name

    moved = tmp_path / "elsewhere"
    shutil.move(folder, moved)
    shutil.rmtree(folder.parent)
    check_pipeline(tiny, moved, expected_BC)


@pytest.mark.parametrize("variant", ["lora", "dora"])
def test_peft_itself_reads_the_adapter(
    tiny_of: Callable[[str], Any], tmp_path: Path, variant: str
) -> None:
    tiny = tiny_of("bert")
    settings = {"tune": "lora", "lora_variant": variant, "save": "adapter"}
    model = tiny.model(**settings)
    tiny.train(model, steps=3)
    save_model(model, tiny.tokenizer, tmp_path, config=tiny.config(**settings), max_length=32)
    loaded = PeftModel.from_pretrained(tiny.model(), tmp_path)
    torch.testing.assert_close(tiny.logits(loaded), tiny.logits(model))


@pytest.mark.parametrize("name", ["bert", "xlnet", "gpt2", "llama"])
def test_truncation_and_control_tokens_are_as_in_training(
    tiny_of: Callable[[str], Any], tmp_path: Path, name: str
) -> None:
    tiny = tiny_of(name)
    model = tiny.model()
    end = tiny.tokenizer.eos_token or tiny.tokenizer.sep_token
    texts = ("very good and not bad " * 10, f"good film {end if name != 'xlnet' else ''}", "dull")
    expected_BC = tiny.logits(model, texts, max_length=12).softmax(-1)
    save_model(model, tiny.tokenizer, tmp_path, config=tiny.config(), max_length=12)
    check_pipeline(tiny, tmp_path, expected_BC, texts, truncation=True)
    check_pipeline(tiny, tmp_path, expected_BC, texts, truncation=True, batch_size=3)


def test_multilabel_model_gives_independent_probabilities(
    tiny_of: Callable[[str], Any], tmp_path: Path
) -> None:
    tiny = tiny_of("bert")
    model = tiny.model(multilabel=True)
    save_model(model, tiny.tokenizer, tmp_path, config=tiny.config(), max_length=32)
    check_pipeline(tiny, tmp_path, tiny.logits(model).sigmoid())


@pytest.mark.parametrize("tune", ["full", "lora"])
def test_settings_live_in_the_folder(tiny: Any, tmp_path: Path, tune: str) -> None:
    settings = tiny.config(tune=tune, save="adapter")
    model = tiny.model(tune=tune)
    save_model(model, tiny.tokenizer, tmp_path, config=settings, max_length=23)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert config["id2label"] == {"0": "negative", "1": "neutral", "2": "positive"}
    assert config["architectures"] == [type(tiny.model()).__name__]
    assert config["problem_type"] == "single_label_classification"
    assert config["pad_token_id"] == tiny.tokenizer.pad_token_id
    tokenizer = json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert tokenizer["model_max_length"] == 23
    assert tokenizer["padding_side"] == tiny.family.padding_side
