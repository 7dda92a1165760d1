"""What the rows of a comparison are, from the audit of its first run: files of other versions may
lack any of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmclf.report.analysis import Analysis
from llmclf.report.grid import Column, Grid
from llmclf.report.texts import visible
from llmclf.report.words import WHOLE, times

SPLITS = {"train": "training", "validation": "validation", "test": "test"}
_REPEATS = {"exact": "repeats", "normalised": "repeats but for case", "near": "near duplicates"}


def rows(analysis: Analysis) -> Grid:
    """Rows of each split, and what the audit found and dropped there."""
    within = {kind: Column(title, WHOLE) for kind, title in _REPEATS.items()}
    columns = (
        Column("split"), Column("rows", WHOLE), *within.values(),
        Column("dropped", WHOLE), Column("seen by an earlier split", WHOLE),
    )  # fmt: skip
    shown = tuple(
        (
            name, row_count(analysis, split),
            *(_number(analysis.audit, "within", split, kind) for kind in within),
            _number(analysis.audit, "dropped", split), _number(analysis.audit, "leaked", split),
        )
        for split, name in SPLITS.items()
        if row_count(analysis, split) is not None
    )  # fmt: skip
    note = (
        "Dropped: rows that a later split has, too; rows: what was left. Repeats are of an earlier "
        "row of the same split, those but for case, punctuation and spaces count exact ones."
    )
    return Grid("rows", "Rows", columns, shown, f"{note}{_which(analysis)}")


def classes(analysis: Analysis) -> Grid:
    """Rows of each label in each split."""
    shown = tuple(
        (label, *(_number(analysis.audit, "classes", label, split) for split in SPLITS))
        for label in analysis.labels
        if _of(analysis.audit, "classes", label) is not None
    )
    columns = (Column("label"), *(Column(name, WHOLE) for name in SPLITS.values()))
    return Grid("classes", "Rows of each label", columns, shown, _which(analysis).lstrip())


def remarks(analysis: Analysis) -> tuple[str, ...]:
    """What the audit found that no split alone has: a sentence each."""
    audit, found = analysis.audit, []
    if texts := _number(audit, "conflicts", "texts"):
        examples = _of(audit, "conflicts", "examples")
        first = examples[0] if isinstance(examples, list) and examples else ()
        found.append(
            f"{times(texts, 'text')} with more than one label, "
            f"{times(_number(audit, 'conflicts', 'rows') or 0, 'row')}{_such_as(first)}."
        )
    if empty := _number(audit, "empty", "rows"):
        found.append(
            f"{times(empty, 'row')} without text dropped{_such_as(_of(audit, 'empty', 'names'))}."
        )
    if odd := _number(audit, "odd_characters", "rows"):
        ids = _such_as(_of(audit, "odd_characters", "ids"))
        found.append(f"{times(odd, 'text')} with invisible characters{ids}.")
    return tuple(found)


def row_count(analysis: Analysis, split: str) -> int | None:
    """Rows of a split of the first run; None where it is not known."""
    return _number(analysis.audit, "rows", split)


def dropped(analysis: Analysis) -> int:
    """Rows that were dropped: of all splits those that a later one has, and those without text."""
    repeated = sum(_number(analysis.audit, "dropped", split) or 0 for split in SPLITS)
    return repeated + (_number(analysis.audit, "empty", "rows") or 0)


def conflicting(analysis: Analysis) -> int:
    """Rows whose text occurs with another label, too."""
    return _number(analysis.audit, "conflicts", "rows") or 0


def _which(analysis: Analysis) -> str:
    return " Of the first test set." if analysis.statistics.folds > 1 else ""


def _such_as(names: Any) -> str:
    if not isinstance(names, Sequence) or isinstance(names, str) or not names:
        return ""
    return f" (such as {', '.join(visible(name, 40) for name in names[:3])})"


def _of(audit: Any, *keys: str) -> Any:
    for key in keys:
        audit = audit.get(key) if isinstance(audit, dict) else None
    return audit


def _number(audit: Any, *keys: str) -> int | None:
    value = _of(audit, *keys)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
