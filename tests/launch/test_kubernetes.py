"""The TrainJob is one by Kubeflow's own models, and the command of its pods trains as one run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubeflow_trainer_api.models import TrainerV1alpha1TrainJob

from llmclf.run_folder.metrics import read_metrics
from tests.processes import REPOSITORY, free_port, launch_environment, run

FILE = REPOSITORY / "launch" / "kubernetes" / "trainjob.yaml"


@pytest.fixture
def job() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return loaded


def as_kubeflow_reads_it(job: dict[str, Any]) -> dict[str, Any]:
    """Quantities are strings there; everything else must come back, or it was not understood."""
    read = TrainerV1alpha1TrainJob.from_json(json.dumps(job))
    assert read is not None
    return json.loads(read.to_json())


def test_every_field_is_kubeflows(job: dict[str, Any]) -> None:
    assert job["apiVersion"] == "trainer.kubeflow.org/v1alpha1"
    assert as_kubeflow_reads_it(job) == job


def test_a_field_that_is_not_kubeflows_would_be_found(job: dict[str, Any]) -> None:
    job["spec"]["trainer"]["numNode"] = 2
    assert as_kubeflow_reads_it(job) != job


def test_two_pods_train_as_one_run(
    job: dict[str, Any], bert: Path, corpus: Path, tmp_path: Path
) -> None:
    """The pods' own command, as two launchers on loopback."""
    options = (
        str(REPOSITORY / "recipes" / "bert_base.py"),
        "--model.checkpoint", str(bert), "--model.dropout", "0",
        "--data.source", str(corpus), "--train.precision", "fp32",
        "--train.min-steps", "0", "--train.epochs", "1",
        "--train.log-every", "1",
    )  # fmt: skip
    trainer = job["spec"]["trainer"]
    command = [part.replace("/workspace", str(tmp_path)) for part in trainer["command"]]
    launch = [part.replace("/opt/llmclf", str(REPOSITORY)) for part in trainer["args"]]
    arguments = (*launch[:2], *options, "--output-dir", str(tmp_path / "run"))
    port, pods = str(free_port()), []
    for node in range(2):
        place = {"PET_NNODES": "2", "PET_NODE_RANK": str(node), "PET_NPROC_PER_NODE": "1",
                 "PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": port}  # fmt: skip
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        with (tmp_path / f"log-{node}").open("w") as log:
            pods.append(
                subprocess.Popen(
                    [*command, *arguments],
                    env=launch_environment() | place | {"PATH": path},
                    stdout=log,
                    stderr=log,
                )
            )
    codes = [pod.wait(200) for pod in pods]
    assert codes == [0, 0], (tmp_path / "log-0").read_text()[-3000:]
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["world_size"] == 2
    run(tmp_path / "log", *options, "--output-dir", str(tmp_path / "alone"), ranks=2)
    ours, theirs = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("run", "alone"))
    assert ours == theirs
