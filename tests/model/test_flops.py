"""The formula against a count of every operation that is really carried out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel

from llmclf.model.config import ModelConfig, Tune
from llmclf.model.family import family_of
from llmclf.model.flops import training_flops
from llmclf.model.tune import set_training_mode, tune

BATCH, LENGTH = 2, 96
SIZES = {
    "vocab_size": 50,
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position_embeddings": LENGTH,
    "num_labels": 3,
}


def model_of(name: str, **settings: Any) -> PreTrainedModel:
    config = AutoConfig.for_model(name, **SIZES, **settings, pad_token_id=0)
    config._attn_implementation = "eager"  # its two matrix products are what the formula counts
    return AutoModelForSequenceClassification.from_config(config)


def counted(model: torch.nn.Module) -> int:
    """Operations of forward and backward over ``BATCH`` rows without padding."""
    set_training_mode(model)
    with FlopCounterMode(display=False) as counter:
        model(torch.ones(BATCH, LENGTH, dtype=torch.long)).logits.sum().backward()
    return counter.get_total_flops()


def by_formula(model: torch.nn.Module, config: ModelConfig) -> float:
    bare = model.config
    return training_flops(
        model,
        bare,
        family_of(bare),
        np.full(BATCH, LENGTH),
        tune=config.tune,
        last_n=config.last_n,
    )


@pytest.mark.parametrize(
    ("method", "tolerance"),
    [("full", 0.01), ("head", 0.01), ("last_n", 0.05), ("lora", 0.05)],
)
def test_bert(method: Tune, tolerance: float) -> None:
    """Not in the formula: adapters, and that the lowest block that learns passes nothing down."""
    config = ModelConfig(tune=method, last_n=2, lora_rank=1)
    model = tune(model_of("bert"), config)
    assert by_formula(model, config) == pytest.approx(counted(model), rel=tolerance)


def test_work_grows_with_what_is_trained() -> None:
    work = {}
    for method in ("head", "last_n", "lora", "full"):
        config = ModelConfig(tune=method, last_n=1)  # type: ignore[arg-type]
        work[method] = by_formula(tune(model_of("bert"), config), config)
    assert work["full"] == pytest.approx(3 * work["head"])
    assert 2 * work["head"] < work["lora"] < work["full"]
    wide = ModelConfig(tune="lora", lora_rank=32)  # adapters are not counted
    assert by_formula(tune(model_of("bert"), wide), wide) == work["lora"]
    assert work["last_n"] == pytest.approx((1 + 2 / 4) * work["head"])


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_decoders_count_the_half_of_attention_that_is_not_masked(name: str) -> None:
    config = ModelConfig()
    model = model_of(name, **({"n_inner": 128} if name == "gpt2" else {}))
    done = counted(model)  # eager attention computes the masked half, too
    attention = 3 * 4 * BATCH * LENGTH**2 * 64 * 4
    assert by_formula(model, config) == pytest.approx(done - attention / 2, rel=0.02)


def test_rows_add_up_and_long_ones_cost_more_than_their_tokens() -> None:
    model, family = model_of("bert"), family_of(model_of("bert").config)

    def work(*lengths: int) -> float:
        rows = np.array(lengths)
        return training_flops(model, model.config, family, rows, tune="full", last_n=1)

    assert work(10, 50) == pytest.approx(work(10) + work(50))
    assert work(80) > 2 * work(40)


def test_longformer_attends_no_further_than_its_window(tiny_of: Callable[[str], Any]) -> None:
    tiny = tiny_of("longformer")
    model = tiny.model()

    def work(length: int) -> float:
        rows = np.array([length])
        return training_flops(model, model.config, tiny.family, rows, tune="full", last_n=1)

    assert work(64) - work(32) == pytest.approx(work(32) - work(0))  # linear past the window of 8
    assert work(8) - work(4) > work(4)
