"""An experiment from its settings to its run folder: the only module that knows all the others.

    validate -> load splits -> audit -> prepare -> train -> predict -> score -> write

A recipe is a function that returns an :class:`Experiment`, and calls :func:`main`; one that returns
several, to be compared, calls that of :mod:`llmclf.compare`.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro
from rich.console import Console

from llmclf import baselines, run_folder
from llmclf.baselines import BaselineConfig
from llmclf.config import ConfigError, dump_json, exit_on_user_error, flatten, to_json
from llmclf.data.audit import Audit, audit
from llmclf.data.corpus import DataConfig, Splits, load_splits
from llmclf.environment import describe, recipe
from llmclf.evaluate.cost import Cost
from llmclf.evaluate.predictions import Predictions
from llmclf.evaluate.scores import score
from llmclf.model.build import ModelConfig
from llmclf.model.causal import frozen_problems
from llmclf.prompt import few_shot
from llmclf.prompt.config import ApiConfig, PromptConfig
from llmclf.ranks import is_main
from llmclf.terminal import main_console, quieten, show
from llmclf.trackers.config import TrackConfig
from llmclf.trackers.mirror import mirrored
from llmclf.train import fine_tune, footprint
from llmclf.train.config import TrainConfig
from llmclf.train.engine import (
    check_undivided,
    main_process_first,
    orderly_exit,
    resolve_precision,
    start_engine,
)
from llmclf.train.supervise import supervised

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One method on one corpus: everything that decides the result."""

    name: str
    """Name of the run, and of its folder."""
    method: Literal["fine_tune", "prompt", "classical"] = "fine_tune"
    """A fine-tuned language model, a prompted one, or a classical baseline."""
    seed: int = 0
    """Decides splits, initial weights, order of rows and dropout."""
    output_dir: Path | None = None
    """Run folder; runs/<name> if not given."""
    data: DataConfig
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    prompt: PromptConfig = field(default_factory=PromptConfig)
    api: ApiConfig = field(default_factory=ApiConfig)
    baseline: BaselineConfig = field(default_factory=BaselineConfig)
    track: TrackConfig = field(default_factory=TrackConfig)

    @property
    def folder(self) -> Path:
        """Where the run is written."""
        return self.output_dir or Path("runs") / self.name


SECTIONS = {
    "fine_tune": ("model", "train"),
    "prompt": ("model", "prompt", "api"),
    "classical": ("baseline",),
}
"""The settings that each method reads, besides the common ones."""


def validate(experiment: Experiment) -> None:
    """Check all combinations at once; ConfigError lists every problem, before anything is
    downloaded."""
    problems = experiment.data.problems()
    if not experiment.name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        problems.append(f"name={experiment.name!r}: allowed are letters, digits, '-', '_' and '.'.")
    if experiment.method == "fine_tune":
        problems += experiment.train.problems() + experiment.model.problems()
        if experiment.data.validation is None and experiment.data.validation_fraction == 0:
            problems.append(
                "data.validation_fraction=0: fine-tuning chooses its weights by validation rows. "
                "Set it above 0, or give --data.validation."
            )
    if experiment.method == "prompt":
        problems += experiment.prompt.problems() + experiment.api.problems()
        problems += frozen_problems(experiment.model)
    problems += experiment.track.problems() + run_folder.problems(experiment.folder)
    if problems:
        raise ConfigError("\n".join(problems))


def run(
    experiment: Experiment,
    *,
    data: tuple[Splits, Audit] | None = None,
    resume: bool = False,
    console: Console | None = None,
) -> Path:
    """Run one experiment and return its folder.

    ``data``: the audited splits, if they are at hand. Raises UserError, before anything is written,
    if the experiment cannot run.
    """
    console = console or main_console()
    validate(experiment)
    folder = experiment.folder
    run_folder.check(folder, to_json(experiment), resume=resume)
    splits, report = data or prepare_data(experiment, console)
    with ExitStack() as trackers:
        run_on(experiment, splits, report, console, trackers)
    return folder


def run_on(
    experiment: Experiment, splits: Splits, report: Audit, console: Console, trackers: ExitStack
) -> None:
    """Run an experiment that was checked; ``trackers`` follow its folder once that is there."""
    folder = experiment.folder
    validation: Predictions | None
    extra: dict[str, Any] = {}
    if experiment.method == "fine_tune":
        prepared = prepare_fine_tune(experiment, splits)
        report = dataclasses.replace(report, truncated=prepared.truncated())
        plan = prepared.plan()
        show(console, plan)
        warn_of_truncation(console, prepared)
        start_folder(experiment, splits, report, plan, trackers)
        validation, test, cost, fitted = prepared.run(folder, console)
    elif experiment.method == "prompt":
        prompted = prepare_prompt(experiment, splits)
        report = dataclasses.replace(report, truncated=prompted.truncated())
        plan = prompted.plan()
        show(console, plan)
        prompted.warn(console)
        start_folder(experiment, splits, report, plan, trackers)
        validation, test, cost, fitted, extra["prompt"] = prompted.run(folder, console)
    else:
        alone = {"world_size": 1, "strategy": "single"}
        start_folder(experiment, splits, report, alone, trackers)
        baseline, validation, test, cost = baselines.run(
            experiment.baseline, splits, seed=experiment.seed
        )
        fitted = baseline.calibration
        console.print(f"chosen: {baseline.chosen}", markup=False, highlight=False)
        if is_main():
            baseline.save(folder / "model")
    if is_main():
        extra["calibration"] = fitted.to_json(splits.labels)
        found = results(experiment, splits, validation, test, cost) | extra
        run_folder.finish(folder, found, validation, test)
        console.print(run_folder.summary(folder), markup=False, soft_wrap=True)


def dry_run(experiment: Experiment, console: Console) -> None:
    """Show the resolved experiment, the audit and the plan; no weights, no training, nothing
    written."""
    validate(experiment)
    console.print_json(dump_json(to_json(experiment)))
    splits, _ = prepare_data(experiment, console)
    if experiment.method == "fine_tune":
        prepared = prepare_fine_tune(experiment, splits, weights=False)
        show(console, prepared.plan())
        show(console, memory(experiment, prepared))
        warn_of_truncation(console, prepared)
    elif experiment.method == "prompt":
        prompted = prepare_prompt(experiment, splits, weights=False)
        show(console, prompted.plan())
        prompted.warn(console)


def memory(experiment: Experiment, prepared: fine_tune.FineTune) -> dict[str, int]:
    """Bytes on the fullest device of the run that would start."""
    return footprint.of_run(
        prepared.model.config,
        experiment.model,
        experiment.train,
        in_force=prepared.in_force,
        length=int(prepared.task.train.lengths.max()),
    )


def prepare_data(experiment: Experiment, console: Console) -> tuple[Splits, Audit]:
    """Load and audit the splits, and say what was guessed and found."""
    splits, report = audit(
        load_splits(experiment.data, experiment.seed), experiment.data.duplicates
    )
    for decision in splits.decisions:
        console.print(decision, markup=False, highlight=False)
    console.print(report.table())
    return splits, report


def warn_of_truncation(console: Console, prepared: fine_tune.FineTune) -> None:
    """Say how much of the texts the model will not see."""
    for name, cut in prepared.truncated().items():
        if cut["rows"]:
            console.print(
                f"{name}: {cut['rows']:,} rows ({cut['share']:.1%}) are longer than "
                f"{prepared.max_length:,} tokens and lose {cut['tokens_lost']:,} tokens",
                style="yellow",
            )


def prepare_fine_tune(
    experiment: Experiment, splits: Splits, *, weights: bool = True
) -> fine_tune.FineTune:
    return fine_tune.prepare(
        splits,
        model_config=experiment.model,
        config=experiment.train,
        max_length=experiment.data.max_length,
        seed=experiment.seed,
        weights=weights,
    )


def prepare_prompt(
    experiment: Experiment, splits: Splits, *, weights: bool = True
) -> few_shot.FewShot:
    precision = resolve_precision(experiment.prompt.precision)
    accelerator = start_engine(TrainConfig(precision=precision))
    check_undivided(accelerator)
    with main_process_first(accelerator):
        return few_shot.prepare(
            splits,
            config=experiment.prompt,
            api=experiment.api,
            model_config=experiment.model,
            max_length=experiment.data.max_length,
            seed=experiment.seed,
            precision=precision,
            accelerator=accelerator,
            weights=weights,
        )


def fit_baseline(config: BaselineConfig, splits: Splits, seed: int) -> baselines.Baseline:
    """Fit on the training rows."""
    labels, multilabel = splits.labels, splits.multilabel
    return baselines.fit(config, splits.train, labels=labels, multilabel=multilabel, seed=seed)


def method_name(experiment: Experiment) -> str:
    """``method`` of results.json."""
    if experiment.method == "fine_tune":
        return experiment.model.method
    if experiment.method == "prompt":
        return "prompt"
    return "majority" if experiment.baseline.classifier == "majority" else "classical"


def model_name(experiment: Experiment) -> str:
    """What was trained or prompted, for tables."""
    if experiment.method in ("fine_tune", "prompt"):
        return experiment.model.checkpoint
    classifier = experiment.baseline.classifier
    return classifier if classifier == "majority" else f"tfidf+{classifier}"


def start_folder(
    experiment: Experiment,
    splits: Splits,
    report: Audit,
    in_force: dict[str, Any],
    trackers: ExitStack,
) -> None:
    """Create the run folder: what is about to run, where, and on which rows; and have it
    mirrored."""
    if is_main():
        files = {
            "experiment.json": to_json(experiment),
            "environment.json": describe() | {"recipe": recipe(experiment.name)} | in_force,
            "audit.json": report.to_json(),
        }
        run_folder.start(experiment.folder, files, splits, report.seen)
        trackers.enter_context(mirrored(experiment.folder, experiment.track))


def results(
    experiment: Experiment,
    splits: Splits,
    validation: Predictions | None,
    test: Predictions,
    cost: Cost,
) -> dict[str, Any]:
    """The contents of results.json."""
    prior = score(
        fit_baseline(BaselineConfig(classifier="majority"), splits, experiment.seed).predict(
            splits.test
        )
    )
    return {
        "schema": run_folder.SCHEMA,
        "name": experiment.name,
        "method": method_name(experiment),
        "model": model_name(experiment),
        "labels": list(splits.labels),
        "membership": splits.membership,
        "validation": None if validation is None else score(validation),
        "test": score(test),
        "prior": {name: prior[name] for name in ("accuracy", "macro_f1", "nll")},
        "cost": cost.to_json(),
    }


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What a command line says: the experiment, and what to do with it."""

    experiment: Annotated[Experiment, tyro.conf.arg(name="")]
    dry_run: tyro.conf.FlagCreatePairsOff[bool] = False
    """Check everything, show the resolved experiment and the plan, and stop."""
    resume: tyro.conf.FlagCreatePairsOff[bool] = False
    """Go on with an interrupted run from its newest checkpoint."""


def main(recipe: Callable[[], Experiment], argv: Sequence[str] | None = None) -> None:
    """Run a recipe with the command line's overrides. Exit code 0: done, 2: the user's mistake, 1:
    a failure."""
    quieten()
    console = main_console()
    with exit_on_user_error(), orderly_exit(), supervised():
        made = recipe()
        launch = parse(Launch(experiment=made), argv, sys.modules[recipe.__module__].__doc__)
        check_overrides([made], [launch.experiment])
        if launch.dry_run:
            dry_run(launch.experiment, console)
        else:
            run(launch.experiment, resume=launch.resume, console=console)


def parse(launch: T, argv: Sequence[str] | None, description: str | None) -> T:
    """Apply the command line to its defaults; tyro exits with 2 on an unknown option, naming the
    nearest."""
    return tyro.cli(type(launch), default=launch, args=argv, description=description)


def check_overrides(before: Sequence[Experiment], after: Sequence[Experiment]) -> None:
    """Refuse an option that no experiment reads, and in a comparison one that would make its
    members alike."""
    old, new = ([flatten(to_json(e)) for e in experiments] for experiments in (before, after))
    optional = {name for names in SECTIONS.values() for name in names}
    for key in old[0]:
        if all(a[key] == b[key] for a, b in zip(old, new, strict=True)):
            continue
        section = key.partition(".")[0]
        option = "--" + key.replace("_", "-")
        readers = [
            settings
            for e, settings in zip(before, old, strict=True)
            if section not in optional or section in SECTIONS[e.method]
        ]
        if not readers:
            raise ConfigError(
                f"{option}: this recipe does not read the settings of {section!r}. Leave it out."
            )
        values = sorted({str(settings[key]) for settings in readers})
        if len(values) > 1:
            raise ConfigError(
                f"{option}: the runs of this recipe differ in it ({', '.join(values)}), so it "
                "cannot be set for all. Choose one of them: --only."
            )
