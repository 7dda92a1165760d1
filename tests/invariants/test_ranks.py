"""Two ranks give what one process gives: every loss, every score, every prediction."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from llmclf.evaluate.predictions import Predictions
from llmclf.run_folder.metrics import read_metrics
from tests.processes import run, start
from tests.tiny import POISON, make_poisoned_bert, write_corpus

RECIPE = "recipes/bert_base.py"
EXACT = (
    "--model.dropout", "0", "--train.precision", "fp32", "--train.log-every", "1",
    "--train.learning-rate", "5e-3", "--train.min-steps", "0", "--train.epochs", "3",
)  # fmt: skip
VARIANTS = {
    "full": ("bert", ("--train.class-weights", "balanced")),
    "accumulated": ("bert", ("--train.micro-batch-size", "5", "--train.evaluate-every", "5")),
    "lora": ("llama", ("--model.tune", "lora", "--model.lora-dropout", "0")),
    "last_n": ("bert", ("--model.tune", "last_n", "--model.last-n", "1")),
    # More rows per rank than validation rows: one rank evaluates them all.
    "one_batch": ("bert", ("--train.global-batch-size", "100", "--train.max-steps", "4")),
}


@pytest.fixture(scope="module", params=VARIANTS)
def folders(
    request: pytest.FixtureRequest,
    bert: Path,
    llama: Path,
    corpus: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, Path]:
    """The same experiment with one process and with two ranks."""
    checkpoint, options = VARIANTS[request.param]
    model = ("--model.checkpoint", str({"bert": bert, "llama": llama}[checkpoint]))
    folder = tmp_path_factory.mktemp(request.param)
    for ranks in (1, 2):
        output = ("--output-dir", str(folder / str(ranks)))
        data = ("--data.source", str(corpus))
        run(folder / "log", RECIPE, *model, *data, *EXACT, *options, *output, ranks=ranks)
    return folder / "1", folder / "2"


def test_same_loss_curve_and_scores(folders: tuple[Path, Path]) -> None:
    one, two = (read_metrics(folder / "metrics.jsonl") for folder in folders)
    assert len(one) > 4
    assert [(r["step"], r["split"]) for r in one] == [(r["step"], r["split"]) for r in two]
    for a, b in zip(one, two, strict=True):
        assert a.keys() == b.keys()
        for key in a.keys() - {"split", "grad_norm"}:
            assert b[key] == pytest.approx(a[key], abs=1e-4), (a["step"], a["split"], key)
        if "grad_norm" in a:
            assert b["grad_norm"] == pytest.approx(a["grad_norm"], rel=1e-3)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_same_predictions_of_the_same_rows(folders: tuple[Path, Path], split: str) -> None:
    one, two = (Predictions.read(f / "predictions" / f"{split}.parquet") for f in folders)
    assert one.ids == two.ids
    assert one.labels == two.labels
    np.testing.assert_array_equal(one.targets, two.targets)
    np.testing.assert_allclose(one.probabilities, two.probabilities, rtol=0, atol=1e-4)


def test_environment_says_what_was_in_force(folders: tuple[Path, Path]) -> None:
    one, two = (json.loads((f / "environment.json").read_text()) for f in folders)
    assert (one["world_size"], one["strategy"]) == (1, "single")
    assert (two["world_size"], two["strategy"]) == (2, "ddp")
    settings = json.loads((folders[0] / "experiment.json").read_text())["train"]
    for environment, ranks in ((one, 1), (two, 2)):
        share = -(-settings["global_batch_size"] // ranks)
        micro = min(settings["micro_batch_size"] or share, share)
        assert environment["precision"] == "fp32"
        assert environment["global_batch_size"] == settings["global_batch_size"]
        assert environment["micro_batch_size"] == micro
        assert environment["accumulation"] == -(-share // micro)


def test_each_rank_drops_units_of_its_own(folders: tuple[Path, Path]) -> None:
    (newest,) = (folders[1] / "checkpoints").glob("step-*")
    generators = [torch.Generator() for _ in range(2)]
    states = json.loads((newest / "rng.json").read_text())
    for generator, state in zip(generators, states, strict=True):
        generator.set_state(torch.tensor(state["torch"], dtype=torch.uint8))
    assert len({generator.initial_seed() for generator in generators}) == 2


def test_cost_counts_devices_but_tokens_once(folders: tuple[Path, Path]) -> None:
    one, two = (json.loads((f / "results.json").read_text())["cost"] for f in folders)
    assert (one["devices"], two["devices"]) == (1, 2)
    for key in ("train_tokens", "flops", "total_parameters", "trainable_parameters"):
        assert one[key] == two[key]
    assert two["device_hours"] == pytest.approx(2 * two["train_seconds"] / 3600)


def data_files(folder: Path, rows: int) -> tuple[str, ...]:
    files = {"source": rows, "validation": 30, "test": 30}
    options: list[str] = []
    for seed, (name, count) in enumerate(files.items()):
        path = write_corpus(folder / f"{name}.csv", count, seed=seed)
        options += [f"--data.{name}", str(path)]
    return tuple(options)


@pytest.mark.parametrize("attempt", range(3))
def test_a_loss_that_is_not_a_number_stops_all_ranks(tmp_path: Path, attempt: int) -> None:
    """The row is on one rank; the other must not wait for it, and nothing more is written.

    Repeated, since ranks that leave the process group in disorder hang only now and then.
    """
    data = data_files(tmp_path, 120)
    with (tmp_path / "source.csv").open("a", encoding="utf-8") as file:
        file.write(f"balan komos {POISON} mipit,good\n")
    model = ("--model.checkpoint", str(make_poisoned_bert(tmp_path / "bert")))
    options = (*model, *data, *EXACT, "--train.global-batch-size", "8")
    run = start(tmp_path / "log", RECIPE, *options, "--output-dir", str(tmp_path / "run"), ranks=2)
    assert run.wait() == 1
    assert [process.exitcode for process in run.processes] == [1, 1]
    steps = [r["step"] for r in read_metrics(tmp_path / "run" / "metrics.jsonl")]
    text = " ".join(run.text().split())
    assert f"the loss is not finite at step {max(steps) + 1} (rows: train:121)" in text
    assert not (tmp_path / "run" / "model").exists()


def test_fewer_training_rows_than_ranks_are_refused(bert: Path, tmp_path: Path) -> None:
    data = data_files(tmp_path, 3)
    output = tmp_path / "run"
    model = ("--model.checkpoint", str(bert))
    run = start(tmp_path / "log", RECIPE, *model, *data, "--output-dir", str(output), ranks=4)
    assert run.wait() == 2
    text = " ".join(run.text().split())
    assert "3 training rows for 4 processes: each needs at least one." in text
    assert not output.exists()


def test_a_users_mistake_is_one_message_from_all_ranks(
    bert: Path, corpus: Path, tmp_path: Path
) -> None:
    """One that only the model's configuration shows, which the first rank reads first."""
    output = tmp_path / "run"
    options = ("--model.checkpoint", str(bert), "--data.source", str(corpus))
    options += ("--data.max-length", "999", "--output-dir", str(output))
    run = start(tmp_path / "log", RECIPE, *options, ranks=2)
    assert run.wait() == 2
    assert [process.exitcode for process in run.processes] == [2, 2]
    assert run.text().count("error: ") == 1
    assert "data.max_length=999: the model takes at most 32 tokens" in run.text()
    assert "Traceback" not in run.text()
    assert not output.exists()


def test_half_a_launch_is_refused(bert: Path, corpus: Path, tmp_path: Path) -> None:
    """WORLD_SIZE is left over from somewhere; nobody says who the other ranks are."""
    output = tmp_path / "run"
    run = start(
        tmp_path / "log", RECIPE, "--model.checkpoint", str(bert), "--data.source", str(corpus),
        "--output-dir", str(output), environment={"WORLD_SIZE": "2"},
    )  # fmt: skip
    assert run.wait() == 2
    assert "error: WORLD_SIZE=2, but the launch is incomplete: " in run.text()
    assert "Traceback" not in run.text()
    assert not output.exists()
