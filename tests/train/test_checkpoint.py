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

from llmclf.config import ConfigError, UserError
from llmclf.train.checkpoint import Checkpoints, State
from llmclf.train.config import TrainConfig
from llmclf.train.engine import start_engine

BEST, NEWEST = "best-000004", "step-000006"


@pytest.fixture(scope="module")
def accelerator() -> Iterator[Accelerator]:
    return start_engine(TrainConfig(precision="fp32"))


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5), nn.Linear(3, 2))
    model[0].bias.requires_grad = False
    return model, torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], fused=True)


def learn(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    """Uses all three random generators."""
    for _ in range(steps):
        scale = random.random() + np.random.random()
        model(torch.randn(5, 4)).square().mean().mul(scale).backward()
        optimizer.step()
        optimizer.zero_grad()


def bits(model: nn.Module) -> list[bytes]:
    return [p.detach().numpy().tobytes() for p in model.parameters()]


@pytest.fixture
def saved(tmp_path: Path, accelerator: Accelerator) -> tuple[Checkpoints, nn.Module, State]:
    """A run after 6 steps, whose best was at step 4."""
    checkpoints = Checkpoints(tmp_path / "checkpoints", accelerator)
    model, optimizer = build()
    learn(model, optimizer, 4)
    state = State(step=4, best_step=4, best_score=0.25)
    checkpoints.save_best(state, model)
    learn(model, optimizer, 2)
    state.step, state.train_seconds, state.train_tokens = 6, 1.25, 99
    checkpoints.save(state, model, optimizer)
    learn(model, optimizer, 3)
    return checkpoints, model, state


def test_resumes_to_the_same_bits(saved: tuple[Checkpoints, nn.Module, State]) -> None:
    checkpoints, unbroken, state = saved
    model, optimizer = build()
    random.seed(9), np.random.seed(9), torch.manual_seed(9)
    assert checkpoints.resume(model, optimizer) == state
    learn(model, optimizer, 3)
    assert bits(model) == bits(unbroken)


def test_only_what_learns_is_stored_and_touched(
    saved: tuple[Checkpoints, nn.Module, State],
) -> None:
    checkpoints, _, _ = saved
    model, optimizer = build()
    nn.init.ones_(model[0].bias)
    checkpoints.resume(model, optimizer)
    assert model[0].bias.tolist() == [1, 1, 1]


def test_load_best_takes_the_best_not_the_newest(
    saved: tuple[Checkpoints, nn.Module, State],
) -> None:
    checkpoints, _, state = saved
    model, optimizer = build()
    checkpoints.resume(model, optimizer)
    newest = bits(model)
    checkpoints.load_best(state, model)
    reference, optimizer = build()
    torch.manual_seed(0)
    assert bits(model) != newest
    assert bits(model) != bits(reference)


def test_nothing_on_disk_is_pickled(saved: tuple[Checkpoints, nn.Module, State]) -> None:
    checkpoints, _, _ = saved
    files = {p.relative_to(checkpoints.folder).as_posix() for p in checkpoints.folder.rglob("*.*")}
    stored = ("manifest.json", "optimizer.safetensors", "rng.json", "state.json")
    assert files == {
        *(f"{NEWEST}/{name}" for name in (*stored, "weights.safetensors")),
        *(f"{BEST}/{name}" for name in ("manifest.json", "weights.safetensors")),
    }
    for file in files:
        if file.endswith(".json"):
            json.loads((checkpoints.folder / file).read_text())


def test_a_fresh_run_starts_at_zero(tmp_path: Path, accelerator: Accelerator) -> None:
    assert Checkpoints(tmp_path / "none", accelerator).resume(*build()) == State()


@pytest.mark.parametrize("leftover", [f".{NEWEST}.tmp", ".step-000009.tmp"])
def test_a_half_written_checkpoint_is_passed_over_and_cleared(
    saved: tuple[Checkpoints, nn.Module, State], leftover: str
) -> None:
    checkpoints, _, state = saved
    (checkpoints.folder / leftover).mkdir()
    (checkpoints.folder / leftover / "weights.safetensors").write_bytes(b"half")
    model, optimizer = build()
    assert checkpoints.resume(model, optimizer) == state
    state.step = 9
    checkpoints.save(state, model, optimizer)
    assert {p.name for p in checkpoints.folder.iterdir()} == {BEST, "step-000009"}


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


DAMAGES: list[Callable[[Path], None]] = [flip, truncate, Path.unlink]
FILES = ["weights.safetensors", "optimizer.safetensors", "rng.json", "state.json", "manifest.json"]


@pytest.mark.parametrize("damage", DAMAGES, ids=["flip", "truncate", "unlink"])
@pytest.mark.parametrize("file", FILES)
def test_damage_is_one_clear_error(
    saved: tuple[Checkpoints, nn.Module, State], damage: Callable[[Path], None], file: str
) -> None:
    checkpoints, _, _ = saved
    damage(checkpoints.folder / NEWEST / file)
    model, optimizer = build()
    before = bits(model)
    with pytest.raises(UserError, match=rf"{NEWEST} is damaged .*Remove the run folder"):
        checkpoints.resume(model, optimizer)
    assert bits(model) == before


@pytest.mark.parametrize("damage", [*DAMAGES, lambda path: shutil.rmtree(path.parent)])
def test_damaged_best_weights_are_one_clear_error(
    saved: tuple[Checkpoints, nn.Module, State], damage: Callable[[Path], None]
) -> None:
    checkpoints, _, state = saved
    damage(checkpoints.folder / BEST / "weights.safetensors")
    with pytest.raises(UserError, match=f"{BEST} is damaged"):
        checkpoints.load_best(state, build()[0])


def test_another_number_of_processes_is_refused(
    saved: tuple[Checkpoints, nn.Module, State], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints, _, _ = saved
    monkeypatch.setattr(Accelerator, "num_processes", 2)
    message = r"written by 1 process\(es\), resumed by 2\. Resume with the same number"
    with pytest.raises(ConfigError, match=message):
        checkpoints.resume(*build())
