"""What to type to repeat a run."""

from __future__ import annotations

import re
import shlex
from typing import Any

from llmclf.config import plain
from llmclf.run_folder.read import Finished

_LINE_ENDS = " \\\n  "


def command(run: Finished) -> str:
    """A shell command with every setting that the run read, so that it depends on no default.

    RECIPE stands for the recipe where none was started: any one of the same kind of method that
    sets nothing that is None here.
    """
    options = [
        option
        for key, value in settings(run).items()
        if key not in ("method", "output_dir")
        for option in _option(key, value)
    ]
    return _LINE_ENDS.join([_start(run), "--output-dir runs/again", *options])


def settings(run: Finished) -> dict[str, Any]:
    """Settings of a run that decide its result: all but those of trackers."""
    return {k: v for k, v in run.experiment.items() if not k.startswith("track.")}


def _start(run: Finished) -> str:
    recipe, processes = run.environment.get("recipe"), run.environment.get("world_size")
    words = "RECIPE"
    if isinstance(recipe, list) and recipe:
        words = " ".join(map(_word, recipe))
    if not isinstance(processes, int) or processes < 2:
        return f"python {words}"
    return f"accelerate launch --num_processes {processes} {words}"


def _option(key: str, value: Any) -> list[str]:
    """A setting as options of a command; none where None, or nothing, is meant."""
    section, _, name = key.replace("_", "-").rpartition(".")
    dotted = f"{section}.{name}" if section else name
    if value is None or value == []:
        return []
    if isinstance(value, bool):
        return [f"--{dotted}" if value else f"--{section}.no-{name}"]
    values = value if isinstance(value, list) else [value]
    return [" ".join([f"--{dotted}", *map(_word, values)])]


def _word(value: Any) -> str:
    """A value as one word of a shell; line breaks and tabs are kept, what steers a terminal is
    not."""
    parts = re.split("([\n\t])", str(value))
    return shlex.quote("".join(part if part in ("\n", "\t") else plain(part) for part in parts))
