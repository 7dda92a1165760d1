"""Prints the bytes that a real DeepSpeed engine holds on each rank; started by test_memory.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DeepSpeedPlugin, InitProcessGroupKwargs, gather_object
from transformers import BertConfig, BertForSequenceClassification

from llmclf.model.config import ModelConfig
from llmclf.model.family import FAMILIES
from llmclf.model.tune import tune
from llmclf.train.config import TrainConfig
from llmclf.train.optimizer import build_optimizer

PRECISIONS = {"fp32": "no", "bf16": "bf16"}


def odd_bert() -> BertForSequenceClassification:
    """Sizes that no number of ranks divides, so that all padding shows."""
    config = BertConfig(
        vocab_size=101,
        hidden_size=36,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=70,
        max_position_embeddings=33,
        num_labels=3,
    )
    return BertForSequenceClassification(config)


def tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [tensor for item in value for tensor in tensors(item)]
    return []


def held(optimizer: Any, *names: str) -> list[torch.Tensor]:
    return tensors([getattr(optimizer, name, None) for name in names])


def size(found: list[torch.Tensor]) -> int:
    """Bytes of the storages, each counted once."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage() for t in found}
    return sum(s.nbytes() for pointer, s in storages.items() if pointer)


def measure(engine: Any) -> dict[str, int]:
    zero, parameters = engine.optimizer, list(engine.module.parameters())
    gradients = held(zero, "averaged_gradients", "all_grad_tensors", "grad_partitions_flat_buffer")
    gradients += [p.grad for p in parameters if p.grad is not None]
    partitions = [p.ds_tensor for p in parameters if hasattr(p, "ds_tensor")]
    whole = [p.data for p in parameters if p.data.numel()]
    for module in engine.module.modules():  # bitsandbytes' 8-bit layers
        state = getattr(module, "state", None)
        whole += held(state, "CB", "SCB") + held(getattr(module, "weight", None), "CB", "SCB")
    masters = held(zero, "single_partition_of_fp32_groups", "fp32_partitioned_groups_flat")
    optimizer = masters + tensors(list(zero.optimizer.state.values()))
    if getattr(zero, "offload_param", False):
        gradients += [m.grad for m in masters if m.grad is not None]
        partitions += held(zero, "param_groups_fp16_flat_cpu_memory")
        host = size(partitions + gradients + optimizer)
        return {"weights": size(whole), "gradients": 0, "optimizer": 0, "host": host}
    return {
        "weights": size(whole + partitions + held(zero, "bit16_groups_flat", "lp_param_buffer")),
        "gradients": size(gradients),
        "optimizer": size(optimizer),
        "host": 0,
    }


def made(method: Any) -> Any:
    """The model, tuned; ``int8``: its head alone, above 8-bit blocks."""
    torch.manual_seed(0)
    model = odd_bert()
    if method == "int8":
        quantize_blocks(model)
    return tune(model, ModelConfig(tune="head" if method == "int8" else method, last_n=1))


def quantize_blocks(model: Any) -> None:
    """Put 8-bit layers of bitsandbytes in the place of the blocks' linear layers."""
    import bitsandbytes as bnb

    for module in list(model.bert.encoder.modules()):
        for name, layer in list(module.named_children()):
            if isinstance(layer, torch.nn.Linear):
                new = bnb.nn.Linear8bitLt(
                    layer.in_features, layer.out_features, has_fp16_weights=False
                )
                values = layer.weight.data
                new.weight = bnb.nn.Int8Params(values, requires_grad=False, has_fp16_weights=False)
                new.bias = layer.bias
                setattr(module, name, new.to("cpu"))


def peak_bytes(stage: str, precision: str, method: Any) -> dict[str, int]:
    """Two steps of two micro-batches; the most bytes at any of their ends, on the fullest rank."""
    AcceleratorState._reset_state()
    device = "cpu" if stage.endswith("_offload") else "none"
    plugin = DeepSpeedPlugin(
        zero_stage=int(stage[0]), offload_optimizer_device=device, offload_param_device=device
    )
    accelerator = Accelerator(
        mixed_precision=PRECISIONS[precision],
        deepspeed_plugin=plugin,
        kwargs_handlers=[InitProcessGroupKwargs(backend="gloo")],
    )
    settings = plugin.deepspeed_config
    settings["train_micro_batch_size_per_gpu"] = 1
    settings["zero_force_ds_cpu_optimizer"] = False
    settings["zero_optimization"]["reduce_bucket_size"] = 100_000
    model = made(method)
    optimizer = build_optimizer(model, TrainConfig(learning_rate=1e-3), FAMILIES["bert"])
    engine, _ = accelerator.prepare(model, optimizer)
    batch = {"input_ids": torch.ones(2, 8).long(), "labels": torch.tensor([0, 1])}
    seen = []
    for _ in range(2):
        for last in (False, True):
            engine.set_gradient_accumulation_boundary(last)
            engine.backward(engine(**batch).loss)
            seen.append(measure(engine))
            if not last:
                engine.micro_steps += 1
        engine.step()
    seen.append(measure(engine))
    everywhere = gather_object(seen)
    return {name: max(moment[name] for moment in everywhere) for name in seen[0]}


if __name__ == "__main__":
    output, cases = Path(sys.argv[1]), [case.split("-") for case in sys.argv[2:]]
    measured = {"-".join(c): peak_bytes(c[0], c[1], c[2]) for c in cases}
    output.write_text(json.dumps(measured))  # equal on every rank
    torch.distributed.destroy_process_group()
