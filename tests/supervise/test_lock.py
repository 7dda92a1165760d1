"""A run folder belongs to one process at a time, whatever became of the last one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmclf.config import ConfigError
from llmclf.supervise import lock
from llmclf.supervise.held import held, refuse_if_held

HOLD = """
import sys, time
from pathlib import Path
from llmclf.supervise import lock
lock.take(Path(sys.argv[1]))
print("taken", flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "LEASE_SECONDS", 1.0)
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.2)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds tmp_path/run."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "taken\n"
    yield process
    process.kill()
    process.wait()


def elsewhere(folder: Path) -> Path:
    """What a run on another machine left."""
    folder.mkdir()
    path = folder / lock.NAME
    path.write_text(
        "filelock/2\npid=7\nhost=node-b\nmode=lease\ntoken=ab\nduration=1.0\n"
        "since=2026-01-02 03:04:05 UTC\n"
    )
    return path


def nothing() -> None:
    pass


def test_a_folder_is_held_for_a_block_and_nothing_is_left(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "run"

    def start() -> None:
        assert str(os.getpid()) in (folder / lock.NAME).read_text()
        (folder / "experiment.json").touch()

    with held(folder, start):
        with pytest.raises(ConfigError, match="in use"), held(folder, nothing):
            pass
        assert (folder / lock.NAME).exists()
    assert [p.name for p in folder.iterdir()] == ["experiment.json"]


@pytest.mark.parametrize("error", [ConfigError("no"), KeyboardInterrupt(), SystemExit(143)])
def test_an_error_lets_go_of_it(tmp_path: Path, error: BaseException) -> None:
    def start() -> None:
        raise error

    with pytest.raises(type(error)), held(tmp_path / "run", start):
        pass
    assert not (tmp_path / "run").exists()


def test_a_live_process_is_named_in_one_line(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    folder = tmp_path / "run"
    before = (folder / lock.NAME).read_text()
    for refused in (lock.take, refuse_if_held):
        with pytest.raises(ConfigError) as told:
            refused(folder)
        text = str(told.value)
        assert text.startswith(
            f"output_dir={str(folder)!r} is in use by process {holder.pid} on "
            f"{socket.gethostname()} since 20"
        )
        assert "--resume" in text and "\n" not in text
    assert (folder / lock.NAME).read_text() == before


def test_what_a_killed_process_left_is_taken_over_in_silence(
    tmp_path: Path, holder: subprocess.Popen[str], capsys: pytest.CaptureFixture[str]
) -> None:
    holder.kill()
    holder.wait()
    with held(tmp_path / "run", nothing):
        assert str(os.getpid()) in (tmp_path / "run" / lock.NAME).read_text()
    assert capsys.readouterr().err == ""


def test_a_process_id_that_is_used_again_is_another_process(tmp_path: Path) -> None:
    lock.take(tmp_path / "run")
    path = tmp_path / "run" / lock.NAME
    text = path.read_text()
    lock.give_back(tmp_path / "run")
    start = next(line for line in text.splitlines() if line.startswith("start="))
    path.parent.mkdir()
    path.write_text(text.replace(start, start[:-4] + "1234"))  # the same id, of long ago
    with held(tmp_path / "run", nothing):
        pass


def test_a_process_that_starts_itself_again_keeps_its_folder(tmp_path: Path) -> None:
    """By os.execv: the same process, which does not know of it any more."""
    twice = HOLD.replace("time.sleep(60)", "a = sys.argv\nif len(a) == 2:\n    import os\n") + (
        "    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:], 'again'])\n"
        "lock.give_back(Path(a[1]))\n"
    )
    command = [sys.executable, "-c", twice, str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "taken\ntaken\n"
    assert not (tmp_path / "run").exists()


def test_another_machine_that_gives_a_sign_of_life_has_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = elsewhere(tmp_path / "run")
    beats = threading.Timer(0.3, path.touch)
    beats.start()
    with pytest.raises(ConfigError, match=r"process 7 on node-b since 2026-01-02 03:04:05 UTC"):
        lock.take(tmp_path / "run")
    assert capsys.readouterr().err.count("Waiting up to 1 s for a sign of life\n") == 1


def test_another_machine_that_gives_none_has_it_no_more(tmp_path: Path) -> None:
    elsewhere(tmp_path / "run")
    started = time.monotonic()
    with held(tmp_path / "run", nothing):
        assert 0.9 < time.monotonic() - started < 10
        assert str(os.getpid()) in (tmp_path / "run" / lock.NAME).read_text()


def test_an_empty_lock_is_no_lock_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "EMPTY_SECONDS", 0.3)
    (tmp_path / lock.NAME).touch()
    with held(tmp_path, nothing):
        pass


def test_a_process_that_was_passed_over_ends_at_once(tmp_path: Path) -> None:
    """It stood still for so long that another machine took its folder."""
    hold = HOLD.replace("lock.take", "lock.BEAT_SECONDS = 0.1\nlock.take")
    command = [sys.executable, "-c", hold, str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=-1, stderr=-1, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    (tmp_path / "run" / lock.NAME).unlink()
    elsewhere_lock = tmp_path / "run" / lock.NAME
    elsewhere_lock.write_text("filelock/2\npid=7\nhost=b\nmode=lease\ntoken=ab\nduration=1.0\n")
    _, err = process.communicate(timeout=20)
    assert process.returncode == 1
    assert err == f"error: another run took over {tmp_path / 'run'}; ending\n"


def test_a_process_that_ends_at_once_leaves_no_lock(tmp_path: Path) -> None:
    end = HOLD.replace("time.sleep(60)", "lock.end(143)")
    command = [sys.executable, "-c", end, str(tmp_path / "run")]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 143
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.parametrize("place", ["/proc/run", "file/run"])
def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be locked"):
        lock.take(tmp_path / place)
