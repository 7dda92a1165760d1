"""Checkpoints of weights that FSDP2 has divided: resumed to the same bits, read whole by one
process."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from llmclf.train.checkpoint import load_learned
from tests.processes import run
from tests.train.fsdp_shards import build


@pytest.mark.parametrize("ranks", [2, 3])
def test_shards_make_up_the_whole(tmp_path: Path, ranks: int) -> None:
    run(tmp_path / "log", "tests/train/fsdp_shards.py", str(tmp_path), ranks=ranks)
    model = build()
    load_learned(model, tmp_path / "checkpoints" / "best-000003")
    expected = load_file(tmp_path / "full.safetensors")
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter.detach(), expected[name]), name
