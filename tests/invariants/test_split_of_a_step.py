"""However a step is cut into micro-batches and ranks, its loss and gradient are those of the whole;
however rows are dealt out to ranks, each is predicted once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import AutoTokenizer

from llmclf.data.corpus import Splits
from llmclf.model.build import build_model
from llmclf.model.config import ModelConfig
from tests.processes import run

GLOBAL = {"global_batch_size": 24, "class_weights": "balanced"}  # 217 rows: the last step has one
CASES = {
    "all": GLOBAL,
    "three": GLOBAL | {"micro_batch_size": 3},
    "one": GLOBAL | {"micro_batch_size": 1},
    "five": GLOBAL | {"micro_batch_size": 5, "label_smoothing": 0.1},
    "recomputed": GLOBAL | {"micro_batch_size": 5, "gradient_checkpointing": True},
}
RANKS = (1, 2, 3)
Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def found(
    bert: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[int, int], Arrays]:
    """(number of ranks, rank) -> what that rank found."""
    result = {}
    for ranks in RANKS:
        folder = tmp_path_factory.mktemp("ranks")
        script = "tests/invariants/on_ranks.py"
        arguments = (str(bert), str(corpus), str(folder), json.dumps(CASES))
        run(folder / "log", script, *arguments, ranks=ranks)
        result |= {(ranks, rank): dict(np.load(folder / f"{rank}.npz")) for rank in range(ranks)}
    return result


def reference(
    bert: Path, splits: Splits, rows: np.ndarray, smoothing: float
) -> tuple[float, Arrays]:
    """Loss and gradient of the rows in one batch and in fp64, by torch alone."""
    tokenizer = AutoTokenizer.from_pretrained(bert)
    torch.manual_seed(0)
    model = build_model(
        ModelConfig(checkpoint=str(bert), dropout=0.0),
        labels=splits.labels,
        multilabel=False,
        pad_token_id=tokenizer.pad_token_id,
        max_length=32,
    )
    model = model.double().eval()
    counts = np.bincount(splits.train.targets)
    weight = torch.tensor(len(splits.train) / (len(counts) * counts))
    batch = tokenizer([splits.train.texts[i] for i in rows], padding=True, return_tensors="pt")
    targets = torch.from_numpy(splits.train.targets[rows])
    logits = model(**batch).logits
    loss = F.cross_entropy(logits, targets, weight=weight, label_smoothing=smoothing)
    loss.backward()
    return loss.item(), {n: p.grad.numpy() for n, p in model.named_parameters()}


def flat(arrays: Arrays, names: list[str], prefix: str = "") -> np.ndarray:
    return np.concatenate([arrays[prefix + name].ravel() for name in names])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("size", ["full", "small"])
def test_loss_and_gradient_are_those_of_the_whole_step(
    found: dict[tuple[int, int], Arrays], bert: Path, splits: Splits, case: str, size: str
) -> None:
    prefix = f"{case}/{size}/"
    rows = found[1, 0][prefix + "rows"]
    assert len(rows) == (24 if size == "full" else 1)
    loss, gradient = reference(bert, splits, rows, CASES[case].get("label_smoothing", 0.0))
    names = list(gradient)
    expected = flat(gradient, names)
    for (ranks, rank), arrays in found.items():
        where = f"rank {rank} of {ranks}"
        assert sorted(arrays[prefix + "rows"]) == sorted(rows), where
        assert float(arrays[prefix + "loss"]) == pytest.approx(loss, rel=1e-6), where
        ours = flat(arrays, names, prefix + "gradient/")
        error = np.linalg.norm(ours - expected) / np.linalg.norm(expected)
        assert error <= 1e-6, where


@pytest.mark.parametrize("case", CASES)
def test_all_ranks_hold_the_same_loss_and_gradient(
    found: dict[tuple[int, int], Arrays], case: str
) -> None:
    for (ranks, rank), arrays in found.items():
        first = found[ranks, 0]
        for key in (key for key in arrays if key.startswith(f"{case}/")):
            assert np.array_equal(arrays[key], first[key]), f"{key}, rank {rank} of {ranks}"


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 24])
def test_each_row_is_predicted_once_and_in_its_place(
    found: dict[tuple[int, int], Arrays], bert: Path, splits: Splits, size: int
) -> None:
    """Also with fewer rows, or fewer batches, than ranks."""
    expected = found[1, 0]["logits/24"][:size]
    assert len(np.unique(expected, axis=0)) == size, "rows must differ to show a mix-up"
    for (ranks, rank), arrays in found.items():
        ours = arrays[f"logits/{size}"]
        assert ours.shape == (size, 3)
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5)
        assert np.array_equal(ours, found[ranks, 0][f"logits/{size}"]), f"rank {rank} of {ranks}"
