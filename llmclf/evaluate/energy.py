"""Energy of a block of code, read from the counters of the hardware.

GPUs: NVML's counter of the whole board (Volta and later). CPUs: RAPL's counters of the packages, as
far as this user may read them; they cover the whole machine, whatever else it computes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from llmclf.evaluate.sampler import Sampler

if TYPE_CHECKING:
    from accelerate import Accelerator

SAMPLING_SECONDS = 30.0
"""RAPL's counters start again at zero, at full load after some 20 minutes."""
RAPL = Path("/sys/class/powercap")
Reading = tuple[list[str], float | None]
"""Names of the meters of one rank, and their joules."""


class EnergyMeter(AbstractContextManager["EnergyMeter"]):
    """Joules used while the context is open, by GPUs of these UUIDs and, by option, all CPUs."""

    def __init__(self, gpus: Sequence[str] = (), *, cpus: bool = True, rapl: Path = RAPL) -> None:
        self._counters: list[Callable[[], float]] = []
        self.meters: list[str] = []
        """What is read: nvml, rapl, both or none."""
        for name, counters in (
            ("nvml", nvml_counters(gpus)),
            ("rapl", rapl_counters(rapl) if cpus else []),
        ):
            self._counters += counters
            self.meters += [name] if counters else []
        self._joules: float | None = None

    @property
    def joules(self) -> float | None:
        """Joules while the context was open; None where nothing can be read, or a counter failed
        meanwhile."""
        return self._joules

    @property
    def reading(self) -> Reading:
        """What other ranks need to know, to be gathered for :func:`total`."""
        return self.meters, self._joules

    def __enter__(self) -> EnergyMeter:
        self._joules = 0.0 if self._counters else None
        self._read()  # from here on
        self._joules = 0.0 if self._joules is not None else None
        self._sampler = Sampler(SAMPLING_SECONDS, self._read)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._sampler.stop()
        self._read()

    def _read(self) -> None:
        try:
            spent = sum(counter() for counter in self._counters)
        except Exception:  # a driver that goes away must not end a run
            self._counters, self._joules = [], None
        if self._joules is not None:
            self._joules += spent


def rapl_counters(root: Path) -> list[Callable[[], float]]:
    """Counters of the CPU packages that may be read; each gives the joules since its last call."""
    packages = sorted(root.glob("intel-rapl:*")) if root.is_dir() else []
    # intel-rapl:0:1 and so on are parts of intel-rapl:0; psys, where there is one, holds it all.
    whole = [p for p in packages if p.name.count(":") == 1 and _text(p / "name") != "psys"]
    files = ("energy_uj", "max_energy_range_uj")
    return [_rapl_counter(p) for p in whole if all(_text(p / name).isdigit() for name in files)]


def _rapl_counter(package: Path) -> Callable[[], float]:
    limit = int((package / "max_energy_range_uj").read_text())
    last = int((package / "energy_uj").read_text())

    def spent() -> float:
        nonlocal last
        now = int((package / "energy_uj").read_text())
        microjoules = now - last if now >= last else now - last + limit
        last = now
        return microjoules / 1e6

    return spent


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:  # root alone may read it on most systems
        return ""


def nvml_counters(gpus: Sequence[str]) -> list[Callable[[], float]]:
    """Counters of these GPUs, each giving the joules since its last call; none where NVML or a
    counter is missing."""
    if not gpus:
        return []
    try:
        import pynvml
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
        return [_nvml_counter(pynvml, pynvml.nvmlDeviceGetHandleByUUID(gpu)) for gpu in gpus]
    except pynvml.NVMLError:
        return []


def _nvml_counter(pynvml: Any, handle: Any) -> Callable[[], float]:
    last = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)

    def spent() -> float:
        nonlocal last
        now = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
        millijoules, last = now - last, now
        return millijoules / 1e3

    return spent


def meter_of(accelerator: Accelerator) -> EnergyMeter:
    """The meter of this rank: its GPU, and on one rank of each machine the machine's CPUs."""
    import torch  # a report imports nothing of it

    device = accelerator.device
    gpus = [f"GPU-{torch.cuda.get_device_properties(device).uuid}"] if device.type == "cuda" else []
    return EnergyMeter(gpus, cpus=accelerator.is_local_main_process)


def total(readings: Sequence[Reading]) -> float | None:
    """Joules of several meters together; None unless one of them reads something, and all that do
    have not failed: a part of the energy is not the energy."""
    known = [joules for meters, joules in readings if meters]
    if not known or None in known:
        return None
    return sum(joules for joules in known if joules is not None)
