"""docs/compatibility.md tells of every cell of the matrix and of every refusal."""

from __future__ import annotations

from tests.launch.compatibility import TARGET, refusals
from tests.launch.matrix import BF16, CELLS, FAMILIES, STRATEGIES, WHERE


def test_every_cell_is_there_and_none_failed() -> None:
    text = TARGET.read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if "| kept |" in line or "| recomputed |" in line]
    assert len(rows) == len(CELLS) + len(BF16)
    assert all(row.count("|") == 3 + len(STRATEGIES) for row in rows)
    assert "failed" not in "".join(rows)
    count = len(WHERE)
    assert f"{count} cells, of which\n{count} work" in text
    for family in FAMILIES:
        assert f"\n## {family}\n" in text


def test_every_refusal_is_there() -> None:
    text = TARGET.read_text(encoding="utf-8")
    for row in refusals():
        assert row in text
