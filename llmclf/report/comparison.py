"""One table over finished runs that classified the same rows."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from llmclf.config import DataError, plain

SCHEMA = 1
MISSING = "n/a"
_EXPECTED = "A run folder holds experiment.json and, once finished, results.json."
_MARKDOWN = re.compile(r"[\\`*\[\]<>|~&]|(?<!\w)_|_(?!\w)")  # inside a word, "_" means itself


@dataclass(frozen=True, kw_only=True)
class Run:
    """What the table needs of a run folder."""

    folder: Path
    name: str
    method: str
    model: str
    labels: frozenset[str]
    membership: str
    """Hash of the rows of all splits: equal means the same rows."""
    values: dict[str, float | None]
    """Score or cost by the path of its key in results.json, such as "test.macro_f1"."""


@dataclass(frozen=True)
class Column:
    """A column of numbers."""

    title: str
    key: str
    show: Callable[[float], str]
    best: Callable[[Iterable[float]], float] | None
    """max or min; None where neither end is better."""


def _score(value: float) -> str:
    return f"{value:.3f}"


def _difference(value: float) -> str:
    return f"{value:+.3f}"


def _amount(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _count(value: float) -> str:
    """Three digits and a unit: 22.7M."""
    for factor, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * factor:
            return f"{value / factor:.3g}{unit}"
    return f"{value:.0f}"


def _gibibytes(value: float) -> str:
    return f"{value / 2**30:.2f}"


SCORES = (
    Column("macro-F1", "test.macro_f1", _score, max),
    Column("accuracy", "test.accuracy", _score, max),
    Column("MCC", "test.mcc", _score, max),
    Column("NLL", "test.nll", _score, min),
    Column("ECE", "test.ece", _score, min),
    Column("lift", "lift", _difference, max),
)
COSTS = (
    Column("trainable parameters", "cost.trainable_parameters", _count, None),
    Column("train s", "cost.train_seconds", _amount, min),
    Column("rows/s", "cost.predict_examples_per_second", _amount, max),
    Column("peak GiB", "cost.peak_memory_bytes", _gibibytes, min),
)
CAPTION = "Scores on the test rows. Lift: macro-F1 above that of the majority class."


@dataclass(frozen=True)
class Comparison:
    """Runs on the same rows, the best macro-F1 first. Printed by rich, split where too wide."""

    runs: tuple[Run, ...]

    def table(self, columns: Sequence[Column] = SCORES + COSTS, *, models: bool = True) -> Table:
        """Return the table for a terminal; ``models``: with the columns method and model."""
        table = Table(box=SIMPLE, caption=CAPTION if SCORES[0] in columns else None)
        texts, numbers = self._names(models), [self._numbers(column) for column in columns]
        for title in texts[0]:
            table.add_column(title, overflow="fold")
        for column in columns:
            table.add_column(column.title.replace(" ", "\n"), justify="right", no_wrap=True)
        for row, names in enumerate(texts[1:]):
            cells = [column[row] for column in numbers]
            table.add_row(*map(Text, names), *(Text(c, "bold" if b else "") for c, b in cells))
        return table

    def markdown(self) -> str:
        """Return the same table in Markdown."""
        columns = SCORES + COSTS
        header, *names = self._names(True)
        numbers = [self._numbers(column) for column in columns]
        lines = [[*header, *(column.title for column in columns)]]
        lines.append([":--"] * len(header) + ["--:"] * len(columns))
        for row, texts in enumerate(names):
            cells = [column[row] for column in numbers]
            lines.append([_MARKDOWN.sub(r"\\\g<0>", text) for text in texts])
            lines[-1] += [f"**{text}**" if best else text for text, best in cells]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines) + f"\n{CAPTION}\n"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        whole = self.table()
        if Measurement.get(console, options.update(max_width=10_000), whole).maximum > (
            options.max_width
        ):
            yield self.table(SCORES, models=False)
            yield self.table(COSTS)
        else:
            yield whole

    def _names(self, models: bool) -> list[list[str]]:
        """Header and rows of what names the runs; the folder is added where names repeat."""
        names = [run.name for run in self.runs]
        rows = [["run", "method", "model"]]
        for run in self.runs:
            name = run.name if names.count(run.name) == 1 else f"{run.name} ({run.folder})"
            rows.append([plain(text) for text in (name, run.method, run.model)])
        return rows if models else [row[:1] for row in rows]

    def _numbers(self, column: Column) -> list[tuple[str, bool]]:
        """Text of each run's value, and whether it is the best, as far as the digits show."""
        values = [run.values[column.key] for run in self.runs]
        known = [value for value in values if value is not None]
        best = column.show(column.best(known)) if column.best and len(known) > 1 else None
        texts = [MISSING if value is None else column.show(value) for value in values]
        return [(text, text == best) for text in texts]


def compare(runs: Sequence[Run]) -> Comparison:
    """Put runs side by side.

    Raises DataError if there are none, or if they did not use the same rows and labels.
    """
    if not runs:
        raise DataError("nothing to compare: give one or more folders of finished runs.")
    _require_equal("rows in each split", runs, lambda run: run.membership[:12])
    _require_equal("labels", runs, lambda run: ", ".join(sorted(run.labels)))
    best_first = sorted(runs, key=lambda run: (-(run.values["test.macro_f1"] or 0), run.name))
    return Comparison(tuple(best_first))


def _require_equal(what: str, runs: Sequence[Run], of: Callable[[Run], str]) -> None:
    folders: dict[str, list[str]] = {}
    for run in runs:
        folders.setdefault(of(run), []).append(str(run.folder))
    if len(folders) > 1:
        found = "\n".join(plain(f"  {key}: {', '.join(f)}") for key, f in folders.items())
        raise DataError(
            f"these runs differ in the {what}, so their scores cannot be compared:\n{found}\n"
            "Compare runs with the same data settings, seed and fold."
        )


def find_runs(paths: Sequence[Path], *, skip_unfinished: bool = False) -> list[Path]:
    """Return the finished run folders among ``paths`` and their children, each once.

    Raises DataError for a path that holds no run, and naming unfinished runs (experiment.json
    without results.json) unless they are to be skipped.
    """
    folders: dict[Path, Path] = {}
    unfinished: list[str] = []
    for path in paths:
        found = [path] if _is_run(path) else [child for child in _children(path) if _is_run(child)]
        if not found:
            problem = "no run folder, nor a parent of some" if path.is_dir() else "no such folder"
            raise DataError(plain(f"{path}: {problem}. {_EXPECTED}"))
        for folder in found:
            if (folder / "results.json").is_file():
                folders.setdefault(folder.resolve(), folder)
            else:
                unfinished.append(str(folder))
    if unfinished and not skip_unfinished:
        raise DataError(
            plain(f"not finished (no results.json): {', '.join(unfinished)}. ")
            + "Finish them, leave them out, or give --skip-unfinished."
        )
    return list(folders.values())


def _is_run(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("results.json", "experiment.json"))


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def read_run(folder: Path) -> Run:
    """Read a finished run. Raises DataError, naming the folder and what is wrong with it."""
    path = folder / "results.json"
    if not folder.is_dir():
        raise DataError(plain(f"{folder}: no such folder. {_EXPECTED}"))
    if not path.is_file():
        raise DataError(plain(f"{folder}: not finished (no results.json). {_EXPECTED}"))
    try:
        return _run(folder, json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise DataError(
            plain(f"{path}: cannot be used ({error}). ") + "Leave this run out, or run it again."
        ) from error


def _run(folder: Path, results: Any) -> Run:
    """Raises ValueError, naming the key."""
    found = results.get("schema") if isinstance(results, dict) else None
    if found != SCHEMA:
        raise ValueError(f"schema is {found!r}; this version of llmclf reads schema {SCHEMA}")
    values = {c.key: _number(results, c.key) for c in SCORES + COSTS if c.key != "lift"}
    macro_f1, prior = values["test.macro_f1"], _number(results, "prior.macro_f1")
    values["lift"] = None if macro_f1 is None or prior is None else macro_f1 - prior
    return Run(
        folder=folder,
        name=_value(results, "name", str),
        method=_value(results, "method", str),
        model=_value(results, "model", str),
        labels=frozenset(map(str, _value(results, "labels", list))),
        membership=_value(results, "membership", str),
        values=values,
    )


def _number(results: dict, key: str) -> float | None:
    value = _value(results, key, (int, float, type(None)))
    if isinstance(value, bool) or (value is not None and not math.isfinite(value)):
        raise ValueError(f"{key} is {value!r}, not a finite number")
    return value


def _value(results: dict, key: str, kind: type | tuple[type, ...]) -> Any:
    value: Any = results
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            raise ValueError(f"{key} is missing")
        value = value[part]
    if not isinstance(value, kind):
        raise ValueError(f"{key} is {value!r}")
    return value
