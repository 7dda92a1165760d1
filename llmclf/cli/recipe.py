"""What a recipe calls: its experiments with the command line's overrides, run or shown.

A recipe is a function that returns an :class:`~llmclf.methods.method.Experiment`, or a list of them
to be compared; its parameters, if it has any, are options, too. Nothing heavy is imported until the
command line is read and found right.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass, make_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import tyro

from llmclf.cli import parameters
from llmclf.cli.parameters import Parameters
from llmclf.config import ConfigError, exit_on_user_error, flatten
from llmclf.methods.method import Experiment, validate
from llmclf.report.config import ReportConfig
from llmclf.supervise.supervised import orderly_exit, supervised
from llmclf.terminal import main_console, quieten, show_settings, until_nobody_reads

if TYPE_CHECKING:
    from rich.console import Console

C = TypeVar("C", bound="RunCommand")
NONE = Parameters()


@dataclass(frozen=True, kw_only=True)
class RunCommand:
    """What the command line of one experiment says besides its settings."""

    dry_run: tyro.conf.FlagCreatePairsOff[bool] = False
    """Check everything, show the settings and the plan, and stop."""
    resume: tyro.conf.FlagCreatePairsOff[bool] = False
    """Go on with an interrupted run from its newest checkpoint."""


@dataclass(frozen=True, kw_only=True)
class CompareCommand(RunCommand):
    """What the command line of a comparison says besides."""

    only: tuple[str, ...] = ()
    """Run only the methods of these names; of one alone every setting can be changed."""
    folds: int | None = None
    """Run each method on every one of this many folds."""
    seeds: tuple[int, ...] = ()
    """Run each method with every one of these seeds, on the test rows of the first."""
    budgets: tuple[int, ...] = ()
    """Run each method with this many labelled rows of each class, too (see
    data.labels-per-class)."""
    report: ReportConfig = field(default_factory=ReportConfig)


def main(
    recipe: Callable[..., Experiment] | Callable[..., list[Experiment]],
    *,
    title: str | None = None,
    report: ReportConfig | None = None,
    folds: int | None = None,
    seeds: tuple[int, ...] = (),
    budgets: tuple[int, ...] = (),
    argv: Sequence[str] | None = None,
) -> None:
    """Run a recipe with the command line's overrides; of several experiments, report on them. Exit
    code 0: done, 2: the user's mistake, 1: a failure, of one experiment too.

    ``title`` to ``budgets``: of a comparison, the defaults of what its command line may say.
    """
    document = sys.modules[recipe.__module__].__doc__ or ""
    with until_nobody_reads(), exit_on_user_error():
        given = parameters.given(recipe, argv)
        made = parameters.call(recipe, given)
        if isinstance(made, Experiment):
            command, (chosen,) = read([made], argv, document, RunCommand(), given)
            _run_one(chosen, command)
            return
        defaults = CompareCommand(
            report=report or ReportConfig(), folds=folds, seeds=seeds, budgets=budgets
        )
        comparison, members = read_comparison(made, argv, document, defaults, given)
        _compare(members, comparison, title or document.partition("\n")[0].rstrip("."))


def _run_one(experiment: Experiment, command: RunCommand) -> None:
    validate(experiment)
    if command.dry_run:
        show_settings(main_console(), experiment.to_json())
    with _session() as console:
        from llmclf.experiment import dry_run, run

        if command.dry_run:
            dry_run(experiment, console)
        else:
            run(experiment, resume=command.resume)


def _compare(members: list[Experiment], command: CompareCommand, title: str) -> None:
    with _session() as console:
        from llmclf.comparison import check, compare, repeated
        from llmclf.experiment import dry_run

        members = repeated(members, command.folds, command.seeds, command.budgets)
        if command.dry_run:
            check(members, resume=command.resume)
            for experiment in members:
                show_settings(console, experiment.to_json())
                dry_run(experiment, console)
            return
        failed = compare(members, command.report, title=title, resume=command.resume)
    if failed:
        sys.exit(1)


@contextmanager
def _session() -> Iterator[Console]:
    """The terminal, left to our own messages; ranks that are watched, and leave their group in
    order."""
    with orderly_exit(), supervised():
        quieten()  # loads transformers
        yield main_console()


def read(
    made: Sequence[Experiment],
    argv: Sequence[str] | None,
    document: str | None,
    command: C,
    given: Parameters = NONE,
) -> tuple[C, list[Experiment]]:
    """The command line applied to each experiment: the command, and the experiments as it wants
    them. ``command`` holds the defaults of what is no setting, ``given`` what the recipe was called
    with.

    tyro exits with 2 on an unknown option, naming the nearest; ConfigError for one in which the
    experiments differ.
    """
    parsed = [_parse(_all_settings(e, made), command, given, argv, document) for e in made]
    chosen = [_own_settings(e, settings) for e, (settings, _) in zip(made, parsed, strict=True)]
    check_overrides(made, chosen)
    return parsed[0][1], chosen


def read_comparison(
    made: Sequence[Experiment],
    argv: Sequence[str] | None,
    document: str | None,
    command: CompareCommand,
    given: Parameters = NONE,
) -> tuple[CompareCommand, list[Experiment]]:
    """As :func:`read`, for the experiments that ``--only`` leaves; ``--output-dir`` is the parent
    of their folders, and each keeps its own name."""
    _, first = _parse(_all_settings(made[0], made), command, given, argv, document)
    made = chosen_by_name(made, first.only)
    command, chosen = read(made, argv, document, command, given)
    renamed = [c.name for e, c in zip(made, chosen, strict=True) if c.name != e.name]
    if renamed:
        raise ConfigError(
            f"--name {renamed[0]}: the runs of a comparison keep their names. Set --output-dir."
        )
    placed = [
        replace(c, name=e.name, output_dir=(c.output_dir or Path("runs")) / e.name)
        for e, c in zip(made, chosen, strict=True)
    ]
    return command, placed


def _parse(
    settings: Experiment,
    command: C,
    given: Parameters,
    argv: Sequence[str] | None,
    document: str | None,
) -> tuple[Experiment, C]:
    """The command line read once; --help names the options in this order, and then the sections of
    the settings."""
    taken = [f.name for f in (*fields(settings), *fields(command))]
    if twice := [f.name for f in fields(given) if f.name in taken]:
        raise ConfigError(
            f"{twice[0]}: a parameter of this recipe, but an option of every recipe. Rename it."
        )
    parts: dict[str, Any] = {"settings": settings, "command": command, "given": given}
    line = make_dataclass(
        "CommandLine",
        [(name, Annotated[type(part), tyro.conf.arg(name="")]) for name, part in parts.items()],
        frozen=True,
        kw_only=True,
    )
    read: Any = tyro.cli(line, default=line(**parts), args=argv, description=document)
    return read.settings, read.command


def _all_settings(experiment: Experiment, others: Sequence[Experiment]) -> Experiment:
    """An experiment with every section that any of the others has, too: what one command line may
    set of all. Where two have a section in common, the one with more settings is taken."""
    sections: dict[str, Any] = _values(experiment)
    for other in others:
        for name in (f.name for f in fields(other)):
            mine: Any = sections.get(name)
            theirs: Any = getattr(other, name)
            if name not in sections:
                sections[name] = theirs
            elif type(theirs) is not type(mine) and isinstance(theirs, type(mine)):
                sections[name] = replace(theirs, **_values(mine))
    own = _values(experiment)
    more = [(n, type(v)) for n, v in sections.items() if type(v) is not type(own.get(n))]
    kind = type(experiment)  # its docstrings are the help
    both: Any = make_dataclass("Settings", more, bases=(kind,), frozen=True, kw_only=True)
    described = both.__dataclass_fields__  # in the order of --help: what is tracked comes last
    described["track"] = described.pop("track")
    return both(**sections)


def _own_settings(experiment: Experiment, settings: Experiment) -> Experiment:
    """Of all settings, those that the experiment reads."""
    own = {}
    for f in fields(experiment):
        before: Any = getattr(experiment, f.name)
        after: Any = getattr(settings, f.name)
        if is_dataclass(before) and type(after) is not type(before):
            after = before.__class__(**{g.name: getattr(after, g.name) for g in fields(before)})
        own[f.name] = after
    return replace(experiment, **own)


def _values(config: Any) -> dict[str, Any]:
    return {f.name: getattr(config, f.name) for f in fields(config)}


def chosen_by_name(experiments: Sequence[Experiment], only: Sequence[str]) -> list[Experiment]:
    """Those of these names, or all. Raises ConfigError for a name that none has."""
    names = sorted({e.name for e in experiments})
    unknown = [name for name in only if name not in names]
    if unknown:
        raise ConfigError(f"--only {unknown[0]}: no such method. Allowed: {', '.join(names)}.")
    return [e for e in experiments if not only or e.name in only]


def check_overrides(before: Sequence[Experiment], after: Sequence[Experiment]) -> None:
    """Refuse an option that would make the members of a comparison alike in what sets them
    apart."""
    old, new = ([flatten(e.to_json()) for e in experiments] for experiments in (before, after))
    for key in dict.fromkeys(key for settings in old for key in settings):
        readers = [(o[key], n[key]) for o, n in zip(old, new, strict=True) if key in o]
        values = sorted({str(value) for value, _ in readers})
        if len(values) > 1 and any(value != given for value, given in readers):
            raise ConfigError(
                f"--{key.replace('_', '-')}: the runs of this recipe differ in it "
                f"({', '.join(values)}), so it cannot be set for all. Choose one of them: --only."
            )
