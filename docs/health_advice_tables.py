"""Writes the tables of docs/health_advice.md from the runs of two recipes:

python docs/health_advice_tables.py runs/health-advice runs/break-even
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from llmclf.report.analyse import analyse
from llmclf.report.analysis import Analysis
from llmclf.report.config import ReportConfig
from llmclf.report.detail_tables import budgets, crossings, per_label
from llmclf.report.grid import Grid
from llmclf.report.render.markdown import escaped, markdown_table
from llmclf.report.tables import differences, published, scores
from llmclf.run_folder.find import read_all

PAGE = Path(__file__).with_name("health_advice.md")
START, END = "<!-- {name}: docs/health_advice_tables.py -->\n", "<!-- end of {name} -->\n"
PUBLISHED = ("SVM, published=0.833", "BERT-base, published=0.918", "BioBERT, published=0.933")


def read(folder: Path, config: ReportConfig) -> Analysis:
    runs, left_out = read_all([folder], skip_unfinished=True)
    return analyse(runs, config, title=folder.name, failed=left_out)


def origin(analysis: Analysis) -> str:
    """Hardware, seeds and commit of the runs."""
    best = analysis.methods[0]
    environment = best.environment
    s = analysis.statistics
    return (
        f"Commit {str(environment['git_commit'])[:12]}, one thread of {environment['cpu']}, "
        f"precision {environment['precision']}; {s.rows:,} test rows, {s.folds} fold(s), "
        f"{max(s.seeds.values())} seed(s).\n"
    )


def methods(folder: Path) -> str:
    """The approaches on all labels."""
    analysis = read(folder, ReportConfig(published=PUBLISHED))
    left_out = "".join(f"\nLeft out: {escaped(line)}\n" for line in analysis.left_out)
    shown = tables(analysis, scores, published, differences, per_label)
    return f"{escaped(analysis.verdict.sentence)}\n\n{origin(analysis)}{left_out}\n{shown}"


def labels(folder: Path) -> str:
    """The approaches on few labels."""
    analysis = read(folder, ReportConfig())
    return f"{origin(analysis)}\n{tables(analysis, budgets, crossings)}"


def tables(analysis: Analysis, *grids: Callable[[Analysis], Grid]) -> str:
    return "\n".join(markdown_table(grid(analysis)) for grid in grids)


def main() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for made, folder in zip((methods, labels), sys.argv[1:], strict=True):
        start, end = (line.format(name=made.__name__) for line in (START, END))
        before, _, rest = page.partition(start)
        after = rest.partition(end)[2]
        page = f"{before}{start}\n{made(Path(folder))}\n{end}{after}"
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
