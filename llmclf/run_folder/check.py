"""Whether a run may go into a folder: free, unfinished and of the same settings, or finished."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from llmclf.config import ConfigError, flatten
from llmclf.invisible import quoted
from llmclf.run_folder import is_finished, read_results, read_settings


def problems(folder: Path) -> list[str]:
    """Why the folder could not be written, without writing anything."""
    path = folder.absolute()
    nearest = next(p for p in (path, *path.parents) if p.exists())
    if nearest.is_dir() and os.access(nearest, os.W_OK):
        return []
    return [
        f"output_dir={quoted(str(folder))}: {nearest} is not a folder that can be written. "
        "Choose another --output-dir."
    ]


def check(
    folder: Path, settings: dict[str, Any], changeable: Collection[str], *, resume: bool
) -> None:
    """Raise ConfigError unless the folder is free, or holds an unfinished run of the same settings
    to resume. ``changeable``: keys of settings that may differ."""
    if not begun(folder):
        return
    if is_finished(folder):
        differing = "; ".join(differences(folder, settings, changeable))
        what = "this run is finished; there is nothing to resume"
        if differing:
            what = f"it holds a finished run of other settings: {differing}"
        raise ConfigError(
            f"output_dir={quoted(str(folder))}: {what}. Choose another --output-dir or --name."
        )
    if not resume:
        raise ConfigError(
            f"output_dir={quoted(str(folder))} holds a run already. Go on with it by --resume, or "
            "choose another --output-dir or --name."
        )
    changed = differences(folder, settings, changeable)
    if changed:
        raise ConfigError(
            f"--resume: the settings differ from those in {folder}: {'; '.join(changed)}."
        )


def begun(folder: Path) -> bool:
    """Whether the folder holds anything of a run."""
    # Hidden files are what an end amid the very first write left.
    return folder.exists() and not all(path.name.startswith(".") for path in folder.iterdir())


def finished(folder: Path, settings: dict[str, Any], changeable: Collection[str]) -> bool:
    """Whether the folder holds a finished run of these settings."""
    return is_finished(folder) and not differences(folder, settings, changeable)


def differences(folder: Path, settings: dict[str, Any], changeable: Collection[str]) -> list[str]:
    """Settings in which the stored experiment differs, as ``key: stored -> given``; what decides no
    result aside: keys that are changeable, and sections that the approach does not read, which
    older versions wrote.

    Raises ConfigError when the folder holds no readable experiment.json.
    """
    path = folder / "experiment.json"
    try:
        stored = flatten(read_settings(folder))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path} cannot be read ({error}). Choose another --output-dir."
        ) from error
    given = flatten(settings)
    read = {key.partition(".")[0] for key in given}
    return [
        f"{key}: {quoted(stored.get(key))} -> {quoted(given.get(key))}"
        for key in sorted(stored.keys() | given.keys())
        if key not in changeable
        and key.partition(".")[0] in read
        and stored.get(key) != given.get(key)
    ]


def membership(folder: Path) -> str:
    """Hash of the rows that a finished run used."""
    return read_results(folder)["membership"]
