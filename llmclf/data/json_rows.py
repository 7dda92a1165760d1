"""Read JSON: an object per line, an array of objects, or the layouts in which pandas writes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn

import polars as pl

from llmclf.config import DataError
from llmclf.data.lines import TextFormat, blank, read_lines
from llmclf.data.table import SourceTable, cell, listed, shown
from llmclf.invisible import quoted

Row = dict[str, Any]


def read_json(path: Path, form: TextFormat) -> SourceTable:
    """Read a JSON file, whatever its name says of its layout.

    Raises DataError that names the line.
    """
    lines = ((n, line) for n, line in enumerate(read_lines(path, form), 1) if not blank(line))
    first = next(lines, None)
    if first is None:
        raise DataError(f"{path}: is empty.")
    array = first[1].lstrip().startswith("[")
    if array or (_is_json_name(path) and not _is_json(first[1])):
        text = "".join(chain([first[1]], (line for _, line in lines)))
        return _document(path, _load(path, text, first[0]))
    second = next(lines, None)
    if second is None and _is_json_name(path):
        return _document(path, _load(path, first[1], first[0]))
    more = () if second is None else (second,)
    return _table(path, (_object(path, n, line) for n, line in chain([first], more, lines)))


def _is_json_name(path: Path) -> bool:
    return path.name.lower().removesuffix(".gz").endswith(".json")


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _table(path: Path, rows: Iterable[Row], decisions: tuple[str, ...] = ()) -> SourceTable:
    """The table of objects; a key that an object lacks is a gap."""
    columns: dict[str, list[str | None]] = {}
    kinds: dict[str, dict[str, int]] = {}
    number = 0
    for row in rows:
        for name, value in row.items():
            kind, text = cell(value)
            if name not in columns:
                columns[name], kinds[name] = [None] * number, {}
            columns[name].append(text)
            if kind != "missing":
                kinds[name].setdefault(kind, number)
        number += 1
        for values in columns.values():
            if len(values) < number:
                values.append(None)
    if not number:
        raise DataError(f"{path}: is empty.")
    frame = pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))
    return SourceTable(path.name, frame, kinds, decisions)


def _object(path: Path, number: int, line: str) -> Row:
    """The object of one line."""
    where = f"{path} line {number:,}"
    value = _load(path, line, number, shown(line.strip()))
    if not isinstance(value, dict):
        raise DataError(
            f"{where}: is not an object but {shown(line.strip())}. "
            'Each line must be like {"text": "...", "label": "..."}.'
        )
    return value


def _load(path: Path, text: str, line: int, near: str = "") -> Any:
    """The value that a text holds, which begins in ``line`` of the file."""
    try:
        value = json.loads(text)
        if "\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        where = f"{path} line {line:,}" if near else str(path)
        raise DataError(f"{where}: holds half a surrogate pair (\\ud...); remove it.") from None
    except RecursionError:
        raise DataError(f"{path} line {line:,}: is not JSON (nested too deeply).") from None
    except json.JSONDecodeError as error:
        number = line + error.lineno - 1
        near = near or shown(text[max(0, error.pos - 20) : error.pos + 20])
        hint = ""
        if error.msg == "Extra data":
            hint = ' Write one object per line, like {"text": "...", "label": "..."}.'
        raise DataError(
            f"{path} line {number:,}: is not JSON ({error.msg}): {near}.{hint}"
        ) from None
    return value


def _document(path: Path, value: Any) -> SourceTable:
    """The table of one JSON value: an array of objects, or an object that holds the columns."""
    if isinstance(value, list):
        return _table(path, _objects(path, value))
    if not isinstance(value, dict) or not value:
        raise DataError(f"{path}: is not an array of objects but {_shown(value)}.")
    columns = [*value.values()]
    if rows := _of_split(value):
        return _table(path, rows)
    lists = all(isinstance(c, list) for c in columns) and len(set(map(len, columns))) == 1
    if lists and not any(isinstance(v, (dict, list)) for c in columns for v in c):
        return _table(path, (dict(zip(value, r, strict=True)) for r in zip(*columns, strict=True)))
    if all(isinstance(column, dict) for column in columns):
        return _table(path, _of_pandas(path, value))
    arrays = [key for key, v in value.items() if isinstance(v, list) and v and _all_objects(v)]
    if len(arrays) != 1:
        _raise_layout(path, value)
    decision = f"rows of {path.name}: those under {quoted(arrays[0])}"
    return _table(path, value[arrays[0]], (decision,))


def _of_split(value: Row) -> list[Row]:
    """Rows of ``DataFrame.to_json(orient="split")``, or none if it is not that."""
    names, rows = value.get("columns"), value.get("data")
    if not isinstance(names, list) or not isinstance(rows, list):
        return []
    if not all(isinstance(row, list) and len(row) == len(names) for row in rows):
        return []
    return [dict(zip(map(str, names), row, strict=True)) for row in rows]


def _all_objects(values: list[Any]) -> bool:
    return all(isinstance(value, dict) for value in values)


def _shown(value: Any) -> str:
    return shown(json.dumps(value, ensure_ascii=False))


def _objects(path: Path, values: list[Any]) -> Iterator[Row]:
    for number, value in enumerate(values, 1):
        if not isinstance(value, dict):
            raise DataError(
                f"{path} row {number:,}: is not an object but {_shown(value)}. "
                'Each row must be like {"text": "...", "label": "..."}.'
            )
        yield value


def _of_pandas(path: Path, value: dict[str, Row]) -> Iterator[Row]:
    """Rows of ``DataFrame.to_json()``: columns of {index: value}, or orient="index"."""
    inner = list(value.values())
    if not all(column.keys() == inner[0].keys() for column in inner):
        _raise_layout(path, value)
    numbers = [all(key.isdigit() for key in keys) for keys in (value, inner[0])]
    if numbers == [True, False]:
        yield from inner
    elif numbers == [False, True]:
        for key in inner[0]:
            yield {name: column[key] for name, column in value.items()}
    else:
        _raise_layout(path, value)


def _raise_layout(path: Path, value: Row) -> NoReturn:
    raise DataError(
        f"{path}: holds one object with the keys {listed(value)}, which is no layout of rows that "
        'is read. Write an object per row, {"text": "...", "label": "..."}, by '
        "df.to_json(path, orient='records', lines=True); splits go into files of their own."
    )
