"""The documents do what they say: each block of shell or Python with a mark before it is run.

``<!-- run -->`` before the fence runs it in the normal suite, ``<!-- run: slow -->`` among the slow
tests. Neither mark can be seen on the rendered page. A block runs in an empty folder that has the
recipes, launch files and documents beside it, and a small corpus as my.csv.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.tiny import write_corpus

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = [
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted((REPOSITORY / "docs").glob("*.md")),
]
BLOCK = re.compile(
    r"^<!-- run(?P<slow>: slow)? -->\n\n?```(?P<language>bash|sh|python)\n(?P<script>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
MARK = re.compile(r"^ *<!-- *run\b.*$", re.MULTILINE)
BESIDE = ("bench", "docs", "launch", "recipes", "tests")
ROWS = 120


@dataclass(frozen=True)
class Block:
    """A marked block of a document."""

    page: str
    line: int
    language: str
    script: str
    slow: bool


def blocks(page: str, text: str) -> list[Block]:
    return [
        Block(page, text[: m.start()].count("\n") + 1, m["language"], m["script"], bool(m["slow"]))
        for m in BLOCK.finditer(text)
    ]


def cases() -> list[object]:
    found = [block for p in PAGES for block in blocks(p.name, p.read_text(encoding="utf-8"))]
    return [
        pytest.param(
            block,
            id=f"{block.page}:{block.line}",
            marks=[pytest.mark.slow, pytest.mark.timeout(900)] if block.slow else [],
        )
        for block in found
    ]


def run(block: Block, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a block as a user would who has just activated the environment; stops at the first
    command that fails."""
    for name in BESIDE:
        (folder / name).symlink_to(REPOSITORY / name)
    write_corpus(folder / "my.csv", ROWS)
    inherited = os.environ
    paths = [str(Path(sys.executable).parent), inherited.get("PATH", os.defpath)]
    python = [str(REPOSITORY), *filter(None, [inherited.get("PYTHONPATH")])]
    own = {"PATH": os.pathsep.join(paths), "PYTHONPATH": os.pathsep.join(python)}
    (folder / "block").write_text(block.script, encoding="utf-8")
    starts = [sys.executable] if block.language == "python" else ["bash", "-euo", "pipefail"]
    return subprocess.run(
        [*starts, "block"],
        cwd=folder,
        env={**inherited, **own, "TRACKIO_DIR": str(folder / "trackio"), "COLUMNS": "100"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("block", cases())
def test_block(block: Block, tmp_path: Path) -> None:
    done = run(block, tmp_path)
    assert done.returncode == 0, f"{block.script}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_mark_stands_before_a_block(page: Path) -> None:
    """A mistyped mark, or one without a fence, would be passed over."""
    text = page.read_text(encoding="utf-8")
    assert len(MARK.findall(text)) == len(blocks(page.name, text))


def test_some_blocks_are_marked() -> None:
    assert {block.slow for p in PAGES for block in blocks(p.name, p.read_text("utf-8"))} == {
        True,
        False,
    }


def test_a_command_that_fails_fails_the_block(tmp_path: Path) -> None:
    text = "<!-- run -->\n```bash\nllmclf compare no-such-folder\ntrue\n```\n"
    (block,) = blocks("page.md", text)
    done = run(block, tmp_path)
    assert done.returncode == 2
    assert "no-such-folder" in done.stderr


def test_python_that_fails_fails_the_block(tmp_path: Path) -> None:
    (block,) = blocks("page.md", "<!-- run -->\n```python\nimport llmclf\n\nllmclf.no_such\n```\n")
    assert "no attribute 'no_such'" in run(block, tmp_path).stderr
