"""What the benchmarks share: sides that take turns, ratios with their spread, and the result file.

Each side is a process of its own, so that none inherits another's caches, threads or memory peak.
They work in short blocks, one side at a time: whatever else the machine does hits all of them.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, chdir
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
import torch

from llmclf.atomic import write_text
from llmclf.config import dump_json
from llmclf.evaluate.measure import PeakMemory
from llmclf.run_folder.environment import describe

RESULTS = Path(__file__).resolve().parent / "results"
SHARED = RESULTS.parents[2] / "shared" / "data" / "health_advice.csv"
SCHEMA = 1


@dataclass(frozen=True)
class Block:
    """One block of work of one side."""

    seconds: float
    cpu_seconds: float
    """Of all threads of the process; waiting for a processor is not in it."""
    peak_bytes: int
    """Most memory so far: of the GPU, or else resident memory of the process."""


class Turns:
    """A side's end of the alternation: :meth:`begin` before the first block, :meth:`next` after
    each. Both return when it is this side's turn."""

    def __init__(self, connection: Connection, memory: PeakMemory) -> None:
        self.connection, self.memory = connection, memory

    def forget_peak(self) -> None:
        """Count the memory's peak from here on: loading weights can take more than working."""
        self.memory.peak_bytes = psutil.Process().memory_info().rss
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()

    def begin(self) -> None:
        self.connection.send(psutil.Process().memory_info().rss)
        self._wait()

    def next(self) -> None:
        on_gpu = torch.cuda.is_available()
        if on_gpu:
            torch.cuda.synchronize()
        seconds = time.perf_counter() - self.started
        cpu_seconds = time.process_time() - self.cpu_started
        peak = torch.cuda.max_memory_allocated() if on_gpu else self.memory.peak_bytes
        self.connection.send(Block(seconds, cpu_seconds, peak))
        self._wait()

    def _wait(self) -> None:
        self.connection.recv()
        self.started, self.cpu_started = time.perf_counter(), time.process_time()


Side = Callable[[Turns], dict[str, Any]]
"""Does its work in ``num_blocks`` blocks and returns what it has to say about it, as plain JSON."""


@dataclass
class Timed:
    """What came of one side."""

    memory_before_bytes: int = 0
    """Resident memory before the first block: libraries, data and weights."""
    blocks: list[Block] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


def take_turns(sides: Mapping[str, Side], *, num_blocks: int, threads: int) -> dict[str, Timed]:
    """Run all sides, block by block in turn, each with ``threads`` threads.

    Every second round goes backwards, so that no side always follows the same other one. Raises
    RuntimeError when a side fails.
    """
    # Read once, when the children's libraries are loaded.
    os.environ |= {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    context = get_context("forkserver")
    # Each side is forked from a process that has these imported, and has computed nothing yet.
    context.set_forkserver_preload(["llmclf.train.fine_tune", "transformers.trainer"])
    connections: dict[str, Connection] = {}
    timed = {name: Timed() for name in sides}
    with ExitStack() as cleanup:
        for name, side in sides.items():
            connections[name], theirs = context.Pipe()
            process = context.Process(target=_run, args=(side, theirs, threads), daemon=True)
            process.start()
            theirs.close()
            cleanup.callback(process.join)
            cleanup.callback(process.terminate)
        for name in sides:
            timed[name].memory_before_bytes = _receive(connections, name)
        for i in range(num_blocks):
            for name in list(sides) if i % 2 == 0 else reversed(list(sides)):
                connections[name].send("go")
                timed[name].blocks.append(_receive(connections, name))
        for name in sides:  # what follows the last block is not timed
            connections[name].send("go")
            timed[name].facts = _receive(connections, name)
    return timed


def _run(side: Side, connection: Connection, threads: int) -> None:
    torch.set_num_threads(threads)
    with PeakMemory() as memory:
        connection.send(side(Turns(connection, memory)) | {"threads": torch.get_num_threads()})


def _receive(connections: Mapping[str, Connection], name: str) -> Any:
    try:
        return connections[name].recv()
    except EOFError:
        raise RuntimeError(f"side {name!r} stopped; its error is above.") from None


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Figures per repeat, with their minimum, median and maximum."""
    return {
        "min": min(values),
        "median": statistics.median(values),
        "max": max(values),
        "per_repeat": list(values),
    }


def public(settings: Any) -> dict[str, Any]:
    """The settings without folders of this machine."""
    named = asdict(settings)
    del named["output"]
    for key in ("source", "checkpoint"):
        path = Path(named[key])
        named[key] = path.name if path.exists() else named[key]
    return named


def write_result(path: Path, result: Mapping[str, Any], *, load_average: float) -> None:
    """Write a benchmark's figures with the hardware, commit and versions that they belong to.

    ``load_average``: of the last minute before the start. Above 0, other work was going on.
    """
    head = {"schema": SCHEMA, "benchmark": path.stem}
    with chdir(RESULTS.parent):  # git describes the working directory
        environment = describe() | {"load_average_before": load_average}
    write_text(path, dump_json(head | {"environment": environment} | dict(result)))
