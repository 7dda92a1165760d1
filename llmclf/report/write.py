"""The report on disk: one HTML page, the same in Markdown, and its tables as CSV files."""

from __future__ import annotations

from pathlib import Path

from llmclf.atomic import write_text
from llmclf.config import ConfigError
from llmclf.report.analysis import Analysis
from llmclf.report.grid import csv_text
from llmclf.report.html import html
from llmclf.report.markdown import GRIDS, grids, markdown


def write(analysis: Analysis, folder: Path) -> dict[str, Path]:
    """Write report.html, report.md and tables/*.csv; returns them by name.

    Each file is whole or absent. Raises ConfigError where the folder cannot be written.
    """
    texts = {"report.html": html(analysis), "report.md": markdown(analysis)}
    texts |= {f"tables/{grid.name}.csv": csv_text(grid) for grid in grids(analysis)}
    try:
        # Of an earlier report, which may have had tables that this one lacks.
        for name in GRIDS:
            if f"tables/{name}.csv" not in texts:
                (folder / "tables" / f"{name}.csv").unlink(missing_ok=True)
        for name, text in texts.items():
            write_text(folder / name, text)
    except OSError as error:
        raise ConfigError(f"{folder}: the report cannot be written ({error}).") from error
    return {name: folder / name for name in sorted(texts)}
