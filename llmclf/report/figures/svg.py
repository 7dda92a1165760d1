"""matplotlib's SVG made fit to stand inside a page with a strict content policy.

No style attribute or element, no metadata, ids of its own, colours that follow the page (light,
dark, print), text as text, and an accessible name.
"""

from __future__ import annotations

import io
import re
import warnings
from typing import Any
from xml.etree import ElementTree

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.text import Text

from llmclf.report.texts import visible

INK, MUTED, RULE, PAPER = "#000000", "#777777", "#dddddd", "#ffffff"
SERIES = ("#0072b2", "#d55e00", "#009e73", "#aa4499", "#b07d00", "#56677a")
"""Colours of methods: Okabe and Ito's first three, then Tol's purple, an ochre and a slate. The
page's style sheet holds their shades for light and dark."""
HEAT, COOL = "#3b82b0", "#b0683b"
"""Colours of cells above and below zero: shades on which the page's ink can be read, by night
too."""
_FOLLOW = {
    HEAT: "var(--heat)",
    COOL: "var(--cool)",
    INK: "currentColor",
    MUTED: "var(--muted)",
    RULE: "var(--rule)",
    PAPER: "var(--paper)",
    **{colour: f"var(--c{i})" for i, colour in enumerate(SERIES, 1)},
}
_NAMESPACE = re.compile(r"^\{[^}]*\}")
_NUMBER = re.compile(r"-?\d+\.\d+")
_SIZE = re.compile(r"([\d.]+)px")
_REFERENCE = re.compile(r"#([\w-]+)")
_DROPPED = ("metadata", "style")
_OF_FONT = ("font", "font-family", "font-size", "font-style", "font-weight", "font-stretch")
_PRECISE = ("d", "x", "y", "x1", "x2", "y1", "y2", "width", "height", "points", "transform")


def svg(figure: Figure, key: str, title: str, description: str) -> str:
    """Return ``figure`` as an <svg> element; the same figure gives the same text.

    ``key``: what makes its ids unique in the page. Its texts are escaped.

    ``title``, ``description``: its accessible name, and what it shows in words.
    """
    buffer, whole = io.BytesIO(), _whole(figure)
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": key}
    with rc_context(settings), warnings.catch_warnings():
        # The reader's browser has the glyphs that matplotlib's own font lacks.
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    root = ElementTree.fromstring(buffer.getvalue())
    _drop(root)
    _add_whole(root, whole)
    referenced = _referenced(root)
    for element in root.iter():
        element.tag = _NAMESPACE.sub("", element.tag)
        _rewrite(element, key, referenced)
    _name(root, key, title, description)
    return ElementTree.tostring(root, encoding="unicode")


def _whole(figure: Figure) -> dict[str, str]:
    """The whole of each text that is shown cut, by the id that its group gets."""
    cut = [text for text in figure.findobj(Text) if text.get_label()]
    for i, text in enumerate(cut):
        text.set_gid(f"cut-{i}")
    return {str(text.get_gid()): visible(text.get_label(), 400) for text in cut}


def _add_whole(root: ElementTree.Element, whole: dict[str, str]) -> None:
    """Show whole texts where a reader points at a cut one."""
    for element in list(root.iter()):
        if element.get("id") in whole:
            title = ElementTree.Element("title")
            title.text = whole[element.attrib["id"]]
            element.insert(0, title)


def _drop(element: ElementTree.Element) -> None:
    for child in list(element):
        if _NAMESPACE.sub("", child.tag) in _DROPPED:
            element.remove(child)
        else:
            _drop(child)


def _referenced(root: ElementTree.Element) -> set[str]:
    """Ids that some attribute points to; all others only take room."""
    values = (value for element in root.iter() for value in element.attrib.values())
    return {name for value in values if "#" in value for name in _REFERENCE.findall(value)}


def _rewrite(element: ElementTree.Element, key: str, referenced: set[str]) -> None:
    attributes = {_NAMESPACE.sub("", name): value for name, value in element.attrib.items()}
    attributes |= _presentation(attributes.pop("style", ""))
    element.attrib.clear()
    for name, value in attributes.items():
        if name == "id":
            if value not in referenced:
                continue
            value = f"{key}-{value}"
        elif name == "href" or "url(#" in value:
            value = _REFERENCE.sub(rf"#{key}-\1", value)
        elif name in _PRECISE:
            value = " ".join(_NUMBER.sub(_rounded, value).split())
        element.set(name, _FOLLOW.get(value.lower(), value))


def _rounded(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


def _presentation(style: str) -> dict[str, str]:
    """A style attribute as presentation attributes; of the font, size and weight are kept."""
    pairs = (part.split(":", 1) for part in style.split(";") if ":" in part)
    values = {name.strip(): value.strip() for name, value in pairs}
    kept = {name: value for name, value in values.items() if name not in _OF_FONT}
    font = " ".join(value for name, value in values.items() if name in _OF_FONT)
    if size := _SIZE.search(font):
        kept["font-size"] = size[1]
    if "bold" in font or re.search(r"\b[67]00\b", font):
        kept["font-weight"] = "600"
    return kept


def _name(root: ElementTree.Element, key: str, title: str, description: str) -> None:
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    # What matplotlib says in the style element that was dropped; and black as the page's ink.
    root.attrib |= {"stroke-linejoin": "round", "stroke-linecap": "butt", "fill": "currentColor"}
    root.attrib |= {"role": "img", "aria-labelledby": f"{key}-title {key}-desc"}
    for place, (tag, text) in enumerate((("title", title), ("desc", description))):
        element = ElementTree.Element(tag, {"id": f"{key}-{tag}"})
        element.text = text
        root.insert(place, element)
