"""docs/compatibility.md tells of every cell of the matrix and of every refusal."""

from __future__ import annotations

import re

from tests.launch.compatibility import TARGET, refusals
from tests.launch.matrix import BF16, CELLS, FAMILIES, STRATEGIES, WHERE


def test_every_cell_is_there_and_the_page_counts_those_that_were_run() -> None:
    text = TARGET.read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if "| kept |" in line or "| recomputed |" in line]
    assert len(rows) == len(CELLS) + len(BF16)
    assert all(row.count("|") == 3 + len(STRATEGIES) for row in rows)
    run = sum(len(re.findall(r"\| \de[+-]\d\d ", row)) for row in rows)
    assert f"{len(WHERE)} cells, of which\n{run} were run and work" in text
    for family in FAMILIES:
        assert f"\n## {family}\n" in text


def test_every_refusal_is_there() -> None:
    text = TARGET.read_text(encoding="utf-8")
    for row in refusals():
        assert row in text
