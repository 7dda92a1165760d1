"""Which methods a strategy refuses before a weight is loaded."""

from __future__ import annotations

import pytest

from llmclf.config import ConfigError
from llmclf.model.build import ModelConfig
from llmclf.train.blueprint import check_strategy
from llmclf.train.engine import InForce, Strategy


def in_force(strategy: Strategy) -> InForce:
    return InForce(2, strategy, "bf16", 4, 1, 8)


def test_fsdp_cannot_divide_8_bit_weights() -> None:
    config = ModelConfig(tune="lora", quantize="int8")
    message = r"model\.quantize='int8' under fsdp2.*--model\.quantize nf4.*zero2\.yaml"
    with pytest.raises(ConfigError, match=message):
        check_strategy(config, in_force("fsdp2"))


@pytest.mark.parametrize("quantize", ["none", "nf4"])
def test_other_weights_it_can(quantize: str) -> None:
    check_strategy(ModelConfig(tune="lora", quantize=quantize), in_force("fsdp2"))  # type: ignore[arg-type]


def test_other_strategies_take_8_bit_weights() -> None:
    for strategy in ("single", "ddp", "zero1", "zero2", "zero3", "zero3_offload"):
        check_strategy(ModelConfig(tune="lora", quantize="int8"), in_force(strategy))  # type: ignore[arg-type]
