"""Checkpoints that are whole or absent, and resume to the same bits.

``checkpoints/step-000120/`` holds what learns, the optimizer and each rank's random state, as
safetensors and JSON: nothing is unpickled on resume. ``checkpoints/best-000080/`` holds the best
weights so far.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from safetensors.torch import load_file, save_file
from torch import nn

from llmclf.config import ConfigError, UserError, dump_json, write_text

MANIFEST = "manifest.json"


@dataclass
class State:
    """Where a run stands."""

    step: int = 0
    best_step: int = 0
    best_score: float | None = None
    evaluations_since_best: int = 0
    stopped_early: bool = False
    train_seconds: float = 0.0
    train_tokens: int = 0


class Checkpoints:
    """The ``checkpoints`` folder of one run, for the parameters that learn."""

    def __init__(self, folder: Path, accelerator: Accelerator) -> None:
        self.folder = folder
        self.accelerator = accelerator

    def save(self, state: State, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Write ``step-N``, then remove what it replaces. All ranks must call this."""
        rng = gather_object([_rng_state()])
        if self.accelerator.is_main_process:
            step = self.folder / f"step-{state.step:06d}"
            _write_folder(
                step,
                {
                    "weights.safetensors": lambda path: _save_tensors(learned(model), path),
                    "optimizer.safetensors": lambda p: _save_tensors(_moments(model, optimizer), p),
                    "rng.json": lambda path: path.write_text(json.dumps(rng)),
                    "state.json": lambda path: path.write_text(dump_json(asdict(state))),
                },
            )
            keep = {step.name, _best_name(state.best_step)}
            for old in self.folder.iterdir():
                if old.name not in keep:
                    shutil.rmtree(old)
        self.accelerator.wait_for_everyone()

    def save_best(self, state: State, model: nn.Module) -> None:
        """Write the weights of the best evaluation so far."""
        if self.accelerator.is_main_process:
            files = {"weights.safetensors": lambda path: _save_tensors(learned(model), path)}
            _write_folder(self.folder / _best_name(state.best_step), files)
        self.accelerator.wait_for_everyone()

    def load_best(self, state: State, model: nn.Module) -> None:
        """Put the best weights into the model."""
        folder = self.folder / _best_name(state.best_step)
        _check(folder)
        _load_learned(model, load_file(folder / "weights.safetensors"))

    def resume(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> State:
        """Restore the newest whole checkpoint; a new State when there is none.

        Raises UserError when it is damaged, ConfigError when another number of processes wrote it.
        """
        steps = sorted(self.folder.glob("step-*")) if self.folder.is_dir() else []
        if not steps:
            return State()
        folder = steps[-1]
        _check(folder)
        rng = json.loads((folder / "rng.json").read_text())
        if len(rng) != self.accelerator.num_processes:
            raise ConfigError(
                f"{folder}: written by {len(rng)} process(es), resumed by "
                f"{self.accelerator.num_processes}. Resume with the same number."
            )
        _load_learned(model, load_file(folder / "weights.safetensors"))
        _load_moments(model, optimizer, load_file(folder / "optimizer.safetensors"))
        _restore_rng(rng[self.accelerator.process_index])
        return State(**json.loads((folder / "state.json").read_text()))


def learned(model: nn.Module) -> dict[str, torch.Tensor]:
    """The parameters that learn, by name."""
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


def _load_learned(model: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    parameters = learned(model)
    assert parameters.keys() == tensors.keys(), "the checkpoint is of another model"
    for name, parameter in parameters.items():
        parameter.copy_(tensors[name])


def _moments(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """AdamW's state by parameter name; torch's own state_dict goes by position."""
    return {
        f"{name}/{key}": value
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
        for key, value in optimizer.state[parameter].items()
    }


def _load_moments(
    model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]
) -> None:
    parameters = dict(model.named_parameters())
    for key, tensor in tensors.items():
        name, _, moment = key.rpartition("/")
        parameter = parameters[name]
        # AdamW keeps the step count on the CPU unless fused; fused CUDA wants it beside the
        # parameter.
        optimizer.state[parameter][moment] = tensor.to(parameter.device)


def _rng_state() -> dict[str, Any]:
    version, internal, gauss = random.getstate()
    _, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "python": [version, list(internal), gauss],
        "numpy": [np.asarray(keys).tolist(), position, has_gauss, cached],
        "torch": torch.get_rng_state().tolist(),
        "cuda": torch.cuda.get_rng_state().tolist() if torch.cuda.is_available() else None,
    }


def _restore_rng(state: dict[str, Any]) -> None:
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    np.random.set_state(("MT19937", *state["numpy"]))
    torch.set_rng_state(torch.tensor(state["torch"], dtype=torch.uint8))
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(torch.tensor(state["cuda"], dtype=torch.uint8))


def _best_name(step: int) -> str:
    return f"best-{step:06d}"


def _save_tensors(tensors: dict[str, torch.Tensor], path: Path) -> None:
    save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, path)


def _write_folder(target: Path, files: Mapping[str, Callable[[Path], object]]) -> None:
    """Write all files and a manifest of their sha256 beside the target, then rename: a crash leaves
    no half folder."""
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    manifest = {}
    for name, write in files.items():
        write(temporary / name)
        with (temporary / name).open("rb+") as file:
            os.fsync(file.fileno())
            manifest[name] = hashlib.file_digest(file, "sha256").hexdigest()
    write_text(temporary / MANIFEST, dump_json(manifest))
    shutil.rmtree(target, ignore_errors=True)
    os.replace(temporary, target)


def _check(folder: Path) -> None:
    """Raise UserError unless every file is as it was written."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        for name, digest in manifest.items():
            with (folder / name).open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                    raise ValueError(f"{name}: its checksum differs")
    except (OSError, ValueError) as error:  # ValueError: not JSON, or not UTF-8
        raise UserError(
            f"checkpoint {folder} is damaged ({error}). Remove the run folder and start again."
        ) from error
