"""``llmclf slurm``: a script that bash reads as it was meant, or one message."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmclf.cli import app as cli

REPOSITORY = Path(__file__).resolve().parents[2]
RECIPE = "recipes/bert_base.py"


def slurm(*arguments: str, cwd: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    """The command, in this process: it imports torch to read a recipe's options."""
    out, err, kept, code = io.StringIO(), io.StringIO(), sys.argv, 0
    sys.argv = ["llmclf", "slurm", *arguments]
    with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main()
        except SystemExit as error:
            code = int(error.code or 0)
        finally:
            sys.argv = kept
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


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
                       ("seeds:3", ["--seed", "3", "--data.seed", "0"])],
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
        ((RECIPE, "--partition", "a\n#SBATCH"), "--partition 'a\\n#SBATCH': is not a name"),
        ((RECIPE, "--array", "fold:5"), "allowed are folds:K and seeds:K"),
        ((RECIPE, "--array", "seeds:2", "--seed", "1"), "--seed: --array seeds:2 sets it"),
        ((RECIPE, "--account", "a b"), "--account 'a b': is not a name"),
        ((RECIPE, "--qos", "high;low"), "--qos 'high;low': is not a name"),
        ((RECIPE, "--mem", "64 GB"), "--mem '64 GB': Slurm reads a whole number and K, M, G or T"),
        ((RECIPE, "--sbatch", "--a=b\n--c=d"), "one option of sbatch on one line"),
        ((RECIPE, "--sbatch", "--a=b\r--c=d"), "one option of sbatch on one line"),
        ((RECIPE, "--sbatch", "-C a100"), "from its two dashes on"),
        ((RECIPE, "--sbatch", "constraint=a100"), "from its two dashes on"),
        ((RECIPE, "--sbatch", "--comment=a b"), "a value with spaces in quotes"),
        ((RECIPE, "--sbatch", "--comment='a b"), "a value with spaces in quotes"),
        ((RECIPE, "--sbatch", "--"), "from its two dashes on"),
        ((RECIPE, "--data.folds", "5"), "data.folds=5: give both or neither"),
        (("recipes/demo.py", "--only", "bert"), "--only bert: no such method"),
        (("recipes/demo.py", "--model.tune", "lora"), "the runs of this recipe differ in it"),
        (("tests/tiny.py",), "not a recipe: no experiment()"),
    ],
)
def test_a_mistake_is_one_message(arguments: tuple[str, ...], message: str) -> None:
    done = slurm(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("error: ") == 1
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [
        ((RECIPE, "--baseline.classifier", "majority"), "--baseline.classifier"),
        ((RECIPE, "--train.epoks", "3"), "--train.epochs"),
        (("recipes/demo.py", "--train.epoks", "3"), "--train.epochs"),
        ((RECIPE, "--array", "seeds:3", "--train.epoks", "3"), "--train.epochs"),
        ((RECIPE, "--partitoin", "a100"), "--partitoin: Did you mean '--partition'?"),
        ((RECIPE, "--train.epochs", "three"), "--train.epochs"),
        ((RECIPE, "--data.fold", "{}", "--data.folds", "3"), "--data.fold"),  # no array
    ],
)
def test_an_option_that_the_recipe_would_refuse_makes_no_script(
    arguments: tuple[str, ...], nearest: str
) -> None:
    done = slurm(*arguments)
    assert done.returncode == 2
    assert nearest in done.stderr
    assert f"python {arguments[0]} --help" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "passed"),
    [
        (("--array", "seeds:3", "--train.epochs", "1"), ["--train.epochs", "1", "--seed", "2"]),
        (("--array", "seeds:3", "--data.seed=7"), ["--data.seed=7", "--seed", "2", "--output-dir"]),
        (("--array", "folds:3", "--data.limit", "10{}"), ["--data.limit", "102"]),
        (("--only", "full", "lora", "--seeds", "0", "1"), ["--only", "full", "lora", "--seeds"]),
        (("--train.micro_batch_size", "4", "--dry-run"), ["--train.micro_batch_size", "4"]),
    ],
)
def test_a_comparison_gets_its_options(
    arguments: tuple[str, ...], passed: list[str], tmp_path: Path
) -> None:
    done = slurm("recipes/demo.py", *arguments)
    assert done.returncode == 0, done.stderr
    got = arguments_of(done.stdout, tmp_path, SLURM_ARRAY_TASK_ID="2")
    assert got[3 : 3 + len(passed)] == passed


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (("--account", "physics"), ["--account=physics"]),
        (("--qos", "long"), ["--qos=long"]),
        (("--mem", "64G"), ["--mem=64G"]),
        (("--mem", "0"), ["--mem=0"]),
        (("--sbatch", "--constraint=a100&nvlink"), ["--constraint=a100&nvlink"]),
        (
            ("--sbatch", "--exclusive", "--sbatch=--comment='a b'", "--sbatch", "--licenses x:2"),
            ["--exclusive", "--comment='a b'", "--licenses x:2"],
        ),
    ],
)
def test_what_the_cluster_asks_for_is_in_the_script(
    arguments: tuple[str, ...], lines: list[str], tmp_path: Path
) -> None:
    done = slurm(RECIPE, *arguments, "--seed", "1")
    assert done.returncode == 0, done.stderr
    without = slurm(RECIPE, "--seed", "1").stdout.splitlines()
    assert [line for line in done.stdout.splitlines() if line not in without] == [
        f"#SBATCH {line}" for line in lines
    ]
    subprocess.run(["bash", "-n"], input=done.stdout, text=True, check=True)
    assert arguments_of(done.stdout, tmp_path)[3:] == ["--seed", "1"]


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
