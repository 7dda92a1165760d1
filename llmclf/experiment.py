"""An experiment from its settings to its run folder.

    validate -> load splits -> audit -> prepare -> run -> score -> write

What the approaches do of this is behind :class:`llmclf.methods.method.Method`.
"""

from __future__ import annotations

import dataclasses
import gc
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from llmclf import run_folder
from llmclf.config import changeable_keys
from llmclf.data.audit import Audit, audit
from llmclf.data.corpus import Splits, load_splits
from llmclf.evaluate import calibration
from llmclf.evaluate.calibration import Calibration
from llmclf.evaluate.outcome import Outcome, calibrated
from llmclf.evaluate.prior import prior
from llmclf.evaluate.scores import score
from llmclf.methods.method import Experiment, validate
from llmclf.ranks import is_main
from llmclf.run_folder import check, write
from llmclf.run_folder.disk import one_line
from llmclf.run_folder.environment import describe, recipe
from llmclf.run_folder.same_rows import check_same
from llmclf.supervise.held import held, refuse_if_held
from llmclf.terminal import quieten, run_console, show, show_bytes
from llmclf.trackers.mirror import mirrored


def run(
    experiment: Experiment,
    *,
    data: tuple[Splits, Audit] | None = None,
    resume: bool = False,
    console: Console | None = None,
) -> Path:
    """Run one experiment and return its folder.

    ``data``: the audited splits, if they are at hand. ``resume``: go on with an interrupted run.
    Raises UserError, before anything is written, if the experiment cannot run.
    """
    quieten()
    _run(experiment, data, resume, console or run_console())
    let_go()
    return experiment.folder


def _run(
    experiment: Experiment, data: tuple[Splits, Audit] | None, resume: bool, console: Console
) -> None:
    validate(experiment)
    folder = experiment.folder
    refuse_if_held(folder)
    check_folder(experiment, resume=resume)
    if check.begun(folder):
        console.print(f"going on with what was interrupted: {folder}", markup=False)
    splits, report = data or prepare_data(experiment, console)
    for note in check_same(folder, splits):
        console.print(note, style="yellow", markup=False, highlight=False)
    method = experiment.prepare(splits)
    plan = method.plan()
    announce(plan, method.warnings(), console)
    report = dataclasses.replace(report, truncated=method.truncated() or None)
    start = partial(start_folder, experiment, splits, report, plan, resume=resume)
    tracked = mirrored(folder, experiment.track) if is_main() else nullcontext()
    with held(folder, start), one_line(folder), tracked:
        outcome, fitted = calibrated(method.run(folder, console))
        if is_main():
            if outcome.calibration is None:  # else it is a part of the model
                calibration.write(fitted, splits.labels, folder / "model")
            results = results_of(experiment, splits, outcome, fitted)
            write.finish(folder, results, outcome.validation, outcome.test)
            console.print(write.summary(folder), markup=False, soft_wrap=True)


def let_go() -> None:
    """Free the memory of a run that is over: accelerate and DeepSpeed have models and engines refer
    to themselves, so they would stay until Python happens to look for such, beside the next
    model."""
    gc.collect()


def prepare_data(experiment: Experiment, console: Console) -> tuple[Splits, Audit]:
    """Load and audit the splits, and say what was guessed and found."""
    splits, report = audit(
        load_splits(experiment.data, experiment.seed), experiment.data.duplicates
    )
    for decision in splits.decisions:
        console.print(decision, markup=False, highlight=False)
    console.print(report.table())
    return splits, report


def announce(plan: dict[str, Any], warnings: list[str], console: Console) -> None:
    """Say what is about to run, and what the user should know before."""
    show(console, plan)
    for line in warnings:
        console.print(line, style="yellow", markup=False, highlight=False)


def check_folder(experiment: Experiment, *, resume: bool) -> None:
    """Raise ConfigError unless the experiment may go into its folder."""
    settings, free = experiment.to_json(), changeable_keys(experiment)
    check.check(experiment.folder, settings, free, resume=resume)


def start_folder(
    experiment: Experiment, splits: Splits, report: Audit, plan: dict[str, Any], *, resume: bool
) -> None:
    """Create the run folder, which this run holds by now: what is about to run, where, and on which
    rows."""
    check_folder(experiment, resume=resume)  # again: another run may have ended in it
    check_same(experiment.folder, splits)
    files = {
        "experiment.json": experiment.to_json(),
        "environment.json": describe() | {"recipe": recipe(experiment.name)} | plan,
        "audit.json": report.to_json(),
    }
    write.start(experiment.folder, files, splits, report.seen)


def results_of(
    experiment: Experiment, splits: Splits, outcome: Outcome, fitted: Calibration
) -> dict[str, Any]:
    """The contents of results.json."""
    guessed = score(prior(splits.train.targets, outcome.test))
    return {
        "schema": run_folder.SCHEMA,
        "name": experiment.name,
        "method": experiment.method,
        "model": experiment.model_name,
        "labels": list(splits.labels),
        "membership": splits.membership,
        "validation": None if outcome.validation is None else score(outcome.validation),
        "test": score(outcome.test),
        "prior": {name: guessed[name] for name in ("accuracy", "macro_f1", "nll")},
        "cost": outcome.cost.to_json(),
        **outcome.facts,
        "calibration": fitted.to_json(splits.labels),
    }


def dry_run(experiment: Experiment, console: Console) -> None:
    """Show the audit and the plan; no weights, no training, nothing written."""
    validate(experiment)
    splits, _ = prepare_data(experiment, console)
    method = experiment.prepare(splits, weights=False)
    announce(method.plan(), method.warnings(), console)
    show_bytes(console, experiment.memory(method))
