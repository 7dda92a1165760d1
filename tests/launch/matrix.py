"""The compatibility matrix: its cells, and the script that runs them on the ranks of one launch.

    accelerate launch --config_file launch/accelerate/zero3.yaml --num_processes 2 \
        tests/launch/matrix.py FOLDER PASS CELL [CELL ...]

PASS is ``unbroken``; ``killed``, which is left for dead after step 3, the newest checkpoint being
of step 2; ``resumed``, which goes on from there; or ``measured``, which notes what each rank holds
in memory. Each cell is one experiment with a run folder
FOLDER/CELL of its own, beside what was seen while it ran (FOLDER/CELL.json).
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FAMILIES = ("bert", "longformer", "gpt2", "llama")
METHODS = ("full", "head", "last_n", "lora", "lora+int8", "lora+nf4")
STRATEGIES = ("single", "ddp", "zero1", "zero2", "zero3", "zero3_offload", "fsdp2")
STEPS, KILLED_AFTER = 6, 3
"""Evaluations come after 2, 4 and 6, a checkpoint with each; an epoch has 5 steps."""
LIKE_A_LARGE_MODEL = {
    "stage3_param_persistence_threshold": 200,  # larger parameters are really divided
    "stage3_prefetch_bucket_size": 5_000,
    "stage3_max_live_parameters": 20_000,
    "stage3_max_reuse_distance": 20_000,
    "reduce_bucket_size": 5_000,
    "allgather_bucket_size": 5_000,
    "sub_group_size": 10_000,
}
"""DeepSpeed's thresholds (elements), scaled down as the models are: several buckets and sub-groups,
and nothing stays gathered for being small."""
PLANNED_BY = {
    "REDUCE_BUCKET": "reduce_bucket_size",
    "PERSISTENCE_THRESHOLD": "stage3_param_persistence_threshold",
    "MAX_LIVE_PARAMETERS": "stage3_max_live_parameters",
    "SUB_GROUP": "sub_group_size",
}
"""What the planner calls them."""
RESULTS = Path(__file__).resolve().parents[2] / "build" / "compatibility"
"""What docs/compatibility.md is made from (make docs)."""


@dataclass(frozen=True)
class Cell:
    """One experiment of the matrix, under any strategy."""

    family: str
    method: str
    checkpointing: bool
    precision: str = "fp32"

    def __str__(self) -> str:
        return "-".join(
            (
                self.family,
                self.method,
                "recomputed" if self.checkpointing else "kept",
                self.precision,
            )
        )

    @classmethod
    def parse(cls, text: str) -> Cell:
        family, method, activations, precision = text.split("-")
        return cls(family, method, activations == "recomputed", precision)


CELLS = [
    Cell(family, method, checkpointing)
    for family, method, checkpointing in itertools.product(FAMILIES, METHODS, (False, True))
]
BF16 = [Cell("llama", method, True, "bf16") for method in METHODS]
"""Beside the matrix proper: the precision of real runs."""
REFUSED = ("fsdp2", "lora+int8")
"""Strategy and method that llmclf does not let begin."""
WHERE = [
    (strategy, cell)
    for strategy in STRATEGIES
    for cell in (*CELLS, *BF16)
    if (strategy, cell.method) != REFUSED
]


def make_inputs(folder: Path) -> None:
    """Tiny checkpoints, 64 wide since 4-bit weights come in blocks of 64, and a corpus."""
    from tests.model.conftest import WORDS, save_checkpoint

    wide = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    settings = {
        "gpt2": {"n_embd": 64, "n_layer": 2},
        "llama": {**wide, "head_dim": 32},
        # Each layer has a window of its own.
        "longformer": {**wide, "attention_window": [8, 8]},
    }
    for family in FAMILIES:
        save_checkpoint(family, folder / family, **settings.get(family, wide))
    generator = random.Random(0)
    rows = [
        (" ".join(generator.sample(WORDS, generator.randint(4, 12))) + f" {i}", i % 3)
        for i in range(65)
    ]
    lines = [f"{text},{('bad', 'good', 'fair')[label]}" for text, label in rows]
    (folder / "corpus.csv").write_text("\n".join(["text,label", *lines]) + "\n", encoding="utf-8")


def experiment(cell: Cell, inputs: Path, folder: Path) -> Any:
    """The cell as a recipe would say it."""
    from llmclf.data.config import DataConfig
    from llmclf.methods.fine_tune import FineTune
    from llmclf.model.config import ModelConfig
    from llmclf.train.config import TrainConfig

    tune, _, quantize = cell.method.partition("+")
    model: dict[str, Any] = {"tune": tune, "quantize": quantize or "none", "last_n": 1}
    return FineTune(
        name=str(cell).replace("+", "_"),
        output_dir=folder / str(cell),
        data=DataConfig(source=str(inputs / "corpus.csv"), max_length=32),
        model=ModelConfig(
            checkpoint=str(inputs / cell.family),
            dropout=0.0,
            lora_dropout=0.0,
            save="adapter" if quantize else "merged",
            **model,
        ),
        train=TrainConfig(
            max_steps=STEPS,
            global_batch_size=8,
            micro_batch_size=2,  # so that each rank accumulates
            evaluate_every=2,
            checkpoint_every=2,
            log_every=1,
            learning_rate=1e-3,
            warmup=0.0,
            precision=cell.precision,  # type: ignore[arg-type]
            gradient_checkpointing=cell.checkpointing,
        ),
    )


class LeftForDeadError(Exception):
    """Nothing is tidied up after it: the folder is as a kill leaves it."""


def watch(seen: dict[str, list[str]], *, die: bool) -> None:
    """Have the loop note, at each step, which parameters have a gradient that is not zero."""
    from llmclf.train.loop import _Run

    forward_backward, after_step = _Run.forward_backward, _Run.after_step

    def watched(run: Any, step: Any) -> float:
        loss = forward_backward(run, step)
        with_gradient = []
        for name, parameter in run.bare.named_parameters():
            gradient = full_gradient(parameter)
            if gradient is not None and bool(gradient.count_nonzero()):
                with_gradient.append(name)
        seen[str(run.state.step + 1)] = with_gradient
        seen["learn"] = [n for n, p in run.bare.named_parameters() if p.requires_grad]
        return loss

    def dying(run: Any, *arguments: Any) -> None:
        after_step(run, *arguments)
        if die and run.state.step == KILLED_AFTER:
            raise LeftForDeadError

    _Run.forward_backward, _Run.after_step = watched, dying  # type: ignore[method-assign]


def scale_down() -> None:
    """Have DeepSpeed treat these models as it treats large ones."""
    from llmclf.compat.accelerate import deepspeed_settings
    from llmclf.plan import states
    from llmclf.train import engine

    for name, setting in PLANNED_BY.items():
        assert hasattr(states, name)
        setattr(states, name, LIKE_A_LARGE_MODEL[setting])
    own = engine.own_deepspeed_settings

    def scaled(accelerator: Any, config: Any) -> None:
        own(accelerator, config)
        deepspeed_settings(accelerator)["zero_optimization"] |= LIKE_A_LARGE_MODEL

    engine.own_deepspeed_settings = scaled


def measure(target: Path, run: Callable[..., Any], *arguments: Any, **settings: Any) -> None:
    """Run, and write the bytes of this rank by phase, and those that were planned for it, into
    TARGET-RANK.json."""
    from llmclf.train.fine_tune import PreparedFineTune
    from tests.launch.live_bytes import counted

    plans: list[Callable[[], Any]] = []
    original = PreparedFineTune.run

    def noted(method: Any, *arguments: Any) -> Any:
        plans.append(planner(method))
        return original(method, *arguments)

    PreparedFineTune.run = noted  # type: ignore[method-assign]
    try:
        with counted() as counter:
            run(*arguments, **settings)
    finally:
        PreparedFineTune.run = original  # type: ignore[method-assign]
    found = {"peak": counter.peak, "end": counter.end, **plans[0]()}
    rank = os.environ.get("RANK", "0")
    Path(f"{target}-{rank}.json").write_text(json.dumps(found), encoding="utf-8")


def planner(method: Any) -> Callable[[], dict[str, Any]]:
    """The plan of a run, as --dry-run shows it, and the bytes of the model's buffers, which no plan
    counts; to be made later."""
    from llmclf.plan import footprint

    config, model, train = method.meta_model.config, method.builder.config, method.config
    how = {"launch": method.launch, "length": int(method.task.train.lengths.max())}
    buffers = sum(b.nbytes for b in method.meta_model.buffers())
    return lambda: {"plan": footprint.of_run(config, model, train, **how), "buffers": buffers}


def full_gradient(parameter: Any) -> Any:
    """Of this rank's rows, or of all; None where there is none."""
    by_deepspeed = hasattr(parameter, "ds_id") or hasattr(parameter, "_hp_mapping")
    if not by_deepspeed or not parameter.requires_grad:
        gradient = parameter.grad
        return gradient.full_tensor() if hasattr(gradient, "full_tensor") else gradient  # FSDP2
    from deepspeed.utils import safe_get_full_grad

    return safe_get_full_grad(parameter)


def main(folder: Path, which: str, cells: list[str]) -> None:
    import torch
    from rich.console import Console

    from llmclf.experiment import prepare_data, run
    from llmclf.supervise.supervised import orderly_exit
    from llmclf.terminal import quieten
    from tests.launch.fsdp_on_cpu import believe

    quieten()
    console = Console(quiet=True)
    seen: dict[str, Any] = {}
    if which != "measured":
        watch(seen, die=which == "killed")
    scale_down()
    if "ACCELERATE_USE_FSDP" in os.environ and not torch.cuda.is_available():
        believe()
    with orderly_exit():
        data = None
        for name in cells:
            one = experiment(Cell.parse(name), folder.parent, folder)
            data = data or prepare_data(one, console)
            seen.clear()
            try:
                if which == "measured":
                    measure(folder / name, run, one, data=data, console=console)
                    continue
                run(one, data=data, resume=which == "resumed", console=console)
            except LeftForDeadError:
                continue
            except Exception as error:  # the next cell is not to blame
                seen["error"] = f"{type(error).__name__}: {error}"
            if os.environ.get("RANK", "0") == "0":
                (folder / f"{name}.json").write_text(json.dumps(seen), encoding="utf-8")
        if which == "killed":
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
