"""A million rows: load, split and audit within 4 GB."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROWS = 1_000_000

# ru_maxrss is that of the whole process, so the corpus is written and measured in processes apart.
WRITE = f"""
import csv, sys, numpy as np
rng = np.random.default_rng(0)
words = np.array(["".join(chr(97 + c) for c in rng.integers(0, 26, rng.integers(2, 10)))
                  for _ in range(30_000)])
with open(sys.argv[1], "w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["text", "label", "author"])
    for start in range(0, {ROWS}, 10_000):
        drawn = words[(rng.random((10_000, 20)) ** 3 * len(words)).astype(int)]
        for row, chosen in enumerate(drawn, start):
            text = "A template, number 12." if row % 50 == 0 else " ".join(chosen) + "."
            writer.writerow([text, f"class {{row % 7}}", f"author {{row % 250_000}}"])
"""
MEASURE = """
import json, resource, sys, time
from llmclf.data.audit import audit
from llmclf.data.corpus import load_splits
from llmclf.data.config import DataConfig
start = time.perf_counter()
group = sys.argv[2] or None
splits = load_splits(DataConfig(source=sys.argv[1], group=group), seed=0)
loaded = time.perf_counter()
splits, found = audit(splits, "drop")
audited = time.perf_counter()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"load_seconds": loaded - start, "audit_seconds": audited - loaded,
                  "peak_bytes": peak, "rows": found.rows, "dropped": found.dropped}))
"""


@pytest.fixture(scope="module")
def million(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scale") / "million.csv"
    subprocess.run([sys.executable, "-c", WRITE, str(path)], check=True)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("group", ["", "author"])
def test_a_million_rows_stay_under_4_gb(million: Path, group: str) -> None:
    command = [sys.executable, "-c", MEASURE, str(million), group]
    found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    print(found)
    assert sum(found["rows"].values()) + sum(found["dropped"].values()) == ROWS
    assert found["dropped"]["train"] > 10_000  # the template is in all three splits
    assert found["peak_bytes"] < 4e9
    assert found["load_seconds"] + found["audit_seconds"] < 180
