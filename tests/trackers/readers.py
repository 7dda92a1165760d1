"""Reads back what W&B offline, trackio and TensorBoard stored, without their code where it can."""

from __future__ import annotations

import json
import sqlite3
import struct
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto.wandb_internal_pb2 import Record

from llmclf.run_folder.metrics import read_metrics

BLOCK = 32 * 1024  # LevelDB's log
SECRETS = {
    "WANDB_API_KEY": "plantedwandb0123456789abcdef0123456789abcdef",
    "HF_TOKEN": "planted-hf-0123456789",
    "OPENAI_API_KEY": "planted-openai-0123456789",
}


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Of a tracked run that keeps everything below ``folder`` and has secrets to lose."""
    own = {"HOME": str(folder / "home"), "TRACKIO_DIR": str(folder / "trackio")}
    return {**own, "WANDB_MODE": "offline", **SECRETS, **more}


def expected(folder: Path) -> list[tuple[int, dict[str, Any]]]:
    """metrics.jsonl as trackers are told it: step, and values by name."""
    found = []
    for record in read_metrics(folder / "metrics.jsonl"):
        step, split = record.pop("step"), record.pop("split")
        found.append((step, {f"{split}/{name}": value for name, value in record.items()}))
    assert found
    return found


def wandb_file(folder: Path) -> Path:
    """The one offline file of a run folder."""
    (path,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    return path


def wandb_records(path: Path) -> Iterator[Record]:
    """The records of a .wandb file: a header of 7 bytes, then LevelDB's log format."""
    data, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        left = BLOCK - at % BLOCK
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # full, last
            record = Record()
            record.ParseFromString(whole)
            yield record
            whole = b""


def wandb_history(folder: Path) -> list[tuple[int, dict[str, Any]]]:
    """The logged records, in the form of ``expected``; W&B's own step must count them."""
    found = []
    for record in wandb_records(wandb_file(folder)):
        if record.HasField("history"):
            row = {
                "/".join(item.nested_key) or item.key: json.loads(item.value_json)
                for item in record.history.item
            }
            if "step" in row:
                assert record.history.step.num == len(found)
                own = {k: v for k, v in row.items() if not k.startswith("_") and k != "step"}
                found.append((row["step"], own))
    return found


def wandb_runs(folder: Path) -> list[Any]:
    """The descriptions of the run in its file."""
    records = wandb_records(wandb_file(folder))
    return [record.run for record in records if record.HasField("run")]


def trackio_rows(database: Path, folder: Path) -> list[tuple[int, dict[str, Any]]]:
    """Likewise, of the run of this folder; what came with the results is left out."""
    id_ = json.loads((folder / "track.json").read_text())["id"]
    with sqlite3.connect(database) as connection:
        rows = connection.execute(
            "SELECT step, metrics FROM metrics WHERE run_id = ? ORDER BY id", (id_,)
        ).fetchall()
    return [(s, json.loads(m)) for s, m in rows if "results/test/macro_f1" not in json.loads(m)]


def tensorboard_scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Tag -> steps and values."""
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    tags = events.Tags()["scalars"]
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags}


def assert_tensorboard_equals(folder: Path) -> None:
    """Every value of metrics.jsonl as a float32, once."""
    wanted = defaultdict(list)
    for step, values in expected(folder):
        for name, value in values.items():
            wanted[name].append((step, float(np.float32(value))))
    found = tensorboard_scalars(folder)
    assert {tag: v for tag, v in found.items() if not tag.startswith("results/")} == wanted


def assert_no_secrets(folder: Path) -> None:
    """In no file below the folder, compressed ones aside."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    for path in files:
        data = path.read_bytes()
        assert not [name for name, value in SECRETS.items() if value.encode() in data], path
