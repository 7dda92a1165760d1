"""From splits to predictions with a fine-tuned model: encode, build, train, save, predict."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, set_seed
from peft import PeftModel
from rich.console import Console
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from llmclf.compat.transformers import divides_on_loading, undivided
from llmclf.config import ConfigError, DataError
from llmclf.data.batches import padding_share, plan_epoch
from llmclf.data.corpus import Splits
from llmclf.data.encode import Collator, Encoded, encode
from llmclf.evaluate import calibration, latency
from llmclf.evaluate.calibration import Calibration
from llmclf.evaluate.cost import Cost, PeakMemory
from llmclf.evaluate.energy import meter_of, total
from llmclf.evaluate.predictions import Predictions
from llmclf.model.build import ModelConfig, load_config, load_tokenizer, max_tokens
from llmclf.model.family import Family, family_of, padding_multiple_and_minimum
from llmclf.model.flops import PEAK_FLOPS, training_flops
from llmclf.model.quantize import keep_layout
from llmclf.model.tune import count_parameters, enable_gradient_checkpointing, save_model
from llmclf.track import MetricsLog
from llmclf.train.blueprint import Blueprint, check_strategy
from llmclf.train.checkpoint import Checkpoints, State
from llmclf.train.config import TrainConfig
from llmclf.train.engine import InForce, in_force, main_process_first, start_engine
from llmclf.train.loop import Task, num_steps, train
from llmclf.train.predict import predict_logits, to_predictions

ROUND_TRIP_ROWS = 8
ROUND_TRIP_TOLERANCE = {  # of the logits' own size
    "fp32": 1e-3,  # merging an adapter rounds
    "bf16": 0.1,  # training computed with weights in bf16
    "int8": 0.3,  # and with inputs in 8 bits: only a gross error shows
}


@dataclass(frozen=True, kw_only=True)
class FineTune:
    """All that a fine-tune needs, checked and ready; nothing has been written yet."""

    blueprint: Blueprint
    config: TrainConfig
    seed: int
    accelerator: Accelerator
    in_force: InForce
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    task: Task
    test: Encoded
    family: Family
    outline: nn.Module
    """The model without memory, whatever the strategy makes of the real one."""
    model: PreTrainedModel | PeftModel

    def plan(self) -> dict[str, Any]:
        """What would happen, for ``--dry-run`` and environment.json."""
        total, trainable = count_parameters(self.outline)
        lengths = self.task.train.lengths
        epoch = plan_epoch(
            lengths,
            global_batch_size=self.config.global_batch_size,
            micro_batch_size=self.in_force.micro_batch_size,
            world_size=self.in_force.world_size,
            seed=self.seed,
            epoch=0,
        )
        return {
            **self.in_force.to_json(),
            "total_parameters": total,
            "trainable_parameters": trainable,
            "max_length": self.max_length,
            "steps": num_steps(self.config, len(self.task.train)),
            "train_tokens_per_epoch": int(lengths.sum()),
            "padding_share": round(padding_share(epoch, lengths), 4),
        }

    def truncated(self) -> dict[str, Any]:
        """Rows and tokens that ``max_length`` cuts off, per split."""
        encoded = {"train": self.task.train, "validation": self.task.validation, "test": self.test}
        return {
            name: {
                "rows": e.num_truncated,
                "share": e.num_truncated / len(e),
                "tokens_lost": e.num_tokens_lost,
            }
            for name, e in encoded.items()
        }

    def run(
        self, folder: Path, console: Console
    ) -> tuple[Predictions, Predictions, Cost, Calibration]:
        """Train, calibrate and save the model, and predict validation and test rows with the saved
        model, in fp32."""
        main = self.accelerator.is_main_process
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        set_seed(self.seed, device_specific=True)  # or all ranks would drop the same units
        checkpoints = Checkpoints(folder / "checkpoints", self.accelerator)
        resumed = checkpoints.newest() is not None
        with PeakMemory() as memory:
            with meter_of(self.accelerator) as train_energy:
                state, engine = train(
                    self.model,
                    self.task,
                    self.config,
                    self.family,
                    accelerator=self.accelerator,
                    in_force=self.in_force,
                    checkpoints=checkpoints,
                    metrics=MetricsLog(folder / "metrics.jsonl", enabled=main),
                    console=console,
                    seed=self.seed,
                )
            cost = self.train_cost(state)
            best = checkpoints.best(state)
            fitted = calibration.fit(self.predict(engine, self.task.validation))
            model = self.save(engine, best, folder / "model", fitted)
            # The saved model's output layer has the temperature in it already.
            left = fitted if model is engine else replace(fitted, temperature=1.0)
            validation = left.apply(self.predict(model, self.task.validation))
            started = time.perf_counter()
            with meter_of(self.accelerator) as predict_energy:
                test = left.apply(self.predict(model, self.test))
            seconds = time.perf_counter() - started
        if torch.cuda.is_available():
            peak = torch.cuda.max_memory_allocated()
        else:
            peak = memory.peak_bytes
        cost |= latency.percentiles(self.latencies(model))
        cost |= {
            "predict_seconds": seconds,
            "predict_examples_per_second": len(self.test) / seconds,
            "peak_memory_bytes": max(gather_object([peak])),
            "train_energy_joules": None
            if resumed
            else total(gather_object([train_energy.reading])),
            "predict_energy_joules": total(gather_object([predict_energy.reading])),
            "energy_meters": sorted(set(gather_object(predict_energy.meters))) or None,
        }
        return validation, test, Cost(**cost), fitted

    def save(self, engine: nn.Module, best: Path, folder: Path, fitted: Calibration) -> nn.Module:
        """Save the best weights, load them as a stranger would, and refuse to go on unless they
        give the logits of the trained model, calibrated. Returns the model to predict with.

        The saved model is put together in the host memory of the main process, so no device ever
        holds more than in training. Where no device holds the whole model, that process alone loads
        it again, and predictions are made with the divided weights.
        """
        main, divided = self.accelerator.is_main_process, self.in_force.divides_weights
        rows = np.arange(
            min(ROUND_TRIP_ROWS, self.in_force.micro_batch_size, len(self.task.validation))
        )
        batch = self.task.collate(self.task.validation, rows)
        exact = self.precise(engine).eval()
        with torch.inference_mode():
            trained_BC = exact(**batch).logits.float()
        if main:
            tokenizer, config = self.tokenizer, self.blueprint.config
            model = self.blueprint.rebuild(best)
            stored = fitted.to_json(self.task.labels)
            save_model(
                model,
                tokenizer,
                folder,
                config=config,
                max_length=self.max_length,
                calibration=stored,
            )
            del model
        self.accelerator.wait_for_everyone()
        device = torch.device("cpu") if divided else self.accelerator.device
        if main or not divided:
            loaded = load_saved(folder, device)
            moved = {k: v.to(device) for k, v in batch.items()}
            self.check_saved(loaded, moved, trained_BC / fitted.temperature)
        self.accelerator.wait_for_everyone()
        return engine if divided else loaded

    def precise(self, engine: nn.Module) -> nn.Module:
        """The trained model without autocast, where its weights are all in fp32."""
        if self.in_force.autocast and self.blueprint.config.tune != "full":
            return engine
        return self.accelerator.unwrap_model(engine, keep_fp32_wrapper=False)

    def check_saved(
        self, loaded: nn.Module, batch: dict[str, torch.Tensor], trained_BC: torch.Tensor
    ) -> None:
        """Raise RuntimeError unless the saved model gives the logits of the trained one."""
        with torch.inference_mode():
            saved_BC = loaded(**batch).logits.float().cpu()
        trained_BC = trained_BC.cpu()
        difference = float((saved_BC - trained_BC).abs().max())
        if not difference <= self.tolerance() * max(1.0, float(trained_BC.abs().max())):
            raise RuntimeError(f"the saved model differs by {difference} in its logits")

    def tolerance(self) -> float:
        """By how much a saved model's logits may differ, as a share of their size."""
        config, in_force = self.blueprint.config, self.in_force
        if config.quantize == "int8":
            return ROUND_TRIP_TOLERANCE["int8"]
        exact = in_force.precision == "fp32" or (in_force.autocast and config.tune == "full")
        return ROUND_TRIP_TOLERANCE["fp32" if exact else "bf16"]

    def predict(self, model: nn.Module, data: Encoded) -> Predictions:
        """Predictions of one split."""
        logits_NC = predict_logits(
            model,
            data,
            self.task.collate,
            self.accelerator,
            batch_size=self.in_force.micro_batch_size,
        )
        return to_predictions(logits_NC, data, self.task.labels, multilabel=self.task.multilabel)

    def latencies(self, model: nn.Module) -> list[float]:
        """Seconds of test rows that come alone, on the main process; none where no device holds the
        whole model."""
        if self.in_force.divides_weights or not self.accelerator.is_main_process:
            return []

        def classify(row: int) -> object:
            return model(**self.task.collate(self.test, [row])).logits.softmax(-1).cpu()

        with torch.inference_mode():
            return latency.one_by_one(classify, len(self.test))

    def train_cost(self, state: State) -> dict[str, Any]:
        """The figures of training."""
        total, trainable = count_parameters(self.outline)
        lengths = self.task.train.lengths
        devices, seconds = self.in_force.world_size, state.train_seconds
        one_pass = training_flops(
            self.outline,
            self.model.config,
            self.family,
            lengths,
            tune=self.blueprint.config.tune,
            last_n=self.blueprint.config.last_n,
        )
        flops = one_pass * state.train_tokens / float(lengths.sum())
        device = self.accelerator.device
        peak = PEAK_FLOPS.get(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
        return {
            "train_seconds": seconds,
            "total_parameters": total,
            "trainable_parameters": trainable,
            "train_tokens": state.train_tokens,
            "train_tokens_per_second": state.train_tokens / seconds,
            "flops": flops,
            "mfu": flops / seconds / peak / devices if peak else None,
            "devices": devices,
            "device_hours": devices * seconds / 3600,
        }


def prepare(
    splits: Splits,
    *,
    model_config: ModelConfig,
    config: TrainConfig,
    max_length: int | None,
    seed: int,
    weights: bool = True,
) -> FineTune:
    """Start the engine, encode the rows and build the model.

    With ``weights=False`` the model has shapes but no memory: enough for :meth:`FineTune.plan`.
    Raises ConfigError or DataError before anything is written.
    """
    accelerator = start_engine(config)
    in_force_ = in_force(accelerator, config)
    check_strategy(model_config, in_force_)
    check_rows(splits, accelerator.num_processes)
    with main_process_first(accelerator):
        tokenizer = load_tokenizer(model_config.checkpoint)
        hf_config = load_config(model_config.checkpoint)
        family = family_of(hf_config)
        check_checkpointing(config, hf_config.model_type, family)
        length = max_tokens(hf_config, tokenizer, max_length)
        blueprint = Blueprint(
            config=model_config,
            labels=splits.labels,
            multilabel=splits.multilabel,
            pad_token_id=tokenizer.pad_token_id,
            max_length=length,
        )
        model = outline = blueprint.outline()
        if weights and not divides_on_loading():
            model = blueprint.load(seed, in_force_)
    if weights and divides_on_loading():
        model = blueprint.load(seed, in_force_)
    if config.gradient_checkpointing:
        enable_gradient_checkpointing(model, model_config.tune)
    multiple, shortest = padding_multiple_and_minimum(model.config, length)
    collate = Collator(
        tokenizer=tokenizer,
        pad_to_multiple_of=multiple,
        min_length=shortest,
        device=accelerator.device,
    )
    return FineTune(
        blueprint=blueprint,
        config=config,
        seed=seed,
        accelerator=accelerator,
        in_force=in_force_,
        tokenizer=tokenizer,
        max_length=length,
        task=encode_task(splits, collate, length),
        test=encode(splits.test, tokenizer, length),
        family=family,
        outline=outline,
        model=model,
    )


def check_checkpointing(config: TrainConfig, model_type: str, family: Family) -> None:
    """Raise ConfigError where transformers cannot recompute this architecture's activations."""
    if config.gradient_checkpointing and not family.gradient_checkpointing:
        raise ConfigError(
            f"train.gradient_checkpointing: {model_type} does not support it in transformers. "
            "Unset it."
        )


def encode_task(splits: Splits, collate: Collator, max_length: int) -> Task:
    """Tokenise the rows to learn from and to choose by."""
    return Task(
        train=encode(splits.train, collate.tokenizer, max_length),
        validation=encode(splits.validation, collate.tokenizer, max_length),
        labels=splits.labels,
        multilabel=splits.multilabel,
        collate=collate,
    )


def load_saved(folder: Path, device: torch.device) -> PreTrainedModel:
    """As a stranger would."""
    with undivided():
        model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    keep_layout(model)
    return model.to(device).eval()


def check_rows(splits: Splits, num_processes: int) -> None:
    """Raise DataError unless each process can get a training row."""
    if len(splits.train) < num_processes:
        raise DataError(
            f"{len(splits.train)} training rows for {num_processes} processes: each "
            "needs at least one. Launch fewer processes."
        )
