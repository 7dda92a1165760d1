"""Run folders that can be read, and those that cannot, each named with what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from llmclf.config import DataError
from llmclf.report.analyse import analyse
from llmclf.report.config import ReportConfig
from llmclf.report.write import write
from llmclf.run_folder.find import find_runs, read_all
from llmclf.run_folder.read import read
from tests.report.made import predicted, results, write_run


def made(folder: Path) -> Path:
    return write_run(folder, predicted(9), seed=3, fold=2)


def test_what_a_run_wrote_is_read(tmp_path: Path) -> None:
    folder = write_run(
        tmp_path / "a",
        predicted(9),
        seed=3,
        fold=2,
        labels_per_class=8,
        metrics=[{"step": 1, "split": "train", "loss": 0.5}],
    )
    run = read(folder)
    assert (run.name, run.method, run.model) == ("full", "full", "minilm-l6")
    assert (run.seed, run.fold, run.labels_per_class) == (3, 2, 8)
    assert run.scores["accuracy"] == 0.9
    assert run.experiment["train.epochs"] == 3
    assert run.rows.sizes["train"] == 40
    assert run.cost("train_seconds") == 1234.56
    assert run.cost("train_energy_joules") is None
    assert [record["loss"] for record in run.metrics] == [0.5]


def test_runs_of_before_calibration_have_none(tmp_path: Path) -> None:
    folder = made(tmp_path / "a")
    change(folder, lambda content: content.pop("calibration"))
    assert read(folder).calibration.temperature == 1


def change(folder: Path, how: Callable[[dict[str, Any]], Any], name: str = "results.json") -> None:
    content = json.loads((folder / name).read_text())
    how(content)
    (folder / name).write_text(json.dumps(content))


def without(*keys: str) -> Callable[[dict[str, Any]], Any]:
    def drop(content: dict[str, Any]) -> None:
        for key in keys[:-1]:
            content = content[key]
        del content[keys[-1]]

    return drop


def setting(value: Any, *keys: str) -> Callable[[dict[str, Any]], Any]:
    def put(content: dict[str, Any]) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return put


@pytest.mark.parametrize(
    ("how", "problem"),
    [
        (setting(2, "schema"), "schema is 2; .* reads schema 1"),
        (without("schema"), "schema is None"),
        (without("membership"), "membership is missing"),
        (without("test", "nll"), r"test\.nll is missing"),
        (setting(None, "test", "nll"), r"test\.nll is null"),
        (without("prior"), r"prior\.accuracy is missing"),
        (without("cost"), "cost is missing"),
        (setting([1], "test"), r"test\.n is missing"),
        (setting(7, "name"), "name is 7"),
        (setting("ab", "labels"), "labels is 'ab'"),
        (setting([1, 2], "labels"), r"labels is \[1, 2\]"),
        (setting(["advice", "other"], "labels"), r"advice, no advice, .*results\.json .*other"),
        (setting("long", "cost", "train_seconds"), "train_seconds is 'long'"),
        (setting(True, "cost", "train_seconds"), "train_seconds is True"),
        (setting(float("nan"), "cost", "train_seconds"), "train_seconds is nan"),
        (setting(float("inf"), "cost", "device_hours"), "device_hours is inf"),
        (setting(11, "test", "n"), r"test\.parquet has 10 rows, results\.json 11"),
        (setting(0.5, "test", "accuracy"), "accuracy 0.9, results.json 0.5: they are not of the"),
        (setting({"n": 4}, "validation"), r"predictions/validation\.parquet is missing"),
        (setting({"temperature": "warm"}, "calibration"), "calibration"),
        (setting(0, "calibration", "temperature"), "temperature is 0"),
        (setting(1.5, "calibration", "smoothing"), "smoothing 1.5"),
        (setting({}, "calibration", "thresholds"), None),
    ],
)
def test_unusable_results_are_named(
    how: Callable[[dict[str, Any]], Any], problem: str | None, tmp_path: Path
) -> None:
    folder = made(tmp_path / "broken")
    change(folder, how)
    if problem is None:
        read(folder)
        return
    with pytest.raises(DataError, match=rf"broken: cannot be used.*{problem}"):
        read(folder)


@pytest.mark.parametrize(
    ("how", "problem"),
    [
        (without("seed"), r"experiment\.json: seed is None"),
        (setting("0", "seed"), "seed is '0'"),
        (setting("one", "data", "fold"), r"data\.fold is 'one'"),
        (setting(0.5, "data", "labels_per_class"), r"data\.labels_per_class is 0\.5"),
    ],
)
def test_unusable_settings_are_named(
    how: Callable[[dict[str, Any]], Any], problem: str, tmp_path: Path
) -> None:
    folder = made(tmp_path / "broken")
    change(folder, how, "experiment.json")
    with pytest.raises(DataError, match=rf"broken: cannot be used.*{problem}"):
        read(folder)


@pytest.mark.parametrize("name", ["experiment.json", "environment.json", "audit.json"])
@pytest.mark.parametrize("text", [None, "", '{"na', "[]", "\xff"])
def test_lost_and_cut_off_files_are_named(name: str, text: str | None, tmp_path: Path) -> None:
    folder = made(tmp_path / "broken")
    if text is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=rf"broken: cannot be used.*{name}"):
        read(folder)


@pytest.mark.parametrize("text", ["", '{"schema": 1, "na', "[]"])
def test_cut_off_results_are_named(text: str, tmp_path: Path) -> None:
    folder = made(tmp_path / "broken")
    (folder / "results.json").write_text(text)
    with pytest.raises(DataError, match=r"broken: cannot be used.*results\.json"):
        read(folder)


def test_results_of_another_encoding_are_named(tmp_path: Path) -> None:
    folder = made(tmp_path / "broken")
    (folder / "results.json").write_bytes(json.dumps(results(predicted(9))).encode("utf-16"))
    with pytest.raises(DataError, match="broken"):
        read(folder)


def test_missing_predictions_are_named(tmp_path: Path) -> None:
    folder = made(tmp_path / "broken")
    (folder / "predictions" / "test.parquet").unlink()
    with pytest.raises(DataError, match=r"broken: cannot .*predictions/test\.parquet is missing"):
        read(folder)


def test_cut_off_predictions_are_named(tmp_path: Path) -> None:
    folder = made(tmp_path / "broken")
    path = folder / "predictions" / "test.parquet"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"broken: cannot .*not a file of predictions"):
        read(folder)


def test_probabilities_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    folder = made(tmp_path / "broken")
    path = folder / "predictions" / "test.parquet"
    table = pq.read_table(path)
    values = table["p_advice"].to_pylist()
    index = table.column_names.index("p_advice")
    pq.write_table(table.set_column(index, "p_advice", [[float("nan"), *values[1:]]]), path)
    with pytest.raises(DataError, match=r"broken: cannot .*not between 0 and 1"):
        read(folder)


@pytest.mark.parametrize("text", [None, "cut off"])
def test_unusable_splits_are_named(text: str | None, tmp_path: Path) -> None:
    folder = made(tmp_path / "broken")
    (folder / "splits.parquet").unlink()
    if text is not None:
        (folder / "splits.parquet").write_text(text)
    with pytest.raises(DataError, match=r"broken: cannot .*splits\.parquet"):
        read(folder)


def test_splits_of_another_run_are_named(tmp_path: Path) -> None:
    folder, other = made(tmp_path / "broken"), write_run(tmp_path / "b", predicted(9, first_id=50))
    (other / "splits.parquet").replace(folder / "splits.parquet")
    with pytest.raises(DataError, match=r"broken: cannot .*splits\.parquet lacks rows"):
        read(folder)


def test_metrics_that_are_no_records_are_named(tmp_path: Path) -> None:
    folder = made(tmp_path / "broken")
    (folder / "metrics.jsonl").write_text("[1]\n")
    with pytest.raises(DataError, match=r"broken: cannot .*metrics\.jsonl"):
        read(folder)


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="absent: no such folder"):
        read(tmp_path / "absent")


def test_runs_are_found_in_a_parent_and_only_once(tmp_path: Path) -> None:
    parent = tmp_path / "runs"
    for name in ("b", "a"):
        made(parent / name)
    (parent / "plots").mkdir()
    (parent / "note.txt").write_text("no run")
    assert find_runs([parent, parent / "b"])[0] == [parent / "a", parent / "b"]
    assert find_runs([parent / "b", parent / "a" / ".." / "b"])[0] == [parent / "b"]


def test_unfinished_runs_are_all_named_or_skipped(tmp_path: Path) -> None:
    done = made(tmp_path / "done")
    for name in ("early", "late"):
        (made(tmp_path / name) / "results.json").unlink()
    with pytest.raises(DataError, match=r"not finished .*early, .*late\. .*--skip-unfinished"):
        find_runs([tmp_path])
    found, left_out = find_runs([tmp_path], skip_unfinished=True)
    assert found == [done]
    assert [line.split(":")[0] for line in left_out] == [
        str(tmp_path / "early"),
        str(tmp_path / "late"),
    ]


def test_unusable_runs_are_refused_or_skipped_with_the_reason(tmp_path: Path) -> None:
    made(tmp_path / "done")
    (made(tmp_path / "broken") / "results.json").write_text("{")
    with pytest.raises(DataError, match="broken"):
        read_all([tmp_path])
    runs, left_out = read_all([tmp_path], skip_unfinished=True)
    assert [run.folder.name for run in runs] == ["done"]
    assert len(left_out) == 1
    assert "broken: cannot be used" in left_out[0]


def test_what_a_report_wrote_beside_runs_is_passed_over(tmp_path: Path) -> None:
    """As a shell hands on runs/*; all else that is no run stays an error."""
    for name, right in (("a", 9), ("b", 7)):
        write_run(tmp_path / name, predicted(right), name=name)
    write(analyse(read_all([tmp_path])[0], ReportConfig(resamples=1000), title="t"), tmp_path)
    given = sorted(tmp_path.iterdir())
    assert [path.name for path in given] == ["a", "b", "report.html", "report.md", "tables"]
    assert find_runs(given) == ([tmp_path / "a", tmp_path / "b"], [])
    (tmp_path / "notes.md").write_text("mine")
    with pytest.raises(DataError, match=r"notes\.md: no such folder"):
        find_runs([*given, tmp_path / "notes.md"])
    (tmp_path / "else" / "tables").mkdir(parents=True)
    (tmp_path / "else" / "report.html").write_text("of another program")
    for name in ("tables", "report.html"):
        with pytest.raises(DataError, match=name):
            find_runs([tmp_path / "a", tmp_path / "else" / name])


def test_folder_without_runs_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: no run folder"):
        find_runs([tmp_path / "empty"])
    with pytest.raises(DataError, match="absent: no such folder"):
        find_runs([tmp_path / "absent"])
