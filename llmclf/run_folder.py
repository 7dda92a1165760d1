"""The run folder: started with what is about to run, finished by results.json, never
overwritten."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import polars as pl

from llmclf.atomic import write_text
from llmclf.config import ConfigError, dump_json, flatten
from llmclf.data.corpus import Splits
from llmclf.evaluate.predictions import Predictions
from llmclf.report.curves import plot_curves

SCHEMA = 1  # of results.json
PAIR = " \u2016 "
"""Stands between text and pair in splits.parquet."""


def problems(folder: Path) -> list[str]:
    """Why the folder could not be written, without writing anything."""
    path = folder.absolute()
    nearest = next(p for p in (path, *path.parents) if p.exists())
    if nearest.is_dir() and os.access(nearest, os.W_OK):
        return []
    return [
        f"output_dir={str(folder)!r}: {nearest} is not a folder that can be written. "
        "Choose another --output-dir."
    ]


def check(folder: Path, settings: dict[str, Any], *, resume: bool) -> None:
    """Raise ConfigError unless the folder is free, or holds an unfinished run of the same settings
    to resume."""
    # Hidden files are what an end amid the very first write left.
    if not folder.exists() or all(path.name.startswith(".") for path in folder.iterdir()):
        return
    if not resume:
        raise ConfigError(
            f"output_dir={str(folder)!r} holds a run already. Go on with it by --resume, or choose "
            "another --output-dir or --name."
        )
    if (folder / "results.json").exists():
        raise ConfigError(
            f"output_dir={str(folder)!r}: this run is finished; there is nothing to resume."
        )
    differing = differences(folder, settings)
    if differing:
        raise ConfigError(
            f"--resume: the settings differ from those in {folder}: {'; '.join(differing)}."
        )


def finished(folder: Path, settings: dict[str, Any]) -> bool:
    """Whether the folder holds a finished run of these settings."""
    return (folder / "results.json").is_file() and not differences(folder, settings)


def differences(folder: Path, settings: dict[str, Any]) -> list[str]:
    """Settings in which the stored experiment differs, as ``key: stored -> given``; the folder's
    own name and trackers aside, which decide no result.

    Raises ConfigError when the folder holds no readable experiment.json.
    """
    path = folder / "experiment.json"
    try:
        stored = flatten(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path} cannot be read ({error}). Choose another --output-dir."
        ) from error
    given = flatten(settings)
    return [
        f"{key}: {stored.get(key)!r} -> {given.get(key)!r}"
        for key in sorted(stored.keys() | given.keys())
        if key != "output_dir"
        and not key.startswith("track.")
        and stored.get(key) != given.get(key)
    ]


def membership(folder: Path) -> str:
    """Hash of the rows that a finished run used."""
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))["membership"]


def start(folder: Path, files: dict[str, Any], splits: Splits, seen: dict[str, str]) -> None:
    """Create the folder with these JSON files and the rows of the splits; ``seen``: see
    :class:`llmclf.data.audit.Audit`."""
    try:
        for name, value in files.items():
            write_text(folder / name, dump_json(value))
        write_rows(splits, seen, folder / "splits.parquet")
    except OSError as error:
        raise ConfigError(f"output_dir={str(folder)!r} cannot be written: {error}.") from error


def write_rows(splits: Splits, seen: dict[str, str], path: Path) -> None:
    """Write which row is in which split, and what a report needs of the rows.

    Columns: ``id``, ``split``, ``words`` (of text and pair); of test rows alone ``text`` (with the
    pair behind PAIR) and ``seen`` (the kind of repeat, where an earlier split has the row too).
    """
    parts = []
    for name, split in splits.named():
        texts = [pl.Series(t, dtype=pl.String) for t in (split.texts, split.pairs) if t is not None]
        text = pl.select(pl.concat_str(texts, separator=PAIR)).to_series()
        words = sum(t.str.count_matches(r"\S+").cast(pl.Int32) for t in texts)
        test = name == "test"
        parts.append(
            pl.DataFrame(
                {
                    "id": pl.Series(split.ids, dtype=pl.String),
                    "split": pl.Series([name], dtype=pl.String).new_from_index(0, len(split)),
                    "words": words,
                    "text": text if test else pl.Series([None] * len(split), dtype=pl.String),
                    "seen": pl.Series(
                        [seen.get(id_) if test else None for id_ in split.ids], dtype=pl.String
                    ),
                }
            )
        )
    pl.concat(parts).write_parquet(path)


def finish(
    folder: Path, results: dict[str, Any], validation: Predictions | None, test: Predictions
) -> None:
    """Write predictions, curves and, last of all, results.json: a run that has one is finished."""
    if validation is not None:
        validation.write(folder / "predictions" / "validation.parquet")
    test.write(folder / "predictions" / "test.parquet")
    if (folder / "metrics.jsonl").exists():
        plot_curves(folder / "metrics.jsonl", folder / "curves.png")
    write_text(folder / "results.json", dump_json(results))


def summary(folder: Path) -> str:
    """One line on a finished run."""
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    test, prior, cost = results["test"], results["prior"], results["cost"]
    done = "trained" if cost["train_seconds"] is not None else "scored"
    seconds = cost["predict_seconds" if done == "scored" else "train_seconds"]
    took = "from the cache" if seconds is None else f"in {seconds:.1f} s"
    return (
        f"{results['name']}: test macro-F1 {test['macro_f1']:.4f} (prior {prior['macro_f1']:.4f}), "
        f"accuracy {test['accuracy']:.4f}, n {test['n']:,}, {done} {took} -> {folder}"
    )
