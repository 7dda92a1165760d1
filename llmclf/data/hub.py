"""Data sets of the ``datasets`` library: from the hub, or saved to disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from llmclf.config import DataError, did_you_mean
from llmclf.data.class_names import name_classes, of_features
from llmclf.data.files import is_table
from llmclf.data.table import SPLIT_NAMES, Source, SourceTable, Tables, from_frame, listed
from llmclf.invisible import quoted


def load_hub(name: str, hub_id: str | None = None, aliases: Sequence[str] = ()) -> Source:
    """Source of a data set of the hub, as ``id`` or ``id:subset``. Raises DataError if it cannot be
    had."""
    import datasets

    hub_id, _, subset = (hub_id or name).partition(":")
    try:
        loaded = datasets.load_dataset(hub_id, subset or None)
    # The hub client's errors share no base class: offline, unknown id, gated, wrong subset, script.
    except Exception as error:
        _raise_hub(name, error, aliases)
    return from_hub(name, loaded)


def _raise_hub(name: str, error: Exception, aliases: Sequence[str]) -> NoReturn:
    names = [p.name for p in Path().iterdir() if p.is_dir() or is_table(p)]
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    raise DataError(
        f"data.source={quoted(name)}: no such file or folder, and the hub did not give it: "
        f"{reason.rstrip('.')}.{did_you_mean(name, [*names, *aliases])} Offline, use a file, a "
        "folder, or an embedded corpus (opinions, opinions/tweets); a subset of a hub data set is "
        "named as id:subset."
    ) from None


def load_saved(folder: Path) -> Source:
    """Source of a folder that ``save_to_disk`` of ``datasets`` has written."""
    import datasets

    try:
        loaded = datasets.load_from_disk(str(folder))
    except Exception as error:  # Arrow's and the library's share no base class
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(
            f"{folder}: looks as save_to_disk writes it, but cannot be read ({reason})."
        ) from None
    if isinstance(loaded, datasets.DatasetDict):
        return from_hub(str(folder), loaded)
    return Source([(None, _table(str(folder), loaded))])


def is_saved(folder: Path) -> bool:
    """Whether ``save_to_disk`` has written a folder, by the files that it leaves."""
    names = ("dataset_info.json", "state.json")
    return (folder / "dataset_dict.json").is_file() or all((folder / n).is_file() for n in names)


def from_hub(name: str, loaded: Any) -> Source:
    """Source of a ``datasets.DatasetDict``; class numbers become their names.

    A test split without labels (GLUE hides them as -1) is left out, and said so.
    """
    tables: Tables = []
    decisions = []
    for split, data in loaded.items():
        if split not in SPLIT_NAMES:
            decisions.append(f"hub split {quoted(split)}: not used (its name is none of ours)")
            continue
        table = _table(f"{name} {split}", data)
        if split == "test" and table.hidden:
            decisions.append("hub split 'test': not used, its labels are hidden (-1)")
            continue
        tables.append((SPLIT_NAMES[split], table))
    if not any(split == "train" for split, _ in tables):
        raise DataError(
            f"data.source={quoted(name)}: has splits {listed(loaded)} but no train split; download "
            "the one you need as a file and name that."
        )
    return Source(tables, decisions=tuple(decisions))


def _table(name: str, data: Any) -> SourceTable:
    names = of_features(data.features.to_dict())
    return from_frame(name, name_classes(data.to_polars(), names, name), names)
