"""``llmclf env``: what this machine is, and which strategies and quantisations run on it.

No user name, no path of a home folder and no value of a secret is read into it.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from rich.console import Console

from llmclf import embedded
from llmclf.atomic import write_text
from llmclf.config import ConfigError, dump_json
from llmclf.extras import install_hint
from llmclf.run_folder.environment import describe

if TYPE_CHECKING:
    from llmclf.train.launch_check import Strategy

OPTIONAL = {
    "deepspeed": "deepspeed",
    "bitsandbytes": "quantize",
    "openai": "api",
    "fastapi": "serve",
    "uvicorn": "serve",
    "tensorboard": "track",
    "trackio": "track",
    "wandb": "track",
}
"""Package -> the extra that installs it."""
LAUNCHER = (
    "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT",
    "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "NCCL_DEBUG",
    "NCCL_SOCKET_IFNAME", "NCCL_IB_HCA", "SLURM_JOB_ID", "SLURM_JOB_NUM_NODES", "SLURM_NNODES",
    "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_GPUS_ON_NODE",
    "SLURM_CPUS_PER_TASK",
)  # fmt: skip
"""Variables that are shown: by name, since others (SLURM_JOB_USER, tokens) must not be."""
NO_BREAK = "\u00a0"  # a space at which no line ends
SMALL_SHARED_MEMORY = 2**30  # NCCL and data loaders share tensors there; containers give 64 MB


@dataclass(frozen=True, kw_only=True)
class Env:
    """Show what this machine is, and which strategies and quantisations run on it."""

    json: Path | None = None
    """File to write the report to, too, as JSON."""

    def run(self, rest: Sequence[str]) -> None:
        """Print the report."""
        assert not rest
        machine = report()
        for line in lines(machine):
            Console().print(line, markup=False, highlight=False, soft_wrap=True)
        if self.json is not None:
            try:
                write_text(self.json, dump_json(machine))
            except OSError as error:
                raise ConfigError(f"--json {self.json}: cannot be written ({error}).") from error


def report() -> dict[str, Any]:
    """Everything, as JSON values; None for what is not known."""
    from llmclf.train.engine import resolve_precision

    described = describe()
    return {
        **described,
        "packages": {**described["packages"], **{name: _version(name) for name in OPTIONAL}},
        "devices": devices(),
        "memory_available_bytes": psutil.virtual_memory().available,
        "interconnect": interconnect(),
        "network_interfaces_up": interfaces(),
        "cpu_features": cpu_features(),
        "precision_auto": resolve_precision("auto"),
        "shared_memory_bytes": _disk("/dev/shm")[0],
        "disk_free_bytes": {"here": _disk(".")[1], "cache": _disk(embedded.cache_dir())[1]},
        "hub": hub(),
        "launcher": {name: os.environ[name] for name in LAUNCHER if name in os.environ},
        "usable": usable(),
    }


def devices() -> list[dict[str, Any]]:
    """Accelerators: name, memory in bytes, compute capability."""
    import torch

    found = []
    for i in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(i)
        facts = torch.cuda.get_device_properties(i)
        found.append(
            {
                "name": facts.name,
                "memory_bytes": total,
                "memory_free_bytes": free,
                "compute_capability": f"{facts.major}.{facts.minor}",
                "bf16": torch.cuda.is_bf16_supported(including_emulation=False),
            }
        )
    return found


def interconnect() -> str | None:
    """``nvidia-smi topo -m``: which GPUs are joined by NVLink or PCIe; None without it."""
    try:
        done = subprocess.run(
            ["nvidia-smi", "topo", "-m"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    plain = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
    return plain.partition("Legend")[0].strip() or None


def interfaces() -> dict[str, int | None]:
    """Interfaces that are up, loopback aside: Mbit/s, None where the driver does not say."""
    return {
        name: stats.speed or None
        for name, stats in psutil.net_if_stats().items()
        if stats.isup and name != "lo"
    }


def cpu_features() -> list[str]:
    """What decides the speed of bf16 on the CPU."""
    import torch

    has = torch.cpu.get_capabilities()
    names = ("avx2", "avx512", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_tile", "bf16", "sve")
    return [name for name in names if has.get(name)]


def hub() -> dict[str, Any]:
    """State of the Hugging Face hub: whether it may be asked, and what lies in its cache."""
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE)
    return {
        "offline": bool(constants.HF_HUB_OFFLINE),
        "cached_models": sum(1 for _ in cache.glob("models--*")) if cache.is_dir() else 0,
        "cached_datasets": sum(1 for _ in cache.glob("datasets--*")) if cache.is_dir() else 0,
    }


def usable() -> dict[str, dict[str, str | None]]:
    """Strategy or quantisation -> None where it runs here, else why not."""
    from llmclf.plan.states import STRATEGIES

    return {
        "strategies": {name: why_not(name) for name in STRATEGIES},
        "quantize": {
            "none": None,
            "int8": _missing("bitsandbytes"),
            "nf4": _missing("bitsandbytes"),
        },
    }


def why_not(strategy: Strategy) -> str | None:
    """Why a strategy does not run here; None where it does."""
    import torch

    gpu = torch.cuda.is_available()
    if strategy.startswith("zero"):
        return _missing("deepspeed")
    if strategy == "fsdp2" and not gpu:
        return "needs an accelerator: accelerate does not shard by FSDP on a CPU"
    if strategy in ("ddp", "fsdp2") and not torch.distributed.is_available():
        return "this build of PyTorch has no torch.distributed"
    return None


def warnings(found: dict[str, Any]) -> list[str]:
    """What is likely to go wrong on this machine."""
    said = []
    shared = found["shared_memory_bytes"]
    if shared is not None and shared < SMALL_SHARED_MEMORY:
        said.append(
            f"/dev/shm holds {shared / 1e6:,.0f} MB: several ranks may die of a bus error. Start "
            "the container with --shm-size 8g (or --ipc=host)."
        )
    if found["disk_free_bytes"]["here"] < 10 * 10**9:
        said.append("less than 10 GB of disk are free here: checkpoints may not fit.")
    return said


def _missing(package: str) -> str | None:
    if importlib.util.find_spec(package) is not None:
        return None
    return f"{package} is not installed: {install_hint(OPTIONAL[package])}"


def _disk(path: str | Path) -> tuple[int | None, int]:
    """Size and free bytes of the file system that holds ``path``, or would."""
    place = Path(path).absolute()
    while not place.exists():
        place = place.parent
    if str(path) == "/dev/shm" and str(place) != "/dev/shm":
        return None, 0
    usage = shutil.disk_usage(place)
    return usage.total, usage.free


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def lines(found: dict[str, Any]) -> list[str]:
    """The report as text, one fact a line, broken between words where a terminal is narrower; in a
    pipe or a file each is whole."""
    width = shutil.get_terminal_size(fallback=(0, 0)).columns
    text = [line for fact in facts(found) for line in (wrapped(fact, width) if width else [fact])]
    return [line.replace(NO_BREAK, " ") for line in text]


def wrapped(fact: str, width: int) -> list[str]:
    """A fact in lines of at most ``width`` characters, or of a single longer word. What has lines
    of its own, such as the table of nvidia-smi, stays as it is."""
    if "\n" in fact:
        return [fact]
    return textwrap.wrap(
        fact, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )


def facts(found: dict[str, Any]) -> list[str]:
    """The report as text, one fact each."""
    versions = found["packages"].items()
    text = [f"python {found['python']}, {found['platform']}"]
    text.append("packages: " + ", ".join(f"{n}{NO_BREAK}{v}" for n, v in versions if v))
    absent = [n for n, v in versions if not v]
    text += [f"not installed: {', '.join(absent)}"] if absent else []
    text.append(f"commit {found['git_commit'] or 'unknown'}, CUDA {found['cuda'] or 'none'}")
    text += [
        f"device {i}: {d['name']}, {d['memory_bytes'] / 1e9:,.1f} GB "
        f"({d['memory_free_bytes'] / 1e9:,.1f} free), capability {d['compute_capability']}"
        for i, d in enumerate(found["devices"])
    ] or ["devices: no GPU"]
    text.append(
        f"CPU: {found['cpu']}, {found['cpu_cores']} cores, {found['cpu_threads_used']} threads, "
        f"{' '.join(found['cpu_features']) or 'no vector extensions known'}"
    )
    available = found["memory_available_bytes"] / 1e9
    text.append(f"memory {found['memory_bytes'] / 1e9:,.1f} GB ({available:,.1f} available)")
    shared = found["shared_memory_bytes"]
    text.append("shared memory " + ("unknown" if shared is None else f"{shared / 1e9:,.2f} GB"))
    text.append(f"disk free {found['disk_free_bytes']['here'] / 1e9:,.1f} GB")
    text.append(f"train.precision auto: {found['precision_auto']}")
    up = [f"{n} ({s} Mbit/s)" if s else n for n, s in found["network_interfaces_up"].items()]
    text.append("network: " + (", ".join(up) or "none up"))
    text += [found["interconnect"]] if found["interconnect"] else []
    state = found["hub"]
    text.append(
        f"hub: {'offline' if state['offline'] else 'may be asked'}, "
        f"{state['cached_models']} models and {state['cached_datasets']} data sets in its cache"
    )
    text += [f"{name}={value}" for name, value in found["launcher"].items()]
    for kind, names in found["usable"].items():
        text += [f"{kind} {n}: {'usable' if why is None else why}" for n, why in names.items()]
    return text + [f"warning: {w}" for w in warnings(found)]
