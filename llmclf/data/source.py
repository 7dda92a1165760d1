"""From the name of a source to its tables: file, folder, hub id or embedded corpus."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn

import polars as pl

from llmclf.config import ConfigError, DataError, did_you_mean
from llmclf.data.config import DataConfig
from llmclf.data.files import FORMATS, is_table, read_table, suffix
from llmclf.data.lines import TextFormat
from llmclf.data.opinions import FILES, read_opinions
from llmclf.data.table import SourceTable, from_frame, listed
from llmclf.embedded import opinions_archive

SplitName = Literal["train", "validation", "test"]
Tables = list[tuple[SplitName | None, SourceTable]]
SPLIT_NAMES: dict[str, SplitName] = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}
ALIASES = ("opinions", *(f"opinions/{domain}" for domain in FILES), "health-advice")
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?(:[\w.-]+)?")


@dataclass(frozen=True)
class Source:
    """Tables with the split that each one is, or None where the rows are still to be split."""

    tables: Tables
    known: dict[str, str] = field(default_factory=dict)
    """Columns (text, label, id, group) of a corpus whose layout is known."""
    decisions: tuple[str, ...] = ()


def find(config: DataConfig) -> Source:
    """Read what ``data.source``, ``data.validation`` and ``data.test`` name.

    Raises ConfigError or DataError if it is not there, cannot be read, or is ambiguous.
    """
    delimiter = "\t" if config.delimiter in ("tab", "\\t") else config.delimiter
    form = TextFormat(config.encoding, delimiter, config.quotes)
    source = _find_source(config.source, form)
    splits = {split for split, _ in source.tables}
    given: dict[SplitName, str | None] = {"validation": config.validation, "test": config.test}
    for split, name in given.items():
        if name is None:
            continue
        if split in splits:
            raise ConfigError(
                f"data.{split}={name!r}: {config.source} has a {split} split of its own; "
                "leave the option out, or name the training file as data.source."
            )
        source.tables.append((split, read_table(Path(name).expanduser(), form)))
    has_test = any(split == "test" for split, _ in source.tables)
    if has_test and config.folds is not None:
        raise ConfigError(
            f"data.folds={config.folds}: {config.source} comes with test rows of its own; leave "
            "data.fold and data.folds out, or name a single file as data.source."
        )
    return source


def _find_source(name: str, form: TextFormat) -> Source:
    path = Path(name).expanduser()
    if name == "opinions" or name.startswith("opinions/"):
        table = read_opinions(opinions_archive(), name.partition("/")[2] or None)
        known = {"text": "text", "label": "label", "id": "id", "group": "group"}
        decision = "group column: 'group' (sentences of one review or article stay together)"
        return Source([(None, table)], known, (decision,))
    if name == "health-advice":
        source = _load_hub(name, "medalpaca/medical_meadow_health_advice")
        return Source(source.tables, {"text": "input", "label": "output"}, source.decisions)
    if "://" in name:
        raise ConfigError(f"data.source={name!r}: is an address; download it and name the file.")
    if path.is_dir():
        return _read_folder(path, form)
    if path.exists() or suffix(path) in FORMATS or not _HUB_ID.fullmatch(name):
        return Source([(None, read_table(path, form))])
    return _load_hub(name)


def _read_folder(folder: Path, form: TextFormat) -> Source:
    """A folder's tables: train/validation/test files (or shards of them), one file, or classes as
    sub-folders."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and is_table(path))
    parts = [(split, path) for path in files if (split := _split_of(path))]
    if parts:
        if not any(split == "train" for split, _ in parts):
            raise DataError(f"{folder}: has {listed(p.name for _, p in parts)} but no train file.")
        used = ", ".join(f"{path.name} as {split}" for split, path in parts)
        tables: Tables = [(split, read_table(path, form)) for split, path in parts]
        return Source(tables, decisions=(f"folder {folder}: {used}",))
    if len(files) == 1:
        return Source([(None, read_table(files[0], form))])
    if files:
        raise DataError(
            f"{folder}: holds several files ({listed(p.name for p in files)}); name one as "
            "data.source, or call them train, validation and test."
        )
    return _read_class_folders(folder, form)


def _split_of(path: Path) -> SplitName | None:
    """Split that a file's name tells: ``test.csv`` or a shard like
    ``train-00000-of-00002.parquet``."""
    stem = path.name.lower().removesuffix(".gz").removesuffix(suffix(path))
    return SPLIT_NAMES.get(re.sub(r"-\d+-of-\d+$", "", stem))


def _read_class_folders(folder: Path, form: TextFormat) -> Source:
    """Tables of ``folder/<class>/*.txt``, or ``folder/{train,test}/<class>/*.txt``."""
    known = {"text": "text", "label": "label", "id": "id"}
    folders = sorted(path for path in folder.iterdir() if path.is_dir())
    splits = [(SPLIT_NAMES[p.name.lower()], p) for p in folders if p.name.lower() in SPLIT_NAMES]
    if splits:
        return Source([(split, _text_files(path, folder, form)) for split, path in splits], known)
    return Source([(None, _text_files(folder, folder, form))], known)


def _text_files(folder: Path, root: Path, form: TextFormat) -> SourceTable:
    rows = []
    for path in sorted(folder.glob("*/*.txt")):
        try:
            text = path.read_text(encoding=form.codec)
        except UnicodeError:
            raise DataError(f"{path}: is not {form.encoding}. Set --data.encoding.") from None
        rows.append((str(path.relative_to(root)), text, path.parent.name))
    if not rows:
        raise DataError(
            f"{folder}: no data found. Allowed are one file, train/validation/test files "
            f"({', '.join(FORMATS)}, also .gz), or one sub-folder of .txt files per class."
        )
    return from_frame(str(folder), pl.DataFrame(rows, schema=["id", "text", "label"], orient="row"))


def _load_hub(name: str, hub_id: str | None = None) -> Source:
    import datasets

    hub_id, _, subset = (hub_id or name).partition(":")
    try:
        loaded = datasets.load_dataset(hub_id, subset or None)
    # The hub client's errors share no base class: offline, unknown id, gated, wrong subset, script.
    except Exception as error:
        _raise_hub(name, error)
    return from_hub(name, loaded)


def _raise_hub(name: str, error: Exception) -> NoReturn:
    names = [p.name for p in Path().iterdir() if p.is_dir() or is_table(p)]
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    raise DataError(
        f"data.source={name!r}: no such file or folder, and the hub did not give it: "
        f"{reason.rstrip('.')}.{did_you_mean(name, [*names, *ALIASES])} Offline, use a file, a "
        "folder, or an embedded corpus (opinions, opinions/tweets); a subset of a hub data set is "
        "named as id:subset."
    ) from None


def from_hub(name: str, loaded: Any) -> Source:
    """Source of a ``datasets.DatasetDict``; class numbers become their names.

    A test split without labels (GLUE hides them as -1) is left out, and said so.
    """
    tables: Tables = []
    decisions = []
    for split, data in loaded.items():
        if split not in SPLIT_NAMES:
            decisions.append(f"hub split {split!r}: not used (its name is none of ours)")
            continue
        frame = _with_class_names(data.to_polars(), data.features)
        hidden = [c for c in frame.columns if frame[c].null_count() == frame.height]
        if split == "test" and any(hasattr(data.features[c], "int2str") for c in hidden):
            decisions.append("hub split 'test': not used, its labels are hidden (-1)")
            continue
        tables.append((SPLIT_NAMES[split], from_frame(f"{name} {split}", frame)))
    if not any(split == "train" for split, _ in tables):
        raise DataError(
            f"data.source={name!r}: has splits {listed(loaded)} but no train split; download the "
            "one you need as a file and name that."
        )
    return Source(tables, decisions=tuple(decisions))


def _with_class_names(frame: pl.DataFrame, features: Any) -> pl.DataFrame:
    for column, feature in features.items():
        if hasattr(feature, "int2str"):  # a ClassLabel
            names = pl.Series(feature.names, dtype=pl.String)
            numbers = frame[column].cast(pl.Int64)
            known = pl.when(pl.col("n") >= 0).then(pl.col("n"))
            index = numbers.alias("n").to_frame().select(known).to_series()
            frame = frame.with_columns(names.gather(index).alias(column))
    return frame
