"""What surrounds the loop: the plan before it, the refusals, and the round trip after it."""

from __future__ import annotations

import gc
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, BertForSequenceClassification, XLNetConfig

from llmclf.config import ConfigError
from llmclf.data.config import DataConfig
from llmclf.data.corpus import Splits, load_splits
from llmclf.model.config import ModelConfig
from llmclf.train import fine_tune
from llmclf.train.checkpoint import Checkpoints
from llmclf.train.config import TrainConfig
from llmclf.train.fine_tune import PreparedFineTune
from llmclf.train.saved import SavedModel, precision_to_predict
from tests.gpu import free_workspaces
from tests.tiny import write_corpus


def prepare(splits: Splits, checkpoint: Path, **kwargs: Any) -> PreparedFineTune:
    """``kwargs``: of ``prepare`` itself, of TrainConfig, or ``tune``."""
    tune = kwargs.pop("tune", "full")
    own = {name: kwargs.pop(name) for name in ("weights", "max_length") if name in kwargs}
    return fine_tune.prepare(
        splits,
        model_config=ModelConfig(checkpoint=str(checkpoint), tune=tune),
        config=TrainConfig(**({"precision": "fp32", "min_steps": 0} | kwargs)),
        seed=0,
        **({"max_length": None} | own),
    )


def test_plan_says_what_will_happen(splits: Splits, bert: Path) -> None:
    prepared = prepare(splits, bert, epochs=2, global_batch_size=20, micro_batch_size=6)
    plan = prepared.plan()
    assert {key: plan[key] for key in ("steps", "accumulation", "micro_batch_size")} == {
        "steps": 22,  # 217 rows are 11 steps
        "accumulation": 4,
        "micro_batch_size": 6,
    }
    assert plan["max_length"] == 32
    assert plan["train_tokens_per_epoch"] == prepared.task.train.lengths.sum()
    assert 0 < plan["padding_share"] < 0.1
    assert plan["total_parameters"] == sum(p.numel() for p in prepared.model.parameters())


def test_a_dry_run_plans_the_same_without_weights(splits: Splits, bert: Path) -> None:
    dry = prepare(splits, bert, weights=False)
    assert dry.plan() == prepare(splits, bert).plan()
    assert {p.device.type for p in dry.model.parameters()} == {"meta"}


def test_truncation_is_counted_for_each_split(splits: Splits, bert: Path) -> None:
    prepared = prepare(splits, bert, max_length=12)
    for name, split in splits.named():
        words = np.array([len(text.split()) + 2 for text in split.texts])
        assert prepared.truncated()[name] == {
            "rows": (words > 12).sum(),
            "share": pytest.approx((words > 12).mean()),
            "tokens_lost": (words - 12)[words > 12].sum(),
        }


def test_gradient_checkpointing_where_there_is_none_is_refused(
    splits: Splits, bert: Path, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "xlnet"
    shutil.copytree(bert, checkpoint)
    XLNetConfig(d_model=8, n_layer=1, n_head=2, d_inner=8).save_pretrained(checkpoint)
    with pytest.raises(ConfigError, match=r"train\.gradient_checkpointing: xlnet does not support"):
        prepare(splits, checkpoint, gradient_checkpointing=True)


def test_a_model_that_changes_when_saved_is_not_passed_on(
    splits: Splits, bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = fine_tune.save_model

    def lose_the_head(model: Any, tokenizer: Any, folder: Path, **kwargs: Any) -> None:
        save(model, tokenizer, folder, **kwargs)
        weights = load_file(folder / "model.safetensors")
        weights["classifier.weight"] *= 0
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    monkeypatch.setattr(fine_tune, "save_model", lose_the_head)
    with pytest.raises(RuntimeError, match="the saved model differs"):
        prepare(splits, bert, max_steps=2).run(tmp_path, Console(quiet=True))


def test_one_model_at_a_time_is_on_the_device(
    splits: Splits, bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the saved model is loaded, nothing is left of the trained one, its gradients and its
    optimizer."""
    prepared = prepare(splits, bert, max_steps=2)
    before = live_bytes()
    load, seen = fine_tune.load_saved, []

    def watched(*arguments: Any) -> Any:
        seen.append(live_bytes())
        return load(*arguments)

    monkeypatch.setattr(fine_tune, "load_saved", watched)
    size = sum(p.nbytes for p in prepared.model.parameters())
    prepared.run(tmp_path, Console(quiet=True))
    (at_loading,) = seen
    assert at_loading < before - 0.9 * size


@pytest.mark.gpu
@pytest.mark.parametrize("tune", ["full", "lora"])
def test_nothing_trained_stays_on_a_gpu(
    splits: Splits, bert: Path, tmp_path: Path, tune: Any
) -> None:
    """By the allocator's own count, with no other garbage collection than ours."""
    free_workspaces()
    before = torch.cuda.memory_allocated()
    prepared = prepare(splits, bert, tune=tune, max_steps=2)
    size = sum(p.nbytes for p in prepared.model.parameters())
    checkpoints = Checkpoints(tmp_path / "checkpoints", prepared.accelerator)
    _, engine = prepared.train(checkpoints, tmp_path, Console(quiet=True))
    assert torch.cuda.memory_allocated() >= before + size
    gc.disable()
    try:
        del engine
        prepared.release()
    finally:
        gc.enable()
    free_workspaces()
    assert torch.cuda.memory_allocated() - before < 0.1 * size


def live_bytes() -> int:
    """Bytes of the tensors that are alive, each storage once."""
    tensors = [o for o in gc.get_objects() if isinstance(o, torch.Tensor) and not o.is_meta]
    return sum(
        {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values()
    )


@pytest.mark.parametrize(
    ("precision", "gigabytes", "expected"),
    [
        ("bf16", None, "fp32"),  # a CPU
        ("bf16", 80, "fp32"),
        ("bf16", 24, "bf16"),
        ("bf16", 16, None),
        ("fp32", 24, None),
    ],
)
def test_precision_of_a_model_of_eight_billion_by_device(
    precision: Any, gigabytes: int | None, expected: str | None
) -> None:
    capacity = None if gigabytes is None else gigabytes * 10**9
    assert precision_to_predict(precision, 8 * 10**9, capacity) == expected


def test_label_names_are_in_the_model_folder(splits: Splits, bert: Path, tmp_path: Path) -> None:
    prepare(splits, bert, max_steps=1).run(tmp_path, Console(quiet=True))
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["id2label"] == {str(i): name for i, name in enumerate(splits.labels)}
    assert config["problem_type"] == "single_label_classification"
    tokenizer = json.loads((tmp_path / "model" / "tokenizer_config.json").read_text())
    assert tokenizer["model_max_length"] == 32


@pytest.fixture
def more_tokens(bert: Path, tmp_path: Path) -> Path:
    """The tiny BERT with a tokenizer to which words were added, but not to the model."""
    folder = Path(shutil.copytree(bert, tmp_path / "more-tokens"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["unheard", "unused"])
    tokenizer.save_pretrained(folder)
    return folder


def corpus_with(word: str, folder: Path) -> Splits:
    """The corpus with a word in its last row."""
    path = write_corpus(folder / "corpus.csv", 60)
    lines = path.read_text().splitlines()
    lines[-1] = f"balan {word} {lines[-1]}"
    path.write_text("\n".join(lines) + "\n")
    return load_splits(DataConfig(source=str(path)), seed=0)


def test_a_token_without_an_embedding_is_refused_by_its_row(
    more_tokens: Path, tmp_path: Path
) -> None:
    size = json.loads((more_tokens / "config.json").read_text())["vocab_size"]
    message = (
        rf"its tokenizer has {size + 2} tokens, but the model has embeddings for {size}, and row "
        rf"'60' has the token 'unheard' with id {size}\. .*resize_token_embeddings"
    )
    for weights in (False, True):  # --dry-run says so, too
        with pytest.raises(ConfigError, match=message):
            prepare(corpus_with("unheard", tmp_path), more_tokens, weights=weights)


def test_tokens_that_no_row_has_are_no_harm(more_tokens: Path, tmp_path: Path) -> None:
    prepare(corpus_with("komos", tmp_path), more_tokens, weights=False)


def test_a_saved_model_refuses_a_token_without_an_embedding(more_tokens: Path) -> None:
    model = BertForSequenceClassification.from_pretrained(more_tokens, num_labels=2)
    model.save_pretrained(more_tokens)
    saved = SavedModel.load(more_tokens)
    saved.probabilities(["balan komos"])
    with pytest.raises(ConfigError, match=r"row '1' has the token 'unused'"):
        saved.probabilities(["balan komos", "balan unused"])
