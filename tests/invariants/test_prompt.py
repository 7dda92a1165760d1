"""Prompting: two ranks give what one process gives, and a killed run resumes to the same bits."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.processes import run, start, wait_until

RECIPE = "recipes/few_shot.py"
OPTIONS = (
    "--prompt.shots", "4", "--prompt.seeds", "2", "--prompt.token-budget", "600",
    "--prompt.precision", "fp32", "--prompt.injection-rows", "5",
)  # fmt: skip
NEAREST = (
    "--prompt.shots", "4", "--prompt.demonstrations", "nearest", "--prompt.seeds", "1",
    "--prompt.token-budget", "600", "--prompt.precision", "fp32",
)  # fmt: skip


def options(
    byte_llama: Path, corpus: Path, folder: Path, variant: tuple[str, ...]
) -> tuple[str, ...]:
    model = ("--model.checkpoint", str(byte_llama), "--data.source", str(corpus))
    return (*model, *variant, "--output-dir", str(folder))


def results(folder: Path) -> dict:
    """Without what a clock tells."""
    found = json.loads((folder / "results.json").read_text())
    assert found.pop("cost")["predict_seconds"] > 0
    assert found["prompt"].pop("seconds") > 0
    return found


def assert_same(a: Path, b: Path) -> None:
    assert results(a) == results(b)
    for name in ("validation", "test"):
        file = Path("predictions") / f"{name}.parquet"
        assert pq.read_table(a / file).equals(pq.read_table(b / file)), name
    assert (a / "prompt/prompts.json").read_text() == (b / "prompt/prompts.json").read_text()


@pytest.fixture(scope="module", params=["balanced", "nearest"])
def case(
    request: pytest.FixtureRequest,
    byte_llama: Path,
    corpus: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, tuple[str, ...]]:
    """The folder of an unbroken run of one process, and the settings."""
    folder = tmp_path_factory.mktemp(request.param)
    variant = OPTIONS if request.param == "balanced" else NEAREST
    run(folder / "log", RECIPE, *options(byte_llama, corpus, folder / "one", variant))
    return folder, variant


def test_two_ranks_equal_one(case: tuple, byte_llama: Path, corpus: Path) -> None:
    folder, variant = case
    run(folder / "log", RECIPE, *options(byte_llama, corpus, folder / "two", variant), ranks=2)
    assert_same(folder / "two", folder / "one")
    files = sorted((folder / "two" / "prompt").glob("scored-*.jsonl"))
    counts = [len(file.read_text().splitlines()) for file in files]
    assert len(counts) == 2 and abs(counts[0] - counts[1]) <= 1
    alone = (folder / "one" / "prompt" / "scored-00000.jsonl").read_text().splitlines()
    assert sum(counts) == len(alone), "a batch was scored twice"


@pytest.mark.parametrize("ranks", [1, 2])
def test_killed_and_resumed_equals_unbroken(
    case: tuple, byte_llama: Path, corpus: Path, ranks: int
) -> None:
    """A kill of all ranks amid the scoring, two of the first one before random changes on the
    disk, then a resume that scores only what is missing."""
    folder, variant = case
    generator, broken, log = random.Random(ranks), folder / f"broken-{ranks}", folder / "broken.log"
    arguments = options(byte_llama, corpus, broken, variant)
    scored = broken / "prompt" / "scored-00000.jsonl"
    first = start(log, RECIPE, *arguments, ranks=ranks)
    wait_until(scored, '"batch"', first)
    assert first.kill(), f"it was over before: {first.text()[-2000:]}"
    for _ in range(2):
        count = generator.randint(10, 20)
        killed = start(log, RECIPE, *arguments, "--resume", ranks=ranks, kill_at=count)
        killed.processes[0].join(90)
        assert killed.processes[0].exitcode == -9, f"ended by itself: {killed.text()[-2000:]}"
        killed.kill()
        assert not (broken / "results.json").exists()
    assert scored.read_text().count('"batch"') > 0
    run(folder / "log", RECIPE, *arguments, "--resume", ranks=ranks)
    assert_same(broken, folder / "one")


def test_a_line_cut_off_by_a_kill_is_scored_again(
    case: tuple, byte_llama: Path, corpus: Path
) -> None:
    folder, variant = case
    torn = folder / "torn"
    arguments = options(byte_llama, corpus, torn, variant)
    run(folder / "log", RECIPE, *arguments)
    (torn / "results.json").unlink()
    file = torn / "prompt" / "scored-00000.jsonl"
    file.write_bytes(file.read_bytes()[:-40])
    run(folder / "log", RECIPE, *arguments, "--resume")
    assert_same(torn, folder / "one")
