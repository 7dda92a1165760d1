"""Scored batches on disk: what a killed run keeps, for any number of ranks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmclf.prompt.store import ScoredBatch, ScoreStore, digest
from llmclf.prompt.tokens import TokenizedPrompt

A = TokenizedPrompt((1, 2, 3), ((4,), (5, 6)))
B = TokenizedPrompt((1, 2), ((4,), (5,)))


def test_nothing_is_there_at_first(tmp_path: Path) -> None:
    assert ScoreStore(tmp_path / "new", 0).read() == {}
    assert not (tmp_path / "new").exists()


@given(values=st.lists(st.floats(-1e6, 0), min_size=1, max_size=4), seconds=st.floats(0, 1e5))
def test_numbers_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, values: list[float], seconds: float
) -> None:
    store = ScoreStore(tmp_path_factory.mktemp("store"), 0)
    store.append("x", np.array([values, values]), seconds)
    assert store.read() == {"x": ScoredBatch([values, values], seconds)}


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    store = ScoreStore(tmp_path, 0)
    for value in (np.nan, -np.inf):
        with pytest.raises(ValueError, match="not JSON compliant"):
            store.append("x", np.array([[value]]), 1.0)
    assert store.read() == {}


def test_every_rank_reads_what_all_have_written(tmp_path: Path) -> None:
    stores = [ScoreStore(tmp_path, rank) for rank in range(3)]
    for rank, store in enumerate(stores):
        store.append(f"batch {rank}", np.array([[-1.0 - rank]]), rank)
    stores[0].append("batch 9", np.array([[-9.0]]), 9.0)
    assert len(list(tmp_path.iterdir())) == 3
    # A run on other ranks finds them all, and a file that is not its own stays as it is.
    found = ScoreStore(tmp_path, 7).read()
    assert {name: one.logprobs_BC for name, one in found.items()} == {
        "batch 0": [[-1.0]],
        "batch 1": [[-2.0]],
        "batch 2": [[-3.0]],
        "batch 9": [[-9.0]],
    }
    assert all(store.read() == found for store in stores)


def test_a_line_that_was_cut_off_anywhere(tmp_path: Path) -> None:
    whole = ScoreStore(tmp_path, 0)
    whole.append("first", np.array([[-1.5, -2.5]]), 0.5)
    kept = whole.path.stat().st_size
    whole.append("second", np.array([[-3.5, -4.5]]), 0.25)
    content = whole.path.read_bytes()
    for length in range(kept, len(content)):
        whole.path.write_bytes(content[:length])
        complete = length == len(content) - 1  # all but the end of the line
        assert set(whole.read()) == ({"first", "second"} if complete else {"first"})
        whole.append("third", np.array([[-5.5]]), 0.125)
        found = whole.read()
        assert found["first"] == ScoredBatch([[-1.5, -2.5]], 0.5)
        assert found["third"] == ScoredBatch([[-5.5]], 0.125)
        assert ("second" in found) == complete


@pytest.mark.parametrize("rubbish", [b"\x00" * 100, b"\xff\xfe\x80", b"[1, 2", b"\n\n"])
def test_a_line_that_is_none_of_ours(tmp_path: Path, rubbish: bytes) -> None:
    """What a file system may leave of the last line when the machine goes down."""
    store = ScoreStore(tmp_path, 0)
    store.append("first", np.array([[-1.0]]), 1.0)
    with store.path.open("ab") as file:
        file.write(rubbish)
    assert set(store.read()) == {"first"}
    store.append("second", np.array([[-2.0]]), 1.0)
    assert set(store.read()) == {"first", "second"}


def test_a_killed_process_leaves_whole_batches(tmp_path: Path) -> None:
    code = """if True:
        import sys, numpy as np
        from pathlib import Path
        from llmclf.prompt.store import ScoreStore
        store = ScoreStore(Path(sys.argv[1]), 0)
        for i in range(10**6):
            store.append(str(i), np.full((50, 20), -float(i)), 0.0)
            print(i, flush=True)"""
    run = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, env=dict(os.environ)
    )
    assert run.stdout is not None
    for _ in range(20):
        told = int(run.stdout.readline())
    time.sleep(0.01)
    run.send_signal(signal.SIGKILL)
    run.wait()
    found = ScoreStore(tmp_path, 0).read()
    assert set(map(str, range(told + 1))) <= set(found)
    for name, one in found.items():
        assert one.logprobs_BC == [[-float(name)] * 20] * 50


def test_a_batch_goes_by_its_tokens_and_its_model() -> None:
    questions = [
        [A],
        [B],
        [A, B],
        [B, A],
        [TokenizedPrompt((1, 2), ((3, 4), (5, 6)))],
        [TokenizedPrompt((1, 2, 3), ((4,), (5,)))],
        [TokenizedPrompt((1, 2, 3), ((5, 6), (4,)))],
        [TokenizedPrompt((1, 2, 3), ((4, 5), (6,)))],
        [TokenizedPrompt((12, 3), ((4,), (5, 6)))],
        [],
    ]
    names = {digest(some, model) for some in questions for model in ("a", "b", "a b")}
    assert len(names) == 3 * len(questions)
    assert digest([A, B], "a") == digest([A, B], "a")


def test_lines_are_plain_json(tmp_path: Path) -> None:
    store = ScoreStore(tmp_path, 12)
    store.append("x", np.array([[-0.1]], np.float32), 1.5)
    (line,) = (tmp_path / "scored-00012.jsonl").read_text().splitlines()
    found = json.loads(line)
    assert found == {"batch": "x", "seconds": 1.5, "logprobs": [[float(np.float32(-0.1))]]}
