"""Checkpoints are whole or absent, restore every bit, and own up when they were damaged."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn

from llmclf.config import UserError
from llmclf.train.checkpoint import Checkpoints, State
from llmclf.train.config import TrainConfig
from llmclf.train.engine import start_engine
from llmclf.train.strategy import TorchStrategy

BEST, NEWEST = "best-000004", "step-000006"


@pytest.fixture(scope="module")
def accelerator() -> Iterator[Accelerator]:
    return start_engine(TrainConfig(precision="fp32"))


@pytest.fixture
def build(accelerator: Accelerator) -> Callable[[], TorchStrategy]:
    def build() -> TorchStrategy:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5), nn.Linear(3, 2))
        model[0].bias.requires_grad = False
        learning = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(learning, fused=True)
        return TorchStrategy(accelerator, model, optimizer, max_grad_norm=0.0)

    return build


def learn(strategy: TorchStrategy, steps: int) -> None:
    """Uses all three random generators."""
    for _ in range(steps):
        scale = random.random() + np.random.random()
        strategy.backward(strategy.model(torch.randn(5, 4)).square().mean().mul(scale))
        strategy.step()


def bits(strategy: TorchStrategy) -> list[bytes]:
    return [p.detach().numpy().tobytes() for p in strategy.bare.parameters()]


Saved = tuple[Checkpoints, TorchStrategy, State]


@pytest.fixture
def saved(tmp_path: Path, accelerator: Accelerator, build: Callable[[], TorchStrategy]) -> Saved:
    """A run after 6 steps, whose best was at step 4."""
    checkpoints = Checkpoints(tmp_path / "checkpoints", accelerator)
    strategy = build()
    learn(strategy, 4)
    state = State(step=4, best_step=4, best_score=0.25)
    checkpoints.save_best(state, strategy)
    learn(strategy, 2)
    state.step, state.train_seconds, state.train_tokens = 6, 1.25, 99
    checkpoints.save(state, strategy)
    learn(strategy, 3)
    return checkpoints, strategy, state


def test_resumes_to_the_same_bits(saved: Saved, build: Callable[[], TorchStrategy]) -> None:
    checkpoints, unbroken, state = saved
    strategy = build()
    random.seed(9), np.random.seed(9), torch.manual_seed(9)
    assert checkpoints.resume(strategy) == state
    learn(strategy, 3)
    assert bits(strategy) == bits(unbroken)


def test_only_what_learns_is_stored_and_touched(
    saved: Saved, build: Callable[[], TorchStrategy]
) -> None:
    checkpoints, _, _ = saved
    strategy = build()
    nn.init.ones_(strategy.bare[0].bias)
    checkpoints.resume(strategy)
    assert strategy.bare[0].bias.tolist() == [1, 1, 1]


def test_load_best_takes_the_best_not_the_newest(
    saved: Saved, build: Callable[[], TorchStrategy]
) -> None:
    checkpoints, _, state = saved
    strategy = build()
    checkpoints.resume(strategy)
    newest = bits(strategy)
    checkpoints.load_best(state, strategy)
    reference = build()
    torch.manual_seed(0)
    assert bits(strategy) != newest
    assert bits(strategy) != bits(reference)


def test_nothing_on_disk_is_pickled(saved: Saved) -> None:
    checkpoints, _, _ = saved
    files = {p.relative_to(checkpoints.folder).as_posix() for p in checkpoints.folder.rglob("*.*")}
    stored = ("manifest.json", "optimizer-00000.safetensors", "rng.json", "state.json")
    assert files == {
        *(f"{NEWEST}/{name}" for name in (*stored, "weights-00000.safetensors")),
        *(f"{BEST}/{name}" for name in ("manifest.json", "weights-00000.safetensors")),
    }
    for file in files:
        if file.endswith(".json"):
            json.loads((checkpoints.folder / file).read_text())


def test_a_fresh_run_starts_at_zero(
    tmp_path: Path, accelerator: Accelerator, build: Callable[[], TorchStrategy]
) -> None:
    assert Checkpoints(tmp_path / "none", accelerator).resume(build()) == State()


@pytest.mark.parametrize("leftover", [f".{NEWEST}.tmp", ".step-000009.tmp"])
def test_a_half_written_checkpoint_is_passed_over_and_cleared(
    saved: Saved, leftover: str, build: Callable[[], TorchStrategy]
) -> None:
    checkpoints, _, state = saved
    (checkpoints.folder / leftover).mkdir()
    (checkpoints.folder / leftover / "weights-00000.safetensors").write_bytes(b"half")
    strategy = build()
    assert checkpoints.resume(strategy) == state
    state.step = 9
    checkpoints.save(state, strategy)
    assert {p.name for p in checkpoints.folder.iterdir()} == {BEST, "step-000009"}


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


DAMAGES: list[Callable[[Path], None]] = [flip, truncate, Path.unlink]
FILES = [
    "weights-00000.safetensors",
    "optimizer-00000.safetensors",
    "rng.json",
    "state.json",
    "manifest.json",
]


@pytest.mark.parametrize("damage", DAMAGES, ids=["flip", "truncate", "unlink"])
@pytest.mark.parametrize("file", FILES)
def test_damage_is_one_clear_error(
    saved: Saved, damage: Callable[[Path], None], file: str, build: Callable[[], TorchStrategy]
) -> None:
    checkpoints, _, _ = saved
    damage(checkpoints.folder / NEWEST / file)
    strategy = build()
    before = bits(strategy)
    with pytest.raises(UserError, match=rf"{NEWEST} is damaged .*Remove the run folder"):
        checkpoints.resume(strategy)
    assert bits(strategy) == before


@pytest.mark.parametrize("damage", [*DAMAGES, lambda path: shutil.rmtree(path.parent)])
def test_damaged_best_weights_are_one_clear_error(
    saved: Saved, damage: Callable[[Path], None], build: Callable[[], TorchStrategy]
) -> None:
    checkpoints, _, state = saved
    damage(checkpoints.folder / BEST / "weights-00000.safetensors")
    with pytest.raises(UserError, match=f"{BEST} is damaged"):
        checkpoints.load_best(state, build())


def test_another_number_of_processes_goes_on_from_the_same_weights(
    saved: Saved, build: Callable[[], TorchStrategy], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The random states of the ranks that wrote it are of no use to it."""
    checkpoints, _, state = saved
    one, two = build(), build()
    assert checkpoints.resume(one) == state
    torch.manual_seed(9)
    monkeypatch.setattr(Accelerator, "num_processes", 2)
    assert checkpoints.resume(two) == state
    assert torch.initial_seed() == 9
    assert bits(one) == bits(two)
