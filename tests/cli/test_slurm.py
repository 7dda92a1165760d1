"""``llmclf slurm``: a script that bash reads as it was meant, or one message."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
RECIPE = "recipes/bert_base.py"


def slurm(*arguments: str, cwd: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "llmclf.cli.app", "slurm", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )


def arguments_of(script: str, folder: Path, **environment: str) -> list[str]:
    """What launch/slurm/run.sh is called with, when bash runs the script."""
    run = folder / "launch" / "slurm" / "run.sh"
    run.parent.mkdir(parents=True)
    run.write_text('printf "%s\\0" "$@"\n')
    done = subprocess.run(
        ["bash"], input=script, cwd=folder, env={**os.environ, **environment},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.split("\0")[:-1]


def test_prints_what_was_asked_for(tmp_path: Path) -> None:
    source = "my 'own' $(touch owned); file.csv"
    done = slurm(
        RECIPE, "--data.source", source, "--nodes", "2", "--gpus-per-node", "8", "--time",
        "8:00:00", "--partition", "a100", "--train.epochs", "2",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for line in ("job-name=bert_base", "nodes=2", "gpus-per-node=8", "time=8:00:00",
                 "partition=a100", "requeue", "open-mode=append", "signal=TERM@180"):  # fmt: skip
        assert f"#SBATCH --{line}\n" in done.stdout
    assert arguments_of(done.stdout, tmp_path) == [
        "--config_file", "launch/accelerate/ddp.yaml", RECIPE, "--data.source", source,
        "--train.epochs", "2",
    ]  # fmt: skip
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("array", "own"), [("folds:5", ["--data.folds", "5", "--data.fold", "3"]),
                       ("seeds:3", ["--seed", "3"])],
)  # fmt: skip
def test_an_array_gives_each_index_its_run(array: str, own: list[str], tmp_path: Path) -> None:
    done = slurm(RECIPE, "--array", array)
    assert f"#SBATCH --array=0-{int(array[-1]) - 1}\n" in done.stdout
    assert "gpus-per-node" not in done.stdout
    folder = f"runs/bert-base/{array[:4]}-3"
    assert arguments_of(done.stdout, tmp_path, SLURM_ARRAY_TASK_ID="3") == [
        "--config_file", "launch/accelerate/single.yaml", RECIPE, *own, "--output-dir", folder,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("recipes/bert_bse.py",), "no such file. Did you mean 'recipes/bert_base.py'?"),
        ((RECIPE, "--config-file", "launch/accelerate/dpp.yaml"), "Did you mean 'launch/accelera"),
        ((RECIPE, "--nodes", "0"), "--nodes 0: must be 1 or more"),
        ((RECIPE, "--time", "8h"), "--time '8h': Slurm reads minutes, H:MM:SS or D-HH:MM:SS"),
        ((RECIPE, "--partition", "a\n#SBATCH"), "is no name of a partition"),
        ((RECIPE, "--array", "fold:5"), "allowed are folds:K and seeds:K"),
        ((RECIPE, "--array", "seeds:2", "--seed", "1"), "--seed: --array seeds:2 sets it"),
    ],
)
def test_a_mistake_is_one_message(arguments: tuple[str, ...], message: str) -> None:
    done = slurm(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("error: ") == 1
    assert done.stdout == ""


def test_elsewhere_it_says_where_to_go(tmp_path: Path) -> None:
    done = slurm(RECIPE, cwd=tmp_path)
    assert done.returncode == 2
    assert "Change to the root of the llmclf repository" in done.stderr


@pytest.mark.parametrize("script", sorted((REPOSITORY / "launch" / "slurm").iterdir()), ids=str)
def test_scripts_are_shell_and_ask_for_no_gpu(script: Path) -> None:
    """What a cluster calls its GPUs is the submitter's to say."""
    subprocess.run(["bash", "-n", str(script)], check=True)
    asked = [line for line in script.read_text().splitlines() if line.startswith("#SBATCH")]
    assert not any("gpu" in line or "gres" in line for line in asked)
