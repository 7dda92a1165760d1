"""A disk that is full amid a run, or a folder that goes away: one line, and the run goes on when it
is mended."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmclf.config import RunError
from llmclf.run_folder.disk import one_line
from tests.processes import start, wait_until

RECIPES = {
    "fine_tune": ("recipes/bert_base.py", "--train.log-every", "1", "--train.max-steps", "7"),
    "prompt": ("recipes/zero_shot.py", "--prompt.precision", "fp32"),
}


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, which :func:`resize` makes small and large."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small disk")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def resize(disk: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)


def assert_one_line(text: str, *parts: str) -> None:
    (line,) = [x for x in text.splitlines() if x.startswith("error: ")]
    assert all(part in line for part in parts), line
    assert "Traceback" not in text, text


@pytest.mark.parametrize(
    ("approach", "size"),
    [
        *(("fine_tune", f"{kib}k") for kib in (64, 300, 450, 550)),
        *(("prompt", f"{kib}k") for kib in (32, 64)),
    ],
)
def test_a_full_disk_is_one_line_and_the_run_goes_on_after_it(
    small: Path, bert: Path, byte_llama: Path, corpus: Path, approach: str, size: str
) -> None:
    resize(small, size)
    checkpoint = bert if approach == "fine_tune" else byte_llama
    options = (
        *RECIPES[approach], "--model.checkpoint", str(checkpoint), "--data.source", str(corpus),
        "--output-dir", str(small / "run"),
    )  # fmt: skip
    full = start(small.parent / "full", *options)
    code = full.wait()
    assert code in (1, 2), full.text()
    assert_one_line(full.text(), str(small / "run"), "No space left on device")
    assert not list((small / "run").rglob(".*"))
    resize(small, "64m")
    again = start(small.parent / "again", *options, "--resume")
    assert again.wait() == 0, again.text()
    assert json.loads((small / "run" / "results.json").read_text())["test"]["n"] == 60


def test_a_folder_that_went_away_is_one_line(tmp_path: Path, bert: Path, corpus: Path) -> None:
    options = (
        *RECIPES["fine_tune"], "--model.checkpoint", str(bert), "--data.source", str(corpus),
        "--train.epochs", "40", "--train.min-steps", "0", "--output-dir", str(tmp_path / "run"),
    )  # fmt: skip
    gone = start(tmp_path / "log", *options)
    wait_until(tmp_path / "run" / "metrics.jsonl", '{"step": 3, "split": "train"', gone)
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    assert gone.wait() == 1, gone.text()
    assert_one_line(gone.text(), str(tmp_path / "run"), "No such file or directory", "--resume")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "full"),
        PermissionError(errno.EACCES, "no", "FOLDER/model/x"),
        RuntimeError("Error while serializing: I/O error: No space (os error 28)"),
    ],
)
def test_what_the_disk_refused_is_told(tmp_path: Path, error: Exception) -> None:
    if isinstance(error, PermissionError):
        error.filename = str(tmp_path / "model" / "x")
    with pytest.raises(RunError, match="go on with --resume"), one_line(tmp_path):
        raise error


@pytest.mark.parametrize(
    "error", [ValueError("x"), PermissionError(errno.EACCES, "no", "/elsewhere")]
)
def test_any_other_failure_stays_what_it_is(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)), one_line(tmp_path):
        raise error
