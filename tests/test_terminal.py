"""What reads the output may end before it: commands end quietly, runs go on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmclf.terminal import until_nobody_reads

ROOT = Path(__file__).parents[1]


def unread(*words: str, lines: int = 0, together: bool = False) -> tuple[int, str]:
    """Exit code and stderr of python, of whose output so many lines are read; ``together``: both
    streams are one pipe."""
    reading, writing = os.pipe()
    with open(writing, "wb") as output, open(reading, encoding="utf-8") as lines_read:
        process = subprocess.Popen(
            [sys.executable, *words],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT if together else subprocess.PIPE,
            text=True,
        )
        output.close()
        for _ in range(lines):
            lines_read.readline()
        lines_read.close()
        said = process.communicate(timeout=300)[1]
    return process.returncode, said or ""


@pytest.mark.parametrize(
    "words", [["recipes/bert_base.py", "--help"], ["-m", "llmclf", "--version"]]
)
def test_help_that_nobody_reads_ends_quietly(words: list[str]) -> None:
    assert unread(*words) == (1, "")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("together", [False, True])
def test_a_run_goes_on_where_nobody_reads(tmp_path: Path, together: bool) -> None:
    source = tmp_path / "rows.csv"
    rows = "".join(f"some text {i},{'ab'[i % 2]}\n" for i in range(60))
    source.write_text("text,label\n" + rows)
    words = ["recipes/baselines.py", "--only", "majority", "--data.source", str(source)]
    code, said = unread(*words, "--output-dir", str(tmp_path), lines=1, together=together)
    assert code == 0 and (tmp_path / "majority" / "results.json").is_file()
    assert (tmp_path / "report.html").is_file()
    assert said == ("" if together else "what read the output has ended; the run goes on\n")


def test_another_pipe_that_breaks_is_an_error() -> None:
    with pytest.raises(BrokenPipeError), until_nobody_reads():
        raise BrokenPipeError
