"""Parameters of a recipe's function: options of its command line, read before it is called.

    def experiments(encoder: Annotated[str, "Checkpoint that learns."] = "minilm-l6"): ...

makes ``--encoder``. They choose settings, such as a checkpoint that several experiments share, and
leave the names of the experiments as they are: by its name a run is repeated.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, make_dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import tyro

from llmclf.config import ConfigError
from llmclf.methods.method import Experiment

HELP = "Of the recipe: see the settings that it makes with --dry-run."


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Those of a recipe's function, as fields; of most recipes there are none."""


def defaults(recipe: Callable[..., Any]) -> Parameters:
    """The parameters with their own values. Raises ConfigError for one without a default."""
    try:
        hints = get_type_hints(recipe, include_extras=True)
    except NameError as error:
        raise ConfigError(f"{recipe.__name__}(): the type of a parameter: {error}.") from error
    described: list[tuple[str, Any, Any]] = []
    for name, parameter in inspect.signature(recipe).parameters.items():
        default = parameter.default
        if default is inspect.Parameter.empty:
            raise ConfigError(
                f"{recipe.__name__}({name}): a parameter of a recipe needs a default value."
            )
        kind, *notes = get_args(hints.get(name)) if _is_annotated(hints.get(name)) else [None]
        kind = kind or hints.get(name, type(default))
        text = next((note for note in notes if isinstance(note, str)), HELP)
        described.append((name, Annotated[kind, tyro.conf.arg(help=text)], field(default=default)))
    made = make_dataclass("Parameters", described, bases=(Parameters,), frozen=True, kw_only=True)
    return made()


def given(recipe: Callable[..., Any], argv: Sequence[str] | None) -> Parameters:
    """The parameters as the command line wants them; what else it says is left to be read later.

    tyro exits with 2 on a value of another type.
    """
    own = defaults(recipe)
    if not fields(own):
        return own
    read, _ = tyro.cli(type(own), default=own, args=argv, add_help=False, return_unknown_args=True)
    return read


def call(recipe: Callable[..., Any], parameters: Parameters) -> Experiment | list[Experiment]:
    """What the recipe makes with them: one experiment, or several to be compared. Raises
    ConfigError for what is neither."""
    made = recipe(**{f.name: getattr(parameters, f.name) for f in fields(parameters)})
    if isinstance(made, Experiment):
        return made
    several = list(made) if isinstance(made, (list, tuple)) else []
    wrong = [e for e in several if not isinstance(e, Experiment)]
    if not several or wrong:
        given = f"{wrong[0]!r} among others" if wrong else repr(made)
        raise ConfigError(
            f"{recipe.__name__}() returned {given}: a recipe returns an experiment, such as "
            "FineTune(...), or a list of them. Is a return missing?"
        )
    return several


def _is_annotated(hint: Any) -> bool:
    return get_origin(hint) is Annotated
