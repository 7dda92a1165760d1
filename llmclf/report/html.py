"""report.html: the whole analysis as one file that needs no network and runs no script.

Its content policy allows the one style sheet, by hash, and nothing else. Every text is escaped:
those of the page by jinja2 and markupsafe, those of figures by ElementTree.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from llmclf.report.analysis import Analysis
from llmclf.report.html_parts import facts, parts
from llmclf.report.render.html import html_table, unhyphenated
from llmclf.report.texts import unbroken, visible
from llmclf.report.verdict import on_what
from llmclf.report.words import metric_name

HERE = Path(__file__).parent


def html(analysis: Analysis) -> str:
    """Return the page of ``analysis``; the same analysis gives the same text."""
    style = (HERE / "page.css").read_text(encoding="utf-8")
    loader = FileSystemLoader(HERE)
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["visible"] = visible
    environment.filters["unbroken"] = unbroken
    environment.filters["table"] = html_table
    environment.filters["unhyphenated"] = unhyphenated
    # Our own figures, whose texts are escaped, and our own style sheet.
    environment.filters["drawn"] = lambda figure: Markup(figure.svg)
    return environment.get_template("page.html.j2").render(
        analysis=analysis,
        measured=on_what(analysis.statistics),
        metric=metric_name(analysis.statistics.metric),
        facts=facts(analysis),
        parts=parts(analysis),
        style=Markup(style),
        style_hash=_hash(style),
    )


def _hash(style: str) -> str:
    """Name of a style element's exact text in a content policy."""
    digest = hashlib.sha256(style.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"
