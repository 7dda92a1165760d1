"""How long ranks wait for one of them, in which order they load, and what is said meanwhile."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest

from llmclf.config import ConfigError
from llmclf.supervise import waiting
from llmclf.supervise.waiting import doing, timeout
from tests.processes import start

LATE = """
import os, sys, time
from llmclf.train.config import TrainConfig
from llmclf.train.engine import start_engine

accelerator = start_engine(TrainConfig(precision="fp32"))
if accelerator.is_main_process:
    time.sleep(float(sys.argv[1]))
    os._exit(0)
try:
    accelerator.wait_for_everyone()
except RuntimeError as error:
    print("gave up:", "imed out" in str(error), flush=True)
os._exit(0)
"""
TWO_MACHINES = """
import os, sys, time
from pathlib import Path

os.environ["LOCAL_RANK"] = str(int(os.environ["RANK"]) % 2)
os.environ["LOCAL_WORLD_SIZE"] = "2"
from llmclf.supervise.supervised import orderly_exit
from llmclf.train.config import TrainConfig
from llmclf.train.engine import main_process_first, start_engine

with orderly_exit():
    accelerator = start_engine(TrainConfig(precision="fp32"))
    failed = False
    try:
        with main_process_first(accelerator):
            os.write(1, b"in %d\\n" % accelerator.process_index)
            time.sleep(0.3)
            os.write(1, b"out %d\\n" % accelerator.process_index)
            if sys.argv[1] == "fail":
                raise ValueError
    except ValueError:
        failed = True
    assert failed == (sys.argv[1] == "fail")
"""


@pytest.mark.parametrize("strategy", ["ddp", "zero2"])
def test_the_timeout_is_in_force(strategy: str, tmp_path: Path) -> None:
    script = tmp_path / "late.py"
    script.write_text(LATE)
    environment = {"LLMCLF_TIMEOUT_MINUTES": "0.05"}
    if strategy == "zero2":
        environment |= {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"}
    ranks = start(tmp_path / "log", str(script), "30", ranks=2, environment=environment)
    begun = time.monotonic()
    while "gave up" not in ranks.text() and time.monotonic() - begun < 60:
        time.sleep(0.1)
    alive = ranks.processes[0].is_alive()
    ranks.kill()
    assert "gave up: True" in ranks.text()
    assert alive, "the other ended before: the test shows nothing"


def test_the_timeout_is_long_unless_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLMCLF_TIMEOUT_MINUTES", raising=False)
    assert timeout() == timedelta(hours=2)
    monkeypatch.setenv("LLMCLF_TIMEOUT_MINUTES", "7.5")
    assert timeout() == timedelta(minutes=7.5)


@pytest.mark.parametrize("text", ["", "soon", "0", "-1", "nan", "inf"])
def test_no_timeout_that_is_none(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMCLF_TIMEOUT_MINUTES", text)
    with pytest.raises(ConfigError, match=f"^LLMCLF_TIMEOUT_MINUTES='{text}': must be a number"):
        timeout()


@pytest.mark.parametrize("end", ["well", "fail"])
def test_each_machine_loads_once_first(end: str, tmp_path: Path) -> None:
    """Four ranks on two machines: the first of all, the first of the other, then the rest; also
    where each finds a mistake."""
    script = tmp_path / "two_machines.py"
    script.write_text(TWO_MACHINES)
    ranks = start(tmp_path / "log", str(script), end, ranks=4)
    assert ranks.wait() == 0, ranks.text()
    lines = [line for line in ranks.text().splitlines() if line.startswith(("in ", "out "))]
    assert lines[:4] == ["in 0", "out 0", "in 2", "out 2"]
    assert sorted(lines[4:]) == ["in 1", "in 3", "out 1", "out 3"]
    assert all(line.startswith("in") for line in lines[4:6]), "the rest load one by one"


def test_long_work_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(waiting, "SAY_SECONDS", 0.05)
    with doing("saving the model"):
        time.sleep(0.3)
    said = capsys.readouterr().err
    assert "still saving the model (0 min)\n" in said
    time.sleep(0.2)
    assert capsys.readouterr().err == "", "goes on after the end"
    monkeypatch.setenv("RANK", "1")
    with doing("saving the model"):
        time.sleep(0.2)
    assert capsys.readouterr().err == "", "other ranks speak"


def test_short_work_is_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    with doing("saving the model"):
        os.getpid()
    assert capsys.readouterr().err == ""
