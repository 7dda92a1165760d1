"""DeepSpeed: its compiled kernels, and where ZeRO keeps the parts of a model.

What is public (``deepspeed.utils.safe_get_full_fp32_param`` and its like) gathers whole tensors by
collectives, one after another. A checkpoint that every rank writes its own part of needs to know
which part that is. DeepSpeed 0.19: ``runtime/zero/stage_1_and_2.py`` and ``stage3.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Share:
    """The elements of one parameter that a rank updates, in the flat fp32 partition that it
    keeps."""

    start: int
    """Place of the share's first element in the flattened parameter."""
    flat: torch.Tensor
    """The partition, a parameter of the optimizer that ZeRO wraps."""
    first: int
    """Place of the share's first element in the partition."""
    size: int


def do_without_shared_memory_kernel() -> None:
    """Have CPU ranks communicate by gloo alone.

    Otherwise a kernel is compiled when first used, and the lock of a process that was killed
    meanwhile makes all later ones wait for ever.
    """
    import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def is_sharded(parameter: Any) -> bool:
    """Whether ZeRO-3 has cut a parameter into shares: it then carries an id."""
    return hasattr(parameter, "ds_id")


def whole_shape(parameter: Any) -> tuple[int, ...]:
    """A parameter's shape before ZeRO-3 sharded it; what is left of it afterwards is empty."""
    return tuple(getattr(parameter, "ds_shape", parameter.shape))


def wrapped_optimizer(engine: Any) -> torch.optim.Optimizer:
    """The optimizer below ZeRO, whose states are by partition."""
    return engine.optimizer.optimizer


def share_of(engine: Any, parameter: Any, rank: int) -> Share | None:
    """What this rank updates of a parameter; None where it has no part of it."""
    zero = engine.optimizer
    if is_sharded(parameter):  # stage 3: each parameter is cut into equal shares
        group, first, share = zero.grad_position[zero.get_param_id(parameter)]
        start = int(share) * rank
        size = min(int(share), parameter.ds_numel - start)  # the last share may be padded
        flat = zero.fp32_partitioned_groups_flat[group]
        return Share(start, flat, int(first), size) if size > 0 else None
    mapping = parameter._hp_mapping  # stages 1 and 2: each group is cut into equal shares
    if mapping is None:
        return None
    flat = zero.single_partition_of_fp32_groups[mapping.param_group_index]
    lp, hp = mapping.lp_fragment_address, mapping.hp_fragment_address
    return Share(lp.start, flat, hp.start, hp.numel)


def update_weights(engine: Any) -> None:
    """Have the weights that compute follow the fp32 partitions, after these were written to."""
    zero = engine.optimizer
    if engine.zero_optimization_stage() < 3:
        zero.update_lp_params()
        return
    zero._partition_all_parameters()
    for group in range(len(zero.fp32_partitioned_groups_flat)):
        zero._reassign_or_swap_out_partitioned_parameters(group)
    persistent = zero.persistent_parameters
    if persistent:  # small ones are kept whole on every rank
        persistent[0].all_gather(persistent)
