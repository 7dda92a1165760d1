"""The table of all methods: on the terminal, and in Markdown."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.text import Text

from llmclf.report.analysis import Analysis
from llmclf.report.grid import Grid, terminal
from llmclf.report.grid import markdown as in_markdown
from llmclf.report.tables import COST_TITLES, DECISIVE, NAMES, scores


@dataclass(frozen=True)
class Comparison:
    """Methods on the same rows, the best first. Printed by rich, split where too wide."""

    analysis: Analysis

    @cached_property
    def grid(self) -> Grid:
        return scores(self.analysis)

    def markdown(self) -> str:
        """The same table in Markdown."""
        return in_markdown(self.grid)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        whole = terminal(self.grid)
        if Measurement.get(console, options.update(max_width=10_000), whole).maximum > (
            options.max_width
        ):
            first, *others = self._parts()
            yield terminal(self.grid.only(first))
            for titles in others:
                yield terminal(self.grid.only(titles), note=False)
        else:
            yield whole
        yield Text(self.analysis.verdict.sentence, "bold")
        for line in self.analysis.left_out:
            yield Text(f"left out: {line}")

    def _parts(self) -> list[list[str]]:
        """Titles of the narrower tables: what decides, other scores, costs; each with the name."""
        name, *rest = [c.title for c in self.grid.columns if c not in NAMES[1:]]
        decisive = [*rest[:DECISIVE], "lift"]
        others = [t for t in rest if t not in (*decisive, *COST_TITLES)]
        return [[name, *titles] for titles in (decisive, others, COST_TITLES)]
