"""The one training loop: plan an epoch, forward and backward its micro-batches, check, update,
evaluate, checkpoint.

Exact for any split of the global batch: each micro-batch adds its share of the step's loss (see
:mod:`.loss`).
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from rich.console import Console
from torch import nn

from llmclf.data.batches import Step, plan_epoch
from llmclf.data.encode import Collator, Encoded
from llmclf.evaluate.scores import score
from llmclf.model.family import Family
from llmclf.model.tune import block_class, set_training_mode
from llmclf.run_folder.metrics import MetricsLog
from llmclf.supervise import signals
from llmclf.train.checkpoint import Checkpoints, State
from llmclf.train.config import TrainConfig
from llmclf.train.engine import EffectiveLaunch
from llmclf.train.loss import Loss
from llmclf.train.optimizer import build_optimizer, schedule
from llmclf.train.predict import predict_logits, to_predictions
from llmclf.train.progress import TrainingProgress
from llmclf.train.strategy import start_strategy


@dataclass(frozen=True, kw_only=True)
class Task:
    """The encoded rows to learn from, and to choose the best weights by: the last ones, where there
    are no ``validation`` rows."""

    train: Encoded
    validation: Encoded
    labels: tuple[str, ...]
    multilabel: bool
    collate: Collator


class NonFiniteError(FloatingPointError):
    """The loss or its gradient is not a finite number; the weights have not been touched by it."""


def steps_per_epoch(config: TrainConfig, num_rows: int) -> int:
    """Optimizer steps of one pass over the training rows."""
    return -(-num_rows // config.global_batch_size)


def num_steps(config: TrainConfig, num_rows: int) -> int:
    """Optimizer steps of a whole run."""
    steps = max(1, config.min_steps, round(config.epochs * steps_per_epoch(config, num_rows)))
    return min(steps, config.max_steps or steps)


def steps_per_evaluation(config: TrainConfig, num_rows: int) -> int:
    """Optimizer steps from one evaluation to the next: an epoch, or where ``min_steps`` makes the
    epochs more than ``epochs``, as many as give ``epochs`` evaluations."""
    one_epoch, total = steps_per_epoch(config, num_rows), num_steps(config, num_rows)
    if config.evaluate_every is not None:
        return config.evaluate_every
    stretched = total > round(config.epochs * one_epoch)
    return math.ceil(total / config.epochs) if stretched else one_epoch


def train(
    model: nn.Module,
    task: Task,
    config: TrainConfig,
    family: Family,
    *,
    accelerator: Accelerator,
    launch: EffectiveLaunch,
    checkpoints: Checkpoints,
    metrics: MetricsLog,
    console: Console,
    seed: int,
) -> tuple[State, nn.Module]:
    """Train ``model`` in place and leave it with the weights of the best evaluation.

    Of equals the later ones, which learnt more. Without validation rows they are the last ones.
    Returns the final state, and the model as the strategy wraps it. Resumes from the newest
    checkpoint when there is one. Raises NonFiniteError before an update that would spoil the
    weights.

    ``task``: the encoded rows; ``launch``: what is in force; ``checkpoints``: where to resume from
    and save to; ``seed``: of the order of rows and of dropout.
    """
    run = _Run(model, task, config, family, accelerator, launch, checkpoints, metrics, seed)
    total = num_steps(config, len(task.train))
    bar = TrainingProgress(console, num_steps=total, first_step=run.state.step)
    with bar as progress, signals.between_steps():
        while run.state.step < total and not run.state.stopped_early:
            run.epoch(total, progress)
    checkpoints.load_best(run.state, run.strategy)
    return run.state, run.strategy.model


@dataclass
class _Run:
    """The objects of one training run, and the steps of the loop over them."""

    bare: nn.Module
    """The model as it was given; ``strategy.model`` is what the launch made of it."""
    task: Task
    config: TrainConfig
    family: Family
    accelerator: Accelerator
    launch: EffectiveLaunch
    checkpoints: Checkpoints
    metrics: MetricsLog
    seed: int

    def __post_init__(self) -> None:
        self.loss = Loss(
            self.config,
            self.task.train.targets,
            len(self.task.labels),
            device=self.accelerator.device,
        )
        self.optimizer = build_optimizer(self.bare, self.config, self.family)
        self.strategy = start_strategy(
            self.accelerator,
            self.bare,
            self.optimizer,
            max_grad_norm=self.config.max_grad_norm,
            block=block_class(self.bare, self.family),
        )
        self.state = self.checkpoints.resume(self.strategy)
        self.metrics.restart(last_step=self.state.step)
        self.steps_per_epoch = steps_per_epoch(self.config, len(self.task.train))
        self.steps_per_evaluation = steps_per_evaluation(self.config, len(self.task.train))
        self.train_loss = float("nan")
        self.interrupted = self.ctrl_c = self.overdue = False
        self.saved_at = time.monotonic()

    def epoch(self, total: int, progress: TrainingProgress) -> None:
        """Take the steps that are left of the current epoch."""
        epoch, done = divmod(self.state.step, self.steps_per_epoch)
        steps = plan_epoch(
            self.task.train.lengths,
            global_batch_size=self.config.global_batch_size,
            micro_batch_size=self.launch.micro_batch_size,
            world_size=self.launch.world_size,
            seed=self.seed,
            epoch=epoch,
        )
        set_training_mode(self.bare)
        for step in steps[done : total - epoch * self.steps_per_epoch]:
            started = time.perf_counter()
            record = self.step(step, total)
            self.state.step += 1
            self.state.train_seconds += time.perf_counter() - started
            progress.step(self.state.step, self.train_loss)
            if self.state.step % self.config.log_every == 0 or self.state.step in (1, total):
                self.metrics.append({"step": self.state.step, "split": "train", **record})
            self.after_step(total, progress)
            if self.interrupted:
                signals.stop(self.accelerator, self.state.step, total, ctrl_c=self.ctrl_c)
            if self.state.stopped_early:
                return

    def step(self, step: Step, total: int) -> dict[str, float | None]:
        """One optimizer step; returns what metrics.jsonl records of it."""
        factor = schedule(self.config, self.state.step, total)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor
        self.train_loss = self.forward_backward(step)
        grad_norm = self.strategy.step()
        if not math.isfinite(grad_norm):
            self.stop("gradient", [self.task.train.ids[row] for row in step.rows])
        self.state.train_tokens += int(self.task.train.lengths[step.rows].sum())
        return {
            "epoch": (self.state.step + 1) / self.steps_per_epoch,
            "loss": self.train_loss,
            "learning_rate": max(group["lr"] for group in self.optimizer.param_groups),
            "grad_norm": grad_norm,
            "tokens": self.state.train_tokens,
        }

    def forward_backward(self, step: Step) -> float:
        """Accumulate the gradient of the step's loss, and return that loss, equal on every rank."""
        data, rank = self.task.train, self.accelerator.process_index
        denominator = self.loss.denominator(data.targets[step.rows])
        local = torch.zeros(4, device=self.accelerator.device)  # the loss, and notes()
        losses: list[tuple[np.ndarray, torch.Tensor]] = []
        for i, ranks in enumerate(step.micro_batches):
            rows = ranks[rank]
            # A rank without rows still takes part, with weight zero: collectives must pair up.
            weight = 1.0 if len(rows) else 0.0
            rows = rows if len(rows) else step.rows[:1]
            last = i == len(step.micro_batches) - 1
            with self.strategy.accumulate(last=last):
                loss_B = self.rows_loss(rows)
                part = weight * loss_B.sum() / denominator
                self.strategy.backward(part)
            local[0] += part.detach()
            losses.append((rows, loss_B.detach()))
        local[1:] = torch.tensor(self.notes())
        loss, *notes = self.accelerator.reduce(local, reduction="sum").tolist()
        self.interrupted, self.ctrl_c, self.overdue = (note > 0 for note in notes)
        if not math.isfinite(loss):
            broken = [rows[~loss_B.isfinite().cpu().numpy()] for rows, loss_B in losses]
            names = [data.ids[row] for row in np.concatenate(broken)]
            self.stop("loss", sorted(set(gather_object(names))))
        return loss

    def notes(self) -> list[float]:
        """What travels with the loss, so that all ranks act after the same step: a signal came, it
        was Ctrl-C, and on the main process, time for a checkpoint has come."""
        minutes = self.config.checkpoint_minutes
        waited = time.monotonic() - self.saved_at > 60 * minutes
        due = bool(minutes) and waited and self.accelerator.is_main_process
        return [float(signals.requested()), float(signals.by_ctrl_c()), float(due)]

    def rows_loss(self, rows: np.ndarray) -> torch.Tensor:
        """Loss of each of the rows, (B,)."""
        batch, targets = self.task.collate.with_targets(self.task.train, rows)
        return self.loss(self.strategy.model(**batch).logits, targets)

    def stop(self, what: str, rows: list[str]) -> None:
        """Refuse an update that would spoil the weights."""
        shown = ", ".join(rows[:10]) + (f" and {len(rows) - 10} more" if len(rows) > 10 else "")
        raise NonFiniteError(
            f"the {what} is not finite at step {self.state.step + 1} (rows: {shown}). "
            "The weights were not updated. Lower --train.learning-rate, set --train.precision "
            "fp32, or look at these rows."
        )

    def after_step(self, total: int, progress: TrainingProgress) -> None:
        """Evaluate and checkpoint where it is time, or where a signal ends the run."""
        step, last = self.state.step, self.state.step == total
        evaluate = last or step % self.steps_per_evaluation == 0
        if evaluate and len(self.task.validation):
            self.evaluate(progress)
        elif last:
            self.keep()
        checkpoint_every = self.config.checkpoint_every
        due = last or step % checkpoint_every == 0 if checkpoint_every else evaluate
        if due or self.interrupted or self.overdue:
            self.checkpoints.save(self.state, self.strategy)
            self.saved_at = time.monotonic()

    def keep(self) -> None:
        """These weights are the best so far."""
        self.state.best_step = self.state.step
        self.checkpoints.save_best(self.state, self.strategy)

    def evaluate(self, progress: TrainingProgress) -> None:
        """Score the validation rows, keep the weights if they are the best, and count towards
        stopping early."""
        logits_NC = predict_logits(
            self.strategy.model,
            self.task.validation,
            self.task.collate,
            self.accelerator,
            batch_size=self.launch.micro_batch_size,
        )
        set_training_mode(self.bare)
        scores = score(
            to_predictions(
                logits_NC, self.task.validation, self.task.labels, multilabel=self.task.multilabel
            )
        )
        record = {
            "step": self.state.step,
            "split": "validation",
            "epoch": self.state.step / self.steps_per_epoch,
            **{name: scores[name] for name in ("nll", "macro_f1", "accuracy")},
        }
        value = scores[self.config.best_by] * (-1 if self.config.best_by == "nll" else 1)
        before = self.state.best_score
        best = before is None or value >= before
        better = before is None or value > before
        self.state.evaluations_since_best = 0 if better else self.state.evaluations_since_best + 1
        if best:
            self.state.best_score = value
            self.keep()
        patience = self.config.patience
        self.state.stopped_early = (
            patience is not None and self.state.evaluations_since_best >= patience
        )
        self.metrics.append(record)
        progress.evaluation(record, train_loss=self.train_loss, best=best)
