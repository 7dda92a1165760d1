"""metrics.jsonl survives a crash and is taken up where the checkpoint stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmclf.run_folder.metrics import MetricsLog, read_metrics


def record(step: int, split: str = "train") -> dict[str, object]:
    return {"step": step, "split": split, "loss": 0.1 * step}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


@pytest.fixture
def log(path: Path) -> MetricsLog:
    log = MetricsLog(path, enabled=True)
    log.restart(last_step=0)
    return log


def test_each_record_is_on_disk_at_once(path: Path, log: MetricsLog) -> None:
    for step in (1, 2):
        log.append(record(step))
        assert read_metrics(path)[-1] == record(step)
    assert len(path.read_text().splitlines()) == 2


def test_restart_drops_what_the_resumed_run_writes_again(path: Path, log: MetricsLog) -> None:
    for step in (1, 2, 3):
        log.append(record(step))
        log.append(record(step, "validation"))
    log.restart(last_step=2)
    assert [r["step"] for r in read_metrics(path)] == [1, 1, 2, 2]
    log.append(record(3))
    assert [r["step"] for r in read_metrics(path)] == [1, 1, 2, 2, 3]


@pytest.mark.parametrize("cut", ['{"step": 3, "spl', "{", '{"step": 3, "loss": 0.2'])
def test_a_line_cut_off_by_a_crash_is_dropped_and_overwritten(
    path: Path, log: MetricsLog, cut: str
) -> None:
    log.append(record(1))
    log.append(record(2))
    path.write_text(path.read_text() + cut)
    assert read_metrics(path) == [record(1), record(2)]
    log.restart(last_step=2)
    log.append(record(3))
    assert read_metrics(path) == [record(1), record(2), record(3)]


def test_a_run_without_records_is_empty(tmp_path: Path) -> None:
    assert read_metrics(tmp_path / "missing.jsonl") == []


def test_only_the_enabled_rank_writes(path: Path) -> None:
    log = MetricsLog(path, enabled=False)
    log.restart(last_step=0)
    log.append(record(1))
    assert not path.exists()


def test_not_a_number_never_enters_the_file(path: Path, log: MetricsLog) -> None:
    with pytest.raises(ValueError, match="JSON"):
        log.append({"step": 1, "split": "train", "loss": float("nan")})
    assert path.read_text() == ""
