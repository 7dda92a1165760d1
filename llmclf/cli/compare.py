"""``llmclf compare``: finished runs on the same rows, side by side. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from llmclf.atomic import write_text
from llmclf.config import ConfigError
from llmclf.report.config import ReportConfig


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Compare finished runs on the same rows: scores with intervals, costs, and a verdict."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders, or folders of run folders."""
    output_dir: Path | None = None
    """Folder to write the report to: report.html, report.md and tables/*.csv."""
    markdown: Path | None = None
    """File to write the table of scores to, too, in Markdown."""
    skip_unfinished: tyro.conf.FlagCreatePairsOff[bool] = False
    """Leave out runs without usable results instead of refusing them."""
    report: ReportConfig = field(default_factory=ReportConfig)

    def run(self, rest: Sequence[str]) -> None:
        """Print the table, and write what is asked for."""
        assert not rest
        from rich.console import Console

        from llmclf.report.analyse import analyse
        from llmclf.report.comparison import Comparison
        from llmclf.report.write import write
        from llmclf.run_folder.find import read_all

        runs, left_out = read_all(self.runs, skip_unfinished=self.skip_unfinished)
        title = f"Comparison of {', '.join(dict.fromkeys(run.name for run in runs))}"
        analysis = analyse(runs, self.report, title=title, failed=left_out)
        table = Comparison(analysis)
        Console().print(table)
        if self.markdown is not None:
            try:
                write_text(self.markdown, table.markdown())
            except OSError as error:
                raise ConfigError(
                    f"--markdown {self.markdown}: cannot be written ({error})."
                ) from error
        if self.output_dir is not None:
            path = write(analysis, self.output_dir)["report.html"]
            Console().print(f"report: {path}", markup=False, highlight=False, soft_wrap=True)
