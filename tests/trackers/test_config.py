"""What a user gets wrong about trackers is told before anything is written."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmclf.trackers.backends import confusion, markdown, per_label
from llmclf.trackers.config import TrackConfig
from llmclf.trackers.follow import Records, without_secrets


@pytest.mark.parametrize("tracker", ["wandb", "trackio", "tensorboard"])
def test_a_missing_package_names_the_extra(tracker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert TrackConfig(to=(tracker,)).problems() == []
    monkeypatch.setitem(sys.modules, tracker, None)  # as import finds it where there is none
    (problem,) = TrackConfig(to=(tracker, tracker)).problems()
    assert tracker in problem
    assert "pip install -e '.[track]'" in problem
    assert TrackConfig().problems() == []


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"project": "a/b"}, "track.project"),
        ({"project": ""}, "track.project"),
        ({"project": "x" * 129}, "track.project"),
        ({"group": " "}, "track.group"),
        ({"timeout_seconds": 0.0}, "track.timeout_seconds"),
        ({"timeout_seconds": float("nan")}, "track.timeout_seconds"),
        ({"timeout_seconds": float("inf")}, "track.timeout_seconds"),
    ],
)
def test_settings_that_no_tracker_takes(settings: dict[str, Any], key: str) -> None:
    (problem,) = TrackConfig(**settings).problems()
    assert problem.startswith(f"{key}={next(iter(settings.values()))!r}")


def test_the_group_is_the_folder_around_the_run(tmp_path: Path) -> None:
    assert TrackConfig().group_of(Path("runs/demo/full")) == "demo"
    assert TrackConfig().group_of(tmp_path / "full") == tmp_path.name
    assert TrackConfig(group="mine").group_of(Path("runs/demo/full")) == "mine"


def test_importing_it_loads_neither_torch_nor_a_tracker() -> None:
    heavy = {"torch", "accelerate", "wandb", "trackio", "tensorboard"}
    code = f"import sys, llmclf.trackers.follow; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class Listener:
    """A tracker that remembers."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, dict[str, Any]]] = []

    def record(self, index: int, record: dict[str, Any]) -> None:
        self.heard.append((index, record))

    def results(self, results: dict[str, Any], *, last_step: int, next_index: int) -> None: ...

    def report(self, html: Path) -> None: ...

    def close(self, *, finished: bool) -> None: ...


@given(
    steps=st.lists(st.integers(0, 3), max_size=30),
    checkpoints=st.lists(st.integers(0, 40), max_size=10),
    cut=st.integers(0, 25),
)
def test_each_durable_record_is_handed_on_once(
    steps: list[int], checkpoints: list[int], cut: int
) -> None:
    """``steps``: how far each record is from the one before; ``cut``: characters of a last line
    that a crash left."""
    records, step = [], 0
    for further in steps:
        step += further
        records.append({"step": step, "split": "train", "loss": step / 7})
    text = "".join(json.dumps(record) + "\n" for record in records)
    listener = Listener()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "metrics.jsonl"
        path.write_text(text + json.dumps({"step": 0, "split": "train", "loss": 0.5})[:cut])
        follower, newest = Records(path), 0
        for checkpoint in checkpoints:
            newest = max(newest, checkpoint)
            follower.send(listener, newest)
            wanted = [record for record in records if record["step"] <= newest]
            assert listener.heard == list(enumerate(wanted))
            assert follower.count == len(wanted)


def test_secrets_are_blotted_out_of_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    assert without_secrets("key 0123456789abcdef is bad") == "key *** is bad"


RESULTS = {
    "labels": ["a|b", "<i>"],
    "test": {
        "per_label": {"a|b": {"f1": 0.5, "support": 3}, "<i>": {"f1": 1.0, "support": 2}},
        "confusion": [[1, 2], [3, 4]],
    },
}


def test_tables_hold_every_count_and_stay_text() -> None:
    assert per_label(RESULTS) == (["label", "f1", "support"], [["a|b", 0.5, 3], ["<i>", 1.0, 2]])
    columns, rows = confusion(RESULTS)
    assert [row[-1] for row in rows] == [1, 2, 3, 4]
    assert rows[1] == ["a|b", "<i>", 2]
    lines = markdown((columns, rows)).splitlines()
    assert lines[3] == "| a&#124;b | &lt;i> | 2 |"
    assert {line.count("|") for line in lines} == {4}


def test_multilabel_tables_have_a_row_for_each_label() -> None:
    test = {**RESULTS["test"], "confusion": [[[9, 1], [2, 3]], [[8, 0], [1, 6]]]}  # type: ignore[dict-item]
    columns, rows = confusion({**RESULTS, "test": test})
    assert columns == ["label", "tn", "fp", "fn", "tp"]
    assert rows == [["a|b", 9, 1, 2, 3], ["<i>", 8, 0, 1, 6]]
