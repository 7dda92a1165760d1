"""docs/api.md names what exists, and every room."""

from __future__ import annotations

import pkgutil
import re
from pathlib import Path

import pytest

import llmclf

PAGE = Path(__file__).resolve().parents[2] / "docs" / "api.md"
NAMES = re.findall(r"^   ~?(llmclf[\w.]*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_name_exists(name: str) -> None:
    """A file that moved moves here, too: Sphinx would say so only when the site is built."""
    assert pkgutil.resolve_name(name) is not None


def test_every_room_is_listed() -> None:
    rooms = {f"llmclf.{m.name}" for m in pkgutil.iter_modules(llmclf.__path__)} - {
        "llmclf.__main__"
    }
    assert rooms <= set(NAMES)


def test_every_public_name_is_listed() -> None:
    public = [getattr(llmclf, name) for name in llmclf.__all__ if name != "__version__"]
    listed = [pkgutil.resolve_name(name) for name in NAMES]
    assert [thing for thing in public if thing not in listed] == []
