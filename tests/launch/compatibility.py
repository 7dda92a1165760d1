"""Write docs/compatibility.md from what the matrix found: make test-all, then make docs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from llmclf.config import ConfigError
from llmclf.model.config import ModelConfig, Quantize, Tune
from llmclf.model.family import FAMILIES as ARCHITECTURES
from llmclf.run_folder.environment import cpu_name
from llmclf.train.engine import EffectiveLaunch
from llmclf.train.model_builder import check_strategy
from tests.launch.matrix import (
    BF16,
    CELLS,
    FAMILIES,
    METHODS,
    REFUSED,
    RESULTS,
    STRATEGIES,
    WHERE,
    Cell,
)
from tests.processes import REPOSITORY

TARGET = REPOSITORY / "docs" / "compatibility.md"
INTRODUCTION = """# What works with what

Written by `make docs` from the results of `make test-all`; not by hand. {count} cells, of which
{works} were run and work. Measured on two CPU ranks over gloo ({cpu}), with tiny random models of
each architecture, started by `accelerate launch` and the files in launch/accelerate/.

A cell works if, without dropout,

- the loss of every step is that of one process: the figure is the largest relative difference, at
  most 1e-5 in fp32, 1e-3 with 8-bit layers (which round their inputs) and 5e-2 in bf16;
- every parameter that learns got a gradient other than zero, LoRA's A from the second step on, and
  no frozen one did;
- a process with transformers and PEFT alone reads the saved folder to the same probabilities;
- the test scores are those of one process;
- left for dead after step 3, behind its first evaluation, and resumed, it ends in the same bits.

It evaluates after the steps 2, 4 and 6 of 6, over two epochs. DeepSpeed's thresholds (persistence,
buckets, sub-groups) are scaled down with the models, so that nothing is spared for being small.
FSDP2 is accelerate's own, which is made to take CPU ranks for GPUs.

`kept` and `recomputed` are activations without and with gradient checkpointing.
"""
NOTES = """
Known and left so: the local query, key and value of Longformer's last block get no gradient under
any method, since its head reads the first token alone, which attends by the global ones. With 8
bits a row's result depends a little on its batch (LLM.int8 takes out columns with an outlier in any
row), and the weights stay whole on every device, under zero3 too.
"""


def table(cells: list[Cell], title: str) -> str:
    """Rows: method and activations; columns: strategies."""
    lines = [f"\n## {title}\n", f"| method | activations | {' | '.join(STRATEGIES)} |"]
    lines.append("| --- | --- |" + " --: |" * len(STRATEGIES))
    for cell in cells:
        activations = "recomputed" if cell.checkpointing else "kept"
        found = [outcome(strategy, cell) for strategy in STRATEGIES]
        lines.append(f"| {cell.method} | {activations} | {' | '.join(found)} |")
    return "\n".join(lines)


def outcome(strategy: str, cell: Cell) -> str:
    if (strategy, cell.method) == REFUSED:
        return "refused"
    path = RESULTS / f"{strategy}-{cell}.json"
    if not path.exists():
        return "not run"
    return f"{json.loads(path.read_text())['loss_difference']:.0e}"


def refusals() -> list[str]:
    """Every refused combination, in the words of its message."""
    found: dict[str, str] = {}
    for tune in get_args(Tune):
        for quantize in get_args(Quantize):
            for problem in ModelConfig(tune=tune, quantize=quantize).problems():
                found[f"{tune}+{quantize}"] = problem
    launch = EffectiveLaunch(2, "fsdp2", "bf16", 4, 1, 8)
    for quantize in get_args(Quantize):
        config = ModelConfig(tune="lora", quantize=quantize)
        note(found, f"lora+{quantize} under fsdp2", lambda c=config: check_strategy(c, launch))
    without = [name for name, f in ARCHITECTURES.items() if not f.gradient_checkpointing]
    for name in without:
        found[f"{name}, recomputed"] = (
            "transformers does not support gradient checkpointing for it."
        )
    return [f"| {what} | {why} |" for what, why in found.items()]


def note(found: dict[str, str], what: str, check: Callable[[], Any]) -> None:
    try:
        check()
    except ConfigError as error:
        found[what] = str(error)


def main() -> None:
    works = sum((RESULTS / f"{strategy}-{cell}.json").exists() for strategy, cell in WHERE)
    if works == 0:
        sys.exit(f"{RESULTS} is empty: run make test-all first.")
    parts = [INTRODUCTION.format(count=len(WHERE), works=works, cpu=cpu_name())]
    assert len(CELLS) == len(FAMILIES) * len(METHODS) * 2
    parts += [table([c for c in CELLS if c.family == f], f) for f in FAMILIES]
    parts.append(table(BF16, "llama in bf16"))
    parts.append(
        "\n## Refused before a weight is loaded\n\n| combination | message |\n| --- | --- |"
    )
    parts += refusals()
    Path(TARGET).write_text("\n".join(parts) + "\n" + NOTES, encoding="utf-8")


if __name__ == "__main__":
    main()
