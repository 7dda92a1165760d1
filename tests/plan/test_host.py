"""What a run takes of its machines' own memory, by counts made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from llmclf.model.config import ModelConfig
from llmclf.plan.activations import Traces
from llmclf.plan.footprint import PlannedRun
from llmclf.plan.host import Host, host
from llmclf.plan.known import known_config
from llmclf.train.config import TrainConfig
from tests.plan.test_phases import EIGHT, GB

CHECKPOINT = "meta-llama/Meta-Llama-3-8B"
ADAPTERS = 21e6
"""Parameters of adapters of rank 8 on all matrices of the 8B."""


@pytest.fixture(scope="module")
def traces() -> Traces:
    config = known_config(CHECKPOINT)
    config.num_labels = 2
    return Traces(config)


def of(traces: Traces, strategy: Any, *, device_gigabytes: int = 80, **model: Any) -> Host:
    run = PlannedRun(
        traces=traces,
        model=ModelConfig(checkpoint=CHECKPOINT, **model),
        train=TrainConfig(),
        strategy=strategy,
        world_size=1 if strategy == "single" else 8,
        precision="bf16",
        gradient_checkpointing=True,
        length=64,
        capacity=device_gigabytes * GB,
        processes_per_machine=4,
    )
    found = host(
        traces.inventory(run.model, run.train),
        run.states,
        saved=traces.inventory(run.saved_model, run.train),
        model=run.model,
        strategy=strategy,
        precision="bf16",
        capacity=run.capacity,
    )
    assert run.host_bytes == found.of_machine(4)
    return found


def test_the_fullest_moment_counts() -> None:
    assert Host(load=3, load_first=5, train=0, save_first=9).of_machine(2) == 11
    assert Host(load=3, load_first=5, train=4, save_first=9).of_machine(2) == 17


@pytest.mark.parametrize("strategy", ["single", "ddp", "zero1", "zero2", "zero3"])
@pytest.mark.parametrize("method", [{"tune": "full"}, {"tune": "lora", "quantize": "nf4"}])
def test_weights_go_past_it(traces: Traces, strategy: Any, method: dict[str, Any]) -> None:
    found = of(traces, strategy, **method)
    assert (found.load, found.load_first, found.train) == (0, 0, 0)


def test_fsdp2_loads_once_for_all(traces: Traces) -> None:
    full, lora = of(traces, "fsdp2"), of(traces, "fsdp2", tune="lora")
    assert full.load_first == pytest.approx(4 * EIGHT, rel=0.001)
    assert lora.load_first == pytest.approx(4 * (EIGHT + ADAPTERS), rel=0.002)
    assert full.load == lora.load == 0
    assert of(traces, "fsdp2", tune="lora", quantize="nf4").load_first == 0


@pytest.mark.parametrize(("gigabytes", "copies"), [(80, 0), (24, 2)])
def test_deepspeed_goes_by_the_host_where_a_device_is_small(
    traces: Traces, gigabytes: int, copies: int
) -> None:
    """A copy of the weights that learn in bf16, and the one tensor that they become."""
    found = of(traces, "zero2", device_gigabytes=gigabytes)
    assert found.load == pytest.approx(copies * 2 * EIGHT, rel=0.001)
    assert of(traces, "zero2", device_gigabytes=24, tune="lora").load == 0


def test_one_process_puts_the_saved_model_together(traces: Traces) -> None:
    """In fp32 on its CPU, but for what is saved quantised."""
    assert of(traces, "ddp", tune="lora").save_first == pytest.approx(4 * EIGHT, rel=0.001)
    merged = of(traces, "ddp", tune="lora", quantize="nf4")
    assert merged.save_first == pytest.approx(4 * EIGHT, rel=0.001)
    kept = of(traces, "ddp", tune="lora", quantize="nf4", save="adapter")
    assert 5 * GB < kept.save_first < 8 * GB


def test_what_is_offloaded_stays_until_the_end(traces: Traces) -> None:
    found = of(traces, "zero3_offload")
    assert found.train == pytest.approx(20 / 8 * EIGHT, rel=0.01)
    assert found.of_machine(8) == pytest.approx(24 * EIGHT, rel=0.01)
