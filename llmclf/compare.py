"""Several experiments on the same rows: run what is not finished, keep what fails from stopping the
others, and report.

A recipe is a function that returns a list of experiments, one for each method, and calls
:func:`main`. ``--folds 5 --seeds 0 1 2`` runs each of them on every fold with every seed,
``--budgets 8 16`` with so many labels of each class, too.
"""

from __future__ import annotations

import dataclasses
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

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
from llmclf.ranks import is_main, world_size
from llmclf.report.analyse import analyse
from llmclf.report.comparison import Comparison
from llmclf.report.config import ReportConfig
from llmclf.report.folders import read_all
from llmclf.report.write import write
from llmclf.terminal import main_console, quieten
from llmclf.trackers import mirror
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
    budgets: tuple[int, ...] = ()
    """Run each method with this many labelled rows of each class, too (see
    data.labels-per-class)."""
    only: tuple[str, ...] = ()
    """Run only the methods of these names; of one alone every setting can be changed."""
    dry_run: tyro.conf.FlagCreatePairsOff[bool] = False
    """Check everything, show the resolved experiments and their plans, and stop."""
    resume: tyro.conf.FlagCreatePairsOff[bool] = False
    """Go on with interrupted runs from their newest checkpoints."""


def main(
    recipe: Callable[[], list[Experiment]],
    *,
    title: str | None = None,
    report: ReportConfig | None = None,
    folds: int | None = None,
    seeds: tuple[int, ...] = (),
    budgets: tuple[int, ...] = (),
    argv: Sequence[str] | None = None,
) -> None:
    """Run a recipe's experiments with the command line's overrides and report on them. Exit code 0:
    done, 2: the user's mistake, 1: a failure, of one experiment too.

    All but ``recipe`` and ``argv`` are the defaults of what the command line may say.
    """
    quieten()
    console = main_console()
    document = sys.modules[recipe.__module__].__doc__ or ""
    with exit_on_user_error(), orderly_exit(), supervised():
        made = recipe()
        options = Launch(
            experiment=made[0],
            report=report or ReportConfig(),
            folds=folds,
            seeds=seeds,
            budgets=budgets,
        )
        made = chosen_by_name(made, parse(options, argv, document).only)
        launches = [parse(dataclasses.replace(options, experiment=e), argv, document) for e in made]
        options = launches[0]
        check_overrides(made, [launch.experiment for launch in launches])
        chosen = [place(e, o.experiment) for e, o in zip(made, launches, strict=True)]
        chosen = repeated(chosen, options.folds, options.seeds, options.budgets)
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
        runs, unusable = read_all(done, skip_unfinished=True)
        analysis = analyse(runs, config, title=title, failed=[*failed, *unusable])
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
