"""How much memory of its host each rank takes while a model is loaded and handed to the strategy.

    accelerate launch --config_file launch/accelerate/zero2.yaml --num_processes 2 \
        tests/launch/loading.py FOLDER METHOD [METHOD ...]

Writes FOLDER/STRATEGY-METHOD-RANK.json: bytes of the fullest moment above what the process took
before, of loading alone and of both. Memory is what the system says is the process' own; pages of
files, which it may drop at any time, are not in it.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WIDTH, BLOCKS = 768, 12
M_MMAP_THRESHOLD = -3  # malloc.h
EVERY_SECONDS = 0.003


def make_inputs(folder: Path) -> int:
    """A BERT of base size but for its vocabulary, in bf16 as most checkpoints are, and a corpus;
    returns its parameters. (Weights that stay in the dtype of the file are mapped, not copied.)"""
    import torch
    from transformers import BertConfig, BertForMaskedLM

    from tests.tiny import make_bert, write_corpus

    write_corpus(folder / "corpus.csv", 60)
    make_bert(folder / "bert")
    small = BertConfig.from_pretrained(folder / "bert")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=small.vocab_size,
        hidden_size=WIDTH,
        num_hidden_layers=BLOCKS,
        intermediate_size=4 * WIDTH,
        max_position_embeddings=32,
    )
    model = BertForMaskedLM(config)
    model.bfloat16().save_pretrained(folder / "bert")
    return model.num_parameters()


def own_bytes() -> int:
    """Memory of this process that belongs to no file."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("this system does not say what memory is a process' own")


@contextmanager
def watched(found: dict[str, int], name: str) -> Iterator[None]:
    """Note the most bytes that the block takes above what is there at its beginning."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # or what an earlier method has left would be taken again
    before, over = own_bytes(), threading.Event()
    found[name] = 0

    def watch() -> None:
        while not over.is_set():
            found[name] = max(found[name], own_bytes() - before)
            time.sleep(EVERY_SECONDS)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def measure(folder: Path, method: str) -> dict[str, int]:
    """Of one method, on this rank."""
    from llmclf.data.config import DataConfig
    from llmclf.data.corpus import load_splits
    from llmclf.model.config import ModelConfig
    from llmclf.model.tune import block_class
    from llmclf.train import fine_tune
    from llmclf.train.config import TrainConfig
    from llmclf.train.optimizer import build_optimizer
    from llmclf.train.strategy import start_strategy

    splits = load_splits(DataConfig(source=str(folder / "corpus.csv")), seed=0)
    tune, precision = method.split("-")
    tune, _, quantize = tune.partition("+")
    model: Any = {"tune": tune, "quantize": quantize or "none"}
    config = TrainConfig(precision=precision, global_batch_size=8)  # type: ignore[arg-type]

    def prepared(*, weights: bool) -> fine_tune.PreparedFineTune:
        return fine_tune.prepare(
            splits,
            model_config=ModelConfig(checkpoint=str(folder / "bert"), **model),
            config=config,
            max_length=None,
            seed=0,
            weights=weights,
        )

    prepared(weights=False)  # all that is imported and allocated beside the weights
    found: dict[str, int] = {}
    with watched(found, "both"):
        with watched(found, "load"):
            run = prepared(weights=True)
        bare = run.model
        assert bare is not None
        start_strategy(
            run.accelerator,
            bare,
            build_optimizer(bare, run.config, run.family),
            max_grad_norm=1.0,
            block=block_class(bare, run.family),
        )
    run.release()
    return found


def main(folder: Path, methods: list[str]) -> None:
    import torch

    from llmclf.supervise.supervised import orderly_exit
    from llmclf.terminal import quieten
    from llmclf.train.launch_check import asked_strategy
    from tests.launch.fsdp_on_cpu import believe

    # Blocks of their own, which go back to the system at once: no gaps are counted.
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1 << 16)
    quieten()
    if "ACCELERATE_USE_FSDP" in os.environ and not torch.cuda.is_available():
        believe()
    rank, strategy = os.environ.get("RANK", "0"), asked_strategy()
    with orderly_exit():
        for method in methods:
            found = measure(folder, method)
            path = folder / f"{strategy}-{method}-{rank}.json"
            path.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
