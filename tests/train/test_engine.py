"""What is in force is what was launched, or there is an error."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.utils import DistributedType

from llmclf.config import ConfigError
from llmclf.supervise.gpus import check_gpus
from llmclf.train.config import TrainConfig
from llmclf.train.engine import effective_launch, resolve_precision, start_engine
from llmclf.train.launch_check import check_settings

CPUINFO = Path("/proc/cpuinfo")


class Launched:
    """As much of an Accelerator as ``launch`` looks at, for more ranks than a test can start."""

    distributed_type = DistributedType.MULTI_GPU

    def __init__(self, num_processes: int) -> None:
        self.num_processes = num_processes
        self.mixed_precision = "bf16"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_precision_of_the_settings_is_in_force(precision: Any) -> None:
    """Twice in one process, as a comparison does it."""
    for wanted in (precision, {"fp32": "bf16", "bf16": "fp32"}[precision]):
        config = TrainConfig(precision=wanted)
        assert effective_launch(start_engine(config), config).precision == wanted


@pytest.mark.parametrize("asked", ["no", "bf16", "fp16", "fp8"])
def test_the_launchers_precision_is_the_recipes_or_refused(
    asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    precision: Any = "bf16" if asked == "bf16" else "fp32"
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", asked)
    config = TrainConfig(precision=precision)
    if asked in ("fp16", "fp8"):
        message = rf"--mixed_precision {asked}: .* computes in fp32.*--train\.precision"
        with pytest.raises(ConfigError, match=message):
            start_engine(config)
    else:
        assert effective_launch(start_engine(config), config).precision == precision
    other = TrainConfig(precision={"fp32": "bf16", "bf16": "fp32"}[precision])
    if asked != "no":
        with pytest.raises(ConfigError, match="the recipe decides"):
            start_engine(other)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        (
            "GRADIENT_ACCUMULATION_STEPS",
            "4",
            r"_steps 4: .*--train\.micro-batch-size or --train\.g",
        ),
        ("GRADIENT_ACCUMULATION_STEPS", "1", None),
        ("GRADIENT_ACCUMULATION_STEPS", "auto", None),
        ("GRADIENT_CLIPPING", "0.5", r"_clipping 0\.5: .* clips to 1\. .*--train\.max-grad-norm"),
        ("GRADIENT_CLIPPING", "1.0", None),
    ],
)
def test_what_else_the_recipe_decides(
    variable: str, value: str, message: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"ACCELERATE_{variable}", value)
    config = TrainConfig(precision="fp32")
    if message is None:
        check_settings(config, "fp32")
    else:
        with pytest.raises(ConfigError, match=message):
            check_settings(config, "fp32")


@pytest.mark.parametrize(
    ("ranks", "gpus", "said"),
    [
        (2, 0, None),
        (1, 1, None),
        (8, 8, None),
        (2, 8, "2 of the 8 GPUs"),
        (1, 2, "1 of the 2 GPUs"),
    ],
)
def test_gpus_without_a_process_are_told(ranks: int, gpus: int, said: str | None) -> None:
    found = check_gpus(ranks, gpus)
    assert found is None if said is None else found is not None and said in found
    assert said is None or f"--num_processes {gpus} RECIPE" in str(found)


@pytest.mark.parametrize(("ranks", "gpus"), [(2, 1), (16, 8)])
def test_more_processes_than_gpus_are_refused(ranks: int, gpus: int) -> None:
    with pytest.raises(
        ConfigError, match=rf"{ranks} processes .*shows {gpus} GPU.*_processes {gpus}"
    ):
        check_gpus(ranks, gpus)


def test_the_engine_counts_gpus_before_it_joins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="2 processes"):
        start_engine(TrainConfig(precision="fp32"))


@pytest.mark.skipif(not CPUINFO.exists(), reason="reads /proc/cpuinfo")
def test_auto_takes_what_the_device_has_instructions_for() -> None:
    if torch.cuda.is_available():
        capable = torch.cuda.get_device_capability() >= (8, 0)
    else:
        flags = set(CPUINFO.read_text().split())
        capable = bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})
    assert resolve_precision("auto") == ("bf16" if capable else "fp32")


@pytest.mark.parametrize("has", [{"avx512_f": True, "avx512_bw": True}, {"avx2": True}])
def test_auto_does_not_take_an_emulation(
    has: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Skylake and Cascade Lake: oneDNN accepts bf16 there, and is slower than in fp32."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
    assert resolve_precision("auto") == "fp32"


def test_one_process_is_single() -> None:
    config = TrainConfig(global_batch_size=32, micro_batch_size=5, precision="fp32")
    assert effective_launch(start_engine(config), config).to_json() == {
        "world_size": 1,
        "strategy": "single",
        "precision": "fp32",
        "micro_batch_size": 5,
        "accumulation": 7,
        "global_batch_size": 32,
    }


@pytest.mark.parametrize(
    ("ranks", "global_batch", "micro_batch", "expected"),
    [
        (1, 32, None, (32, 1)),
        (4, 32, None, (8, 1)),
        (4, 32, 8, (8, 1)),
        (4, 32, 3, (3, 3)),
        (4, 32, 100, (8, 1)),  # never more than a rank's share
        (3, 32, None, (11, 1)),
        (3, 32, 4, (4, 3)),
        (8, 4, None, (1, 1)),  # fewer rows than ranks: some have none
    ],
)
def test_accumulation_follows_from_the_launch(
    ranks: int, global_batch: int, micro_batch: int | None, expected: tuple[int, int]
) -> None:
    config = TrainConfig(global_batch_size=global_batch, micro_batch_size=micro_batch)
    found = effective_launch(Launched(ranks), config)  # type: ignore[arg-type]
    assert (found.micro_batch_size, found.accumulation) == expected
    assert found.global_batch_size == global_batch
    assert (found.world_size, found.strategy) == (ranks, "ddp" if ranks > 1 else "single")


def test_a_launch_that_did_not_come_about_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither rank number nor address: accelerate may run one process, or make up a rank, and
    leaves what it made up in the environment."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="WORLD_SIZE=2, but the launch is incomplete: RANK, "):
        start_engine(TrainConfig(precision="fp32"))
    assert "RANK" not in os.environ
