"""``llmclf recipes``: what there is to start from, and a copy of it to change."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from llmclf.config import ConfigError, did_you_mean

PACKAGE = Path(__file__).resolve().parents[1]
FOLDERS = (PACKAGE / "recipes", PACKAGE.parent / "recipes")
"""In an installed package, and in a checkout."""


@dataclass(frozen=True, kw_only=True)
class Recipes:
    """List the recipes, or copy one out to be changed.

    llmclf recipes copy NAME [FILE]
    """

    action: tyro.conf.Positional[Literal["list", "copy"]] = "list"
    """list: names and first lines; copy: NAME to FILE."""
    name: tyro.conf.Positional[str | None] = None
    """The recipe to copy."""
    file: tyro.conf.Positional[Path | None] = None
    """Where to; NAME.py in this folder if not given."""

    def run(self, rest: Sequence[str]) -> None:
        """List or copy. Raises ConfigError for an unknown recipe and a file that is there."""
        assert not rest
        recipes = all_recipes()
        if self.action == "list":
            table = Table.grid(padding=(0, 2))
            for name, path in recipes.items():
                table.add_row(name, Text(first_line(path)))
            Console().print(table)
            return
        if self.name not in recipes:
            hint = did_you_mean(self.name or "", recipes)
            raise ConfigError(
                f"recipe {self.name!r}: there is none.{hint} There are: {', '.join(recipes)}."
            )
        target = copy(recipes[self.name], self.file or Path(f"{self.name}.py"))
        Console().print(f"{target}: python {target} --help", markup=False, soft_wrap=True)


def all_recipes() -> dict[str, Path]:
    """Name -> file, by name."""
    folder = next((f for f in FOLDERS if f.is_dir()), FOLDERS[0])
    return {path.stem: path for path in sorted(folder.glob("*.py"))}


def first_line(path: Path) -> str:
    """Of the docstring; the file is not run."""
    document = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return document.partition("\n")[0]


def copy(recipe: Path, target: Path) -> Path:
    """Copy a recipe, never over a file. Raises ConfigError where it cannot be written."""
    if target.is_dir():
        target = target / recipe.name
    if target.exists():
        raise ConfigError(f"{target}: is there already. Give another file.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(recipe, target)
    except OSError as error:
        raise ConfigError(f"{target}: cannot be written ({error}).") from error
    return target
