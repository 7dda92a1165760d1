"""Launch files hold the strategy alone, and start what they say."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.processes import accelerate_launch, free_port

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = sorted((REPOSITORY / "launch" / "accelerate").glob("*.yaml"))
STRATEGY = {
    "compute_environment",
    "deepspeed_config",
    "distributed_type",
    "fsdp_config",
    "machine_rank",
    "main_training_function",
    "num_machines",
    "num_processes",
}

RANKS = """
import os, torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs

many = int(os.environ.get("WORLD_SIZE", 1)) > 1
handlers = [InitProcessGroupKwargs(backend="gloo")] if many else []
accelerator = Accelerator(cpu=True, kwargs_handlers=handlers)
ranks = accelerator.gather(torch.tensor([accelerator.process_index]))
if accelerator.is_main_process:
    print("ranks", ranks.tolist(), accelerator.mixed_precision)
accelerator.end_training()  # without it gloo's threads abort the process now and then
"""


def launch(file: str, *arguments: str) -> str:
    return accelerate_launch("--config_file", f"launch/accelerate/{file}", *arguments)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "ranks.py"
    path.write_text(RANKS)
    return path


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_holds_strategy_only_and_says_how_to_use_it(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert set(yaml.safe_load(text)) <= STRATEGY
    assert f"accelerate launch --config_file launch/accelerate/{path.name} " in text


def test_single_is_one_process(script: Path) -> None:
    assert launch("single.yaml", str(script)) == "ranks [0] no\n"


@pytest.mark.parametrize("count", [2, 3])
def test_ddp_starts_real_ranks_on_the_cpu(script: Path, count: int) -> None:
    port = str(free_port())
    printed = launch(
        "ddp.yaml", "--num_processes", str(count), "--main_process_port", port, str(script)
    )
    assert printed == f"ranks {list(range(count))} no\n"
