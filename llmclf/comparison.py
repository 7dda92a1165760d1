"""Several experiments on the same rows: run what is not finished, keep what fails from stopping the
others, and report."""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from llmclf.config import (
    ConfigError,
    LaunchError,
    RunError,
    UserError,
    changeable_keys,
    flatten,
    plain,
    to_json,
)
from llmclf.data.audit import Audit
from llmclf.data.config import DataConfig
from llmclf.data.corpus import Splits
from llmclf.experiment import check_folder, let_go, prepare_data, run
from llmclf.methods.method import Experiment, validate
from llmclf.ranks import is_main, world_size
from llmclf.report.analyse import analyse
from llmclf.report.comparison import Comparison
from llmclf.report.config import ReportConfig
from llmclf.report.write import write
from llmclf.run_folder import is_finished
from llmclf.run_folder.check import finished, membership
from llmclf.run_folder.find import read_all
from llmclf.supervise import out_of_memory
from llmclf.supervise.held import refuse_if_held
from llmclf.terminal import run_console
from llmclf.trackers import mirror

SETTINGS_OF_A_REPEAT = ("fold", "folds", "seed", "labels_per_class")
"""Of DataConfig: what may differ between the runs of one method."""


def repeated(
    experiments: Sequence[Experiment],
    folds: int | None,
    seeds: Sequence[int] = (),
    budgets: Sequence[int] = (),
) -> list[Experiment]:
    """Each experiment on every fold with every seed and budget, in folders of their own.

    The first seed splits the rows for all, so that seeds differ in training alone. A method whose
    budget is set already, such as few-shot prompting, keeps it. What shares rows comes together.
    """
    if folds is not None and folds < 2:
        raise ConfigError(f"--folds {folds}: must be 2 or more.")
    for name, values in (("seeds", seeds), ("budgets", budgets)):
        if len(set(values)) < len(values):
            given = " ".join(map(str, values))
            raise ConfigError(f"--{name} {given}: each may be given once.")
    found = list(experiments)
    if seeds:
        found = [_with_seed(e, seed, seeds[0]) for seed in seeds for e in found]
    found = [
        e if budget is None else _with_data(e, f"-{budget}", labels_per_class=budget)
        for budget in (None, *budgets)
        for e in found
        if budget is None or e.data.labels_per_class is None
    ]
    if folds is not None:
        found = [
            _with_data(e, f"-fold{fold}", fold=fold, folds=folds)
            for fold in range(folds)
            for e in found
        ]
    return found


def _with_seed(experiment: Experiment, seed: int, split_seed: int) -> Experiment:
    if experiment.data.seed is not None:
        split_seed = experiment.data.seed
    return dataclasses.replace(_with_data(experiment, f"-seed{seed}", seed=split_seed), seed=seed)


def _with_data(experiment: Experiment, suffix: str, **settings: Any) -> Experiment:
    """The experiment with other settings of its data, in a folder of its own."""
    folder = experiment.folder
    return dataclasses.replace(
        experiment,
        data=dataclasses.replace(experiment.data, **settings),
        output_dir=folder.with_name(folder.name + suffix),
    )


def compare(
    experiments: Sequence[Experiment],
    config: ReportConfig | None = None,
    *,
    title: str = "Comparison",
    resume: bool = False,
    console: Console | None = None,
) -> list[str]:
    """Run what is not finished and write the report beside the runs; returns what failed.

    ``config``: how they are compared. ``resume``: go on with interrupted runs. Raises UserError,
    before anything is run, for experiments that cannot be compared or whose folders are not theirs.
    """
    console = console or run_console()
    check(experiments, resume=resume)
    for experiment in experiments:
        refuse_if_held(experiment.folder)
    failed = run_all(experiments, resume=resume, console=console)
    if is_main():
        done = [e.folder for e in experiments if is_finished(e.folder)]
        if not done:
            raise UserError("none of the runs came to an end, so there is nothing to compare.")
        runs, unusable = read_all(done, skip_unfinished=True)
        analysis = analyse(runs, config or ReportConfig(), title=title, failed=[*failed, *unusable])
        console.print(Comparison(analysis))
        written = write(analysis, experiments[0].folder.parent)
        path = written["report.html"]
        console.print(f"report: {path}", markup=False, soft_wrap=True)
        mirror.report(path.parent, path, experiments[0].track)
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
        if not _is_finished(experiment):
            check_folder(experiment, resume=resume)


def _is_finished(experiment: Experiment) -> bool:
    settings, free = experiment.to_json(), changeable_keys(experiment)
    return finished(experiment.folder, settings, free)


def differing(first: Experiment, other: Experiment) -> list[str]:
    """Settings of the rows in which two experiments differ, repeats aside."""
    ours, theirs = flatten(to_json(first.data)), flatten(to_json(other.data))
    free = {*SETTINGS_OF_A_REPEAT, "max_length"}
    return [f"data.{key}" for key in ours if key not in free and ours[key] != theirs[key]]


def run_all(experiments: Sequence[Experiment], *, resume: bool, console: Console) -> list[str]:
    """Run the experiments one after another; finished ones of the same settings and rows are used
    as they are. Returns a line for each that failed.

    Raises UserError for rows that cannot be had, and for a launch that is wrong for all.
    """
    failed: list[str] = []
    rows = Rows(console)
    rows.of(experiments[0])  # a mistake in the source is one of all: it is told once
    for experiment in experiments:
        console.rule(experiment.folder.name)
        try:
            data = rows.of(experiment)
            if _is_finished(experiment):
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
        if failed:
            let_go()  # an error holds the run that it came from up to here
    return failed


def survivable(error: Exception) -> bool:
    """Whether the next experiment can run after this error of one.

    Not where memory is short, since the run then starts again by itself, nor where the disk is full
    or the launch is wrong for all, and of several ranks only after an error that all of them make:
    the others would wait for ever for one that failed alone.
    """
    if isinstance(error, (RunError, LaunchError)):
        return False
    if out_of_memory.is_out_of_memory(error) and out_of_memory.in_use() is not None:
        return False
    return world_size() == 1 or isinstance(error, (UserError, FloatingPointError))


def check_rows(folder: Path, splits: Splits) -> None:
    """Raise ConfigError where a finished run used other rows: the source has changed."""
    stored = membership(folder)
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
