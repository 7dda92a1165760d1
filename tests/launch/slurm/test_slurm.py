"""The job scripts under a real Slurm: two nodes, preemption, time limit, scancel, a dead node."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.launch.slurm.cluster import Cluster, missing
from tests.processes import REPOSITORY, run

REASON = missing()
pytestmark = [
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
    pytest.mark.timeout(600),
]
SLOW_RECIPE = """
import os, time
from transformers import BertForSequenceClassification as Bert
from llmclf import main
from recipes.bert_base import experiment

original = Bert.forward


def forward(self, *args, **kwargs):
    # Slow until it was interrupted, so that a test can come in between.
    time.sleep(0 if "SLURM_RESTART_COUNT" in os.environ else float(os.environ.get("SLOW", "0")))
    return original(self, *args, **kwargs)


Bert.forward = forward
main(experiment)
"""
DDP = ("--config_file", "launch/accelerate/ddp.yaml")
SINGLE = ("--config_file", "launch/accelerate/single.yaml")
Submit = Callable[..., int]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("slurm"))
    cluster.environment["SLOW"] = "0.1"
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="module")
def recipe(bert: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """A recipe and its options: 42 steps."""
    script = tmp_path_factory.mktemp("recipe") / "slow_recipe.py"
    script.write_text(SLOW_RECIPE)
    return (
        str(script), "--model.checkpoint", str(bert), "--data.source", str(corpus),
        "--train.precision", "fp32", "--train.log-every", "1",
        "--train.min-steps", "0", "--train.epochs", "3",
        "--train.learning-rate", "5e-3",
    )  # fmt: skip


@pytest.fixture(scope="module")
def unbroken(recipe: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run on two ranks, without Slurm."""
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    run(folder.with_name("log"), *recipe, "--output-dir", str(folder), ranks=2)
    return folder


@pytest.fixture
def submit(cluster: Cluster, recipe: tuple[str, ...], tmp_path: Path) -> Submit:
    """Submit a job script that runs the recipe into tmp_path/run and prints to tmp_path/log."""

    def call(*sbatch: str, script: str, launch: tuple[str, ...]) -> int:
        output = (f"--output={tmp_path}/log", *sbatch, f"launch/slurm/{script}.sbatch")
        return cluster.submit(*output, *launch, *recipe, "--output-dir", str(tmp_path / "run"))

    return call


def wait_for_step(cluster: Cluster, job: int, folder: Path, step: int) -> None:
    """Return once the run has taken so many steps."""
    metrics, deadline = folder / "run" / "metrics.jsonl", time.monotonic() + 120
    while not (metrics.exists() and f'"step": {step}, ' in metrics.read_text()):
        log = (folder / "log").read_text() if (folder / "log").exists() else ""
        assert time.monotonic() < deadline, f"{cluster.job(job)}\n{log[-3000:]}"
        time.sleep(0.1)


def assert_equal_to(unbroken: Path, folder: Path) -> None:
    """The predictions are equal bit by bit, and came from two ranks."""
    environment = json.loads((folder / "environment.json").read_text())
    assert (environment["world_size"], environment["strategy"]) == (2, "ddp")
    for split in ("validation", "test"):
        file = f"predictions/{split}.parquet"
        assert pq.read_table(folder / file).equals(pq.read_table(unbroken / file))


def test_slurm_takes_what_llmclf_slurm_prints(cluster: Cluster, tmp_path: Path) -> None:
    """Asked of the real one without submitting: it refuses an option that it does not know."""
    printed = subprocess.run(
        [
            *(sys.executable, "-m", "llmclf", "slurm", "recipes/bert_base.py"),
            *("--nodes", "2", "--cpus-per-task", "1", "--time", "1:00:00", "--partition", "high"),
            *("--account", "physics", "--qos", "normal", "--mem", "400M", "--array", "seeds:3"),
            *("--sbatch", "--exclusive", "--sbatch", "--comment='a b'"),
            *("--sbatch", "--distribution block"),
        ],
        cwd=REPOSITORY, env=cluster.environment, capture_output=True, text=True, check=True,
    )  # fmt: skip

    def asked(script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sbatch", "--test-only"], input=script, cwd=tmp_path, env=cluster.environment,
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    done = asked(printed.stdout)
    assert done.returncode == 0, done.stderr
    assert "nodes n[1-2] in partition high" in done.stderr
    assert asked(printed.stdout.replace("--exclusive", "--exclusiv3")).returncode != 0
    assert asked(printed.stdout.replace("'a b'", "a b")).returncode != 0  # hence our check
    assert asked(printed.stdout.replace("mem=400M", "mem=900M")).returncode != 0


def test_preempted_on_two_nodes_requeued_and_resumed_equals_unbroken(
    cluster: Cluster, submit: Submit, unbroken: Path, tmp_path: Path
) -> None:
    begun = time.monotonic()
    job = submit("--nodes=2", script="multi_node", launch=DDP)
    wait_for_step(cluster, job, tmp_path, 5)
    cluster.submit("--partition=high", "--nodes=2", "--wrap=true", "--output=/dev/null")
    facts = cluster.wait(job)
    log = (tmp_path / "log").read_text()
    assert (facts["JobState"], facts["Restarts"]) == ("COMPLETED", "1"), log[-3000:]
    assert log.count("stopped by SIGTERM after step") == 1
    print(f"Restarts {facts['Restarts']}, {time.monotonic() - begun:.0f} s")
    assert_equal_to(unbroken, tmp_path / "run")


def test_a_cancelled_job_saves_and_is_not_requeued(
    cluster: Cluster, submit: Submit, tmp_path: Path
) -> None:
    job = submit(script="single_node", launch=SINGLE)
    wait_for_step(cluster, job, tmp_path, 3)
    cluster.call("scancel", str(job))
    facts = cluster.wait(job)
    time.sleep(7)  # a requeued job would wait for its credentials to expire, and run
    facts = cluster.job(job)
    assert (facts["JobState"], facts["Restarts"]) == ("CANCELLED", "0"), facts
    assert "stopped by SIGTERM after step" in (tmp_path / "log").read_text()
    assert list((tmp_path / "run" / "checkpoints").glob("step-*"))


@pytest.mark.slow
def test_at_the_time_limit_it_is_requeued_and_resumed(
    cluster: Cluster, submit: Submit, unbroken: Path, tmp_path: Path
) -> None:
    begun = time.monotonic()
    cluster.environment["SLOW"] = "5"
    try:
        # Slurm looks at time limits twice a minute, so the signal may come so much earlier.
        limits = ("--nodes=2", "--time=2", "--signal=TERM@30")
        job = submit(*limits, script="multi_node", launch=DDP)
    finally:
        cluster.environment["SLOW"] = "0.1"
    facts = cluster.wait(job, seconds=300)
    log = (tmp_path / "log").read_text()
    assert (facts["JobState"], facts["Restarts"]) == ("COMPLETED", "1"), log[-3000:]
    assert log.count("stopped by SIGTERM after step") == 1
    print(f"Restarts {facts['Restarts']}, {time.monotonic() - begun:.0f} s")
    assert_equal_to(unbroken, tmp_path / "run")


@pytest.mark.slow
def test_a_dead_node_is_survived(
    cluster: Cluster, submit: Submit, unbroken: Path, tmp_path: Path
) -> None:
    begun = time.monotonic()
    job = submit("--nodes=2", script="multi_node", launch=DDP)
    wait_for_step(cluster, job, tmp_path, 20)
    cluster.daemons["n2"].kill()
    cluster.daemons["n2"].wait()
    cluster.call("scontrol", "update", "nodename=n2", "state=down", "reason=test")
    cluster.wait(job, "PENDING", "RUNNING", seconds=60)
    cluster.start_node("n2")
    cluster.call("scontrol", "update", "nodename=n2", "state=resume")
    facts = cluster.wait(job)
    log = (tmp_path / "log").read_text()
    assert (facts["JobState"], facts["Restarts"]) == ("COMPLETED", "1"), log[-3000:]
    print(f"Restarts {facts['Restarts']}, {time.monotonic() - begun:.0f} s")
    assert_equal_to(unbroken, tmp_path / "run")


@pytest.mark.slow
def test_sigusr1_is_a_wish_to_be_requeued(cluster: Cluster, submit: Submit, tmp_path: Path) -> None:
    """One process: its launcher dies of the signal at once, and Slurm must wait for the rank."""
    job = submit(script="single_node", launch=SINGLE)
    wait_for_step(cluster, job, tmp_path, 3)
    cluster.call("scancel", "--signal=USR1", str(job))
    facts = cluster.wait(job)
    log = (tmp_path / "log").read_text()
    assert (facts["JobState"], facts["Restarts"]) == ("COMPLETED", "1"), log[-3000:]
    assert log.count("stopped by SIGUSR1 after step") == 1


@pytest.mark.slow
def test_a_mistake_of_the_user_is_not_requeued(
    cluster: Cluster, submit: Submit, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "results.json").write_text("{}")
    facts = cluster.wait(submit(script="single_node", launch=SINGLE))
    assert (facts["JobState"], facts["Restarts"]) == ("FAILED", "0")
    assert "there is nothing to resume" in (tmp_path / "log").read_text()


@pytest.mark.slow
def test_an_array_runs_every_fold(
    cluster: Cluster, recipe: tuple[str, ...], tmp_path: Path
) -> None:
    folder = str(tmp_path / "fold-{}")
    job = cluster.submit(
        "--array=0-1", f"--output={tmp_path}/log-%a", "launch/slurm/array.sbatch", *SINGLE, *recipe,
        "--train.max-steps", "2", "--data.folds", "5", "--data.fold", "{}", "--output-dir", folder,
    )  # fmt: skip
    cluster.wait(job)
    deadline = time.monotonic() + 120
    while not all((tmp_path / f"fold-{fold}" / "results.json").exists() for fold in (0, 1)):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    for fold in (0, 1):
        experiment = json.loads((tmp_path / f"fold-{fold}" / "experiment.json").read_text())
        assert (experiment["data"]["fold"], experiment["data"]["folds"]) == (fold, 5)
