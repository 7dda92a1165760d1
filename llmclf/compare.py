"""Several experiments on the same rows: run what is not finished, keep what fails from stopping the
others, and report.

A recipe is a function that returns a list of experiments, one for each method, and calls
:func:`main`. ``--folds 5 --seeds 0 1 2`` runs each of them on every fold with every seed.
"""

from __future__ import annotations

import dataclasses
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from llmclf import run_folder
from llmclf.config import (
    ConfigError,
    UserError,
    exit_on_user_error,
    flatten,
    plain,
    to_json,
    write_text,
)
from llmclf.data.audit import Audit
from llmclf.data.corpus import DataConfig, Splits
from llmclf.experiment import (
    Experiment,
    check_overrides,
    dry_run,
    parse,
    prepare_data,
    run,
    validate,
)
from llmclf.report import comparison
from llmclf.report.config import ReportConfig
from llmclf.terminal import is_main, main_console, quieten, world_size
from llmclf.train import memory_retry
from llmclf.train.engine import orderly_exit
from llmclf.train.supervise import supervised

SETTINGS_OF_A_REPEAT = ("fold", "folds", "seed", "labels_per_class")
"""Of DataConfig: what may differ between the runs of one method."""


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What a command line says: settings of all experiments, and what to do with them."""

    experiment: Annotated[Experiment, tyro.conf.arg(name="")]
    report: ReportConfig
    folds: int | None = None
    """Run each method on every one of this many folds."""
    seeds: tuple[int, ...] = ()
    """Run each method with every one of these seeds, on the test rows of the first."""
    only: tuple[str, ...] = ()
    """Run only the methods of these names."""
    dry_run: tyro.conf.FlagCreatePairsOff[bool] = False
    """Check everything, show the resolved experiments and their plans, and stop."""
    resume: tyro.conf.FlagCreatePairsOff[bool] = False
    """Go on with interrupted runs from their newest checkpoints."""


def main(
    recipe: Callable[[], list[Experiment]],
    *,
    title: str | None = None,
    report: ReportConfig | None = None,
    argv: Sequence[str] | None = None,
) -> None:
    """Run a recipe's experiments with the command line's overrides and report on them. Exit code 0:
    done, 2: the user's mistake, 1: a failure, of one experiment too."""
    quieten()
    console = main_console()
    document = sys.modules[recipe.__module__].__doc__ or ""
    with exit_on_user_error(), orderly_exit(), supervised():
        made = recipe()
        options = Launch(experiment=made[0], report=report or ReportConfig())
        launches = [parse(dataclasses.replace(options, experiment=e), argv, document) for e in made]
        options = launches[0]
        check_overrides(made, [launch.experiment for launch in launches])
        chosen = [place(e, o.experiment) for e, o in zip(made, launches, strict=True)]
        chosen = repeated(chosen_by_name(chosen, options.only), options.folds, options.seeds)
        if options.dry_run:
            for experiment in chosen:
                dry_run(experiment, console)
            return
        title = title or document.partition("\n")[0].rstrip(".")
        failed = compare(
            chosen, options.report, title=title, resume=options.resume, console=console
        )
    if failed:
        sys.exit(1)


def place(original: Experiment, chosen: Experiment) -> Experiment:
    """In a comparison, ``output_dir`` is the parent of the runs, and each keeps its own name."""
    parent = chosen.output_dir or Path("runs")
    return dataclasses.replace(chosen, name=original.name, output_dir=parent / original.name)


def chosen_by_name(experiments: list[Experiment], only: Sequence[str]) -> list[Experiment]:
    """Those of these names, or all. Raises ConfigError for a name that none has."""
    names = sorted({e.name for e in experiments})
    unknown = [name for name in only if name not in names]
    if unknown:
        raise ConfigError(f"--only {unknown[0]}: no such method. Allowed: {', '.join(names)}.")
    return [e for e in experiments if not only or e.name in only]


def repeated(
    experiments: Sequence[Experiment], folds: int | None, seeds: Sequence[int]
) -> list[Experiment]:
    """Each experiment on every fold with every seed, fold by fold, in folders of their own.

    The first seed splits the rows for all, so that seeds differ in training alone.
    """
    if folds is not None and folds < 2:
        raise ConfigError(f"--folds {folds}: must be 2 or more.")
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"--seeds {' '.join(map(str, seeds))}: each may be given once.")
    found = []
    all_folds: list[int | None] = [*range(folds)] if folds else [None]
    all_seeds: list[int | None] = [*seeds] or [None]
    for fold in all_folds:
        for seed in all_seeds:
            for experiment in experiments:
                suffix = "" if fold is None else f"-fold{fold}"
                suffix += "" if seed is None else f"-seed{seed}"
                found.append(_repeat(experiment, fold, folds, seed, seeds, suffix))
    return found


def _repeat(
    experiment: Experiment,
    fold: int | None,
    folds: int | None,
    seed: int | None,
    seeds: Sequence[int],
    suffix: str,
) -> Experiment:
    data = experiment.data
    if fold is not None:
        data = dataclasses.replace(data, fold=fold, folds=folds)
    if seed is not None and data.seed is None:
        data = dataclasses.replace(data, seed=seeds[0])
    return dataclasses.replace(
        experiment,
        data=data,
        seed=experiment.seed if seed is None else seed,
        output_dir=experiment.folder.with_name(experiment.folder.name + suffix),
    )


def compare(
    experiments: Sequence[Experiment],
    config: ReportConfig,
    *,
    title: str,
    resume: bool,
    console: Console,
) -> list[str]:
    """Run what is not finished and write the report beside the runs; returns what failed.

    Raises UserError, before anything is run, for experiments that cannot be compared or whose
    folders are not theirs.
    """
    check(experiments, resume=resume)
    failed = run_all(experiments, resume=resume, console=console)
    if is_main():
        done = [e.folder for e in experiments if (e.folder / "results.json").is_file()]
        if not done:
            raise UserError("none of the runs came to an end, so there is nothing to compare.")
        table = comparison.compare([comparison.read_run(folder) for folder in done])
        console.print(table)
        path = experiments[0].folder.parent / "comparison.md"
        write_text(path, table.markdown())
        console.print(f"report: {path}", markup=False, soft_wrap=True)
    return failed


def check(experiments: Sequence[Experiment], *, resume: bool) -> None:
    """Raise ConfigError for experiments on different rows or in the same folder, and for folders
    that hold another run."""
    problems = [
        f"{e.name}: {key} differs" for e in experiments for key in differing(experiments[0], e)
    ]
    folders = [e.folder for e in experiments]
    problems += [f"two runs in {f}" for f in sorted(set(folders)) if folders.count(f) > 1]
    if problems:
        raise ConfigError("these experiments cannot be compared: " + "; ".join(problems) + ".")
    for experiment in experiments:
        validate(experiment)
        if not run_folder.finished(experiment.folder, to_json(experiment)):
            run_folder.check(experiment.folder, to_json(experiment), resume=resume)


def differing(first: Experiment, other: Experiment) -> list[str]:
    """Settings of the rows in which two experiments differ, repeats aside."""
    ours, theirs = flatten(to_json(first.data)), flatten(to_json(other.data))
    free = {*SETTINGS_OF_A_REPEAT, "max_length"}
    return [f"data.{key}" for key in ours if key not in free and ours[key] != theirs[key]]


def run_all(experiments: Sequence[Experiment], *, resume: bool, console: Console) -> list[str]:
    """Run the experiments one after another; finished ones of the same settings and rows are used
    as they are. Returns a line for each that failed."""
    failed: list[str] = []
    rows = Rows(console)
    for experiment in experiments:
        console.rule(experiment.folder.name)
        try:
            data = rows.of(experiment)
            if run_folder.finished(experiment.folder, to_json(experiment)):
                check_rows(experiment.folder, data[0])
                console.print(f"finished earlier: {experiment.folder}", markup=False)
            else:
                run(experiment, data=data, resume=resume, console=console)
        except Exception as error:
            if not survivable(error):
                raise
            if not isinstance(error, UserError):
                console.print(traceback.format_exc(), markup=False, highlight=False)
            failed.append(
                plain(f"{experiment.folder.name} failed: {error or type(error).__name__}")
            )
            console.print(failed[-1], style="bold red", markup=False)
    return failed


def survivable(error: Exception) -> bool:
    """Whether the next experiment can run after this error of one.

    Not where memory is short, since the run then starts again by itself, and of several ranks only
    after an error that all of them make: the others would wait for ever for one that failed alone.
    """
    if memory_retry.is_out_of_memory(error):
        return False
    return world_size() == 1 or isinstance(error, (UserError, FloatingPointError))


def check_rows(folder: Path, splits: Splits) -> None:
    """Raise ConfigError where a finished run used other rows: the source has changed."""
    stored = run_folder.membership(folder)
    if stored != splits.membership:
        raise ConfigError(
            f"{folder} is finished, but on other rows (membership {stored[:12]}, now "
            f"{splits.membership[:12]}): the data have changed. Choose another --output-dir."
        )


class Rows:
    """The audited splits of the experiment at hand; those of the last one are kept, since the next
    mostly shares them."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.last: tuple[tuple[DataConfig, int | None], tuple[Splits, Audit]] | None = None

    def of(self, experiment: Experiment) -> tuple[Splits, Audit]:
        """Load and audit the rows, unless they are those of the last experiment."""
        data = dataclasses.replace(experiment.data, max_length=None)
        seeded = data.seed is None or data.labels_per_class is not None
        key = (data, experiment.seed if seeded else None)
        if self.last is None or self.last[0] != key:
            self.last = key, prepare_data(experiment, self.console)
        return self.last[1]
