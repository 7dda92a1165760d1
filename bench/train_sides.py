"""The sides of train_vs_trainer.py: our loop and transformers.Trainer, on the same rows."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from common import RESULTS, SHARED, Turns
from rich.console import Console
from torch import nn
from torch.utils.data import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from llmclf.data.batches import Step, padding_share, plan_epoch
from llmclf.data.corpus import Splits
from llmclf.data.encode import Encoded
from llmclf.evaluate.scores import score
from llmclf.experiment import quieten
from llmclf.model.build import load_tokenizer
from llmclf.model.config import ModelConfig
from llmclf.run_folder.metrics import MetricsLog
from llmclf.train.checkpoint import Checkpoints, State
from llmclf.train.config import TrainConfig
from llmclf.train.engine import resolve_precision
from llmclf.train.fine_tune import PreparedFineTune, prepare
from llmclf.train.loop import train
from llmclf.train.predict import to_predictions

NEVER = 10**9
Batching = Literal["max_length", "dynamic", "group_by_length"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is compared, on what, and how long."""

    source: str = str(SHARED) if SHARED.exists() else "health-advice"
    """Rows, as --data.source of a recipe."""
    checkpoint: str = "minilm-l6"
    """Model, as --model.checkpoint of a recipe."""
    peers: tuple[Batching, ...] = ("max_length", "dynamic", "group_by_length")
    """How Trainer makes its batches, one peer for each."""
    rows: int = 1280
    """Training rows, and so rows per repeat; a multiple of the batch size."""
    repeats: int = 5
    """Epochs that are counted, after one that is not."""
    block_steps: int = 8
    """Steps that a side takes in its turn; smaller where an epoch has fewer."""
    batch_size: int = 32
    learning_rate: float = 1e-4
    max_length: int = 128
    """Rows are cut to this many tokens on all sides, and the first peer pads to it."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of the timed runs; auto: bf16 where the device computes it."""
    threads: int = torch.get_num_threads()
    """Threads of each side; torch's own choice is a thread per core."""
    tolerance: float = 1e-5
    """Largest relative difference of loss and gradient that passes the gate."""
    seed: int = 0
    output: Path = RESULTS / "train_vs_trainer.json"

    @property
    def steps_per_epoch(self) -> int:
        return self.rows // self.batch_size

    @property
    def steps_per_block(self) -> int:
        """The largest number up to ``block_steps`` that divides an epoch."""
        steps = self.steps_per_epoch
        return max(n for n in range(1, min(self.block_steps, steps) + 1) if steps % n == 0)

    def train_config(self) -> TrainConfig:
        return TrainConfig(
            epochs=1 + self.repeats,
            min_steps=0,
            learning_rate=self.learning_rate,
            global_batch_size=self.batch_size,
            precision=resolve_precision(self.precision),
            evaluate_every=NEVER,
            log_every=self.steps_per_block,
        )


class HandOver(MetricsLog):
    """The loop's own metrics file, which also hands over at each block's end.

    It is what the loop calls as it starts, and then right after every ``log_every`` steps.
    """

    def __init__(self, path: Path, turns: Turns | None, block_steps: int = 1) -> None:
        super().__init__(path, enabled=True)
        self.turns, self.block_steps = turns, block_steps
        self.records: list[dict[str, Any]] = []

    def restart(self, *, last_step: int) -> None:
        super().restart(last_step=last_step)
        if self.turns:
            self.turns.begin()

    def append(self, record: dict[str, Any]) -> None:
        super().append(record)
        self.records.append(record)
        is_end = record["split"] == "train" and record["step"] % self.block_steps == 0
        if self.turns and is_end:
            self.turns.next()


def train_ours(prepared: PreparedFineTune, metrics: HandOver) -> State:
    """The loop as a recipe runs it, in the folder of ``metrics``."""
    return train(
        prepared.model,
        prepared.task,
        prepared.config,
        prepared.family,
        accelerator=prepared.accelerator,
        launch=prepared.launch,
        checkpoints=Checkpoints(metrics.path.parent / "checkpoints", prepared.accelerator),
        metrics=metrics,
        console=Console(quiet=True),
        seed=prepared.seed,
    )[0]


def prepare_ours(
    splits: Splits, model: Path, settings: Settings, config: TrainConfig, dropout: float | None
) -> PreparedFineTune:
    """Everything up to the first step. ``model``: the folder that all sides start from."""
    return prepare(
        splits,
        model_config=ModelConfig(checkpoint=str(model), dropout=dropout),
        config=config,
        max_length=settings.max_length,
        seed=settings.seed,
    )


def ours(splits: Splits, model: Path, settings: Settings, turns: Turns) -> dict[str, Any]:
    """Our side of the timed run."""
    quieten()
    config = settings.train_config()
    prepared = prepare_ours(splits, model, settings, config, None)
    with tempfile.TemporaryDirectory() as folder:
        metrics = HandOver(Path(folder) / "metrics.jsonl", turns, settings.steps_per_block)
        train_ours(prepared, metrics)
    lengths = prepared.task.train.lengths
    plans = [plan(prepared, epoch) for epoch in range(1 + settings.repeats)]
    evaluation = metrics.records[-1]
    return {
        "padding_share": float(np.mean([padding_share(p, lengths) for p in plans])),
        "validation": {name: evaluation[name] for name in ("macro_f1", "nll")},
    }


def plan(prepared: PreparedFineTune, epoch: int) -> list[Step]:
    """The steps that the loop takes in this epoch."""
    return plan_epoch(
        prepared.task.train.lengths,
        global_batch_size=prepared.config.global_batch_size,
        micro_batch_size=prepared.launch.micro_batch_size,
        world_size=1,
        seed=prepared.seed,
        epoch=epoch,
    )


class HandOverCallback(TrainerCallback):
    """Hands over at each block's end."""

    def __init__(self, turns: Turns, block_steps: int) -> None:
        self.turns, self.block_steps = turns, block_steps

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.turns.begin()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if state.global_step % self.block_steps == 0:
            self.turns.next()


class Rows(Dataset[dict[str, Any]]):
    """A list as Trainer takes it: no data set is faster."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> dict[str, Any]:
        return self.rows[i]


class CountingCollator:
    """Pads like the collator inside, and counts the tokens; cheap next to a step."""

    def __init__(self, collator: DataCollatorWithPadding) -> None:
        self.collator = collator
        self.computed = self.real = 0

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batch = self.collator(rows)
        self.computed += batch["input_ids"].numel()
        self.real += int(batch["attention_mask"].sum())
        return dict(batch)


def make_trainer(
    model: nn.Module,
    rows: Rows,
    collate: CountingCollator,
    config: TrainConfig,
    settings: Settings,
    *,
    grouped: bool = False,
) -> Trainer:
    """A Trainer with our settings and its own defaults else; accumulation 1, where it is exact."""
    arguments = TrainingArguments(
        tempfile.gettempdir(),  # nothing is saved
        use_cpu=not torch.cuda.is_available(),
        bf16=config.precision == "bf16",
        num_train_epochs=config.epochs,
        max_steps=config.max_steps or -1,
        per_device_train_batch_size=config.global_batch_size,
        per_device_eval_batch_size=config.global_batch_size,
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.schedule,
        warmup_steps=config.warmup,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        train_sampling_strategy="group_by_length" if grouped else "random",
        dataloader_num_workers=0,
        dataloader_pin_memory=torch.cuda.is_available(),
        remove_unused_columns=False,
        logging_steps=config.log_every,
        save_strategy="no",
        eval_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=settings.seed,
    )
    return Trainer(model=model, args=arguments, train_dataset=rows, data_collator=collate)


def collator(model: Path, batching: Batching, max_length: int) -> CountingCollator:
    padding = "max_length" if batching == "max_length" else "longest"
    tokenizer = load_tokenizer(str(model))
    return CountingCollator(DataCollatorWithPadding(tokenizer, padding, max_length=max_length))


def rows_of(data: Encoded) -> Rows:
    """Our encoded rows as Trainer takes them: the tokens are the same on all sides."""
    rows = []
    for i, (start, end) in enumerate(zip(data.offsets[:-1], data.offsets[1:], strict=True)):
        row: dict[str, Any] = {"input_ids": data.input_ids[start:end].tolist()}
        if data.token_type_ids is not None:
            row["token_type_ids"] = data.token_type_ids[start:end].tolist()
        rows.append(row | {"attention_mask": [1] * (end - start), "labels": int(data.targets[i])})
    return Rows(rows)


def peer(
    splits: Splits, model: Path, settings: Settings, batching: Batching, turns: Turns
) -> dict[str, Any]:
    """Trainer's side of the timed run."""
    quieten()
    config = settings.train_config()
    task = prepare_ours(splits, model, settings, config, None).task
    collate = collator(model, batching, settings.max_length)
    network = AutoModelForSequenceClassification.from_pretrained(model, dtype=torch.float32)
    rows, grouped = rows_of(task.train), batching == "group_by_length"
    with silent():
        trainer = make_trainer(network, rows, collate, config, settings, grouped=grouped)
        trainer.add_callback(HandOverCallback(turns, settings.steps_per_block))
        trainer.train()
        padding = 1 - collate.real / collate.computed
        logits_NC = trainer.predict(rows_of(task.validation)).predictions
    assert isinstance(logits_NC, np.ndarray)
    scores = score(to_predictions(logits_NC, task.validation, task.labels, multilabel=False))
    return {
        "padding_share": padding,
        "validation": {name: scores[name] for name in ("macro_f1", "nll")},
    }


@contextmanager
def silent() -> Iterator[None]:
    """Trainer prints its records to stdout where it has no progress bar."""
    with open(os.devnull, "w") as nowhere:
        original, sys.stdout = sys.stdout, nowhere
        try:
            yield
        finally:
            sys.stdout = original
