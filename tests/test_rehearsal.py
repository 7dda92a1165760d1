"""The code paths of a GPU, rehearsed without one (see rehearsal.py).

In processes of their own, since a made-up accelerator stays for good.
"""

from __future__ import annotations

import subprocess

import pytest

from llmclf.model.family import FAMILIES
from tests.processes import run_python
from tests.rehearsal import NOT_REHEARSED

WITHOUT_DEVICE = """
from llmclf.train.loss import Loss
init = Loss.__init__
Loss.__init__ = lambda loss, *settings, device: init(loss, *settings)
from tests.rehearsal import main
main(["bert"])
"""


def rehearse(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run_python(*arguments, seconds=600)


def test_every_path_keeps_to_its_device() -> None:
    done = rehearse("tests/rehearsal.py", "bert", "llama")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("rehearsed: bert") == 3
    assert "rehearsed: llama" in done.stdout and "rehearsed: prompt" in done.stdout
    assert done.stdout.count("rehearsed: loading") == 2


@pytest.mark.slow
@pytest.mark.timeout(700)
def test_every_family_keeps_to_its_device() -> None:
    done = rehearse("tests/rehearsal.py")
    assert done.returncode == 0, done.stderr[-3000:]
    for family in set(FAMILIES) - set(NOT_REHEARSED):
        assert f"rehearsed: {family} " in done.stdout


def test_a_tensor_without_a_device_is_caught() -> None:
    done = rehearse("-c", WITHOUT_DEVICE)
    assert done.returncode != 0
    assert "Expected all tensors to be on the same device" in done.stderr
