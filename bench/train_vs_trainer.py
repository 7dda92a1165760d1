"""Full fine-tune: our training loop against transformers.Trainer, in examples per second.

    python bench/train_vs_trainer.py --source my.csv

Same weights, rows, tokens, batch size, precision, optimizer, schedule and number of threads. Three
peers: rows padded to --max-length (the usual recipe), padded to the longest of a random batch, and
batches grouped by length. Each side is a whole run, stopped after every --block-steps steps to let
the next one go on. An epoch is a repeat, so every repeat is the same rows on every side; the first
epoch is a warm-up.

First comes a gate: without dropout and in fp32, our loss and gradient on one global batch, whole
and in micro-batches, must be those of Trainer on the same rows padded to --max-length. Else nothing
is timed, and the exit code is 1.
"""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from common import Side, Timed, public, spread, take_turns, write_result
from rich.console import Console
from rich.table import Table
from torch import nn
from train_sides import (
    HandOver,
    Settings,
    collator,
    make_trainer,
    ours,
    peer,
    prepare_ours,
    rows_of,
    silent,
    train_ours,
)

from llmclf.config import ConfigError, exit_on_user_error
from llmclf.data.config import DataConfig
from llmclf.data.corpus import Splits, load_splits
from llmclf.experiment import quieten
from llmclf.model.build import build_model, load_tokenizer
from llmclf.model.config import ModelConfig
from llmclf.train.engine import resolve_precision


def gradients_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """Filled, as ``model`` trains, with each parameter's gradient before clipping."""
    gradients: dict[str, torch.Tensor] = {}

    def keep(name: str, parameter: torch.Tensor) -> None:
        assert parameter.grad is not None
        gradients[name] = parameter.grad.detach().double().cpu()  # the last micro-batch has it all

    for name, parameter in model.named_parameters():
        parameter.register_post_accumulate_grad_hook(partial(keep, name))
    return gradients


def gate(splits: Splits, model: Path, settings: Settings) -> dict[str, float]:
    """Relative differences of our step on one global batch to Trainer's: loss, and gradient in
    the L2 norm."""
    few = range(min(settings.batch_size, len(splits.validation)))
    one_batch = splits.train.take(range(settings.batch_size))
    splits = replace(splits, train=one_batch, validation=splits.validation.take(few))
    step = replace(settings.train_config(), precision="fp32", max_steps=1, log_every=1)
    losses: dict[str, float] = {}
    gradients: dict[str, dict[str, torch.Tensor]] = {}
    with tempfile.TemporaryDirectory() as folder, silent():
        for name, micro in {"whole": None, "micro_batches": -(-settings.batch_size // 4)}.items():
            config = replace(step, micro_batch_size=micro)
            prepared = prepare_ours(splits, model, settings, config, 0.0)
            gradients[name] = gradients_of(prepared.model)
            metrics = HandOver(Path(folder) / name / "metrics.jsonl", None)
            train_ours(prepared, metrics)
            losses[name] = metrics.records[0]["loss"]
        fresh = prepare_ours(splits, model, settings, step, 0.0)
        gradients["trainer"] = gradients_of(fresh.model)
        rows = rows_of(fresh.task.train)
        collate = collator(model, "max_length", settings.max_length)
        trainer = make_trainer(fresh.model, rows, collate, step, settings)
        losses["trainer"] = trainer.train().training_loss
    found = {"loss": losses["trainer"], "gradient_norm": norm(gradients["trainer"])}
    for name in ("whole", "micro_batches"):
        difference = {k: gradients[name][k] - g for k, g in gradients["trainer"].items()}
        found[f"loss_difference_{name}"] = abs(losses[name] / losses["trainer"] - 1)
        found[f"gradient_difference_{name}"] = norm(difference) / found["gradient_norm"]
    return found


def norm(tensors: dict[str, torch.Tensor]) -> float:
    return float(torch.stack([t.norm() for t in tensors.values()]).norm())


def load(settings: Settings) -> Splits:
    """``settings.rows`` of the training rows, with the validation rows, cut to one prediction."""
    if settings.rows < settings.batch_size or settings.rows % settings.batch_size:
        raise ConfigError(f"rows={settings.rows}: must be a multiple of {settings.batch_size}.")
    if settings.repeats < 1 or settings.threads < 1 or settings.block_steps < 1:
        raise ConfigError("repeats, threads and block_steps must be 1 or more.")
    splits = load_splits(DataConfig(source=settings.source), settings.seed)
    if splits.multilabel or len(splits.train) < settings.rows:
        raise ConfigError(
            f"source={settings.source!r}: needs one label per row and at least {settings.rows} "
            f"training rows (found {len(splits.train)}). Lower --rows."
        )
    order = np.random.default_rng(settings.seed).permutation(len(splits.train))
    train_rows = splits.train.take(order[: settings.rows])
    return replace(splits, train=train_rows, test=splits.test.take([0]))


def start_weights(splits: Splits, settings: Settings, folder: Path) -> None:
    """Save the tokenizer and the model with its random head: what all sides start from."""
    tokenizer = load_tokenizer(settings.checkpoint)
    torch.manual_seed(settings.seed)
    model = build_model(
        ModelConfig(checkpoint=settings.checkpoint),
        labels=splits.labels,
        multilabel=False,
        pad_token_id=tokenizer.pad_token_id,
        max_length=settings.max_length,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def side_result(timed: Timed, settings: Settings) -> dict[str, Any]:
    """Figures of one side, per repeat; the warm-up is left out."""
    per_epoch = settings.steps_per_epoch // settings.steps_per_block
    blocks = timed.blocks[per_epoch:]
    repeats = [blocks[i : i + per_epoch] for i in range(0, len(blocks), per_epoch)]
    seconds = [sum(b.seconds for b in repeat) for repeat in repeats]
    cpu_seconds = [sum(b.cpu_seconds for b in repeat) for repeat in repeats]
    return {
        "examples_per_second": spread([settings.rows / s for s in seconds]),
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "memory_before_bytes": timed.memory_before_bytes,
        "peak_memory_bytes": timed.blocks[-1].peak_bytes,
        **timed.facts,
    }


def ratios(sides: dict[str, Any]) -> dict[str, Any]:
    """How many times our examples per second each peer's are, repeat by repeat."""
    result: dict[str, Any] = {}
    for name in list(sides)[1:]:
        for unit in ("seconds", "cpu_seconds"):
            pairs = zip(sides[name][unit], sides["llmclf"][unit], strict=True)
            result.setdefault(name, {})[unit] = spread([theirs / mine for theirs, mine in pairs])
    return result


def show(console: Console, sides: dict[str, Any], ratio: dict[str, Any]) -> None:
    """Print a line per side, with how many times slower than ours it is."""
    table = Table("side", "rows/s", "ratio (min-max)", "CPU", "padding", "memory", "F1", box=None)
    for name, side in sides.items():
        wall, cpu = (ratio.get(name, {}).get(unit) for unit in ("seconds", "cpu_seconds"))
        table.add_row(
            name,
            f"{side['examples_per_second']['median']:.1f}",
            f"{wall['median']:.2f} ({wall['min']:.2f}-{wall['max']:.2f})" if wall else "",
            f"{cpu['median']:.2f}" if cpu else "",
            f"{side['padding_share']:.1%}",
            f"{side['peak_memory_bytes'] / 1e9:.2f} GB",
            f"{side['validation']['macro_f1']:.3f}",
        )
    console.print(table)


def main() -> None:
    settings = tyro.cli(Settings, description=__doc__)
    quieten()
    load_average, console = os.getloadavg()[0], Console()
    torch.set_num_threads(settings.threads)
    with exit_on_user_error(), tempfile.TemporaryDirectory() as folder:
        splits, model = load(settings), Path(folder)
        start_weights(splits, settings, model)
        differences = gate(splits, model, settings)
        passed = all(v <= settings.tolerance for k, v in differences.items() if "difference" in k)
        for name, value in differences.items():
            console.print(f"gate: {name} {value:.3g}", highlight=False)
        if not passed:
            sys.exit(f"error: the gate failed (tolerance {settings.tolerance}); nothing was timed.")
        sides: dict[str, Side] = {"llmclf": partial(ours, splits, model, settings)}
        for batching in settings.peers:
            sides[f"trainer_{batching}"] = partial(peer, splits, model, settings, batching)
        epochs = 1 + settings.repeats
        num_blocks = epochs * settings.steps_per_epoch // settings.steps_per_block
        timed = take_turns(sides, num_blocks=num_blocks, threads=settings.threads)
    results = {name: side_result(side, settings) for name, side in timed.items()}
    ratio = ratios(results)
    show(console, results, ratio)
    result = {
        "settings": public(settings),
        "precision": resolve_precision(settings.precision),
        "gate": differences | {"tolerance": settings.tolerance},
        "sides": results,
        "ratios": ratio,
    }
    write_result(settings.output, result, load_average=load_average)
    console.print(f"written: {settings.output}", soft_wrap=True)


if __name__ == "__main__":
    main()
