"""The run folder, the only place that reads or writes one: started with what is about to run,
finished by results.json, never overwritten. Importing it imports no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SCHEMA = 1
"""Version of results.json's shape."""
PAIR = " \u2016 "
"""What stands between text and pair in splits.parquet."""


def is_finished(folder: Path) -> bool:
    """Whether the run in this folder came to its end."""
    return (folder / "results.json").is_file()


def read_results(folder: Path) -> dict[str, Any]:
    """Content of results.json, unchecked. Raises OSError or ValueError where it cannot be read."""
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def read_settings(folder: Path) -> dict[str, Any]:
    """Content of experiment.json, unchecked. Raises OSError or ValueError where it is not
    readable."""
    return json.loads((folder / "experiment.json").read_text(encoding="utf-8"))
