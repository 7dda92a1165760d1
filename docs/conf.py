"""Sphinx settings of the documentation site: `make docs-site` builds it into build/site."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import sys
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

# Before a module of ours imports them.
os.environ |= {"HF_HUB_OFFLINE": "1", "MPLBACKEND": "Agg"}
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_ext")]
# Pages of modules that have moved since the last build.
shutil.rmtree(HERE / "api", ignore_errors=True)

project = "llmclf"
version = release = version_of("llmclf")
copyright = "the authors of llmclf"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "repository",  # _ext/repository.py
]
exclude_patterns = ["_*"]
templates_path = ["_templates"]

myst_heading_anchors = 3
# Indented blocks and fences without a language hold more than code.
highlight_language = "none"
default_role = "code"

autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_inherit_docstrings = False
# What a module only passes on (__all__) is described where it is written.
autodoc_default_options = {"members": True, "undoc-members": True, "ignore-module-all": True}
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True

# Names of ours are checked (-n); those of other packages, and annotations that are no name, are
# not, since their documentation lies on the network.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!llmclf\.).*|.*\.([A-Z]|Annotated.*)")]
# Two classes may share a name where an annotation cannot be evaluated without a checker.
suppress_warnings = ["ref.python"]

html_theme = "furo"
html_title = "llmclf"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
html_theme_options = {"top_of_page_buttons": []}
pygments_dark_style = "github-dark"


def hide_constructor(
    app: Any, what: str, name: str, thing: Any, options: Any, signature: str, returns: str
) -> tuple[str, str] | None:
    """No signature for a dataclass: its fields stand below, each with its default."""
    return ("", "") if what == "class" and dataclasses.is_dataclass(thing) else None


def as_written(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """A docstring's | and * stand for themselves, as in |a - b| and *.csv."""
    if what == "module" and not any(lines):
        lines.append("Its modules:")  # without a word Sphinx forgets the module's anchor
    for i, line in enumerate(lines):
        parts = line.split("``")  # every second one is code
        parts[::2] = [re.sub(r"[|*]", r"\\\g<0>", part) for part in parts[::2]]
        lines[i] = "``".join(parts)


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", as_written)
    app.connect("autodoc-process-signature", hide_constructor)
