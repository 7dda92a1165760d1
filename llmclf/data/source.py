"""From the name of a source to its tables: file, folder, hub id or embedded corpus."""

from __future__ import annotations

import re
from pathlib import Path

from llmclf.config import ConfigError
from llmclf.data.config import DataConfig
from llmclf.data.files import DELIMITED, FORMATS, read_table, suffix
from llmclf.data.folders import read_folder
from llmclf.data.hub import load_hub
from llmclf.data.lines import TextFormat
from llmclf.data.opinions import FILES, read_opinions
from llmclf.data.table import Source, SplitName
from llmclf.embedded import opinions_archive
from llmclf.invisible import quoted

ALIASES = ("opinions", *(f"opinions/{domain}" for domain in FILES), "health-advice")
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?(:[\w.-]+)?")


def find(config: DataConfig) -> Source:
    """Read what ``data.source``, ``data.validation`` and ``data.test`` name.

    Raises ConfigError or DataError if it is not there, cannot be read, or is ambiguous.
    """
    form = TextFormat(config.encoding, config.delimiter_character, config.quotes)
    source = _find_source(config.source, form)
    splits = {split for split, _ in source.tables}
    given: dict[SplitName, str | None] = {"validation": config.validation, "test": config.test}
    for split, name in given.items():
        if name is None:
            continue
        if split in splits:
            raise ConfigError(
                f"data.{split}={quoted(name)}: {config.source} has a {split} split of its own; "
                "leave the option out, or name the training file as data.source."
            )
        source.tables.append((split, read_table(Path(name).expanduser(), form)))
    _refuse_unused(config, source)
    has_test = any(split == "test" for split, _ in source.tables)
    if has_test and config.folds is not None:
        raise ConfigError(
            f"data.folds={config.folds}: {config.source} comes with test rows of its own; leave "
            "data.fold and data.folds out, or name a single file as data.source."
        )
    return source


def _refuse_unused(config: DataConfig, source: Source) -> None:
    """Refuse settings of CSV files where none is read."""
    if any(suffix(Path(table.name)) in DELIMITED for _, table in source.tables):
        return
    for key in ("delimiter", "quotes"):
        if (value := getattr(config, key)) is not None:
            raise ConfigError(
                f"data.{key}={quoted(value)}: has no effect, since {config.source} is no CSV or "
                "TSV file; leave it out."
            )


def _find_source(name: str, form: TextFormat) -> Source:
    path = Path(name).expanduser()
    if name == "opinions" or name.startswith("opinions/"):
        table = read_opinions(opinions_archive(), name.partition("/")[2] or None)
        known = {"text": "text", "label": "label", "id": "id", "group": "group"}
        decision = "group column: 'group' (sentences of one review or article stay together)"
        return Source([(None, table)], known, (decision,))
    if name == "health-advice":
        source = load_hub(name, "medalpaca/medical_meadow_health_advice")
        return Source(source.tables, {"text": "input", "label": "output"}, source.decisions)
    if "://" in name:
        raise ConfigError(
            f"data.source={quoted(name)}: is an address; download it and name the file."
        )
    if path.is_dir():
        return read_folder(path, form)
    if path.exists() or suffix(path) in FORMATS or not _HUB_ID.fullmatch(name):
        return Source([(None, read_table(path, form))])
    return load_hub(name, aliases=ALIASES)
