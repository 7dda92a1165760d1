"""Tables of the page in HTML. Every text is escaped by markupsafe."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup, escape

from llmclf.report.grid import Column, Grid
from llmclf.report.texts import visible
from llmclf.report.words import PROSE

_BOX = Markup(
    '<div class="scroll" role="region" tabindex="0" aria-label="{title}">\n<table>\n'
    "<caption>{title}</caption>\n<thead><tr>\n{head}</tr></thead>\n<tbody>\n{body}</tbody>\n"
    "</table>\n</div>\n"
)
_HEAD = Markup('<th scope="col"{kind}><bdi>{title}</bdi></th>\n')
_WORD = Markup('<span class="whole">{word}</span>')
_FIRST = Markup('<th scope="row"><bdi>{text}</bdi></th>\n')
_CELL = Markup('<td class="{kind}{best}"><bdi>{text}</bdi></td>\n')
_NOTE = Markup('<p class="note">{note}</p>\n')
_MINUS = str.maketrans("-", "\u2212")


def html_table(grid: Grid) -> Markup:
    """A table that scrolls in a box of its own, and the note under it."""
    head = Markup().join(
        _HEAD.format(
            kind="" if column.kind.text else Markup(' class="n"'),
            title=unhyphenated(visible(column.title, 80)),
        )
        for column in grid.columns
    )
    body = Markup().join(
        _row(grid, row, best)
        for row, cells in zip(grid.rows, grid.cells(), strict=True)
        for best in [[best for _, best in cells]]
    )
    box = _BOX.format(title=visible(grid.title, 160), head=head, body=body)
    return box + _NOTE.format(note=visible(grid.note, 900)) if grid.note else box


def unhyphenated(text: str) -> Markup:
    """Text in which no line ends at the hyphen of a short word."""
    words = text.split(" ")
    short = (_WORD.format(word=w) if "-" in w and len(w) < 20 else escape(w) for w in words)
    return Markup(" ").join(short)


def _row(grid: Grid, row: tuple[Any, ...], best: list[bool]) -> Markup:
    style = grid.styles.get(row[0], "")
    cells = [Markup('<tr class="{}">\n').format(style) if style else Markup("<tr>\n")]
    cells.append(_FIRST.format(text=_text(grid.columns[0], row[0])))
    for column, value, strong in zip(grid.columns[1:], row[1:], best[1:], strict=True):
        kind = "long" if column.kind is PROSE else "t" if column.kind.text else "n"
        strong_too = " strong" if strong else ""
        cells.append(_CELL.format(kind=kind, best=strong_too, text=_text(column, value)))
    return Markup().join([*cells, Markup("</tr>\n")])


def _text(column: Column, value: Any) -> str:
    """A cell's text: foreign texts as they are, numbers with a real minus sign."""
    if value is None or not column.kind.text:
        return column.text(value).translate(_MINUS)
    return visible(value, 400 if column.kind is PROSE else 120)
