"""Which folders hold runs, finished or not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from llmclf.config import DataError, plain
from llmclf.run_folder import is_finished
from llmclf.run_folder.read import EXPECTED, Finished, read


def read_all(
    paths: Sequence[Path], *, skip_unfinished: bool = False
) -> tuple[list[Finished], list[str]]:
    """Read the runs among ``paths`` and their children; returns them, and what was left out and
    why.

    Raises DataError for a path without runs, and for unfinished and unusable runs unless they are
    to be skipped.
    """
    folders, left_out = find_runs(paths, skip_unfinished=skip_unfinished)
    runs = []
    for folder in folders:
        try:
            runs.append(read(folder))
        except DataError as error:
            if not skip_unfinished:
                raise
            left_out.append(str(error))
    return runs, left_out


def find_runs(
    paths: Sequence[Path], *, skip_unfinished: bool = False
) -> tuple[list[Path], list[str]]:
    """Return the finished run folders among ``paths`` and their children, each once, and a line for
    each one that was skipped. What a report left beside runs is passed over, so that ``runs/*`` may
    be given.

    Raises DataError for a path that holds no run, and naming unfinished runs (experiment.json
    without results.json) unless they are to be skipped.
    """
    folders: dict[Path, Path] = {}
    unfinished: dict[Path, Path] = {}
    for path in paths:
        candidates = (
            [path] if _is_run(path) else [child for child in _children(path) if _is_run(child)]
        )
        if not candidates and not _is_of_report(path):
            problem = "no run folder, nor a parent of some" if path.is_dir() else "no such folder"
            raise DataError(plain(f"{path}: {problem}. {EXPECTED}"))
        for folder in candidates:
            (folders if is_finished(folder) else unfinished).setdefault(folder.resolve(), folder)
    if unfinished and not skip_unfinished:
        raise DataError(
            plain(f"not finished (no results.json): {', '.join(map(str, unfinished.values()))}. ")
            + "Finish them, leave them out, or give --skip-unfinished."
        )
    skipped = [plain(f"{f}: not finished (no results.json).") for f in unfinished.values()]
    return list(folders.values()), skipped


def _is_run(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("results.json", "experiment.json"))


def _is_of_report(path: Path) -> bool:
    """Whether a report wrote it beside the runs that it is of: report.html, report.md, tables."""
    beside = path.parent
    if path.name in ("report.html", "report.md"):
        return path.is_file() and (beside / "tables" / "scores.csv").is_file()
    return path.name == "tables" and all((path / f"scores.{e}").is_file() for e in ("csv", "tex"))


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
