"""docs/code.md and its drawing are true to the tree."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TREE = (ROOT / "docs" / "code.md").read_text("utf-8").partition("```text\n")[2].partition("```")[0]
TABLE = (ROOT / "CONTRIBUTING.md").read_text("utf-8")


def layers() -> list[set[str]]:
    """Of import-linter, from the commands down; without __main__."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    (layered,) = (c for c in settings["tool"]["importlinter"]["contracts"] if c["type"] == "layers")
    return [set(line.split(" | ")) for line in layered["layers"] if "(" not in line]


def named() -> list[str]:
    """Paths below llmclf/ that the tree names, a room before its files."""
    found, room = [], ""
    for line in TREE.partition("llmclf/\n")[2].splitlines():
        first = re.match(r"( +)(\S+)", line)
        if first is None:
            continue
        if len(first[1]) == 2:
            room = first[2] if first[2].endswith("/") else ""
        found += [room + n for n in re.findall(r"\b\w+\.py\b|\b\w+/", line) if n != room]
        found += [room] if room and len(first[1]) == 2 else []
    return found


@pytest.mark.parametrize("path", named())
def test_what_the_tree_names_is_there(path: str) -> None:
    assert (ROOT / "llmclf" / path).exists()


def test_every_room_and_module_has_its_line() -> None:
    there = {p.name + "/" * p.is_dir() for p in (ROOT / "llmclf").iterdir()}
    there -= {"__main__.py", "__pycache__/", "py.typed"}
    assert there <= set(named())
    assert all(f"{name.rstrip('/')}" in TABLE for name in there - {"__init__.py"})


def test_the_drawing_has_the_layers_in_their_order() -> None:
    drawn = (ROOT / "docs" / "rooms.svg").read_text("utf-8")
    rows: dict[int, set[str]] = {}
    for y, name in re.findall(r'<text class="name" x="\d+" y="(\d+)">(\w+)<', drawn):
        rows.setdefault(int(y), set()).add(name)
    in_order = [name for y in sorted(rows) for name in sorted(rows[y])]
    ranks = {name: i for i, layer in enumerate(layers()) for name in layer}
    assert set(in_order) - {"recipes"} == set(ranks)
    places = [ranks[name] for name in in_order if name != "recipes"]
    assert places == sorted(places)


def test_contributing_has_the_layers_in_their_order() -> None:
    (block,) = re.findall(r"^    atomic(?:.*\n)+?(?=\n)", TABLE, re.MULTILINE)
    written = [set(step.strip().split(" | ")) for step in block.replace("\n", " ").split("->")]
    assert [step - {"cli, recipes"} or {"cli"} for step in written] == layers()[::-1]
