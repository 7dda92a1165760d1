"""From a folder to its tables: files named after splits, one file, or a sub-folder per class."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

from llmclf.config import DataError
from llmclf.data.files import FORMATS, is_table, read_table, suffix
from llmclf.data.hub import is_saved, load_saved
from llmclf.data.lines import TextFormat
from llmclf.data.table import (
    SPLIT_NAMES,
    Source,
    SourceTable,
    SplitName,
    Tables,
    from_frame,
    listed,
)

Parts = list[tuple[SplitName, Path]]
UNLABELLED_FOLDERS = ("unsup", "unlabeled", "unlabelled")
"""Folders of texts without a label, as beside the classes of aclImdb."""
_RUBBISH = ("thumbs.db", "desktop.ini")
_METADATA = ("dataset_info.json", "dataset_infos.json", "config.json", "package.json")


def read_folder(folder: Path, form: TextFormat) -> Source:
    """A folder's tables: train/validation/test files (or shards of them), one file, or classes as
    sub-folders; also as ``datasets`` saves it, and with all of that in ``data``, as on the hub."""
    if is_saved(folder):
        return load_saved(folder)
    files = _tables(folder)
    parts = _parts(folder, files)
    if parts:
        return _read_parts(folder, parts, files, form)
    classes = [path for path in _folders(folder) if any(path.glob("*.txt"))]
    if files and classes:
        raise DataError(
            f"{folder}: holds {listed(p.name for p in files)} and the folders "
            f"{listed(p.name for p in classes)} with texts, which could be classes. Name the file "
            f"as data.source ({files[0]}), or move it out of the folder."
        )
    if len(files) == 1:
        return Source([(None, read_table(files[0], form))])
    if files:
        raise DataError(
            f"{folder}: holds several files ({listed(p.name for p in files)}); name one as "
            "data.source, or call them train, validation and test."
        )
    below = folder / "data"
    if not classes and below.is_dir() and (is_saved(below) or _tables(below)):
        return read_folder(below, form)
    return _read_class_folders(folder, form)


def _visible(path: Path) -> bool:
    """Whether a file or folder is someone's data: not .ipynb_checkpoints, ._1.txt, __MACOSX."""
    return not path.name.startswith((".", "__")) and path.name.lower() not in _RUBBISH


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and _visible(path))


def _tables(folder: Path) -> list[Path]:
    """Files of a folder that can be read; JSON only if there is nothing else, since much that is
    no data is JSON."""
    files = sorted(p for p in folder.iterdir() if p.is_file() and is_table(p) and _visible(p))
    files = [path for path in files if path.name not in _METADATA]
    others = any(suffix(path) != ".json" for path in files)
    return [p for p in files if suffix(p) != ".json" or _split_of(p) or not others]


def _split_of(path: Path) -> SplitName | None:
    """Split that a file's name tells: ``test.csv``, or a shard like
    ``train-00000-of-00002.parquet``, also with the hash that the hub appends."""
    stem = path.name.lower().removesuffix(".gz").removesuffix(suffix(path))
    return SPLIT_NAMES.get(re.sub(r"-\d+-of-\d+(-[0-9a-f]{8,})?$", "", stem))


def _parts(folder: Path, files: list[Path]) -> Parts:
    """Files with the splits that their names, or their folders' names, tell."""
    parts = [(split, path) for path in files if (split := _split_of(path))]
    if parts:
        return parts
    named = [(SPLIT_NAMES.get(path.name.lower()), path) for path in _folders(folder)]
    return [(split, file) for split, path in named if split for file in _tables(path)]


def _read_parts(folder: Path, parts: Parts, files: list[Path], form: TextFormat) -> Source:
    names = {path: str(path.relative_to(folder)) for _, path in parts}
    if not any(split == "train" for split, _ in parts):
        raise DataError(f"{folder}: has {listed(names.values())} but no train file.")
    tables: Tables = []
    used, decisions = [], []
    for split, path in parts:
        table = read_table(path, form)
        if split == "test" and table.hidden:
            decisions.append(f"{path.name}: not used, its labels are hidden (-1)")
            continue
        tables.append((split, table))
        used.append(f"{names[path]} as {split}")
    aside = [path.name for path in files if path not in names]
    left = f"; not used: {listed(aside)}" if aside else ""
    return Source(tables, decisions=(f"folder {folder}: {', '.join(used)}{left}", *decisions))


def _read_class_folders(folder: Path, form: TextFormat) -> Source:
    """Tables of ``folder/<class>/*.txt``, or ``folder/{train,test}/<class>/*.txt``."""
    known = {"text": "text", "label": "label", "id": "id"}
    splits = [
        (SPLIT_NAMES[path.name.lower()], path)
        for path in _folders(folder)
        if path.name.lower() in SPLIT_NAMES
    ]
    decisions: list[str] = []
    if not splits:
        table = _text_files(folder, folder, _classes(folder, decisions), form, decisions)
        return Source([(None, table)], known, tuple(decisions))
    classes = {path: _classes(path, decisions) for _, path in splits}
    _refuse_untested(splits, classes)
    tables: Tables = [
        (split, _text_files(path, folder, classes[path], form, decisions)) for split, path in splits
    ]
    return Source(tables, known, tuple(decisions))


def _classes(folder: Path, decisions: list[str]) -> list[Path]:
    """The folders of classes in a folder; those without labels or rows are left aside and said."""
    hidden = sorted(p.name for p in folder.iterdir() if p.is_dir() and not _visible(p))
    if hidden:
        decisions.append(f"folder {folder}: hidden folders not used: {listed(hidden)}")
    classes = []
    for path in _folders(folder):
        if path.name.lower() in UNLABELLED_FOLDERS:
            count = len(_texts(path))
            decisions.append(
                f"folder {path}: {count:,} texts not used, for its name says that they have no "
                "label"
            )
        else:
            classes.append(path)
    return classes


def _refuse_untested(splits: Parts, classes: dict[Path, list[Path]]) -> None:
    """Refuse classes of training rows for which a given test folder has no folder."""
    tested = [path for split, path in splits if split == "test"]
    if not tested:
        return
    there = {path.name for folder in tested for path in classes[folder]}
    for split, folder in splits:
        for path in classes[folder]:
            if split == "train" and path.name not in there:
                raise DataError(
                    f"{path}: holds {len(_texts(path)):,} texts of a class for which {tested[0]} "
                    "has no folder. If they have no label, move the folder away; if the class has "
                    f"no test rows, make an empty folder {tested[0] / path.name}."
                )


def _texts(folder: Path) -> list[Path]:
    """The texts in the folder of a class: .txt files, or if there are none, all that are no
    tables."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and _visible(path))
    return [p for p in files if p.suffix.lower() == ".txt"] or [p for p in files if not is_table(p)]


def _text_files(
    folder: Path, root: Path, classes: list[Path], form: TextFormat, decisions: list[str]
) -> SourceTable:
    rows = []
    for of_class in classes:
        texts = _texts(of_class)
        rows += [(str(p.relative_to(root)), _read_text(p, form), of_class.name) for p in texts]
        aside = [p.name for p in of_class.iterdir() if _visible(p) and p not in texts]
        if aside:
            names = listed(sorted(aside), 3)
            decisions.append(f"folder {of_class}: {len(texts):,} texts, not used: {names}")
    if not rows:
        raise DataError(
            f"{folder}: no data found.{_deeper(folder)} Allowed are one file, "
            f"train/validation/test files ({', '.join(FORMATS)}, also .gz), or one sub-folder of "
            ".txt files per class."
        )
    return from_frame(str(folder), pl.DataFrame(rows, schema=["id", "text", "label"], orient="row"))


def _read_text(path: Path, form: TextFormat) -> str:
    try:
        text = path.read_text(encoding=form.codec)
    except UnicodeError:
        raise DataError(
            f"{path}: is not {form.encoding}. If it is a text, set --data.encoding; if not, "
            "move it out of the folder."
        ) from None
    if "\0" in text:
        raise DataError(f"{path}: is not a text file (it holds a NUL byte); move it away.")
    return text


def _deeper(folder: Path) -> str:
    """Where data lie further down, for a message."""
    below = [
        p for p in _folders(folder) if _tables(p) or is_saved(p) or any(map(_texts, _folders(p)))
    ]
    return f" Name one of its folders: {listed(path.name for path in below)}." if below else ""
