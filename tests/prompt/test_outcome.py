"""Scores side by side: every calibration, the spread, mass or invalid answers, and the tables."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

from llmclf.data.corpus import Split
from llmclf.prompt.calibrate import KINDS
from llmclf.prompt.demos import Draw
from llmclf.prompt.injection import ATTACKS, Attacked
from llmclf.prompt.outcome import VariantScores, outcome, spread, tables
from llmclf.prompt.remote import _harmless
from llmclf.prompt.variants import Variant
from tests.prompt.conftest import wording

LABELS = ("no advice", "strong advice", "weak advice")
TEST = Split(
    ids=list("abcdef"),
    texts=["text"] * 6,
    pairs=None,
    targets=np.array([0, 1, 2, 0, 1, 2]),
    groups=None,
)


def variant(seed: int, attacked: dict[str, Attacked] | None = None) -> Variant:
    return Variant(
        template="quoted",
        draw=Draw(seed, 0),
        wording=wording(LABELS),
        parts={},
        attacked=attacked or {},
    )


def likelihoods(seed: int, attacked: dict[str, Attacked] | None = None) -> VariantScores:
    rng = np.random.default_rng(seed)
    rows = {"test": 6, "validation": 4, "reference": 4, "content_free": 3, "premise": 1}
    rows |= {name: len(a.rows) for name, a in (attacked or {}).items()}
    return VariantScores(
        variant=variant(seed, attacked),
        parts={name: np.log(rng.dirichlet(np.ones(4), n)[:, :3]) for name, n in rows.items()},
        tokens={name: np.tile([2, 2, 3], (n, 1)) for name, n in rows.items()},
    )


def shown(found: dict) -> str:
    console = Console(file=io.StringIO(), width=80)
    for table in tables(found):
        console.print(table)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_every_calibration_of_every_variant_stands_beside_the_raw_one() -> None:
    scored = [likelihoods(seed) for seed in range(3)]
    found = outcome(scored, "batch", TEST, LABELS)
    assert [row["seed"] for row in found["variants"]] == [0, 1, 2]
    for kind in KINDS:
        values = [row["scores"][kind]["macro_f1"] for row in found["variants"]]
        over = found["spread"][kind]["macro_f1"]
        assert over["mean"] == pytest.approx(np.mean(values))
        assert over["sd"] == pytest.approx(np.std(values, ddof=1))
        assert (over["min"], over["max"]) == (min(values), max(values))
    masses = np.exp(scored[0].parts["test"]).sum(axis=1)
    assert found["variants"][0]["mass"]["mean"] == pytest.approx(masses.mean())
    assert found["variants"][0]["mass"]["below_half"] == pytest.approx((masses < 0.5).mean())
    text = shown(found)
    assert "…" not in text and "batch *" in text and "per token" in text and "mass < 0.5" in text


def test_one_prompt_has_no_standard_deviation() -> None:
    assert spread([0.5]) == {"n": 1, "mean": 0.5, "sd": None, "min": 0.5, "max": 0.5}
    assert "…" not in shown(outcome([likelihoods(0)], "none", TEST, LABELS))


def test_written_answers_and_invalid_ones() -> None:
    choices = {"test": np.array([0, 1, -1, 0, -1, 1]), "validation": np.array([0])}
    one = VariantScores(variant=variant(0), parts={}, tokens={}, choices=choices)
    assert one.kind("batch") == "none"
    made = one.predictions("test", "none", TEST, LABELS)
    assert made.invalid is not None and np.flatnonzero(made.invalid).tolist() == [2, 4]
    assert made.predicted.tolist() == [0, 1, -1, 0, -1, 1]
    assert made.probabilities[2].tolist() == pytest.approx([1 / 3] * 3)
    found = outcome([one], "none", TEST, LABELS)
    row = found["variants"][0]
    assert row["invalid_rate"] == pytest.approx(2 / 6) and row["mass"] is None
    assert row["scores"]["none"]["accuracy"] == pytest.approx(3 / 6)
    text = shown(found)
    assert "33.3%" in text and "invalid" in text and "mass" not in text


def test_attacks_are_counted_against_the_clean_answer() -> None:
    rows = np.array([0, 3, 5])
    wanted = np.array([1, 2, 0])
    attacked = {name: Attacked(rows, TEST.take(rows), wanted) for name in ATTACKS}
    one = likelihoods(1, attacked)
    for name in ATTACKS:  # every attacked row answers what it is asked to
        one.parts[name] = np.log(np.where(np.eye(3)[wanted] == 1, 0.9, 0.05))
    found = outcome([one], "none", TEST, LABELS)
    clean = one.chosen("test", "none")[rows]
    assert list(found["injection"]) == list(ATTACKS)
    for result in found["injection"].values():
        assert result["rows"] == result["steered"] == int((clean != wanted).sum())
    assert "100.0%" in shown(found)


@pytest.mark.parametrize(
    "text", ["<|im_end|>", "</s>", "<s>", "[INST]", "[/INST]", "<start_of_turn>", "<end_of_turn>"]
)
def test_control_tokens_of_other_models_are_taken_apart(text: str) -> None:
    """Sent to a server, whose tokenizer may read them as such."""
    assert text not in _harmless(f"a {text} b")


@pytest.mark.parametrize("text", ["a < b | c", "<b>bold</b>", "[1] and [INS]", "x<y>z", "|>"])
def test_other_marks_stay(text: str) -> None:
    assert _harmless(text) == text
