"""One rank of a recipe, run in a process forked by tests/processes.py.

``run_path`` hands over ``request``: environment, argv, log, and ``kill_at``, the number of the
change on the disk before which the process sends itself ``kill_signal``.
"""

from __future__ import annotations

import itertools
import os
import runpy
import sys
from typing import Any

request: dict[str, Any] = globals()["request"]
CHANGES = {"os.mkdir", "os.remove", "os.rename", "os.rmdir"}


def become(argv: list[str], environment: dict[str, str], log: str) -> None:
    """Take on a command line, an environment, and a file for everything that is printed."""
    os.environ.update(environment)
    sys.argv[:] = argv
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)


def die_before(count: int, number: int) -> None:
    """Have the process sent a signal before its ``count``-th change on the disk."""
    changes = itertools.count(1)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if (writes or event in CHANGES) and next(changes) == count:
            os.kill(os.getpid(), number)

    sys.addaudithook(hook)


become(request["argv"], request["environment"], request["log"])
if request["kill_at"]:
    die_before(request["kill_at"], request["kill_signal"])
runpy.run_path(sys.argv[0], run_name="__main__")
