"""Links of the documents lead somewhere: to a file that exists, and to a heading that it has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = [
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((REPOSITORY / "docs").glob("*.md")),
]
FENCE = re.compile(r"^( *)(```|~~~).*?^\1\2", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]*`")
INLINE = re.compile(r"\]\(([^)\s]+)\)")
REFERENCE = re.compile(r"^\[[^\]\n]+\]:\s+(\S+)", re.MULTILINE)
USED = re.compile(r"\[[^\]\n]+\]\[([^\]\n]+)\]")
HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)


def prose(page: Path) -> str:
    """The text without what is code."""
    return CODE.sub("", FENCE.sub("", page.read_text(encoding="utf-8")))


def targets(text: str) -> list[str]:
    found = INLINE.findall(text) + REFERENCE.findall(text)
    return [target for target in found if not re.match(r"[a-z]+:", target)]


def anchors(page: Path) -> set[str]:
    """Headings as GitHub and the site name them."""
    headings = HEADING.findall(FENCE.sub("", page.read_text(encoding="utf-8")))
    words = (re.sub(r"[^\w\- ]", "", re.sub(r"\]\([^)]*\)", "]", h).lower()) for h in headings)
    return {text.replace(" ", "-") for text in words}


def problem(page: Path, target: str) -> str | None:
    name, _, anchor = target.partition("#")
    file = (page.parent / name).resolve() if name else page
    if not file.exists():
        return f"{target}: no such file"
    if REPOSITORY not in (file, *file.parents):
        return f"{target}: outside the repository"
    if anchor and file.suffix == ".md" and anchor not in anchors(file):
        return f"{target}: {file.name} has no such heading"
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of(page: Path) -> None:
    text = prose(page)
    found = [p for target in targets(text) if (p := problem(page, target))]
    defined = {name.lower() for name in re.findall(r"^\[([^\]\n]+)\]:", text, re.MULTILINE)}
    found += [f"[{name}] is not defined" for name in USED.findall(text) if name not in defined]
    assert not found, f"{page.name}: " + "; ".join(found)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[a](no-such-file.md)", "no such file"),
        ("[a](../README.md#no-such-heading)", "no such heading"),
        ("[a](#no-such-heading)", "no such heading"),
        (f"[a]: {'../' * 99}", "outside the repository"),
    ],
)
def test_what_leads_nowhere_is_found(text: str, says: str) -> None:
    page = REPOSITORY / "docs" / "memory.md"
    found = [problem(page, target) for target in targets(text)]
    assert len(found) == 1
    assert says in str(found[0])


def test_what_leads_somewhere_is_not() -> None:
    page = REPOSITORY / "docs" / "measured.md"
    text = "[a](../README.md), [b](memory.md#model-states), [c](https://a.org/x#y)\n[d]: ../bench"
    assert len(targets(text)) == 3
    assert not any(problem(page, target) for target in targets(text))


def test_every_page_is_on_the_map() -> None:
    """The site takes its order of pages from the links of index.md."""
    listed = set(targets(prose(REPOSITORY / "docs" / "index.md")))
    pages = {page.name for page in (REPOSITORY / "docs").glob("*.md")} - {"index.md"}
    assert pages <= listed
