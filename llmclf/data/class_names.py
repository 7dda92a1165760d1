"""Names of classes that a data set keeps beside their numbers (``datasets.ClassLabel``)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import polars as pl

from llmclf.config import DataError
from llmclf.data.table import listed
from llmclf.invisible import quoted

_LISTS = ("Sequence", "List", "LargeList", "Array")


def of_parquet(metadata: Mapping[bytes, bytes] | None) -> dict[str, list[str]]:
    """Column -> names of its classes, as ``datasets`` writes them into a Parquet file's metadata
    under ``huggingface``; empty if it did not."""
    try:
        info = json.loads((metadata or {}).get(b"huggingface", b"{}"))["info"]
        features = info["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    return of_features(features) if isinstance(features, dict) else {}


def of_features(features: Mapping[str, Any]) -> dict[str, list[str]]:
    """Column -> names of its classes, from features as JSON (``Features.to_dict``)."""
    found = {column: _names(feature) for column, feature in features.items()}
    return {column: names for column, names in found.items() if names}


def _names(feature: Any) -> list[str] | None:
    """Names of a ClassLabel, or of a list of them, which older releases wrote as ``[feature]``."""
    if isinstance(feature, list):
        return _names(feature[0]) if len(feature) == 1 else None
    if not isinstance(feature, dict):
        return None
    if feature.get("_type") == "ClassLabel":
        return feature.get("names")
    return _names(feature.get("feature")) if feature.get("_type") in _LISTS else None


def name_classes(frame: pl.DataFrame, names: Mapping[str, list[str]], where: str) -> pl.DataFrame:
    """The frame with names in place of class numbers; -1, with which labels are hidden, is a gap.

    Raises DataError for a number without a name.
    """
    for column, known in names.items():
        if column in frame.columns:
            frame = frame.with_columns(_named(frame[column], known, where))
    return frame


def _named(series: pl.Series, names: list[str], where: str) -> pl.Series:
    if isinstance(series.dtype, pl.Array):
        series = series.arr.to_list()
    of_lists = isinstance(series.dtype, pl.List)
    numbers = series.explode() if of_lists else series
    if not numbers.dtype.is_numeric():  # names already, or nothing
        return series
    unknown = numbers.filter(numbers >= len(names)).unique()
    if len(unknown):
        raise DataError(
            f"{where}: column {quoted(series.name)} holds the class {unknown[0]}, but names only "
            f"{len(names)} ({listed(names)})."
        )
    of = dict(enumerate(names))
    value = pl.element() if of_lists else pl.col(series.name)
    text = value.cast(pl.Int64).replace_strict(of, default=None, return_dtype=pl.String)
    named = pl.col(series.name).list.eval(text) if of_lists else text
    return series.to_frame().select(named.alias(series.name)).to_series()
