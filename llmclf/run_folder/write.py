"""What a run writes: first what is about to run, last results.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmclf.atomic import replaced, write_text
from llmclf.config import ConfigError, dump_json, plain
from llmclf.data.corpus import Splits
from llmclf.evaluate.predictions import Predictions
from llmclf.invisible import quoted
from llmclf.run_folder import read_results
from llmclf.run_folder.curves import plot_curves
from llmclf.run_folder.same_rows import FILE, write_rows


def start(folder: Path, files: dict[str, Any], splits: Splits, seen: dict[str, str]) -> None:
    """Create the folder with the JSON files ``files``, by name, and the rows of the splits.
    ``seen``: kind of repeat by id of test rows, see :class:`llmclf.data.audit.Audit`."""
    try:
        for name, value in files.items():
            write_text(folder / name, dump_json(value))
        write_rows(splits, seen, folder / FILE)
    except OSError as error:
        raise ConfigError(f"output_dir={str(folder)!r} cannot be written: {error}.") from error


def finish(
    folder: Path, results: dict[str, Any], validation: Predictions | None, test: Predictions
) -> None:
    """Write predictions, curves and, last of all, results.json: a run that has one is finished."""
    if validation is not None:
        validation.write(folder / "predictions" / "validation.parquet")
    test.write(folder / "predictions" / "test.parquet")
    if (folder / "metrics.jsonl").exists():
        with replaced(folder / "curves.png") as temporary:
            plot_curves(folder / "metrics.jsonl", temporary)
    write_text(folder / "results.json", dump_json(results))


def summary(folder: Path) -> str:
    """A line on a finished run, and one on labels that no test row has."""
    results = read_results(folder)
    test, prior, cost = results["test"], results["prior"], results["cost"]
    done = "trained" if cost["train_seconds"] is not None else "scored"
    seconds = cost["predict_seconds" if done == "scored" else "train_seconds"]
    took = "from the cache" if seconds is None else f"in {seconds:.1f} s"
    line = (
        f"{results['name']}: test macro-F1 {test['macro_f1']:.4f} (prior {prior['macro_f1']:.4f}), "
        f"accuracy {test['accuracy']:.4f}, n {test['n']:,}, {done} {took} -> {folder}"
    )
    absent = [label for label, of in test["per_label"].items() if not of["support"]]
    return f"{line}\n{_without(absent, test['macro_f1_present'])}" if absent else line


def _without(absent: list[str], macro_f1_present: float) -> str:
    named = ", ".join(map(quoted, absent[:5])) + (" and others" if len(absent) > 5 else "")
    return plain(
        f"no test row has the label {named}: it counts 0 in macro-F1. Over the labels that test "
        f"rows have or are given (macro_f1_present) it is {macro_f1_present:.4f}."
    )
