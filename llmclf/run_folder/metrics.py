"""metrics.jsonl: every number of a run as it comes, the source of truth for curves and trackers."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from llmclf.atomic import write_text


class MetricsLog:
    """Appends records, each on disk before the call returns. Only the main process writes."""

    def __init__(self, path: Path, *, enabled: bool) -> None:
        self.path = path
        self.enabled = enabled

    def restart(self, *, last_step: int) -> None:
        """Keep the records up to ``last_step``: a resumed run writes the later ones again."""
        if self.enabled:
            kept = [r for r in read_metrics(self.path) if r["step"] <= last_step]
            write_text(self.path, "".join(json.dumps(record) + "\n" for record in kept))

    def append(self, record: dict[str, Any]) -> None:
        """Write one record; it must hold ``step`` and ``split``."""
        if not self.enabled:
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read the records; a last line cut off by a crash is left out."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records
