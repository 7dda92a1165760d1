"""From splits to predictions with a fine-tuned model: encode, build, train, save, predict."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import release_memory, set_seed
from peft import PeftModel
from rich.console import Console
from torch import nn
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from llmclf.config import ConfigError, DataError
from llmclf.data.batches import padding_share, plan_epoch
from llmclf.data.corpus import Splits
from llmclf.data.encode import Collator, Encoded, encode, truncation, truncation_warnings
from llmclf.evaluate import calibration, latency
from llmclf.evaluate.calibration import Calibration
from llmclf.evaluate.cost import Cost
from llmclf.evaluate.measure import measured
from llmclf.evaluate.outcome import Outcome
from llmclf.evaluate.predictions import Predictions
from llmclf.model.build import load_config, load_tokenizer, max_tokens
from llmclf.model.config import ModelConfig
from llmclf.model.family import Family, family_of
from llmclf.model.flops import PEAK_FLOPS, training_flops
from llmclf.model.tune import count_parameters, enable_gradient_checkpointing, save_model
from llmclf.run_folder.metrics import MetricsLog
from llmclf.supervise.gpus import idle_gpus
from llmclf.supervise.waiting import doing
from llmclf.train.checkpoint import Checkpoints, State
from llmclf.train.config import Precision, TrainConfig
from llmclf.train.engine import EffectiveLaunch, effective_launch, main_process_first, start_engine
from llmclf.train.loop import Task, num_steps, train
from llmclf.train.model_builder import ModelBuilder, check_strategy, loads_together
from llmclf.train.optimizer import with_rate
from llmclf.train.predict import check_tokens, collator, predict_logits, to_predictions
from llmclf.train.saved import check_logits, load_saved, saved_precision
from llmclf.train.too_few import few_rows, few_steps

ROUND_TRIP_ROWS = 8
ROUND_TRIP_TOLERANCE = {  # of the logits' own size
    "fp32": 1e-3,  # merging an adapter rounds
    "bf16": 0.1,  # training computed with weights in bf16
    "int8": 0.3,  # and with inputs in 8 bits: only a gross error shows
}


@dataclass(kw_only=True)
class PreparedFineTune:
    """All that a fine-tune needs, checked and ready; nothing has been written yet."""

    builder: ModelBuilder
    config: TrainConfig
    seed: int
    accelerator: Accelerator
    launch: EffectiveLaunch
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    task: Task
    test: Encoded
    family: Family
    meta_model: PreTrainedModel | PeftModel
    """The model without memory, whatever the strategy makes of the real one."""
    model: PreTrainedModel | PeftModel | None
    """The model to train; None once it is trained and saved, or a device would hold two."""

    def plan(self) -> dict[str, Any]:
        """What would happen, for ``--dry-run`` and environment.json."""
        total, trainable = count_parameters(self.meta_model)
        lengths = self.task.train.lengths
        epoch = plan_epoch(
            lengths,
            global_batch_size=self.config.global_batch_size,
            micro_batch_size=self.launch.micro_batch_size,
            world_size=self.launch.world_size,
            seed=self.seed,
            epoch=0,
        )
        return {
            **self.launch.to_json(),
            "total_parameters": total,
            "trainable_parameters": trainable,
            "max_length": self.max_length,
            "learning_rate": self.config.learning_rate,
            "steps": num_steps(self.config, len(self.task.train)),
            "train_tokens_per_epoch": int(lengths.sum()),
            "padding_share": round(padding_share(epoch, lengths), 4),
        }

    def truncated(self) -> dict[str, Any]:
        """Rows and tokens that ``max_length`` cuts off, per split."""
        encoded = {"train": self.task.train, "validation": self.task.validation, "test": self.test}
        return truncation(encoded)

    def warnings(self) -> list[str]:
        """GPUs without a process, how much of the texts the model will not see, and what is too
        little to learn or to choose from."""
        few = few_steps(self.config, len(self.task.train)) + few_rows(len(self.task.validation))
        return idle_gpus() + truncation_warnings(self.truncated(), self.max_length) + few

    def run(self, folder: Path, console: Console) -> Outcome:
        """Train, calibrate and save the model, and predict validation and test rows with the saved
        model."""
        set_seed(self.seed, device_specific=True)  # or all ranks would drop the same units
        checkpoints = Checkpoints(folder / "checkpoints", self.accelerator)
        resumed = checkpoints.newest() is not None
        with measured(self.accelerator) as training:
            state, engine = self.train(checkpoints, folder, console)
        with measured(self.accelerator) as saving, doing("saving the model"):
            fitted = calibration.fit(self.validate(engine))
            batch, trained_BC = self.probe(engine)
            if self.saved_precision() is not None:
                del engine
                self.release()
            self.save(checkpoints.best(state), folder / "model", fitted)
            saved = self.reload(folder / "model", batch, trained_BC / fitted.temperature)
            # The saved model's output layer has the temperature in it already.
            left = fitted if saved is None else replace(fitted, temperature=1.0)
            model = engine if saved is None else saved
            validation = self.validate(model)
        with measured(self.accelerator) as predicting:
            test = left.apply(self.predict(model, self.test))
        cost = Cost(
            **self.train_cost(state),
            predict_seconds=predicting.seconds,
            predict_examples_per_second=len(self.test) / predicting.seconds,
            predict_precision=self.saved_precision() or self.launch.precision,
            **latency.percentiles(self.latencies(model)),
            peak_memory_bytes=max(m.peak_memory_bytes for m in (training, saving, predicting)),
            train_energy_joules=None if resumed else training.joules,
            predict_energy_joules=predicting.joules,
            energy_meters=predicting.energy_meters,
        )
        return Outcome(
            validation=validation and left.apply(validation),
            test=test,
            cost=cost,
            calibration=fitted,
        )

    def train(
        self, checkpoints: Checkpoints, folder: Path, console: Console
    ) -> tuple[State, nn.Module]:
        """The training loop, from the newest checkpoint if there is one."""
        assert self.model is not None, "trained already"
        return train(
            self.model,
            self.task,
            self.config,
            self.family,
            accelerator=self.accelerator,
            launch=self.launch,
            checkpoints=checkpoints,
            metrics=MetricsLog(folder / "metrics.jsonl", enabled=self.accelerator.is_main_process),
            console=console,
            seed=self.seed,
        )

    def probe(self, engine: nn.Module) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """A batch of a few rows, and the trained model's logits of it, (B, C)."""
        rows = np.arange(min(ROUND_TRIP_ROWS, self.launch.micro_batch_size, len(self.test)))
        batch = self.task.collate(self.test, rows)
        with torch.no_grad():
            return batch, self.precise(engine).eval()(**batch).logits.float()

    def precise(self, engine: nn.Module) -> nn.Module:
        """The trained model without autocast, where its weights are all in fp32."""
        if self.launch.autocast and self.builder.config.tune != "full":
            return engine
        return self.accelerator.unwrap_model(engine, keep_fp32_wrapper=False)

    def release(self) -> None:
        """Free the memory of the trained model, its gradients and its optimizer: the saved one is
        about to take their place."""
        self.model = None
        self.accelerator.free_memory()
        release_memory()  # accelerate collects garbage before it lets go of the engine

    def save(self, best: Path, folder: Path, fitted: Calibration) -> None:
        """Write the model folder: the best weights, calibrated, put together in the host memory of
        the main process. ``best``: folder of the best weights."""
        if self.accelerator.is_main_process:
            save_model(
                self.builder.rebuild(best),
                self.tokenizer,
                folder,
                config=self.builder.config,
                max_length=self.max_length,
                calibration=fitted.to_json(self.task.labels),
            )
        self.accelerator.wait_for_everyone()

    def reload(
        self, folder: Path, batch: dict[str, torch.Tensor], trained_BC: torch.Tensor
    ) -> nn.Module | None:
        """Load the saved model as a stranger would, and refuse to go on unless it gives the logits
        of the trained one. Where no device holds it, the main process alone does so, on its CPU,
        and None is returned.

        ``batch``: rows; ``trained_BC``: logits of the trained model for them, calibrated.
        """
        precision = self.saved_precision()
        loaded = None
        if self.accelerator.is_main_process or precision is not None:
            device = torch.device("cpu") if precision is None else self.accelerator.device
            loaded = load_saved(folder, device, precision or "fp32")
            moved = {k: v.to(device) for k, v in batch.items()}
            check_logits(loaded, moved, trained_BC, tolerance=self.tolerance(precision or "fp32"))
        self.accelerator.wait_for_everyone()
        return None if precision is None else loaded

    def saved_precision(self) -> Precision | None:
        """Precision of the saved model when it predicts; None where no device holds it, and the
        trained one predicts."""
        device = self.accelerator.device
        on_gpu = device.type == "cuda"
        return saved_precision(
            self.builder.config,
            self.launch.strategy,
            self.launch.precision,
            parameters=count_parameters(self.meta_model)[0],
            capacity=torch.cuda.get_device_properties(device).total_memory if on_gpu else None,
        )

    def tolerance(self, precision: Precision) -> float:
        """How much the saved model's logits may differ in a precision, as a share of their size."""
        config, launch = self.builder.config, self.launch
        if config.quantize == "int8":
            return ROUND_TRIP_TOLERANCE["int8"]
        exact = launch.precision == "fp32" or (launch.autocast and config.tune == "full")
        return ROUND_TRIP_TOLERANCE["fp32" if exact and precision == "fp32" else "bf16"]

    def predict(self, model: nn.Module, data: Encoded) -> Predictions:
        """Predictions of one split."""
        logits_NC = predict_logits(
            model,
            data,
            self.task.collate,
            self.accelerator,
            batch_size=self.launch.micro_batch_size,
        )
        return to_predictions(logits_NC, data, self.task.labels, multilabel=self.task.multilabel)

    def validate(self, model: nn.Module) -> Predictions | None:
        """Predictions of the validation rows; None where there are none."""
        rows = self.task.validation
        return self.predict(model, rows) if len(rows) else None

    def latencies(self, model: nn.Module) -> list[float]:
        """Seconds of test rows that come alone, on the main process; none where no device holds the
        whole model."""
        if self.launch.shards_weights or not self.accelerator.is_main_process:
            return []

        def classify(row: int) -> object:
            return model(**self.task.collate(self.test, [row])).logits.softmax(-1).cpu()

        with torch.inference_mode():
            return latency.one_by_one(classify, len(self.test))

    def train_cost(self, state: State) -> dict[str, Any]:
        """The figures of what training cost."""
        total, trainable = count_parameters(self.meta_model)
        lengths = self.task.train.lengths
        devices, seconds = self.launch.world_size, state.train_seconds
        one_pass = training_flops(
            self.meta_model,
            self.meta_model.config,
            self.family,
            lengths,
            tune=self.builder.config.tune,
            last_n=self.builder.config.last_n,
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
) -> PreparedFineTune:
    """Start the engine, encode the rows and build the model.

    With ``weights=False`` the model has shapes but no memory, which :meth:`PreparedFineTune.plan`
    needs alone. Raises ConfigError or DataError before anything is written.

    ``max_length``: most tokens of a row, None: the model's own; ``seed``: of new weights, order and
    dropout.
    """
    accelerator = start_engine(config)
    launch = effective_launch(accelerator, config)
    check_strategy(model_config, launch)
    check_rows(splits, accelerator.num_processes)
    with main_process_first(accelerator):
        tokenizer = load_tokenizer(model_config.checkpoint)
        hf_config = load_config(model_config.checkpoint)
        config = with_rate(config, model_config.tune, hf_config)
        family = family_of(hf_config)
        check_checkpointing(config, hf_config.model_type, family)
        length = max_tokens(hf_config, tokenizer, max_length)
        builder = ModelBuilder(
            config=model_config,
            labels=splits.labels,
            multilabel=splits.multilabel,
            pad_token_id=tokenizer.pad_token_id,
            max_length=length,
        )
        model = meta_model = builder.meta_model()
        together = loads_together(model_config, launch)
        if weights and not together:
            model = builder.load(seed, launch, accelerator.device)
    if weights and together:
        with doing("loading the model"):
            model = builder.load(seed, launch, accelerator.device)
    if config.gradient_checkpointing:
        enable_gradient_checkpointing(model, model_config.tune)
    collate = collator(model.config, tokenizer, length, accelerator.device)
    task, test = encode_task(splits, collate, length), encode(splits.test, tokenizer, length)
    for part in (task.train, task.validation, test):
        check_tokens(part, tokenizer, meta_model, model_config.checkpoint)
    return PreparedFineTune(
        builder=builder,
        config=config,
        seed=seed,
        accelerator=accelerator,
        launch=launch,
        tokenizer=tokenizer,
        max_length=length,
        task=task,
        test=test,
        family=family,
        meta_model=meta_model,
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


def check_rows(splits: Splits, num_processes: int) -> None:
    """Raise DataError unless each process can get a training row."""
    if len(splits.train) < num_processes:
        raise DataError(
            f"{len(splits.train)} training rows for {num_processes} processes: each "
            "needs at least one. Launch fewer processes."
        )
