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
from llmclf.model.flops import attended, training_flops
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
    config = AutoConfig.for_model(name, **SIZES | {"pad_token_id": 0} | settings)
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


WIDE = {"num_key_value_heads": 4, "head_dim": 16}
LOCAL = {
    "modernbert": {"local_attention": 16, "global_attn_every_n_layers": 3, "pad_token_id": 0},
    "mistral": {"sliding_window": 24, **WIDE},
    "gemma2": {"sliding_window": 24, **WIDE, "head_dim": 32},
    "gemma3_text": {"sliding_window": 24, "sliding_window_pattern": 3, **WIDE},
    "qwen2": {"sliding_window": 24, "use_sliding_window": True, "max_window_layers": 1, **WIDE},
    "qwen3": {"sliding_window": 24, "use_sliding_window": False, **WIDE},
    "llama": {},
    "bert": {},
}
SIGHTED = {
    "modernbert": [None, 8, 8, None],
    "mistral": [24] * 4,
    "gemma2": [24, None, 24, None],
    "gemma3_text": [24, 24, None, 24],
    "qwen2": [None, 24, 24, 24],
    "qwen3": [None] * 4,
    "llama": [None] * 4,
    "bert": [None] * 4,
}
"""What each block's window is by its paper, so that the settings above do what they say."""


@pytest.mark.parametrize("length", [1, 5, 24, 25, LENGTH])
@pytest.mark.parametrize("name", LOCAL)
def test_pairs_are_those_that_attention_has_weights_for(name: str, length: int) -> None:
    """Against the weights that the model itself gives, block by block."""
    model = model_of(name, **{"reference_compile": False} | LOCAL[name]).eval()
    with torch.no_grad():
        found = model(torch.ones(1, length, dtype=torch.long), output_attentions=True).attentions
    family = family_of(model.config)
    for block, weights_1HLL in enumerate(found):
        pairs = int((weights_1HLL[0, 0] > 0).sum())
        assert attended(model.config, family, block, np.array([length])) == [pairs], block
        if length == LENGTH:
            full = LENGTH**2 if family.pooling == "first" else LENGTH * (LENGTH + 1) // 2
            assert (pairs < full) == (SIGHTED[name][block] is not None)


@pytest.mark.parametrize("size", [2, 4])
def test_bigbird_attends_to_some_blocks(size: int) -> None:
    """Against a count of what is carried out: it computes no more than it attends to."""
    model = model_of(
        "big_bird", attention_type="block_sparse", block_size=size, num_random_blocks=2
    )
    assert by_formula(model, ModelConfig()) == pytest.approx(counted(model), rel=0.01)
    family = family_of(model.config)
    short, long = attended(model.config, family, 0, np.array([5, 90]))
    assert short == 25  # too short for it: full attention
    assert long < 90**2 / 2


def test_blocks_that_learn_are_counted_by_their_own_windows() -> None:
    """The last of four blocks sees all in Gemma 2, the last of three does not."""

    def extra(blocks: int) -> float:
        settings = {"sliding_window": 4, **WIDE, "num_hidden_layers": blocks}
        model = model_of("gemma2", **settings)
        head, last = (
            training_flops(
                model,
                model.config,
                family_of(model.config),
                np.array([LENGTH]),
                tune=tune,  # type: ignore[arg-type]
                last_n=1,
            )
            for tune in ("head", "last_n")
        )
        return last - head

    assert extra(4) > extra(3)


def test_longformer_attends_no_further_than_its_window(tiny_of: Callable[[str], Any]) -> None:
    tiny = tiny_of("longformer")
    model = tiny.model()

    def work(length: int) -> float:
        rows = np.array([length])
        return training_flops(model, model.config, tiny.family, rows, tune="full", last_n=1)

    assert work(96) - work(64) == pytest.approx(work(64) - work(32))  # linear past the window of 8
    assert work(5) - work(4) > work(4) - work(3)
