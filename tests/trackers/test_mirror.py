"""A run is read back from each tracker as metrics.jsonl has it; a tracker that fails is one
warning."""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import psutil
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from llmclf.trackers.config import TrackConfig
from llmclf.trackers.mirror import report
from tests.processes import run, start
from tests.trackers.readers import (
    assert_no_secrets,
    assert_tensorboard_equals,
    environment,
    expected,
    trackio_rows,
    wandb_file,
    wandb_history,
    wandb_records,
    wandb_runs,
)
from tests.trackers.wandb_server import wandb_server

RECIPE = "recipes/bert_base.py"
TRAIN = (
    "--train.min-steps",
    "0",
    "--train.epochs",
    "2",
    "--train.learning-rate",
    "5e-3",
    "--train.log-every",
    "1",
)
ALL = ("--track.to", "wandb", "trackio", "tensorboard")


def options(bert: Path, corpus: Path, folder: Path, *more: str) -> tuple[str, ...]:
    source = ("--model.checkpoint", str(bert), "--data.source", str(corpus))
    return (*source, *TRAIN, "--output-dir", str(folder), *more)


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text())


@pytest.fixture(scope="module")
def tracked(bert: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two ranks that told all three trackers."""
    base = tmp_path_factory.mktemp("tracked")
    more = (*ALL, "--track.log-model", "--track.project", "proof", "--track.timeout-seconds", "60")
    arguments = options(bert, corpus, base / "runs" / "one", *more)
    started = start(base / "log", RECIPE, *arguments, ranks=2, environment=environment(base))
    assert started.wait() == 0, started.text()
    assert "warning" not in started.text()
    assert (base / "runs" / "one" / "results.json").exists()
    return base / "runs" / "one"


def base_of(folder: Path) -> Path:
    return folder.parents[1]


def test_wandb_offline_equals_metrics(tracked: Path) -> None:
    assert wandb_history(tracked) == expected(tracked)


def test_trackio_equals_metrics(tracked: Path) -> None:
    database = base_of(tracked) / "trackio" / "proof.db"
    assert trackio_rows(database, tracked) == expected(tracked)


def test_tensorboard_equals_metrics(tracked: Path) -> None:
    assert_tensorboard_equals(tracked)


def test_two_ranks_are_one_run_everywhere(tracked: Path) -> None:
    id_ = read(tracked, "track.json")["id"]
    assert wandb_file(tracked).name == f"run-{id_}.wandb"
    with sqlite3.connect(base_of(tracked) / "trackio" / "proof.db") as connection:
        assert connection.execute("SELECT DISTINCT run_id, run_name FROM metrics").fetchall() == [
            (id_, "bert-base")
        ]
    assert len(list(tracked.glob("tensorboard/*"))) == 1


def test_the_run_is_described_alike(tracked: Path) -> None:
    settings = read(tracked, "experiment.json")
    del settings["track"]
    settings["environment"] = read(tracked, "environment.json")
    (about, *_) = wandb_runs(tracked)
    assert (about.display_name, about.project) == ("bert-base", "proof")
    assert (about.run_group, about.job_type) == ("runs", "fine_tune")
    found = {item.key: json.loads(item.value_json) for item in about.config.update}
    assert {key: found[key] for key in settings} == settings
    with sqlite3.connect(base_of(tracked) / "trackio" / "proof.db") as connection:
        ((config,),) = connection.execute("SELECT config FROM configs").fetchall()
    stored = json.loads(config)
    assert stored["_Group"] == "runs"
    assert {key: stored[key] for key in settings} == settings
    events = EventAccumulator(str(tracked / "tensorboard"))
    events.Reload()
    (text,) = events.Tensors("settings/text_summary")
    assert '"learning_rate": 0.005' in text.tensor_proto.string_val[0].decode()


def test_results_tables_and_curves(tracked: Path) -> None:
    results = read(tracked, "results.json")
    files = {path.name.partition("_")[0]: path for path in tracked.rglob("*.table.json")}
    table = json.loads(files["per"].read_text())
    assert table["columns"] == ["label", "precision", "recall", "f1", "support"]
    assert {row[0]: row[3] for row in table["data"]} == {
        name: row["f1"] for name, row in results["test"]["per_label"].items()
    }
    counts = {
        (true, guess): n for true, guess, n in json.loads(files["confusion"].read_text())["data"]
    }
    labels = results["labels"]
    assert counts == {
        (true, guess): results["test"]["confusion"][i][j]
        for i, true in enumerate(labels)
        for j, guess in enumerate(labels)
    }
    summary: dict[str, Any] = {}
    for record in wandb_records(wandb_file(tracked)):
        for item in record.summary.update:
            summary["/".join(item.nested_key) or item.key] = json.loads(item.value_json)
    assert summary["results/test/macro_f1"] == results["test"]["macro_f1"]
    assert summary["results/cost/total_parameters"] == results["cost"]["total_parameters"]
    assert list(tracked.rglob("media/images/curves_*.png"))
    events = EventAccumulator(str(tracked / "tensorboard"))
    events.Reload()
    assert events.Tags()["images"] == ["curves"]
    assert {"results/per_label/text_summary", "results/confusion/text_summary"} <= set(
        events.Tags()["tensors"]
    )


def test_the_model_is_an_artefact_by_option(tracked: Path) -> None:
    id_ = read(tracked, "track.json")["id"]
    artefacts = [r.request.log_artifact.artifact for r in wandb_records(wandb_file(tracked))]
    artefacts += [r.artifact for r in wandb_records(wandb_file(tracked))]
    (model,) = [a for a in artefacts if a.type == "model"]
    assert model.name == f"model-{id_}"
    names = {entry.path for entry in model.manifest.contents}
    assert {path.name for path in (tracked / "model").iterdir()} == names
    with sqlite3.connect(base_of(tracked) / "trackio" / "proof.db") as connection:
        assert connection.execute("SELECT name, type FROM artifacts").fetchall() == [
            (f"model-{id_}", "model")
        ]


def test_secrets_appear_nowhere_and_nothing_runs_on(tracked: Path) -> None:
    assert_no_secrets(base_of(tracked))
    assert_ended(tracked)


def test_trackers_write_below_the_run_folder_and_trackio_dir(tracked: Path) -> None:
    base = base_of(tracked)
    assert {path.name for path in base.iterdir()} <= {"runs", "trackio", "log", "home"}
    files = [path for path in (base / "home").rglob("*") if path.is_file()]
    ours = [path for path in files if "matplotlib" not in path.parts]
    assert all(path.name.startswith("core-debug") for path in ours), ours  # W&B's own log


def assert_ended(folder: Path) -> None:
    """No process of a tracker is left, a few seconds after the run."""
    deadline = time.monotonic() + 20
    while following(folder):
        assert time.monotonic() < deadline, following(folder)
        time.sleep(0.1)


def following(folder: Path) -> list[int]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            line = process.cmdline()
            if "llmclf.trackers.follow" in line and str(folder) in line:
                found.append(process.pid)
    return found


class Broken(http.server.BaseHTTPRequestHandler):
    """Answers every request by an error."""

    asked: ClassVar[list[str]] = []

    def answer(self) -> None:
        self.asked.append(self.path)
        self.send_response(500)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST = answer

    def log_message(self, *arguments: object) -> None:
        pass


@contextlib.contextmanager
def broken_server() -> Iterator[str]:
    Broken.asked.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Broken) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
    assert "/graphql" in Broken.asked


@contextlib.contextmanager
def hanging_server() -> Iterator[str]:
    """Takes every connection and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.settimeout(1)
        listener.accept()  # there was one


@pytest.mark.parametrize("server", [broken_server, hanging_server])
def test_a_server_that_does_not_answer_costs_one_warning(
    server: Any, bert: Path, corpus: Path, tracked: Path, tmp_path: Path
) -> None:
    folder, seconds = tmp_path / "run", 3
    limit = ("--track.to", "wandb", "--track.timeout-seconds", str(seconds))
    with server() as url:
        own = environment(tmp_path, WANDB_MODE="online", WANDB_BASE_URL=url)
        begun = time.monotonic()
        started = start(
            tmp_path / "log", RECIPE, *options(bert, corpus, folder, *limit), environment=own
        )
        assert started.wait() == 0, started.text()
        took = time.monotonic() - begun
    assert started.text().count("warning: wandb: ") == started.text().count("warning") == 1
    assert wandb_history(folder) == expected(folder)  # kept, to be handed over later
    assert_no_secrets(tmp_path)
    # The training did not wait, and its end no longer than it may.
    files = [(folder / name).stat().st_mtime for name in ("experiment.json", "results.json")]
    assert took - (files[1] - files[0]) < seconds + 45
    assert_ended(folder)


def test_a_server_that_falls_silent_costs_one_warning(corpus: Path, tmp_path: Path) -> None:
    with wandb_server() as (url, server):
        server.stuck.set()
        started = start(
            tmp_path / "log", "recipes/baselines.py", "--only", "majority", "--data.source",
            str(corpus), "--track.to", "wandb", "--track.timeout-seconds", "3", "--output-dir",
            str(tmp_path / "runs"),
            environment=environment(tmp_path, WANDB_MODE="online", WANDB_BASE_URL=url),
        )  # fmt: skip
        assert started.wait() == 0, started.text()
        assert_ended(tmp_path / "runs" / "majority")
    assert started.text().count("warning: wandb: ") == started.text().count("warning") == 1
    assert "--track.timeout-seconds" in started.text()
    (kept,) = (tmp_path / "runs" / "majority").glob("wandb/run-*/*.wandb")
    assert any(record.HasField("history") for record in wandb_records(kept))


@pytest.mark.parametrize(
    ("tracker", "own"),
    [
        ("wandb", {"WANDB_MODE": "online", "WANDB_API_KEY": "short"}),
        ("wandb", {"WANDB_MODE": "nonsense"}),
        ("trackio", {"TRACKIO_DIR": "/proc/nowhere"}),
    ],
)
def test_a_tracker_that_cannot_start_costs_one_warning(
    tracker: str, own: dict[str, str], corpus: Path, tmp_path: Path
) -> None:
    started = start(
        tmp_path / "log", "recipes/baselines.py", "--only", "majority", "--data.source",
        str(corpus), "--track.to", tracker, "--output-dir", str(tmp_path / "runs"),
        environment=environment(tmp_path, **own),
    )  # fmt: skip
    assert started.wait() == 0, started.text()
    assert started.text().count(f"warning: {tracker}: ") == started.text().count("warning") == 1
    assert "Traceback" not in started.text()
    assert (tmp_path / "runs" / "majority" / "results.json").exists()


def test_a_comparison_is_one_group_and_gets_its_report(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tmp_path / "which-one"
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    started = start(
        tmp_path / "log", "recipes/baselines.py", "--only", "majority", "naive-bayes",
        "--data.source", str(corpus), "--track.to", "wandb", "trackio", "--output-dir", str(runs),
        environment=environment(tmp_path),
    )  # fmt: skip
    assert started.wait() == 0, started.text()
    html = tmp_path / "report.html"
    html.write_text("<h1>A verdict</h1>")
    (first,) = runs.glob("wandb/offline-run-*/files/media/html/*.html")
    assert "Content-Security-Policy" in first.read_text()  # the comparison's own
    report(runs, html, TrackConfig(to=("wandb", "trackio", "tensorboard")))  # takes its place
    folders = [runs / "majority", runs / "naive-bayes", runs]
    abouts = [wandb_runs(folder)[0] for folder in folders]
    assert [a.run_group for a in abouts] == ["which-one"] * 3
    assert [a.job_type for a in abouts] == ["classical", "classical", "report"]
    assert len({a.run_id for a in abouts}) == 3
    (page,) = runs.glob("wandb/offline-run-*/files/media/html/*.html")
    assert "<h1>A verdict</h1>" in page.read_text()
    with sqlite3.connect(tmp_path / "trackio" / "llmclf.db") as connection:
        configs = connection.execute("SELECT run_name, config FROM configs").fetchall()
    assert sorted(name for name, _ in configs) == ["majority", "naive-bayes", "report"]
    assert {json.loads(config)["_Group"] for _, config in configs} == {"which-one"}
    assert_no_secrets(tmp_path)


def test_without_trackers_nothing_of_them_is_written(corpus: Path, tmp_path: Path) -> None:
    run(
        tmp_path / "log", "recipes/baselines.py", "--only", "majority", "--data.source",
        str(corpus), "--output-dir", str(tmp_path / "runs"),
    )  # fmt: skip
    names = {path.name for path in (tmp_path / "runs" / "majority").iterdir()}
    assert not names & {"track.json", "wandb", "tensorboard"}
