"""Set-up shared by all tests: no hub, no telemetry, and tests that need a GPU skip themselves."""

from __future__ import annotations

import os

# Before anything imports torch, transformers or matplotlib: they read these once, at import.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["WANDB_MODE"] = "disabled"
os.environ["MPLBACKEND"] = "Agg"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Several test processes at once: more threads than cores slow each other down many times over.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
GPUS_NEEDED = {"gpu": 1, "multi_gpu": 2}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is marked ``gpu`` or ``multi_gpu`` where the machine has too few CUDA devices."""
    needs = [
        (item, count)
        for item in items
        for marker, count in GPUS_NEEDED.items()
        if item.get_closest_marker(marker)
    ]
    if not needs:
        return
    import torch  # seconds to import, so only where a test asks for a GPU

    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for item, count in needs:
        if found < count:
            item.add_marker(pytest.mark.skip(reason=f"needs {count} CUDA device(s), found {found}"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real corpora kept beside the repository; skips where it is missing."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no corpora at {folder}")
    return folder
