"""Bytes of weights, gradients and optimizer states on the fullest device, by count.

Sources: ZeRO, Rajbhandari et al. 2020 (what is partitioned), and DeepSpeed 0.19 for what it really
allocates (``runtime/zero/stage_1_and_2.py`` and ``stage3.py``): padding, gradients that straddle a
partition, small parameters that every device keeps. QLoRA, Dettmers et al. 2023 (nf4), and
LLM.int8(), Dettmers et al. 2022. ``tests/plan/test_states.py`` holds these counts against the
tensors of real engines, to the byte. Not counted: the CUDA context and the allocator's rounding.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, get_args

from torch import nn
from transformers.pytorch_utils import Conv1D

from llmclf.model.config import Quantize
from llmclf.model.family import Family, block_of
from llmclf.train.config import Precision, TrainConfig
from llmclf.train.launch_check import Strategy
from llmclf.train.optimizer import parameter_groups

STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
FP32, BF16 = 4, 2  # bytes
ADAM_MOMENTS = 2 * FP32
NF4_BLOCK, NF4_BLOCK_OF_BLOCKS = 64, 256
NF4_TABLES = (16 + 256 + 1) * FP32  # per matrix: both code books and the mean of the scales

# DeepSpeed's defaults, in elements, which accelerate leaves as they are.
REDUCE_BUCKET = 500_000_000
PERSISTENCE_THRESHOLD = 100_000
MAX_LIVE_PARAMETERS = 1_000_000_000
SUB_GROUP = 1_000_000_000


@dataclass(frozen=True)
class Weight:
    """One parameter, as far as memory is concerned."""

    numel: int
    rows: int
    """Size of the first dimension."""
    group: int | None
    """Index of its optimizer group; None where it does not learn."""
    matrix: bool
    """Whether it is the weight of a linear layer (``nn.Linear``, ``Conv1D``)."""
    outputs: int
    """Number of outputs of the matrix's layer."""
    block: int | None
    """Index of its transformer block."""
    quantizable: bool
    """Whether it is a frozen matrix inside a block: heads, embeddings and adapters stay in
    float."""

    @property
    def learns(self) -> bool:
        return self.group is not None


@dataclass(frozen=True)
class States:
    """Bytes on the fullest device."""

    weights: int = 0
    gradients: int = 0
    """Bytes of gradients that stay between two micro-batches of a step, or from the backward pass
    to the update."""
    optimizer: int = 0
    """Bytes of Adam's moments and step counts, and with ZeRO of the fp32 master copy."""
    idle: int = 0
    """Bytes beside weights and optimizer that stay when no pass runs, also after training: DDP's
    buckets; ZeRO-3's gradients and its bucket."""
    workspace: int = 0
    """Bytes of buffers for communication, gathered and dequantised weights: an upper bound."""
    gathered: int = 0
    """Of them those that a forward pass alone takes: gathered and dequantised weights."""
    step_workspace: int = 0
    """Bytes that the update takes on top of the states, when no activations are there."""
    host: int = 0
    """Bytes of one process in the memory of its machine: what zero3_offload keeps there."""

    @property
    def model_states(self) -> int:
        return self.weights + self.gradients + self.optimizer

    def to_json(self) -> dict[str, int]:
        return {f.name: getattr(self, f.name) for f in fields(self)}


def inventory(model: nn.Module, family: Family, config: TrainConfig) -> list[Weight]:
    """Every parameter of a tuned model (the meta device will do), shared ones once, in the model's
    order. ``config`` decides the optimizer's groups."""
    groups = parameter_groups(model, family, config)
    group_of = {id(p): i for i, members in enumerate(groups.values()) for p in members}
    matrices: dict[int, Any] = {
        id(m.weight): m for m in model.modules() if isinstance(m, (nn.Linear, Conv1D))
    }
    weights = []
    for name, p in model.named_parameters():
        block, matrix, group = block_of(name, family), id(p) in matrices, group_of.get(id(p))
        outputs = p.shape[-1] if matrix and isinstance(matrices[id(p)], Conv1D) else p.shape[0]
        weights.append(
            Weight(
                numel=p.numel(),
                rows=p.shape[0],
                group=group,
                matrix=matrix,
                outputs=outputs,
                block=block,
                quantizable=matrix and block is not None and group is None,
            )
        )
    return weights


def model_states(
    weights: Sequence[Weight],
    *,
    strategy: Strategy,
    world_size: int,
    precision: Precision,
    quantize: Quantize = "none",
) -> States:
    """Bytes per device of what a step works on, activations aside.

    ``single`` and ``ddp`` keep what learns in fp32 under autocast, frozen matrices in bf16 when
    ``precision`` is; ZeRO keeps every float weight in ``precision`` and an fp32 master copy.

    ``weights``: what :func:`inventory` lists; ``world_size``: number of devices.
    """
    if strategy in ("single", "ddp"):
        return _replicated(weights, precision, quantize, buckets=strategy == "ddp")
    if strategy == "fsdp2":
        return _fully_sharded(weights, world_size, precision, quantize)
    if strategy in ("zero1", "zero2"):
        return _zero_1_2(weights, strategy == "zero2", world_size, precision, quantize)
    return _zero_3(weights, world_size, precision, quantize, offload=strategy == "zero3_offload")


def quantized_bytes(weight: Weight, quantize: Quantize) -> int:
    """Bytes of a quantised matrix with its scales.

    int8: a byte a weight and an fp32 scale per output. nf4: half a byte, an 8-bit scale for each
    64 weights, and an fp32 scale for each 256 of those (double quantisation).
    """
    if quantize == "int8":
        return weight.numel + FP32 * weight.outputs
    scales = -(-weight.numel // NF4_BLOCK)
    return -(-weight.numel // 2) + scales + FP32 * -(-scales // NF4_BLOCK_OF_BLOCKS) + NF4_TABLES


def _replicated(
    weights: Sequence[Weight], precision: Precision, quantize: Quantize, *, buckets: bool
) -> States:
    learning = [w for w in weights if w.learns]
    count = _numel(learning)
    return States(
        weights=sum(stored(w, quantize, _autocast_size(w, precision)) for w in weights),
        gradients=FP32 * count,
        optimizer=ADAM_MOMENTS * count + FP32 * len(learning),
        idle=FP32 * count * buckets,
        workspace=_dequantized(weights, quantize),
        gathered=_dequantized(weights, quantize),
    )


def _autocast_size(weight: Weight, precision: Precision) -> int:
    return BF16 if precision == "bf16" and weight.matrix and not weight.learns else FP32


def stored(weight: Weight, quantize: Quantize, size: int) -> int:
    """Bytes of a whole weight: quantised if it can be, else of ``size`` bytes an element."""
    if quantize != "none" and weight.quantizable:
        return quantized_bytes(weight, quantize)
    return weight.numel * size


def _dequantized(weights: Sequence[Weight], quantize: Quantize) -> int:
    """Bytes of the largest quantised matrix in bf16: one at a time is turned back for its
    product."""
    if quantize == "none":
        return 0
    return BF16 * max((w.numel for w in weights if w.quantizable), default=0)


def _zero_1_2(
    weights: Sequence[Weight],
    partition_gradients: bool,
    world_size: int,
    precision: Precision,
    quantize: Quantize,
) -> States:
    """The float weights that learn lie in one flat tensor per group, padded so that each partition
    starts at a multiple of two elements; the first or the last rank is the fullest."""
    size = BF16 if precision == "bf16" else FP32
    groups = by_group(weights)
    part = {g: -(-_numel(members) // (2 * world_size)) * 2 for g, members in groups.items()}
    frozen = sum(stored(w, quantize, size) for w in weights if not w.learns)
    gradients = max(
        sum(_reduced_to(rank, members, part[g]) for g, members in groups.items())
        for rank in range(world_size)
    )
    if not partition_gradients:  # all of them between micro-batches, the rank's share at the last
        gradients = max(gradients, _numel(w for w in weights if w.learns))
    owned = sum(part.values())
    return States(
        weights=frozen + size * world_size * owned,
        gradients=size * gradients,
        optimizer=(FP32 + ADAM_MOMENTS) * owned + FP32 * len(groups),
        workspace=size * REDUCE_BUCKET + _dequantized(weights, quantize),
        gathered=_dequantized(weights, quantize),
        # The gradient of one group at a time, flattened, and its fp32 copy.
        step_workspace=(FP32 + size) * max(part.values(), default=0),
    )


def _reduced_to(rank: int, members: Sequence[Weight], part: int) -> int:
    """Elements of gradients that ZeRO-2 keeps on a rank: whole tensors, also of the parameters that
    straddle the border of its partition, and zeros for the padding."""
    start, end, offset, kept = rank * part, (rank + 1) * part, 0, 0
    for weight in members:
        if offset < end and offset + weight.numel > start:
            kept += weight.numel
        offset += weight.numel
    return kept + min(part, max(0, end - offset))


def _zero_3(
    weights: Sequence[Weight],
    world_size: int,
    precision: Precision,
    quantize: Quantize,
    *,
    offload: bool,
) -> States:
    """ZeRO-3: each parameter is padded to a multiple of the ranks and cut; those of at most
    ``PERSISTENCE_THRESHOLD`` elements stay gathered once they have been used. 8-bit matrices are
    sharded in name only: each device holds them whole as well, with offload too.

    ``offload``: partitions of weights, gradients and optimizer states lie in host memory.
    """
    size = BF16 if precision == "bf16" else FP32
    small = [w for w in weights if w.numel <= PERSISTENCE_THRESHOLD]
    # With one rank the gathered parameter is the partition.
    persistent = 0
    if world_size > 1 or offload:
        persistent = sum(
            (1 if quantize == "int8" and w.quantizable else size)
            * (-(-w.numel // world_size) * world_size)
            for w in small
        )
    large = [w for w in weights if w.numel > PERSISTENCE_THRESHOLD]
    gathered = 0
    if world_size > 1 or offload:
        gathered = min(sum(stored(w, quantize, size) for w in large), size * MAX_LIVE_PARAMETERS)
        # While a matrix is put together, what has come from the ranks is still there.
        gathered += max((stored(w, quantize, size) for w in large if w.matrix), default=0)
    owned = sum(-(-w.numel // world_size) for w in weights if w.learns)
    forward = gathered + _dequantized(weights, quantize)
    bucket = size * REDUCE_BUCKET
    # What no partitioning of parameters reaches.
    whole = persistent + sum(_beside_the_parameter(w, quantize) for w in weights)
    partitions = sum(_partition_3(w, quantize, size, world_size) for w in weights)
    optimizer = (FP32 + ADAM_MOMENTS) * owned + FP32 * _sub_groups(weights, world_size)
    if offload:
        # The gradients lie there twice: as they are added up, and in fp32 for the update.
        host = partitions + (size + FP32) * owned + optimizer
        return States(
            weights=whole, idle=bucket, workspace=bucket + forward, gathered=forward, host=host
        )
    return States(
        weights=partitions + whole,
        gradients=size * owned,
        optimizer=optimizer,
        idle=size * owned + bucket,
        workspace=bucket + forward,
        gathered=forward,
        step_workspace=FP32 * min(owned, SUB_GROUP),
    )


def _partition_3(weight: Weight, quantize: Quantize, size: int, world_size: int) -> int:
    """Bytes of a device's share of a parameter."""
    if quantize == "none" or not weight.quantizable:
        return size * -(-weight.numel // world_size)
    stored = weight.numel if quantize == "int8" else -(-weight.numel // 2)
    return -(-stored // world_size)


def _beside_the_parameter(weight: Weight, quantize: Quantize) -> int:
    """Bytes of a quantised matrix that every device holds: the scales, which belong to no
    parameter, and of int8 the whole matrix (bitsandbytes 0.50: ``Linear8bitLt.state.CB``, which
    each forward pass puts in the place of what was gathered)."""
    if quantize == "none" or not weight.quantizable:
        return 0
    stored = 0 if quantize == "int8" else -(-weight.numel // 2)
    return quantized_bytes(weight, quantize) - stored


def _sub_groups(weights: Sequence[Weight], world_size: int) -> int:
    """Each optimizer group is cut again after every ``SUB_GROUP`` elements; each has a step
    count."""
    count = 0
    for members in by_group(weights).values():
        filled = 0
        for weight in members:
            filled += -(-weight.numel // world_size)
            if filled >= SUB_GROUP:
                count, filled = count + 1, 0
        count += filled > 0
    return count


def _fully_sharded(
    weights: Sequence[Weight], world_size: int, precision: Precision, quantize: Quantize
) -> States:
    """FSDP2 cuts each parameter along its first dimension and pads to the largest shard; one block
    is gathered while the next one is fetched, and the gradient of what learns in it is reduced in
    fp32."""
    compute = BF16 if precision == "bf16" else FP32

    def shard(weight: Weight) -> int:
        return weight.numel // weight.rows * -(-weight.rows // world_size)

    learning = [w for w in weights if w.learns]
    owned = sum(map(shard, learning))
    # What is in no block (embeddings, head) is the root unit, gathered as long as a pass lasts.
    sizes = [
        (w.block, stored(w, quantize, compute) - _beside_the_parameter(w, quantize))
        for w in weights
    ]
    root = sum(size for block, size in sizes if block is None)
    many = world_size > 1
    gathered = many * (root + 2 * _largest_block(sizes)) + _dequantized(weights, quantize)
    reduced = _largest_block((w.block, FP32 * w.numel) for w in learning)
    return States(
        weights=sum(
            FP32 * shard(w)
            if quantize == "none" or not w.quantizable
            else _partition_3(w, quantize, FP32, world_size) + _beside_the_parameter(w, quantize)
            for w in weights
        ),
        gradients=FP32 * owned,
        optimizer=ADAM_MOMENTS * owned + FP32 * len(learning),
        workspace=gathered + many * reduced,
        gathered=gathered,
    )


def _largest_block(sizes: Iterable[tuple[int | None, int]]) -> int:
    """Bytes of the block that has the most of them, by pairs of a block's index and bytes."""
    blocks: dict[int, int] = {}
    for block, size in sizes:
        if block is not None:
            blocks[block] = blocks.get(block, 0) + size
    return max(blocks.values(), default=0)


def by_group(weights: Iterable[Weight]) -> dict[int, list[Weight]]:
    """What learns, by its optimizer group."""
    groups: dict[int, list[Weight]] = {}
    for weight in weights:
        if weight.group is not None:
            groups.setdefault(weight.group, []).append(weight)
    return groups


def _numel(weights: Iterable[Weight]) -> int:
    return sum(w.numel for w in weights)
