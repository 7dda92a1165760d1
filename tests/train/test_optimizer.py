"""Parameter groups and the learning rate at each step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, LlamaConfig
from transformers import LlamaForSequenceClassification as Llama

from llmclf.model.config import ModelConfig
from llmclf.model.family import family_of
from llmclf.model.tune import tune
from llmclf.train.config import TrainConfig
from llmclf.train.optimizer import build_optimizer, default_rate, schedule

SIZES = {
    "vocab_size": 10,
    "hidden_size": 8,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "max_position_embeddings": 16,
}


def bert() -> nn.Module:
    return BertForSequenceClassification(BertConfig(**SIZES))


def settings_by_name(model: nn.Module, config: TrainConfig) -> dict[str, dict[str, Any]]:
    """Parameter name -> its group's settings."""
    config = replace(config, learning_rate=config.learning_rate or 1e-3)
    optimizer = build_optimizer(model, config, family_of(model.config))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = [(names[id(p)], group) for group in optimizer.param_groups for p in group["params"]]
    assert len(dict(found)) == len(found), "a parameter is in two groups"
    return dict(found)


@pytest.mark.parametrize(
    ("tune", "width", "rate"),
    [
        ("full", 384, 1e-4),  # MiniLM
        ("full", 768, 4.2e-5),  # BERT-base: 2e-5 to 5e-5 are published
        ("full", 1024, 2.9e-5),
        ("lora", 768, 5e-4),  # RoBERTa-base: 4e-4 to 5e-4
        ("lora", 4096, 9.4e-5),
        ("last_n", 384, 3e-4),
        ("head", 384, 2e-3),
        ("head", 4096, 2e-3),
    ],
)
def test_default_rate(tune: Any, width: int, rate: float) -> None:
    assert default_rate(tune, width) == rate


def test_everything_that_learns_is_in_one_group() -> None:
    model = bert()
    assert settings_by_name(model, TrainConfig()).keys() == dict(model.named_parameters()).keys()


@pytest.mark.parametrize("last_n", [1, 2])
def test_what_is_frozen_is_in_no_group(last_n: int) -> None:
    model = tune(bert(), ModelConfig(tune="last_n", last_n=last_n))
    names = settings_by_name(model, TrainConfig())
    assert names.keys() == {n for n, p in model.named_parameters() if p.requires_grad}
    blocks = {name.split(".")[3] for name in names if ".layer." in name}
    assert blocks == {str(i) for i in range(3 - last_n, 3)}


def test_biases_and_norms_do_not_decay() -> None:
    groups = settings_by_name(bert(), TrainConfig(weight_decay=0.1))
    decay = {name: group["weight_decay"] for name, group in groups.items()}
    free = {name for name, value in decay.items() if value == 0}
    assert free == {n for n in decay if n.endswith("bias") or "LayerNorm" in n}
    assert {value for name, value in decay.items() if name not in free} == {0.1}


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (
            bert,
            {
                "bert.embeddings.word_embeddings.weight": 0.5**4,
                "bert.embeddings.LayerNorm.bias": 0.5**4,
                "bert.encoder.layer.0.attention.self.query.weight": 0.5**3,
                "bert.encoder.layer.2.output.dense.bias": 0.5,
                "bert.pooler.dense.weight": 1.0,
                "classifier.bias": 1.0,
            },
        ),
        (
            lambda: Llama(LlamaConfig(**SIZES, num_key_value_heads=2)),
            {
                "model.embed_tokens.weight": 0.5**4,
                "model.layers.0.self_attn.q_proj.weight": 0.5**3,
                "model.layers.2.mlp.up_proj.weight": 0.5,
                "model.norm.weight": 1.0,
                "score.weight": 1.0,
            },
        ),
    ],
    ids=["bert", "llama"],
)
def test_layer_decay_falls_from_the_head_down(
    model: Callable[[], nn.Module], expected: dict[str, float]
) -> None:
    groups = settings_by_name(model(), TrainConfig(learning_rate=1e-3, layer_decay=0.5))
    for name, factor in expected.items():
        assert groups[name]["peak_lr"] == pytest.approx(1e-3 * factor), name


def test_without_layer_decay_all_learn_alike() -> None:
    groups = settings_by_name(bert(), TrainConfig(learning_rate=1e-3))
    assert {group["peak_lr"] for group in groups.values()} == {1e-3}


def test_without_layer_decay_there_are_two_groups() -> None:
    """ZeRO divides each group by itself, and stage 2 keeps whole what straddles two ranks."""
    model = bert()
    assert (
        len(
            build_optimizer(
                model, TrainConfig(learning_rate=1e-3), family_of(model.config)
            ).param_groups
        )
        == 2
    )


ORACLES = {
    "linear": transformers.get_linear_schedule_with_warmup,
    "cosine": transformers.get_cosine_schedule_with_warmup,
}


@pytest.mark.parametrize("name", ["linear", "cosine", "constant"])
@pytest.mark.parametrize(("steps", "warmup", "rising"), [(40, 0.1, 4), (7, 0.06, 1), (10, 0.0, 0)])
def test_schedule_is_that_of_transformers(
    name: Any, steps: int, warmup: float, rising: int
) -> None:
    """Theirs wastes the first step at a rate of zero: in the warm-up ours is one step ahead."""
    ours = [schedule(TrainConfig(schedule=name, warmup=warmup), s, steps) for s in range(steps)]
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    if name == "constant":
        theirs = transformers.get_constant_schedule_with_warmup(optimizer, rising).lr_lambdas[0]
    else:
        theirs = ORACLES[name](optimizer, rising, steps).lr_lambdas[0]
    assert ours[:rising] == pytest.approx([theirs(s + 1) for s in range(rising)])
    assert ours[rising:] == pytest.approx([theirs(s) for s in range(rising, steps)])


def test_schedule_never_takes_a_step_at_a_rate_of_zero() -> None:
    for steps in (1, 2, 3, 50):
        for name in ("linear", "cosine", "constant"):
            config = TrainConfig(schedule=name, warmup=0.06)
            factors = [schedule(config, step, steps) for step in range(steps)]
            assert min(factors) > 0
            assert max(factors) == 1
