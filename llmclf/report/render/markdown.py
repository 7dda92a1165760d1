"""Tables in Markdown, with pipes, as GitHub shows them."""

from __future__ import annotations

import re

from llmclf.config import plain
from llmclf.report.grid import Grid

_MARKED = re.compile(r"[\\`*\[\]<>|~&]|(?<!\w)_|_(?!\w)")  # inside a word, "_" means itself


def escaped(text: str) -> str:
    """One line of Markdown that shows the text as it is."""
    return _MARKED.sub(r"\\\g<0>", plain(text))


def markdown_table(grid: Grid) -> str:
    """The table in Markdown, the best of a column in bold, and the note under it."""
    lines = [[escaped(column.title) for column in grid.columns]]
    lines.append([":--" if column.kind.text else "--:" for column in grid.columns])
    for row in grid.cells():
        texts = [
            escaped(text) if column.kind.text else text
            for column, (text, _) in zip(grid.columns, row, strict=True)
        ]
        lines.append([f"**{t}**" if best else t for t, (_, best) in zip(texts, row, strict=True)])
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return table + (f"\n{escaped(grid.note)}\n" if grid.note else "")
