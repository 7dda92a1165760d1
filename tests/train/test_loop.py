"""The loop in one process: it learns, stops when it should, keeps the best, and never updates on
a loss or gradient that is not a number."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import nn

from llmclf.data.config import DataConfig
from llmclf.data.corpus import Splits, load_splits
from llmclf.evaluate.scores import score
from llmclf.model.config import ModelConfig
from llmclf.run_folder.metrics import MetricsLog, read_metrics
from llmclf.train import fine_tune
from llmclf.train import loop as loop_module
from llmclf.train.checkpoint import Checkpoints, State, learned
from llmclf.train.config import TrainConfig
from llmclf.train.fine_tune import PreparedFineTune
from llmclf.train.loop import NonFiniteError, num_steps, steps_per_evaluation, train
from llmclf.train.saved import SavedModel
from tests.tiny import POISON, make_poisoned_bert, write_corpus

FP32 = {"precision": "fp32", "learning_rate": 1e-2, "min_steps": 0}


def prepare(
    splits: Splits, checkpoint: Path, *, tune: Any = "full", **settings: Any
) -> PreparedFineTune:
    return fine_tune.prepare(
        splits,
        model_config=ModelConfig(checkpoint=str(checkpoint), tune=tune, dropout=0.0),
        config=TrainConfig(**(FP32 | settings)),
        max_length=None,
        seed=0,
    )


def loop(prepared: PreparedFineTune, folder: Path) -> State:
    """Train alone, without the saving and predicting around it."""
    return train(
        prepared.model,
        prepared.task,
        prepared.config,
        prepared.family,
        accelerator=prepared.accelerator,
        launch=prepared.launch,
        checkpoints=Checkpoints(folder / "checkpoints", prepared.accelerator),
        metrics=MetricsLog(folder / "metrics.jsonl", enabled=True),
        console=Console(quiet=True),
        seed=prepared.seed,
    )[0]


def records(folder: Path, split: str) -> list[dict[str, Any]]:
    return [r for r in read_metrics(folder / "metrics.jsonl") if r["split"] == split]


def names(folder: Path) -> set[str]:
    return {path.name for path in (folder / "checkpoints").iterdir()}


def same_bits(model: nn.Module, file: Path) -> bool:
    stored, ours = load_file(file), learned(model)
    assert stored.keys() == ours.keys()
    return all(torch.equal(stored[name], ours[name].view(-1)) for name in stored)


@pytest.mark.parametrize(
    ("tune", "settings"),
    [
        ("full", {"epochs": 8}),
        ("full", {"epochs": 8, "precision": "bf16", "loss": "focal", "schedule": "cosine"}),
        ("full", {"epochs": 8, "micro_batch_size": 5, "gradient_checkpointing": True}),
        ("lora", {"epochs": 24, "gradient_checkpointing": True, "best_by": "nll"}),
    ],
)
def test_learns_what_can_be_learnt(
    splits: Splits, bert: Path, tmp_path: Path, tune: str, settings: dict[str, Any]
) -> None:
    test = prepare(splits, bert, tune=tune, **settings).run(tmp_path, Console(quiet=True)).test
    assert score(test)["accuracy"] > 0.95


@pytest.mark.parametrize("tune", ["head", "last_n", "lora"])
def test_what_is_frozen_keeps_its_bits(
    splits: Splits, bert: Path, tmp_path: Path, tune: str
) -> None:
    prepared = prepare(splits, bert, tune=tune, max_steps=3)
    before = {n: p.detach().clone() for n, p in prepared.model.named_parameters()}
    loop(prepared, tmp_path)
    for name, parameter in prepared.model.named_parameters():
        assert torch.equal(parameter, before[name]) != parameter.requires_grad, name


@pytest.mark.parametrize(
    ("epochs", "max_steps", "expected"),
    [(3, None, 21), (0.5, None, 4), (1.5, None, 10), (0.01, None, 1), (3, 5, 5), (1, 50, 7)],
)
def test_number_of_steps(epochs: float, max_steps: int | None, expected: int) -> None:
    """217 rows are 7 steps of at most 32."""
    assert num_steps(TrainConfig(epochs=epochs, min_steps=0, max_steps=max_steps), 217) == expected


@pytest.mark.parametrize(
    ("settings", "rows", "steps", "evaluated"),
    [
        ({"epochs": 4}, 43, 200, [50, 100, 150, 200]),  # 2 steps an epoch
        ({"epochs": 3}, 6400, 600, [200, 400, 600]),
        ({"epochs": 3}, 6390, 600, [200, 400, 600]),
        ({"epochs": 3}, 2100, 200, [67, 134, 200]),  # 198 steps of their own
        ({"epochs": 1.5}, 64, 200, [134, 200]),
        ({"epochs": 0.5}, 64, 200, [200]),
        ({"epochs": 4, "max_steps": 60}, 43, 60, [15, 30, 45, 60]),
        ({"epochs": 4, "evaluate_every": 90}, 43, 200, [90, 180, 200]),
        ({"epochs": 2, "min_steps": 0}, 43, 4, [2, 4]),
        ({"epochs": 2.5, "min_steps": 0}, 217, 18, [7, 14, 18]),
    ],
)
def test_few_rows_are_learnt_from_for_min_steps(
    settings: dict[str, Any], rows: int, steps: int, evaluated: list[int]
) -> None:
    """And evaluated ``epochs`` times, as they would be if each were an epoch."""
    config = TrainConfig(**settings)
    assert num_steps(config, rows) == steps
    every = steps_per_evaluation(config, rows)
    assert [s for s in range(1, steps + 1) if s % every == 0 or s == steps] == evaluated


def test_few_rows_are_told(splits: Splits, bert: Path) -> None:
    def warned(**settings: Any) -> str:
        return "\n".join(prepare(splits, bert, **settings).warnings())

    assert "train.min_steps=200: 29 epochs instead of 3" in warned(min_steps=200)
    assert "21 optimizer steps are few" in warned()
    assert warned(epochs=40) == ""


def test_without_validation_rows_the_last_weights_are_kept(
    splits: Splits, bert: Path, tmp_path: Path
) -> None:
    lacking = dataclasses.replace(splits, validation=splits.validation.take([]))
    prepared = prepare(lacking, bert, epochs=2)
    assert "no validation rows: the last weights are kept" in prepared.warnings()[-1]
    outcome = prepared.run(tmp_path, Console(quiet=True))
    assert outcome.validation is None
    assert outcome.calibration is not None and outcome.calibration.temperature == 1
    assert records(tmp_path, "validation") == []
    assert names(tmp_path) == {"best-000014", "step-000014"}
    SavedModel.load(tmp_path / "model")


def test_number_of_steps_does_not_suffer_from_rounding() -> None:
    assert 1.1 * 100 > 110
    assert num_steps(TrainConfig(epochs=1.1, min_steps=0), 3200) == 110


def test_a_fraction_of_an_epoch_stops_within_it(splits: Splits, bert: Path, tmp_path: Path) -> None:
    state = loop(prepare(splits, bert, epochs=1.5, log_every=1), tmp_path)
    assert state.step == 10
    assert [r["step"] for r in records(tmp_path, "train")] == list(range(1, 11))
    assert [r["step"] for r in records(tmp_path, "validation")] == [7, 10]
    assert records(tmp_path, "train")[-1]["epoch"] == pytest.approx(10 / 7)


def test_records_hold_what_happened(splits: Splits, bert: Path, tmp_path: Path) -> None:
    prepared = prepare(splits, bert, epochs=2, warmup=0.0, log_every=4, evaluate_every=5)
    state = loop(prepared, tmp_path)
    lines = records(tmp_path, "train")
    assert [r["step"] for r in lines] == [1, 4, 8, 12, 14]
    assert [r["step"] for r in records(tmp_path, "validation")] == [5, 10, 14]
    assert lines[-1]["tokens"] == state.train_tokens == 2 * prepared.task.train.lengths.sum()
    rates = [r["learning_rate"] for r in lines]
    assert rates == pytest.approx([1e-2 * (14 - r["step"] + 1) / 14 for r in lines])
    assert all(r["grad_norm"] > 0 for r in lines)
    assert state.train_seconds > 0


def test_the_same_seed_gives_the_same_bits(splits: Splits, bert: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        prepared = prepare(splits, bert, max_steps=6, log_every=1)
        prepared.run(tmp_path / name, Console(quiet=True))
    for file in ("metrics.jsonl", "model/model.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_clipping_limits_what_the_optimizer_sees(
    splits: Splits, bert: Path, tmp_path: Path
) -> None:
    """Off, it still measures the norm and leaves the gradient alone."""
    norms = {}
    for limit in (0.0, 1e-3, 1e9):
        prepared = prepare(splits, bert, max_steps=1, max_grad_norm=limit)
        seen: list[torch.Tensor] = []
        step = torch.optim.AdamW.step

        def spy(self: torch.optim.AdamW, *args: Any, seen: Any = seen, step: Any = step) -> Any:
            seen += [p.grad.clone() for g in self.param_groups for p in g["params"]]
            return step(self, *args)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.optim.AdamW, "step", spy)
            loop(prepared, tmp_path / str(limit))
        norms[limit] = float(torch.cat([g.flatten() for g in seen]).norm())
        (line,) = records(tmp_path / str(limit), "train")
        assert line["grad_norm"] > 1e-3
        assert norms[limit] == pytest.approx(min(limit or 1e9, line["grad_norm"]), rel=1e-3)
    assert norms[0.0] == norms[1e9]


def test_stops_early_when_nothing_gets_better(splits: Splits, bert: Path, tmp_path: Path) -> None:
    settings = {"learning_rate": 1e-30, "evaluate_every": 2, "patience": 3}
    state = loop(prepare(splits, bert, epochs=5, **settings), tmp_path)
    assert (state.step, state.stopped_early) == (8, True)
    assert state.best_step == 8, "of equals the later weights, which learnt more"
    assert [r["step"] for r in records(tmp_path, "validation")] == [2, 4, 6, 8]


def test_patience_counts_evaluations_in_a_row(splits: Splits, bert: Path, tmp_path: Path) -> None:
    settings = {"learning_rate": 5e-3, "epochs": 4, "evaluate_every": 1, "best_by": "accuracy"}
    loop(prepare(splits, bert, **settings), tmp_path / "whole")
    scores = [r["accuracy"] for r in records(tmp_path / "whole", "validation")]
    better = "".join("+" if s > max(scores[:i], default=-1) else "-" for i, s in enumerate(scores))
    longest = max(better.split("+"), key=len)
    stop = better.index(longest) + len(longest)
    assert better[:stop].count("-") > len(longest), f"{better}: this shows nothing"
    state = loop(prepare(splits, bert, patience=len(longest), **settings), tmp_path / "stopped")
    assert (state.step, state.stopped_early) == (stop, True)


@pytest.mark.parametrize("best_by", ["macro_f1", "accuracy", "nll"])
def test_ends_with_the_best_weights_not_the_last(
    splits: Splits, bert: Path, tmp_path: Path, best_by: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After 14 steps down the loss it goes up."""
    monkeypatch.setattr(loop_module, "schedule", lambda _, step, __: 1.0 if step < 14 else -1.0)
    settings = {"learning_rate": 5e-3, "evaluate_every": 2, "epochs": 4}
    prepared = prepare(splits, bert, best_by=best_by, **settings)
    model = prepared.model
    outcome = prepared.run(tmp_path, Console(quiet=True))
    validation, calibration = outcome.validation, outcome.calibration
    assert validation is not None and calibration is not None
    lines = {r["step"]: r[best_by] for r in records(tmp_path, "validation")}
    best = (min if best_by == "nll" else max)(lines.values())
    step = max(step for step, value in lines.items() if value == best)
    assert step < max(lines), "the last is the best: the test shows nothing"
    assert score(calibration.undo(validation))[best_by] == pytest.approx(best, abs=1e-6)
    assert names(tmp_path) == {f"best-{step:06d}", f"step-{max(lines):06d}"}
    weights = f"best-{step:06d}/weights-00000.safetensors"
    assert same_bits(model, tmp_path / "checkpoints" / weights)


def test_checkpoints_come_when_asked_and_only_the_newest_stays(
    splits: Splits, bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[int, set[str]] = {}
    append = MetricsLog.append

    def spy(self: MetricsLog, record: dict[str, Any]) -> None:
        append(self, record)
        if record["split"] == "train":  # before this step's own evaluation and checkpoint
            seen[record["step"]] = names(tmp_path) if (tmp_path / "checkpoints").exists() else set()

    monkeypatch.setattr(MetricsLog, "append", spy)
    settings = {"evaluate_every": 4, "checkpoint_every": 3, "log_every": 1, "best_by": "nll"}
    loop(prepare(splits, bert, max_steps=14, **settings), tmp_path)
    steps = {step: {n for n in found if n.startswith("step-")} for step, found in seen.items()}
    assert steps[3] == set()
    assert steps[4] == steps[6] == {"step-000003"}
    assert steps[7] == steps[9] == {"step-000006"}
    assert all(len(found) <= 1 for found in steps.values())
    assert all(len(found) <= 3 for found in seen.values())  # an old best and a new one, at most
    assert "best-000004" in seen[5]
    assert len(names(tmp_path)) == 2
    assert "step-000014" in names(tmp_path)


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Splits, Path]:
    """Splits with one training row that the checkpoint cannot bear."""
    folder = tmp_path_factory.mktemp("poisoned")
    source = write_corpus(folder / "train.csv", 120)
    with source.open("a", encoding="utf-8") as file:
        file.write(f"balan komos {POISON} mipit,good\n")
    validation, test = (str(write_corpus(folder / f"{i}.csv", 30, seed=i)) for i in (1, 2))
    config = DataConfig(source=str(source), validation=validation, test=test)
    return load_splits(config, seed=0), make_poisoned_bert(folder / "bert")


@pytest.mark.parametrize("micro_batch_size", [None, 3])
def test_a_loss_that_is_not_a_number_stops_before_the_update(
    poisoned: tuple[Splits, Path], tmp_path: Path, micro_batch_size: int | None
) -> None:
    splits, checkpoint = poisoned
    row = splits.train.ids[[POISON in text for text in splits.train.texts].index(True)]
    settings = {"global_batch_size": 8, "checkpoint_every": 1, "log_every": 1, "epochs": 1}
    prepared = prepare(splits, checkpoint, micro_batch_size=micro_batch_size, **settings)
    with pytest.raises(NonFiniteError) as caught:
        loop(prepared, tmp_path)
    done = records(tmp_path, "train")[-1]["step"]
    message = str(caught.value)
    assert f"the loss is not finite at step {done + 1} (rows: {row})" in message
    assert "--train.learning-rate" in message
    newest = tmp_path / "checkpoints" / f"step-{done:06d}" / "weights-00000.safetensors"
    assert same_bits(prepared.model, newest)


@pytest.mark.parametrize("max_grad_norm", [0.0, 1.0])
def test_a_gradient_that_is_not_a_number_stops_before_the_update(
    splits: Splits, bert: Path, tmp_path: Path, max_grad_norm: float
) -> None:
    prepared = prepare(splits, bert, max_grad_norm=max_grad_norm)
    before = {name: p.clone() for name, p in learned(prepared.model).items()}
    prepared.model.get_parameter("classifier.bias").register_hook(lambda g: g * math.inf)
    with pytest.raises(NonFiniteError, match="the gradient is not finite at step 1 "):
        loop(prepared, tmp_path)
    assert all(torch.equal(p, before[name]) for name, p in learned(prepared.model).items())


def test_predictions_that_are_not_numbers_are_named(
    poisoned: tuple[Splits, Path], tmp_path: Path
) -> None:
    splits, checkpoint = poisoned
    position = next(i for i, text in enumerate(splits.train.texts) if POISON in text)
    others = [i for i in range(len(splits.train)) if i != position]
    splits = dataclasses.replace(
        splits,
        train=splits.train.take(np.array(others)),
        validation=splits.train.take(np.array([0, position, 1])),
    )
    with pytest.raises(FloatingPointError, match=r"1 rows have logits .* not finite: train:121$"):
        loop(prepare(splits, checkpoint, epochs=1), tmp_path)
