"""Which of a launch's processes this one is: what torchrun and accelerate put into the environment.

Without a launcher there is one process, the first.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path


def launched() -> bool:
    """Whether a launcher said how many processes there are."""
    return "WORLD_SIZE" in os.environ


def rank() -> int:
    """This process among those of all machines, from 0."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """Processes that this launch started, on all machines."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_rank() -> int:
    """This process among those of its machine, from 0."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def local_world_size() -> int:
    """Processes of this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def machine() -> int:
    """This machine among those of the launch, from 0."""
    return int(os.environ.get("GROUP_RANK", "0"))


def machines() -> int:
    """Machines of the launch."""
    return int(os.environ.get("GROUP_WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this is the first process, which alone speaks and writes."""
    return os.environ.get("RANK", "0") == "0"


def tell_launcher(message: str) -> None:
    """Leave what ended this process for torchrun, which shows it below its own traceback."""
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if path:
        facts = {"message": message, "extraInfo": {"timestamp": str(int(time.time()))}}
        with contextlib.suppress(OSError):
            Path(path).write_text(json.dumps({"message": facts}), encoding="utf-8")
