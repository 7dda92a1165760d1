"""Threads that wait for each other sleep soon, in every process that computes, unless the user has
said how they shall wait."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.processes import REPOSITORY

OWN = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
LIBGOMP = any((Path(torch.__file__).parent / "lib").glob("libgomp*"))


def python(*words: str, **environment: str) -> str:
    """What Python prints, told by OpenMP's runtime what it has understood."""
    kept = {name: value for name, value in os.environ.items() if name not in OWN}
    done = subprocess.run(
        [sys.executable, *words],
        cwd=REPOSITORY,
        env=kept | {"PYTHONPATH": str(REPOSITORY)} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, "1000"),
        ({"GOMP_SPINCOUNT": "5"}, "5"),
        ({"OMP_WAIT_POLICY": "active"}, "None"),
        ({"OMP_WAIT_POLICY": "active", "GOMP_SPINCOUNT": "7"}, "7"),
    ],
)
def test_only_what_the_user_left_open_is_set(given: dict[str, str], found: str) -> None:
    program = "import os, llmclf; print(os.environ.get('GOMP_SPINCOUNT'))"
    assert python("-c", program, **given).strip() == found


@pytest.mark.skipif(not LIBGOMP, reason="torch has another OpenMP runtime here")
@pytest.mark.parametrize("way", ["import", "ranks"])
def test_the_runtime_reads_it(tmp_path: Path, way: str) -> None:
    """It reads the variable once, when torch loads it."""
    program = tmp_path / "program.py"
    program.write_text("import llmclf\nimport torch\nassert llmclf and torch\n")
    words = [str(program)]
    if way == "ranks":
        launcher = ["-m", "accelerate.commands.launch", "--config_file"]
        options = ["launch/accelerate/ddp.yaml", "--num_processes", "2", "--main_process_port", "0"]
        words = [*launcher, *options, *words]
    said = python(*words, OMP_DISPLAY_ENV="verbose")
    counts = re.findall(r"GOMP_SPINCOUNT = '(\d+)'", said)
    if way == "ranks":  # the launcher loads torch, too, and computes nothing
        assert counts.count("1000") >= 2, said
    else:
        assert counts and set(counts) == {"1000"}, said
