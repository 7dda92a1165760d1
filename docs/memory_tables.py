"""Writes the tables of docs/memory.md with the planner itself: `make docs`."""

from __future__ import annotations

from pathlib import Path

from llmclf.data.config import DataConfig
from llmclf.methods.fine_tune import FineTune
from llmclf.model.config import ModelConfig
from llmclf.plan.corpus import Corpus, traces_of
from llmclf.plan.footprint import parse_bytes
from llmclf.plan.known import known_config
from llmclf.plan.search import HEADROOM, Devices, Option, plan
from llmclf.terminal import quieten
from llmclf.train.config import TrainConfig

PAGE = Path(__file__).with_name("memory.md")
START, END = "<!-- tables: make docs -->\n", "<!-- end of tables -->\n"
MEMORY, LENGTH, GLOBAL_BATCH = "80GB", 512, 256
MODELS = {
    "google-bert/bert-large-uncased": (("lora", "none"), ("full", "none")),
    "meta-llama/Meta-Llama-3-8B": (
        ("lora", "none"),
        ("lora", "int8"),
        ("lora", "nf4"),
        ("full", "none"),
    ),
    "meta-llama/Meta-Llama-3-70B": (("lora", "none"), ("lora", "nf4"), ("full", "none")),
}
DEVICES = (1, 8, 64)
HEADER = (
    "| devices | method | strategy | weights | gradients | optimizer | activations | workspace "
    "| to load | to train | to save | host | fits | rows | checkpointing |\n"
    "| --: | :-- | :-- | --: | --: | --: | --: | --: | --: | --: | --: | --: | :-- | --: | :-- |\n"
)


def row(devices: int, o: Option) -> str:
    assert o.bytes is not None
    b = o.bytes
    parts = (b.weights, b.gradients, b.optimizer, b.activations, b.workspace)
    sizes = (*parts, b.load, b.train, b.save)
    cells = [str(devices), o.method, o.strategy, *(f"{size / 1e9:.1f}" for size in sizes)]
    cells.append(f"{o.host_bytes / 1e9:.1f}" if o.host_bytes else "")
    cells += ["yes" if o.fits else "no", str(o.micro_batch_size or "")]
    return "| " + " | ".join([*cells, "yes" if o.gradient_checkpointing else ""]) + " |\n"


def table(checkpoint: str) -> str:
    """All strategies of a checkpoint on each number of devices."""
    chosen = FineTune(
        name="plan",
        data=DataConfig(source="any.csv"),
        model=ModelConfig(checkpoint=checkpoint),
        train=TrainConfig(global_batch_size=GLOBAL_BATCH, precision="bf16"),
    )
    corpus = Corpus(longest=LENGTH, rows=None, mean_tokens=None, num_labels=3, source="")
    traces = traces_of(chosen.model, known_config(checkpoint), corpus)
    capacity = int(parse_bytes(MEMORY) * (1 - HEADROOM))
    text = f"### {checkpoint}\n\n{HEADER}"
    for devices in DEVICES:
        found = plan(
            chosen.model,
            chosen.train,
            traces,
            longest=LENGTH,
            devices=Devices(number=devices, per_machine=8, capacity=capacity),
            methods=MODELS[checkpoint],  # type: ignore[arg-type]
        )
        shown = [o for o in found if o.bytes and (devices == 1) >= (o.strategy == "single")]
        text += "".join(row(devices, o) for o in shown)
    return text + "\n"


if __name__ == "__main__":
    quieten()
    page = PAGE.read_text(encoding="utf-8")
    before, after = page.split(START)[0], page.split(END)[1]
    intro = (
        f"GB (10^9 bytes) per device of {MEMORY}, `host`: per machine of 8 devices; "
        f"rows of {LENGTH} tokens, bf16, global batch {GLOBAL_BATCH}; `rows` is the micro-batch "
        "to launch with, of at most the device's share of the global batch; "
        "where none fits, the bytes are those of one row.\n\n"
    )
    tables = "".join(map(table, MODELS))
    PAGE.write_text(f"{before}{START}\n{intro}{tables}{END}{after}", encoding="utf-8")
