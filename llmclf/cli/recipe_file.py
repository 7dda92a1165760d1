"""A recipe file, read without running it: for the commands that are told of one."""

from __future__ import annotations

import runpy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from llmclf.cli import parameters
from llmclf.cli.parameters import Parameters
from llmclf.cli.recipe import CompareCommand, RunCommand, read, read_comparison
from llmclf.config import ConfigError, UserError
from llmclf.methods.method import Experiment


@dataclass(frozen=True, kw_only=True)
class RecipeFile:
    """What a recipe would run."""

    function: Callable[..., Experiment | list[Experiment]]
    """Makes its experiments."""
    document: str
    """Its docstring."""

    def several(self, arguments: Sequence[str]) -> bool:
        """Whether it compares experiments."""
        return not isinstance(self._made(arguments)[1], Experiment)

    def resolved(self, arguments: Sequence[str]) -> list[Experiment]:
        """The experiments with the overrides of a command line, read as the recipe itself does: a
        mistake ends the process with 2, or raises ConfigError."""
        given, made = self._made(arguments)
        if isinstance(made, Experiment):
            return read([made], arguments, self.document, RunCommand(), given)[1]
        return read_comparison(made, arguments, self.document, CompareCommand(), given)[1]

    def _made(self, arguments: Sequence[str]) -> tuple[Parameters, Experiment | list[Experiment]]:
        """What the function is called with, and what it makes of that."""
        given = parameters.given(self.function, arguments)
        return given, parameters.call(self.function, given)


def read_recipe(path: Path) -> RecipeFile:
    """Read a recipe file; ConfigError for what is none."""
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such recipe. Give a file such as recipes/gpt2.py.")
    try:
        names = runpy.run_path(str(path), run_name="recipe")
    except UserError:
        raise
    except Exception as error:
        raise ConfigError(f"{path}: not a recipe ({type(error).__name__}: {error}).") from error
    function = names.get("experiment") or names.get("experiments")
    if function is None:
        raise ConfigError(
            f"{path}: not a recipe: no experiment(). Give a file such as recipes/bert_base.py."
        )
    return RecipeFile(function=function, document=str(names.get("__doc__") or ""))
