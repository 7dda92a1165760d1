"""Cells that hold several labels: lists, lists written as text, flags of 0 and 1."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

import polars as pl

from llmclf.config import DataError
from llmclf.data.columns import GatheredRows
from llmclf.data.label_names import check_count, named_numbers
from llmclf.data.table import cell, listed, shown
from llmclf.invisible import quoted

Values = dict[str, list[Any]]
"""Cell as it is written -> the values in it."""
SEPARATORS = ("|", ";", ",", "/", "+", "&")
_QUOTED = r"""(?:'[^']*'|"[^"]*")"""
# What str() makes of a numpy array: no commas, which Python would read as one joined string.
_NUMPY_NAMES = re.compile(rf"\[\s*{_QUOTED}(?:\s+{_QUOTED})+\s*\]")
_NUMPY_NUMBERS = re.compile(r"\[\s*[-+]?\d+\.?\d*(?:\s+[-+]?\d+\.?\d*)+\s*\]")
_NUMPY_ARRAY = re.compile(r"array\((.*?)(?:,\s*dtype=[^)]*)?\)", re.DOTALL)
_BARE_LIST = re.compile(r"\[[^\[\]]*,[^\[\]]*\]")
_BARE_FLAGS = re.compile(r"[01](?:([ ,;|/])[01])(?:\1[01])*")


def written_lists(rows: GatheredRows, column: str) -> Values | None:
    """The lists that the cells of a column hold as text, as pandas writes them into a CSV file;
    None if the cells are names.

    Raises DataError for a mixture, for objects, and for lists that cannot be told.
    """
    where = pl.col(f"label:{column}")
    cells = rows.frame[f"label:{column}"].drop_nulls().unique(maintain_order=True).to_list()
    values = {text: literal(text) for text in cells}
    for text, value in values.items():
        if isinstance(value, dict):
            raise DataError(
                f"label column {quoted(column)}: {shown(text)} is an object, not a name, in "
                f"{rows.listed(where == text)}. Write the names of the labels."
            )
        if value is None and _BARE_LIST.fullmatch(text.strip()):
            raise DataError(
                f"label column {quoted(column)}: {shown(text)} looks like a list, but its names "
                f'have no quotes, in {rows.listed(where == text)}. Write ["a", "b"], or leave the '
                "brackets out and set --data.label-separator ,."
            )
    found = {text: value for text, value in values.items() if isinstance(value, list)}
    if found and len(found) < len(values):
        name = next(text for text in cells if text not in found)
        one = next(iter(found))
        raise DataError(
            f"label column {quoted(column)} mixes lists and names: {shown(one)} in "
            f"{rows.listed(where == one, 1)}, {shown(name)} in {rows.listed(where == name, 1)}. "
            "Write all alike."
        )
    return found or None


def literal(text: str) -> list[Any] | dict[str, Any] | None:
    """The list or object that a text is in JSON, in Python or as numpy prints it; else None."""
    text = text.strip()
    if array := _NUMPY_ARRAY.fullmatch(text):
        text = array[1].strip()
    if not text or text[0] not in "[({" or text[-1] not in "])}":
        return None
    if _NUMPY_NAMES.fullmatch(text):
        return [name[1:-1] for name in re.findall(_QUOTED, text)]
    if _NUMPY_NUMBERS.fullmatch(text):
        return [float(number) for number in text[1:-1].split()]
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(value, (tuple, set, frozenset)):
            return sorted(value, key=str)
        return value if isinstance(value, (list, dict)) else None
    return None


def to_names(
    rows: GatheredRows, column: str, values: Values, label_names: tuple[str, ...] = ()
) -> tuple[dict[str, list[str]], list[str]]:
    """Sorted label names of each cell, and what was decided; ``label_names``: of labels that are
    numbers or positions.

    Raises DataError for values that are no names, ConfigError for names that do not fit.
    """
    texts = {written: _texts(rows, column, written, of) for written, of in values.items()}
    kinds: dict[str, str] = {}
    for written, of in values.items():
        for value in of:
            kinds.setdefault(cell(value)[0], written)
    if len(kinds) > 1:
        examples = " and ".join(f"{kind}s ({shown(of)})" for kind, of in sorted(kinds.items()))
        raise DataError(
            f"label column {quoted(column)}: its lists mix {examples}. Write all alike."
        )
    if _are_flags(rows, column, texts):
        return _of_flags(column, texts, label_names)
    if label_names:
        numbers = list(dict.fromkeys(text for of in texts.values() for text in of))
        name_of = dict(zip(numbers, named_numbers(column, numbers, label_names), strict=True))
        texts = {written: [name_of[text] for text in of] for written, of in texts.items()}
    said = []
    if all(len(of) == 1 for of in texts.values()):
        said.append(
            f"labels: each list of column {quoted(column)} holds one label; it is a multilabel "
            "task all the same. For one label per row, write names without lists"
        )
    return {written: sorted(set(of)) for written, of in texts.items()}, said


def _texts(rows: GatheredRows, column: str, written: str, values: list[Any]) -> list[str]:
    """The values of one cell as names."""
    texts = []
    for value in values:
        kind, text = cell(value)
        problem = None
        if kind in ("list", "object"):
            problem = f"holds the {kind} {shown(value)}"
        elif text is None or not text.strip():
            problem = f"holds the empty value {quoted(value)}"
        elif kind == "number" and re.search(r"[.e]", text):
            problem = f"holds the fraction {text}, a probability or measurement"
        if problem or text is None:
            where = rows.listed(pl.col(f"label:{column}") == written)
            raise DataError(
                f"label column {quoted(column)}: the list {shown(written)} {problem}, in {where}; "
                'each value must be a label, as in ["a", "b"], or all of them 0 or 1.'
            )
        texts.append(text)
    return texts


def _are_flags(rows: GatheredRows, column: str, texts: dict[str, list[str]]) -> bool:
    """Whether the lists hold 0 or 1 for each label, not the labels.

    As labels, equally long lists of 0 and 1 would be both of them in each row, or repeat one.
    """
    if not all(text in ("0", "1", "true", "false") for of in texts.values() for text in of):
        return False
    lengths = Counter(len(of) for of in texts.values())
    if len(lengths) == 1 and min(lengths) > 1:
        return True
    if any(len(set(of)) < len(of) or "true" in of for of in texts.values()):
        few = min(lengths, key=lambda length: (lengths[length], length))
        odd = next(written for written, of in texts.items() if len(of) == few)
        raise DataError(
            f"label column {quoted(column)}: lists of 0 and 1 must be equally long, one value for "
            f"each label, but lengths are {listed(sorted(lengths))}; {shown(odd)} is in "
            f"{rows.listed(pl.col(f'label:{column}') == odd)}."
        )
    return False


def _of_flags(
    column: str, texts: dict[str, list[str]], label_names: tuple[str, ...]
) -> tuple[dict[str, list[str]], list[str]]:
    """Labels called as ``label_names`` say, else by their position: such lists do not name them."""
    count = len(next(iter(texts.values())))
    called = label_names or tuple(map(str, range(count)))
    check_count(called, count, f"the lists of column {quoted(column)} have {count} positions")
    names = {
        written: [called[i] for i, text in enumerate(of) if text in ("1", "true")]
        for written, of in texts.items()
    }
    there = {name for of in names.values() for name in of}
    absent = [name for name in called if name not in there]
    never = f"; {listed(absent)} is 1 in no row and left aside" if absent else ""
    position = (
        "as they are given"
        if label_names
        else f"by their position, 0 to {count - 1} (to name them: --data.label-names)"
    )
    said = (
        f"labels: {count} flags of 0 and 1 in each cell of column {quoted(column)}, called "
        f"{position}{never}"
    )
    return {written: sorted(of) for written, of in names.items()}, [said]


def refuse_bare_flags(rows: GatheredRows, column: str) -> None:
    """Refuse cells such as ``0 1 0`` where no separator is given."""
    cells = rows.frame[f"label:{column}"].unique(maintain_order=True).to_list()
    matches = [_BARE_FLAGS.fullmatch(text.strip()) for text in cells]
    if all(matches) and len({len(text.strip()) for text in cells}) == 1 and matches[0]:
        raise DataError(
            f"label column {quoted(column)}: cells such as {shown(cells[0])} hold 0 or 1 for each "
            f"label. Set --data.label-separator {matches[0][1]!r}."
        )


def look_joined(names: Iterable[str]) -> list[str]:
    """A remark if names look like several labels in one: parts of them recur in others."""
    names = sorted(names)
    for separator in SEPARATORS:
        parts = {n: [part.strip() for part in n.split(separator)] for n in names if separator in n}
        parts = {name: of for name, of in parts.items() if all(of)}
        seen = Counter(part for of in parts.values() for part in set(of))
        seen.update(name for name in names if name not in parts)
        joined = [name for name, of in parts.items() if all(seen[part] > 1 for part in of)]
        if joined and 2 * len(joined) >= len(parts):
            return [
                f"labels: {listed(joined, 3)} taken for one label each; if {separator!r} parts "
                f"several labels, set --data.label-separator {separator!r}"
            ]
    return []
