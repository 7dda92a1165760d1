"""Tables for papers: booktabs, one float, and safe to compile whatever the names are."""

from __future__ import annotations

import re
import unicodedata

from llmclf.config import plain
from llmclf.report.grid import Column, Grid
from llmclf.report.texts import visible

_ACCENTS = "\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c\u0327"
_LETTERS = "".join(
    letter
    for letter in map(chr, range(0xC0, 0x180))
    if letter in "ÆæØøßŁłŒœı" or unicodedata.normalize("NFD", letter)[1:] in tuple(_ACCENTS)
)
"""Characters that pdfTeX sets in every font encoding."""
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    '"': r"{\char34}",  # babel gives it other meanings
    "±": r"$\pm$",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}
_DASH = re.compile("-(?=-)")
_OPTION = re.compile(r"^[\[*]")
"""Character that, at the start of a line, would belong to the end of the line before."""
_FOREIGN = re.compile(f"[^\x20-\x7e±{_LETTERS}]+")


def escaped(text: str) -> str:
    """Text that LaTeX sets as it is; pdfTeX sets ``?`` where it may have no glyph."""
    line, parts, end = unicodedata.normalize("NFC", plain(text)), [], 0
    for match in _FOREIGN.finditer(line):
        parts.append(_known(line[end : match.start()]))
        parts.append(rf"\ifdefined\Umathcode{{{match[0]}}}\else{{{'?' * len(match[0])}}}\fi{{}}")
        end = match.end()
    safe = "".join([*parts, _known(line[end:])])
    return _OPTION.sub(r"{\g<0>}", _DASH.sub("-{}", safe))


def _known(text: str) -> str:
    return "".join(_SPECIAL.get(character, character) for character in text)


def latex_table(grid: Grid) -> str:
    """The table as a float no wider than the text, the best of a column in bold, the note in its
    caption."""
    note = f" {escaped(grid.note)}" if grid.note else ""
    lines = [
        r"% Needs \usepackage{booktabs} and \usepackage{graphicx}.",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escaped(visible(grid.title, 300).rstrip('.'))}.{note}}}",
        rf"\label{{tab:{grid.name}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{@{{}}{''.join(map(_side, grid.columns))}@{{}}}}",
        r"\toprule",
        " & ".join(_name(column.title) for column in grid.columns) + r" \\",
        r"\midrule",
        *(_line(grid, cells) for cells in grid.cells()),
        r"\bottomrule",
        r"\end{tabular}}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _side(column: Column) -> str:
    return "l" if column.kind.text else "r"


def _line(grid: Grid, cells: list[tuple[str, bool]]) -> str:
    shown = [
        _name(text) if column.kind.text else _number(text, strong=best)
        for column, (text, best) in zip(grid.columns, cells, strict=True)
    ]
    return " & ".join(shown) + r" \\"


def _name(text: str) -> str:
    return escaped(visible(text, 80).rstrip("."))


def _number(text: str, *, strong: bool) -> str:
    shown = _known(text).replace("-", "$-$")
    return rf"\textbf{{{shown}}}" if strong else shown
