"""The table of all methods: on the terminal, and in Markdown."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.text import Text

from llmclf.report.analysis import Analysis
from llmclf.report.grid import Grid
from llmclf.report.render.markdown import markdown_table
from llmclf.report.render.terminal import terminal_table
from llmclf.report.tables import COST_TITLES, DECISIVE, scores
from llmclf.report.words import metric_name


@dataclass(frozen=True)
class Comparison:
    """Methods on the same rows, the best first. Printed by rich, split where too wide."""

    analysis: Analysis

    @cached_property
    def grid(self) -> Grid:
        return scores(self.analysis)

    def markdown(self) -> str:
        """The table as Markdown, note and all."""
        return markdown_table(self.grid)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        whole = terminal_table(self.grid)
        if Measurement.get(console, options.update(max_width=10_000), whole).maximum > (
            options.max_width
        ):
            for place, titles in enumerate(self._parts()):
                yield terminal_table(self.grid.only(["run", *titles]), note=place == 0)
        else:
            yield whole
        yield Text(self.analysis.verdict.sentence, "bold")
        for line in self.analysis.left_out:
            yield Text(f"left out: {line}")

    def _parts(self) -> list[list[str]]:
        """Titles of the narrower tables: what decides, other scores, costs; each with the name."""
        decisive = [metric_name(self.analysis.config.metric), *DECISIVE]
        elsewhere = ("run", "method", "model", *decisive, *COST_TITLES)
        others = [c.title for c in self.grid.columns if c.title not in elsewhere]
        return [decisive, others, list(COST_TITLES)]
