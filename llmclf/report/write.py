"""The report on disk: one HTML page, one of Markdown, tables for programs and papers."""

from __future__ import annotations

from pathlib import Path

from llmclf.atomic import write_text
from llmclf.config import ConfigError
from llmclf.report.analysis import Analysis
from llmclf.report.html import html
from llmclf.report.markdown import markdown
from llmclf.report.render.csv import csv_table
from llmclf.report.render.latex import latex_table
from llmclf.report.tables import TABLES, paper, tables


def write(analysis: Analysis, folder: Path) -> dict[str, Path]:
    """Write report.html, report.md, tables/*.csv and tables/scores.tex; returns them by name.

    Each file is whole or absent. Raises ConfigError where the folder cannot be written.
    """
    texts = {"report.html": html(analysis), "report.md": markdown(analysis)}
    texts |= {f"tables/{grid.name}.csv": csv_table(grid) for grid in tables(analysis)}
    texts["tables/scores.tex"] = latex_table(paper(analysis))
    try:
        # Of an earlier report, which may have had tables that this one lacks.
        for name in TABLES:
            if f"tables/{name}.csv" not in texts:
                (folder / "tables" / f"{name}.csv").unlink(missing_ok=True)
        for name, text in texts.items():
            write_text(folder / name, text)
    except OSError as error:
        raise ConfigError(f"{folder}: the report cannot be written ({error}).") from error
    return {name: folder / name for name in sorted(texts)}
