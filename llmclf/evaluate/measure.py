"""What a block of code takes: seconds, memory and energy, over all processes of a run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

import psutil

from llmclf.evaluate.energy import EnergyMeter, meter_of, total
from llmclf.evaluate.sampler import Sampler

if TYPE_CHECKING:
    from accelerate import Accelerator

SAMPLING_SECONDS = 0.05


@dataclass(kw_only=True)
class Measured:
    """What a block of code took; filled in when it ends."""

    seconds: float = 0.0
    """Seconds on this process."""
    peak_memory_bytes: int = 0
    """Peak memory over all processes, as ``Cost.peak_memory_bytes``."""
    joules: float | None = None
    """Joules of all meters of all processes; None where nothing, or not everything, could be
    read."""
    energy_meters: list[str] | None = None
    """Names of the meters that were read, as in :class:`.cost.Cost`."""


@contextmanager
def measured(accelerator: Accelerator | None = None) -> Iterator[Measured]:
    """Measure a block, of all processes if it runs on several: each must then come to its end.

    ``accelerator``: None where this process computes alone, on its CPUs.
    """
    spent = Measured()
    cuda = accelerator is not None and accelerator.device.type == "cuda"
    if cuda:
        import torch

        torch.cuda.reset_peak_memory_stats()
    meter = EnergyMeter() if accelerator is None else meter_of(accelerator)
    with PeakMemory() as memory, meter:
        started = time.perf_counter()
        yield spent
        spent.seconds = time.perf_counter() - started
    peak = torch.cuda.max_memory_allocated() if cuda else memory.peak_bytes
    peaks, readings = [peak], [meter.reading]
    if accelerator is not None:
        from accelerate.utils import gather_object

        peaks, readings = gather_object(peaks), gather_object(readings)
    spent.peak_memory_bytes = max(peaks)
    spent.joules = total(readings)
    spent.energy_meters = sorted({name for names, _ in readings for name in names}) or None


class PeakMemory:
    """Highest resident memory of this process while the context is open, sampled 20 times a second.

    The kernel's own high-water mark covers the whole life of the process, so in a comparison it
    would charge each method with the largest one before it.
    """

    def __enter__(self) -> PeakMemory:
        self._process = psutil.Process()
        self.peak_bytes = self._process.memory_info().rss
        self._sampler = Sampler(SAMPLING_SECONDS, self._sample)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._sampler.stop()

    def _sample(self) -> None:
        self.peak_bytes = max(self.peak_bytes, self._process.memory_info().rss)
