"""``llmclf env``: what it says of this machine, and what it must not."""

from __future__ import annotations

import getpass
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llmclf.cli import app, env
from llmclf.plan.states import STRATEGIES


@pytest.fixture
def report(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> tuple[dict[str, Any], str]:
    """JSON and text of ``llmclf env --json`` in a job that has secrets."""
    for name in ("HF_TOKEN", "WANDB_API_KEY", "SLURM_JOB_USER", "SLURM_SUBMIT_DIR"):
        monkeypatch.setenv(name, "hunter2")
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.setattr(sys, "argv", ["llmclf", "env", "--json", str(tmp_path / "env.json")])
    app.main()
    return json.loads((tmp_path / "env.json").read_text()), capsys.readouterr().out


def test_says_what_is_here_and_names_no_user(report: tuple[dict[str, Any], str]) -> None:
    found, text = report
    everything = json.dumps(found) + text
    assert "hunter2" not in everything
    assert str(Path.home()) not in everything
    assert f'"{getpass.getuser()}"' not in everything
    assert found["launcher"]["SLURM_JOB_ID"] == "4711"
    assert "SLURM_JOB_ID=4711" in text
    assert found["packages"]["torch"] in text
    assert set(found["usable"]["strategies"]) == set(STRATEGIES)
    assert found["usable"]["strategies"]["single"] is None
    assert found["hub"]["offline"] is True


def test_says_why_a_strategy_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    found = env.usable()
    assert ".[deepspeed]" in str(found["strategies"]["zero2"])
    assert ".[quantize]" in str(found["quantize"]["nf4"])
    assert "accelerator" in str(found["strategies"]["fsdp2"])
    assert found["strategies"]["ddp"] is None


def test_in_a_narrow_terminal_lines_break_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    found = env.report() | {"interconnect": f"\tGPU0\n{'NV18 ' * 30}"}
    facts = [fact.replace(env.NO_BREAK, " ") for fact in env.facts(found)]
    assert max(len(fact) for fact in facts) > 100
    monkeypatch.setenv("COLUMNS", "80")
    narrow = env.lines(found)
    assert not any(line.endswith((" torch", " accelerate", " numpy")) for line in narrow)
    assert found["interconnect"] in narrow
    narrow.remove(found["interconnect"])
    facts.remove(found["interconnect"])
    assert max(map(len, narrow)) <= 80
    assert " ".join(narrow).split() == " ".join(facts).split()
    assert [line for line in narrow if not line.startswith("  ")] == [
        line for line in narrow if any(fact.startswith(line) for fact in facts)
    ]


def test_in_a_pipe_each_fact_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    command = [sys.executable, "-m", "llmclf", "env"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (packages,) = [line for line in done.stdout.splitlines() if line.startswith("packages: ")]
    assert "torch" in packages and "transformers" in packages and len(packages) > 100


def test_warns_of_a_small_shared_memory() -> None:
    found = {"shared_memory_bytes": 64 * 10**6, "disk_free_bytes": {"here": 10**12}}
    assert "--shm-size" in env.warnings(found)[0]
    assert env.warnings(found | {"shared_memory_bytes": None}) == []
    assert "disk" in env.warnings({**found, "disk_free_bytes": {"here": 1}})[1]
