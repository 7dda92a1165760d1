"""What the site needs beyond Sphinx: the pages are plain Markdown that reads well without it.

The order of the pages is that of the links in index.md. A link to a file or folder of the
repository that is no page of the site, such as ``../launch/slurm/run.sh``, leads to a page that
shows it.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"(\]\(|^\[[^\]\n]+\]: )\.\./([^)#\s]+)", re.MULTILINE)
"""The target of an inline link or of a reference that leaves docs/."""
PAGE = re.compile(r"\]\((\w+)\.md\)")
LEXERS = {".sbatch": "bash", ".json": "json", ".md": "markdown", ".py": "python", ".sh": "bash"}


def setup(app: Any) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("source-read", rewrite)
    app.connect("html-collect-pages", pages_of_files)
    schemes = {"http": None, "https": None, "mailto": None, "repository": "files/{{path}}.html"}
    app.config["myst_url_schemes"] = schemes
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def rewrite(app: Any, name: str, source: list[str]) -> None:
    """Links to files of the repository, and the order of the pages."""
    source[0] = LINK.sub(lambda m: f"{m[1]}repository:{m[2].rstrip('/')}", source[0])
    if name == "index":
        source[0] += tables_of_contents(source[0])


def tables_of_contents(text: str) -> str:
    """One for each section of index.md that links to pages."""
    tables = ""
    for section in text.split("\n## ")[1:]:
        pages = "\n".join(dict.fromkeys(PAGE.findall(section)))
        if pages:
            caption = section.partition("\n")[0]
            tables += f"\n\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{pages}\n```\n"
    return tables


def pages_of_files(app: Any) -> Iterator[tuple[str, dict[str, Any], str]]:
    """A page for each file and folder that a page links to, for the code, and for what is in those
    folders."""
    wanted = {PurePosixPath("llmclf")} | {
        PurePosixPath(match[2])
        for page in Path(app.srcdir).glob("*.md")
        for match in LINK.finditer(page.read_text(encoding="utf-8"))
    }
    done: set[PurePosixPath] = set()
    while wanted:
        path = wanted.pop()
        done.add(path)
        if (ROOT / path).is_dir():
            inside = contents(path)
            wanted.update(set(inside) - done)
            body = folder_body(path, inside)
        else:
            body = file_body(app, path)
        title = html.escape(str(path))
        yield f"files/{path}", {"title": title, "body": f"<h1>{title}</h1>{body}"}, "page.html"


def contents(folder: PurePosixPath) -> list[PurePosixPath]:
    """Files and folders in a folder, caches left out."""
    names = sorted(entry.name for entry in (ROOT / folder).iterdir())
    return [folder / name for name in names if name[0] not in "._" or name == "__init__.py"]


def folder_body(folder: PurePosixPath, inside: list[PurePosixPath]) -> str:
    items = "".join(
        f'<li><a href="{html.escape(folder.name)}/{html.escape(path.name)}.html">'
        f"<code>{html.escape(path.name)}</code></a></li>"
        for path in inside
    )
    return f"<ul>{items}</ul>"


def file_body(app: Any, path: PurePosixPath) -> str:
    """The file as it is; Markdown as it is meant."""
    text = (ROOT / path).read_text(encoding="utf-8")
    if path.suffix == ".md":
        return str(MarkdownIt("commonmark").enable("table").render(text.partition("\n")[2]))
    lexer = LEXERS.get(path.suffix, "yaml" if path.suffix == ".yaml" else "text")
    return str(app.builder.highlighter.highlight_block(text, lexer))
