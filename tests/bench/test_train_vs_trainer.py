"""bench/train_vs_trainer.py on a tiny model: it runs to the end, its figures hang together, and its
gate can close."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny import make_bert, write_corpus

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("bench")
    source, model = write_corpus(folder / "corpus.csv", 120), make_bert(folder / "bert")
    options = {"source": source, "checkpoint": model, "max-length": 32, "precision": "fp32"}
    size = {"rows": 64, "repeats": 1, "batch-size": 16, "block-steps": 2, "threads": 1}
    return [f"--{name}={value}" for name, value in (options | size).items()]


def run(*options: str) -> subprocess.CompletedProcess[str]:
    script = REPOSITORY / "bench" / "train_vs_trainer.py"
    path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, str(script), *options],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=240,
    )


def test_result(inputs: list[str], tmp_path: Path) -> None:
    """All sides are timed on the same rows, and the ratios are those of their seconds."""
    output = tmp_path / "result.json"
    done = run(*inputs, f"--output={output}")
    assert done.returncode == 0, done.stderr
    result = json.loads(output.read_text())
    ours, peers = result["sides"]["llmclf"], result["ratios"]
    assert set(peers) == {"trainer_max_length", "trainer_dynamic", "trainer_group_by_length"}
    for side in result["sides"].values():
        (seconds,) = side["seconds"]
        assert side["examples_per_second"]["median"] == pytest.approx(64 / seconds)
        assert side["threads"] == 1
        assert side["peak_memory_bytes"] >= side["memory_before_bytes"] > 0
    for name, ratio in peers.items():
        expected = result["sides"][name]["seconds"][0] / ours["seconds"][0]
        assert ratio["seconds"]["median"] == pytest.approx(expected)
    padding = {name: side["padding_share"] for name, side in result["sides"].items()}
    assert padding["llmclf"] < padding["trainer_dynamic"] < padding["trainer_max_length"]
    differences = [v for name, v in result["gate"].items() if "difference" in name]
    assert len(differences) == 4 and max(differences) <= 1e-5
    assert result["environment"]["cpu"] and result["environment"]["packages"]["torch"]
    assert str(tmp_path.parent) not in output.read_text()


def test_nothing_is_timed_behind_a_closed_gate(inputs: list[str], tmp_path: Path) -> None:
    """No rounding is as small as this tolerance."""
    output = tmp_path / "result.json"
    done = run(*inputs, f"--output={output}", "--tolerance=0")
    assert done.returncode == 1
    assert "gate failed" in done.stderr
    assert not output.exists()
