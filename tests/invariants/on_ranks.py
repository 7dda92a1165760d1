"""Run on each of N ranks: gradients of single steps and logits of splits of all sizes, as .npz.

    on_ranks.py CHECKPOINT CORPUS FOLDER CASES

CASES: JSON, name -> settings of training. Each rank writes FOLDER/<rank>.npz.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from llmclf.data.config import DataConfig
from llmclf.data.corpus import Splits, load_splits
from llmclf.data.encode import encode
from llmclf.model.config import ModelConfig
from llmclf.run_folder.metrics import MetricsLog
from llmclf.supervise.supervised import orderly_exit
from llmclf.train import fine_tune
from llmclf.train.checkpoint import Checkpoints, learned
from llmclf.train.config import TrainConfig
from llmclf.train.loop import _Run, plan_epoch
from llmclf.train.predict import predict_logits

SIZES = (1, 2, 3, 4, 7, 24)


def main(checkpoint: str, corpus: str, folder: str, cases: str) -> None:
    splits = load_splits(DataConfig(source=corpus), seed=0)
    model_config = ModelConfig(checkpoint=checkpoint, dropout=0.0)
    found: dict[str, np.ndarray] = {}
    rank = 0
    for name, settings in json.loads(cases).items():
        config = TrainConfig(precision="fp32", **settings)
        prepared = fine_tune.prepare(
            splits, model_config=model_config, config=config, max_length=None, seed=0
        )
        rank = prepared.accelerator.process_index
        run = _Run(
            prepared.model,
            prepared.task,
            prepared.config,
            prepared.family,
            prepared.accelerator,
            prepared.launch,
            Checkpoints(Path(folder) / "none", prepared.accelerator),
            MetricsLog(Path(folder) / "none", enabled=False),
            0,
        )
        found |= {f"{name}/{key}": value for key, value in gradients(prepared, run)}
    found |= dict(logits(prepared, run, splits))
    np.savez(Path(folder) / f"{rank}.npz", **found)


def gradients(prepared: fine_tune.PreparedFineTune, run: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Of the smallest and of a full step: its rows, loss and gradient."""
    steps = plan_epoch(
        prepared.task.train.lengths,
        global_batch_size=prepared.config.global_batch_size,
        micro_batch_size=prepared.launch.micro_batch_size,
        world_size=prepared.launch.world_size,
        seed=0,
        epoch=0,
    )
    for size, step in {"full": steps[0], "small": min(steps, key=lambda s: len(s.rows))}.items():
        yield f"{size}/rows", step.rows
        yield f"{size}/loss", np.array(run.forward_backward(step))
        for name, parameter in learned(prepared.model).items():
            gradient = prepared.model.get_parameter(name).grad
            assert gradient is not None and gradient.shape == parameter.shape
            yield f"{size}/gradient/{name}", gradient.numpy().copy()
        run.optimizer.zero_grad()


def logits(
    prepared: fine_tune.PreparedFineTune, run: Any, splits: Splits
) -> Iterator[tuple[str, np.ndarray]]:
    """Of validation rows, in batches of 4, through the model as the engine wraps it."""
    for size in SIZES:
        rows = splits.validation.take(np.arange(size))
        data = encode(rows, prepared.tokenizer, prepared.max_length)
        accelerator, collate = prepared.accelerator, prepared.task.collate
        found = predict_logits(run.strategy.model, data, collate, accelerator, batch_size=4)
        yield f"logits/{size}", found


if __name__ == "__main__":
    with orderly_exit():
        main(*sys.argv[1:])
