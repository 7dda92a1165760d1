"""What loading and predicting take, by counts made by hand from the shapes of the checkpoints."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import PretrainedConfig

from llmclf.model.config import ModelConfig
from llmclf.plan.activations import Traces
from llmclf.plan.known import known_config
from llmclf.plan.phases import Ends, ends
from llmclf.plan.states import model_states
from llmclf.train.config import TrainConfig

GB = 10**9


def ends_of(
    checkpoint: str, strategy: Any, *, capacity: int | None, world_size: int = 1, **model: Any
) -> Ends:
    config: PretrainedConfig = known_config(checkpoint)
    config.num_labels = 2
    settings = ModelConfig(checkpoint=checkpoint, **model)
    traces = Traces(config)
    weights = traces.inventory(settings, TrainConfig())
    merged = settings if settings.save == "adapter" else ModelConfig(checkpoint=checkpoint)
    states = model_states(
        weights,
        strategy=strategy,
        world_size=world_size,
        precision="bf16",
        quantize=settings.quantize,
    )
    return ends(
        weights,
        states,
        saved=traces.inventory(merged, TrainConfig()),
        model=settings,
        strategy=strategy,
        precision="bf16",
        capacity=capacity,
    )


# Llama-3 without its language-model head: embeddings 128,256 x h; a block has 2.25 h^2 of attention
# (8 of its heads are keys and values) and 3 h m of gated layers.
EIGHT = 128_256 * 4_096 + 32 * (2.5 * 4_096**2 + 3 * 4_096 * 14_336)
BLOCKS_70B = 80 * ((2 + 2 * 8 / 64) * 8_192**2 + 3 * 8_192 * 28_672)
EMBEDDINGS_70B = 128_256 * 8_192


@pytest.mark.parametrize("strategy", ["zero3", "fsdp2"])
def test_quantised_weights_are_whole_on_each_device_before_they_are_cut(strategy: Any) -> None:
    """70B in nf4 needs 40 GB to load, whatever the number of devices."""
    found = ends_of(
        "meta-llama/Meta-Llama-3-70B", strategy, capacity=24 * GB, world_size=8,
        tune="lora", quantize="nf4",
    )  # fmt: skip
    nf4 = BLOCKS_70B * (0.5 + 1 / 64)  # half a byte, and a byte of scale for each 64
    assert found.load == pytest.approx(nf4 + 4 * EMBEDDINGS_70B, rel=0.02)
    assert 39 * GB < found.load < 41 * GB
    assert found.save > found.load  # put together again beside the shares


@pytest.mark.parametrize(
    ("gigabytes", "size", "precision"), [(80, 4, "fp32"), (24, 2, "bf16"), (None, 4, "fp32")]
)
def test_a_model_that_learnt_by_lora_predicts_in_what_the_device_holds(
    gigabytes: int | None, size: int, precision: str
) -> None:
    capacity = None if gigabytes is None else gigabytes * GB
    found = ends_of("meta-llama/Meta-Llama-3-8B", "single", capacity=capacity, tune="lora")
    assert found.predict == precision
    assert found.save == pytest.approx(size * EIGHT, rel=0.02)


def test_a_model_that_no_device_holds_stays_as_it_was_trained() -> None:
    found = ends_of(
        "meta-llama/Meta-Llama-3-8B", "single", capacity=16 * GB, tune="lora", quantize="nf4"
    )
    quantised = ends_of(
        "meta-llama/Meta-Llama-3-8B", "single", capacity=16 * GB,
        tune="lora", quantize="nf4", save="adapter",
    )  # fmt: skip
    assert found.predict == "bf16"
    assert found.save > 8 * GB
    assert quantised.save < 8 * GB
    assert quantised.predict == "fp32"


def test_full_fine_tuning_ends_with_less_than_it_trains() -> None:
    found = ends_of("google-bert/bert-large-uncased", "single", capacity=24 * GB)
    assert found.save == pytest.approx(4 * 335e6, rel=0.01)
    assert found.load == found.save
