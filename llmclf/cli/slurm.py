"""``llmclf slurm``: print a job script for Slurm, to be read, kept and submitted."""

from __future__ import annotations

import dataclasses
import difflib
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from llmclf.cli.recipe_file import read_recipe
from llmclf.config import ConfigError, did_you_mean
from llmclf.methods.method import validate

RUN = Path("launch/slurm/run.sh")
INDEX = "{}"  # in an argument: the array index, which launch/slurm/array.sbatch puts in its place


@dataclass(frozen=True, kw_only=True)
class Slurm:
    """Print a job script for Slurm, from the root of the repository.

    llmclf slurm recipes/bert_large.py --data.source my.csv --nodes 2 --gpus-per-node 8 | sbatch

    The recipe comes first. What is not listed below is for the recipe, which checks it at once.
    """

    recipe: tyro.conf.Positional[Path]
    """A recipe file; every option of the recipe may follow."""
    nodes: int = 1
    """Machines."""
    gpus_per_node: int | None = None
    """GPUs, and with them processes, on each machine; None: one process without a GPU."""
    cpus_per_task: int | None = None
    """CPU cores on each machine; None: what the cluster gives."""
    time: str | None = None
    """Time limit as Slurm writes it: 8:00:00, 2-00:00:00 or minutes. At the limit the job is
    requeued and goes on."""
    partition: str | None = None
    """Queue to submit to; None: the cluster's default."""
    account: str | None = None
    """Account that the hours are charged to; None: your default one."""
    qos: str | None = None
    """Quality of service; None: the cluster's default."""
    mem: str | None = None
    """Memory of each machine, as 64G (units K, M, G and T; M if none is given; 0: all of it); None:
    what the cluster gives."""
    sbatch: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Any other option of sbatch, as --sbatch --constraint=a100; may be given several times."""
    config_file: Path | None = None
    """Launch file; None: single.yaml for one process, ddp.yaml for several."""
    array: str | None = None
    """folds:K or seeds:K: K runs, one for each fold or seed, in folders of their own."""

    def __post_init__(self) -> None:
        for name in ("nodes", "gpus_per_node", "cpus_per_task"):
            value = getattr(self, name)
            if value is not None and value < 1:
                option = name.replace("_", "-")
                raise ConfigError(f"--{option} {value}: must be 1 or more.")
        if self.time is not None and not re.fullmatch(r"(\d+-)?\d+(:\d+){0,2}", self.time):
            raise ConfigError(
                f"--time {self.time!r}: Slurm reads minutes, H:MM:SS or D-HH:MM:SS. For instance "
                "--time 8:00:00."
            )
        for name in ("partition", "account", "qos"):
            value = getattr(self, name)
            if value is not None and not re.fullmatch(r"[\w.,@+-]+", value):
                raise ConfigError(f"--{name} {value!r}: is not a name that Slurm takes for it.")
        if self.mem is not None and not re.fullmatch(r"\d+[KMGTkmgt]?", self.mem):
            raise ConfigError(
                f"--mem {self.mem!r}: Slurm reads a whole number and K, M, G or T. For instance "
                "--mem 64G."
            )
        for line in self.sbatch:
            if not is_directive(line):
                raise ConfigError(
                    f"--sbatch {line!r}: must be one option of sbatch on one line, from its two "
                    "dashes on, a value with spaces in quotes. For instance --sbatch "
                    "--constraint=a100."
                )
        if self.array is not None and not re.fullmatch(r"(folds|seeds):[1-9]\d*", self.array):
            raise ConfigError(
                f"--array {self.array!r}: allowed are folds:K and seeds:K. For instance folds:5."
            )

    def run(self, rest: Sequence[str]) -> None:
        """Print the script; ``rest`` is for the recipe. Raises ConfigError where it could not
        run."""
        script = job_script(self, rest)
        check_recipe(self, rest)
        print(script, end="")

    def launch_file(self) -> Path:
        """The launch file, or the one that fits the number of processes."""
        processes = self.nodes * (self.gpus_per_node or 1)
        default = "single.yaml" if processes == 1 else "ddp.yaml"
        return self.config_file or Path("launch/accelerate") / default

    def directives(self, name: str) -> list[str]:
        """The options of sbatch, in the order of launch/slurm/*.sbatch."""
        values = {
            "job-name": name,
            "nodes": self.nodes,
            "ntasks-per-node": 1,
            "gpus-per-node": self.gpus_per_node,
            "cpus-per-task": self.cpus_per_task,
            "time": self.time,
            "partition": self.partition,
            "account": self.account,
            "qos": self.qos,
            "mem": self.mem,
            "array": self.array and f"0-{int(self.array.partition(':')[2]) - 1}",
            "open-mode": "append",
            "signal": "TERM@180",
        }
        given = [f"#SBATCH --{key}={value}" for key, value in values.items() if value is not None]
        return [*given, "#SBATCH --requeue", *(f"#SBATCH {line}" for line in self.sbatch)]


def is_directive(line: str) -> bool:
    """Whether Slurm would read this as one option, which may have one value."""
    try:
        words = shlex.split(line)
    except ValueError:  # a quotation that does not end
        return False
    most = 1 if words and "=" in words[0] else 2
    known = line.isprintable() and re.match(r"--[a-zA-Z][\w-]*([= ]|$)", line) is not None
    return known and len(words) <= most


def joined(arguments: Sequence[str]) -> list[str]:
    """``--sbatch VALUE`` as ``--sbatch=VALUE``: the parser takes no value that starts with a
    dash for one otherwise."""
    words = iter(arguments)
    return [
        f"{word}={value}" if word == "--sbatch" and (value := next(words, None)) else word
        for word in words
    ]


def check_recipe(options: Slurm, arguments: Sequence[str]) -> None:
    """Have the recipe's own parser read its options, as in the job; its mistakes end the command
    here instead of in the queue."""
    words = list(arguments)
    if options.array is not None:
        own = array_arguments(options.array, options.recipe, arguments)
        words = [word.replace(INDEX, "0") for word in (*words, *own)]
    try:
        for experiment in read_recipe(options.recipe).resolved(words):
            validate(experiment)
    except SystemExit as error:
        if error.code:
            print(
                f"{nearest_of_ours(arguments)}The recipe's options: python {options.recipe} --help",
                file=sys.stderr,
            )
        raise


def nearest_of_ours(arguments: Sequence[str]) -> str:
    """A line for each option that is nearly one of this command: the recipe's parser knows its own
    alone."""
    ours = ["--" + f.name.replace("_", "-") for f in dataclasses.fields(Slurm)]
    options = [word.split("=")[0] for word in arguments if word.startswith("--")]
    # Closer than elsewhere, since most of these words are for the recipe.
    near = {
        option: difflib.get_close_matches(option.replace("_", "-"), ours, n=1, cutoff=0.8)
        for option in options
    }
    return "".join(
        f"{name}: Did you mean {hint[0]!r}? It is an option of llmclf slurm.\n"
        for name, hint in near.items()
        if hint
    )


def job_script(options: Slurm, arguments: Sequence[str]) -> str:
    """The script: what Slurm is asked for, and one line that runs the recipe.

    Raises ConfigError unless the files are there.
    """
    recipe = options.recipe
    check_files(options)
    line = ["bash", str(RUN), "--config_file", str(options.launch_file()), str(recipe), *arguments]
    if options.array is not None:
        line += array_arguments(options.array, recipe, arguments)
    quoted = [shlex.quote(argument) for argument in line]
    if options.array is not None:
        quoted = [word.replace(INDEX, "'\"$SLURM_ARRAY_TASK_ID\"'") for word in quoted]
    name = re.sub(r"[^\w.-]", "-", recipe.stem)
    return "\n".join(["#!/bin/bash", *options.directives(name), "exec " + " ".join(quoted), ""])


def check_files(options: Slurm) -> None:
    """Raise ConfigError unless recipe, launch file and run.sh are there."""
    recipe = options.recipe
    if not RUN.is_file():
        raise ConfigError(f"{RUN} is not here. Change to the root of the llmclf repository.")
    if not recipe.is_file():
        names = [str(path) for path in recipe.parent.glob("*.py")]
        raise ConfigError(
            f"recipe {str(recipe)!r}: no such file.{did_you_mean(str(recipe), names)}"
        )
    launch = options.launch_file()
    if not launch.is_file():
        names = [str(path) for path in Path("launch/accelerate").glob("*.yaml")]
        raise ConfigError(
            f"--config-file {str(launch)!r}: no such file.{did_you_mean(str(launch), names)} "
            f"There are: {', '.join(sorted(names))}."
        )


def array_arguments(array: str, recipe: Path, arguments: Sequence[str]) -> list[str]:
    """The options that make each index a run of its own."""
    what, _, count = array.partition(":")
    taken = {"folds": ("--data.fold", "--data.folds"), "seeds": ("--seed",)}[what]
    given = {argument.split("=")[0] for argument in arguments}
    for option in (*taken, "--output-dir"):
        if option in given:
            raise ConfigError(f"{option}: --array {array} sets it for each run. Leave it out.")
    folder = f"runs/{recipe.stem.replace('_', '-')}/{what[:-1]}-{INDEX}"
    own = ["--data.folds", count, "--data.fold", INDEX] if what == "folds" else ["--seed", INDEX]
    if what == "seeds" and "--data.seed" not in given:
        own += ["--data.seed", "0"]  # one split for all: else each seed has test rows of its own
    return [*own, "--output-dir", folder]
