"""The run folder held by one run, whose ranks all end where another has it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from llmclf.config import ConfigError, UserError
from llmclf.ranks import is_main, world_size
from llmclf.supervise import lock
from llmclf.supervise.watchdog import group_is_joined


@contextlib.contextmanager
def held(folder: Path, start: Callable[[], None]) -> Iterator[None]:
    """Hold the folder while the block runs, for all ranks; each of them enters.

    The first rank takes the lock and calls ``start``, which looks into the folder again and writes
    what comes first. The UserError that it raises, every rank raises.
    """
    error: UserError | None = None
    taken = False
    try:
        if is_main():
            try:
                lock.take(folder)
                taken = True
                start()
            except UserError as raised:
                error = raised
        _raise_everywhere(error)
        yield
    finally:
        if taken:
            lock.give_back(folder)


def refuse_if_held(folder: Path) -> None:
    """Raise ConfigError where another run holds the folder, before anything is loaded.

    A process that is alone does so. Several ranks could see different things, so that some would
    end and the others wait for them: they hear it from the first one, in :func:`held`.
    """
    if world_size() == 1 and lock.is_locked(folder) and not lock.is_left_by_us(folder):
        lock.take(folder)
        lock.give_back(folder)


def _raise_everywhere(error: UserError | None) -> None:
    """Raise on every rank what the first one refuses; where ranks have not joined, there alone."""
    if world_size() > 1 and group_is_joined():
        import torch.distributed as dist

        message = [None if error is None else str(error)]
        dist.broadcast_object_list(message, src=0)
        if error is None and message[0] is not None:
            error = ConfigError(message[0])
    if error is not None:
        raise error
