"""What a run ran on: versions, commit and hardware, for environment.json."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

PACKAGES = (
    "llmclf",
    "torch",
    "transformers",
    "accelerate",
    "peft",
    "deepspeed",
    "bitsandbytes",
    "datasets",
    "scikit-learn",
    "numpy",
    "polars",
)


def describe() -> dict[str, Any]:
    """Versions, git commit and hardware; nothing that names a user or holds a secret."""
    import torch  # a report imports nothing of it

    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "git_commit": git_commit(),
        "cpu": cpu_name(),
        "cpu_cores": os.cpu_count(),
        "cpu_threads_used": torch.get_num_threads(),
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "cuda": torch.version.cuda,
    }


def recipe(name: str) -> list[str] | None:
    """Words that start this experiment by the recipe that is running: its file and, where it has
    several experiments, what chooses this one alone. None where no recipe is (a notebook, a library
    call)."""
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    several = hasattr(main, "experiments")
    if file is None or not (several or hasattr(main, "experiment")):
        return None
    path = os.path.relpath(file)
    if path.startswith(".."):  # may name a user
        path = os.path.basename(path)
    return [path, "--only", name, "--seeds", "--budgets"] if several else [path]


def git_commit() -> str | None:
    """The commit of this code, with ``-dirty`` behind it where files differ; None outside git."""
    here = Path(__file__).parent
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(
            command, cwd=here, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def cpu_name() -> str:
    """The processor's name as the kernel gives it."""
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
