"""What the ranks of one host take of its memory while a model is loaded, by the system's count.

A CPU rank's device is its host, so that what a GPU would hold is in these numbers, too: a rank of
ddp ends with one copy of what learns. tests/test_rehearsal.py sees what stays behind on a CPU that
has an accelerator beside it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from llmclf.model.config import ModelConfig
from llmclf.train.engine import EffectiveLaunch
from llmclf.train.model_builder import ModelBuilder
from tests.launch.loading import make_inputs, watched
from tests.processes import free_port, run_python

SECONDS = 600
METHODS = {
    "ddp": ("full-fp32", "lora-bf16"),
    "zero2": ("full-bf16", "lora-bf16"),
    "fsdp2": ("full-fp32", "lora-bf16"),
}
SLACK = 0.15
"""Of the model in fp32: adapters, the head, one matrix on its way, and what libraries keep."""


@dataclass(frozen=True)
class Taken:
    """Memory of a rank as a share of the model in fp32."""

    load: float
    """While the model was loaded."""
    both: float
    """While it was loaded and handed over to the strategy."""


class Ranks:
    """Runs the methods of a strategy when they are first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.whole = 4 * make_inputs(folder)

    def taken(self, strategy: str, method: str) -> list[Taken]:
        """By rank."""
        paths = [self.folder / f"{strategy}-{method}-{rank}.json" for rank in range(2)]
        if not paths[0].exists():
            done = run_python(
                "-m", "accelerate.commands.launch",
                "--config_file", f"launch/accelerate/{strategy}.yaml",
                "--num_processes", "2", "--main_process_port", str(free_port()),
                "tests/launch/loading.py", str(self.folder), *METHODS[strategy],
                seconds=SECONDS,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr[-3000:]
        found = [json.loads(path.read_text()) for path in paths]
        return [Taken(**{k: v / self.whole for k, v in rank.items()}) for rank in found]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Ranks:
    return Ranks(tmp_path_factory.mktemp("loading"))


@pytest.mark.timeout(SECONDS)
@pytest.mark.parametrize("method", METHODS["fsdp2"])
def test_fsdp2_has_one_copy_on_the_first_rank(ranks: Ranks, method: str) -> None:
    """And a shard on each."""
    first, second = ranks.taken("fsdp2", method)
    assert 1 - SLACK < first.load < 1 + SLACK
    assert second.load < SLACK
    assert first.both < 1.5 + SLACK
    assert second.both < 0.5 + SLACK


@pytest.mark.slow
@pytest.mark.timeout(SECONDS)
def test_ddp_has_one_copy_of_what_learns(ranks: Ranks) -> None:
    """Frozen matrices are those of the file, which the system holds once for all."""
    for rank in ranks.taken("ddp", "full-fp32"):
        assert 1 - SLACK < rank.load < 1 + SLACK
    for rank in ranks.taken("ddp", "lora-bf16"):
        assert rank.load < SLACK


@pytest.mark.slow
@pytest.mark.timeout(SECONDS)
@pytest.mark.parametrize("method", METHODS["zero2"])
def test_zero_has_no_copy_in_fp32(ranks: Ranks, method: str) -> None:
    pytest.importorskip("deepspeed")
    for rank in ranks.taken("zero2", method):
        assert rank.load < SLACK


@pytest.mark.gpu
@pytest.mark.parametrize("strategy", ["single", "ddp", "zero2"])
@pytest.mark.parametrize("method", ["full", "lora", "nf4"])
def test_a_gpu_is_loaded_past_its_host(ranks: Ranks, strategy: str, method: str) -> None:
    """The host has no copy of the model at any moment, and the device none beside what stays."""
    model = {"full": {}, "lora": {"tune": "lora"}, "nf4": {"tune": "lora", "quantize": "nf4"}}
    if method == "nf4":
        pytest.importorskip("bitsandbytes")
    builder = ModelBuilder(
        config=ModelConfig(checkpoint=str(ranks.folder / "bert"), **model[method]),  # type: ignore[arg-type]
        labels=("bad", "good", "meh"),
        multilabel=False,
        pad_token_id=0,
        max_length=32,
    )
    launch = EffectiveLaunch(1, strategy, "bf16", 4, 1, 8)  # type: ignore[arg-type]
    device, found = torch.device("cuda", 0), dict[str, int]()
    torch.zeros(1, device=device)  # the context takes host memory of its own
    for name in ("first", "second"):  # the first fills the libraries' own buffers
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        with watched(found, name):
            loaded = builder.load(0, launch, device)
        assert {p.device for p in loaded.parameters()} == {device}
        kept, peak = torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated()
        del loaded
    assert found["second"] < SLACK * ranks.whole
    assert peak - kept < SLACK * ranks.whole
