"""Which methods a strategy refuses before a weight is loaded."""

from __future__ import annotations

import pytest

from llmclf.config import ConfigError
from llmclf.model.config import ModelConfig
from llmclf.train.engine import EffectiveLaunch
from llmclf.train.launch_check import Strategy
from llmclf.train.model_builder import check_strategy


def effective_launch(strategy: Strategy) -> EffectiveLaunch:
    return EffectiveLaunch(2, strategy, "bf16", 4, 1, 8)


def test_fsdp_cannot_divide_8_bit_weights() -> None:
    config = ModelConfig(tune="lora", quantize="int8")
    message = r"model\.quantize='int8' under fsdp2.*--model\.quantize nf4.*zero2\.yaml"
    with pytest.raises(ConfigError, match=message):
        check_strategy(config, effective_launch("fsdp2"))


@pytest.mark.parametrize("quantize", ["none", "nf4"])
def test_other_weights_it_can(quantize: str) -> None:
    check_strategy(ModelConfig(tune="lora", quantize=quantize), effective_launch("fsdp2"))  # type: ignore[arg-type]


def test_other_strategies_take_8_bit_weights() -> None:
    for strategy in ("single", "ddp", "zero1", "zero2", "zero3", "zero3_offload"):
        check_strategy(ModelConfig(tune="lora", quantize="int8"), effective_launch(strategy))  # type: ignore[arg-type]
