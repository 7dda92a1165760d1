"""bench/sleeping_vs_spinning.py on a small model: it runs to the end, and its figures hang
together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def test_result(tmp_path: Path) -> None:
    output = tmp_path / "result.json"
    size = {"repeats": 2, "steps": 1, "rows": 4, "tokens": 8, "layers": 1}
    done = subprocess.run(
        [
            sys.executable, str(REPOSITORY / "bench" / "sleeping_vs_spinning.py"),
            f"--output={output}", *(f"--{name}={value}" for name, value in size.items()),
        ],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(output.read_text())
    assert result["gate"]["loss_difference"] <= result["gate"]["tolerance"]
    assert result["environment"]["cpu"]
    for situation in ("quiet", "busy"):
        seconds = result["seconds_per_step"][situation]
        assert set(seconds) == {"libgomp", "llmclf", "asleep"}
        for name, ratio in result["ratios"][situation].items():
            pairs = zip(seconds[name]["per_repeat"], seconds["llmclf"]["per_repeat"], strict=True)
            assert ratio["per_repeat"] == pytest.approx([a / b for a, b in pairs])
