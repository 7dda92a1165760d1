"""What learns and what stays, for every method and family."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import nn
from transformers.pytorch_utils import Conv1D

from llmclf.config import ConfigError
from llmclf.model.family import FAMILIES, within
from llmclf.model.tune import (
    count_parameters,
    enable_gradient_checkpointing,
    set_training_mode,
)

CHECKPOINTED = [name for name, family in FAMILIES.items() if family.gradient_checkpointing]


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def changed(model: nn.Module, before: dict[str, torch.Tensor]) -> set[str]:
    """Names of the parameters that are not bit-identical to what they were."""
    return {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}


def block_parameters(model: nn.Module, tiny: Any, first: int) -> set[str]:
    """Names of the parameters of the blocks from ``first`` on, found without ``block_of``."""
    blocks = model.get_submodule(tiny.family.layers)
    wanted = {id(p) for block in list(blocks)[first:] for p in block.parameters()}
    return {name for name, p in model.named_parameters() if id(p) in wanted}


def modules_parameters(model: nn.Module, modules: tuple[str, ...]) -> set[str]:
    return {f"{m}.{n}" for m in modules for n, _ in model.get_submodule(m).named_parameters()}


# ---- full, head, last_n --------------------------------------------------------------------------


def test_full_changes_every_block_and_the_head(tiny: Any) -> None:
    model = tiny.model()
    before = weights(model)
    tiny.train(model)
    moved = changed(model, before)
    assert modules_parameters(model, tiny.family.head) <= moved
    for i in range(3):
        assert f"{tiny.family.layers}.{i}." in " ".join(moved)
    assert not [name for name in moved if within(name, tiny.family.unused)]


def test_head_alone_learns(tiny: Any) -> None:
    model = tiny.model(tune="head")
    before = weights(model)
    tiny.train(model, steps=2)
    assert changed(model, before) == modules_parameters(model, tiny.family.head)
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == within(name, tiny.family.head), name


@pytest.mark.parametrize("last_n", [1, 2, 3])
def test_last_blocks_learn_with_the_head_and_all_between(tiny: Any, last_n: int) -> None:
    model = tiny.model(tune="last_n", last_n=last_n)
    before = weights(model)
    expected = (
        block_parameters(model, tiny, 3 - last_n)
        | modules_parameters(model, tiny.family.head)
        | modules_parameters(model, tiny.family.final_norm)
    )
    assert {n for n, p in model.named_parameters() if p.requires_grad} == expected
    tiny.backward(model)
    assert {n for n, p in model.named_parameters() if p.grad is not None} == expected
    model.zero_grad()
    tiny.train(model)
    moved = changed(model, before)
    assert moved <= expected
    for i in range(3 - last_n, 3):
        assert any(f"{tiny.family.layers}.{i}." in name for name in moved)


def test_more_blocks_than_there_are(tiny: Any) -> None:
    with pytest.raises(ConfigError, match=r"model.last_n=4: the model has 3 blocks. Set 3 or less"):
        tiny.model(tune="last_n", last_n=4)


@pytest.mark.parametrize(
    ("tune", "frozen_blocks"), [("full", 0), ("head", 3), ("last_n", 1), ("lora", 0)]
)
def test_frozen_trunk_stays_in_eval_mode(tiny: Any, tune: str, frozen_blocks: int) -> None:
    model = tiny.model(tune=tune, last_n=2)
    set_training_mode(model)
    bare = model.get_base_model() if isinstance(model, PeftModel) else model
    blocks = bare.get_submodule(tiny.family.layers)
    for i, block in enumerate(blocks):
        modes = {m.training for m in block.modules() if list(m.parameters())}
        assert modes == {i >= frozen_blocks}, i
        if i >= frozen_blocks:
            assert all(m.training for m in block.modules())
    for head in tiny.family.head:
        assert bare.get_submodule(head).training


@pytest.mark.parametrize("name", ["bert", "distilbert", "xlnet", "gpt2", "modernbert", "big_bird"])
def test_frozen_trunk_gives_the_same_features_each_time(
    tiny_of: Callable[[str], Any], name: str
) -> None:
    """Its dropout is off: only the head's own is left."""
    tiny = tiny_of(name)
    model = tiny.model(tune="head", dropout=0.5)
    set_training_mode(model)
    last_block = model.get_submodule(tiny.family.layers)[-1]
    seen = []
    last_block.register_forward_hook(lambda m, a, output: seen.append(output))
    batch = tiny.batch(model)
    for _ in range(2):
        model(**batch)
    first, second = (o if isinstance(o, torch.Tensor) else o[0] for o in seen)
    assert torch.equal(first, second)


# ---- lora ----------------------------------------------------------------------------------------


def adapted(model: PeftModel) -> set[str]:
    """Names of the modules that carry an adapter, as the model called them before."""
    found = {n.split(".lora_A")[0] for n, _ in model.named_parameters() if ".lora_A." in n}
    return {name.removeprefix("base_model.model.") for name in found}


def test_adapters_are_on_all_linear_layers_of_the_blocks_and_nowhere_else(tiny: Any) -> None:
    bare = tiny.model()
    linear = {n for n, m in bare.named_modules() if isinstance(m, (nn.Linear, Conv1D))}
    expected = {name for name in linear if name.startswith(tiny.family.layers + ".")}
    assert adapted(tiny.model(tune="lora")) == expected


def test_lora_learns_adapters_and_the_whole_head(tiny: Any) -> None:
    model = tiny.model(tune="lora")
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    adapters = {name for name in trained if ".lora_" in name}
    head = {
        re.sub(r"base_model\.model\.|modules_to_save\.default\.", "", n) for n in trained - adapters
    }
    assert head == modules_parameters(tiny.model(), tiny.family.head)
    before = weights(model)
    tiny.backward(model)
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == (name in trained), name
    model.zero_grad()

    # Longformer's last block is read at the first token alone, and that one attends globally.
    unread = re.compile(r"longformer\.encoder\.layer\.2\..*\.(query|key|value)\.")
    is_read = {name for name in trained if not unread.search(name)}
    first = {name for name in is_read if ".lora_A." not in name}
    tiny.train(model)  # lora_B starts at zero, so at first no gradient gets through to lora_A
    assert changed(model, before) & is_read == first
    tiny.train(model)
    assert changed(model, before) & is_read == is_read
    assert changed(model, before) <= trained


def test_lora_starts_at_the_checkpoint(tiny: Any) -> None:
    for variant in ("lora", "rslora", "dora"):
        model = tiny.model(tune="lora", lora_variant=variant, lora_dropout=0.0)
        torch.testing.assert_close(
            tiny.logits(model), tiny.logits(tiny.model()), atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_lora_settings_reach_peft(tiny_of: Callable[[str], Any], name: str) -> None:
    tiny = tiny_of(name)
    settings = {"lora_rank": 4, "lora_alpha": 6.0, "lora_dropout": 0.25}
    scaling = {"lora": 6.0 / 4, "rslora": 6.0 / 2, "dora": 6.0 / 4}
    for variant, expected in scaling.items():
        model = tiny.model(tune="lora", lora_variant=variant, **settings)
        layers = [m for m in model.modules() if hasattr(m, "lora_A") and "default" in m.lora_A]
        assert {m.scaling["default"] for m in layers} == {expected}
        assert {m.lora_A["default"].out_features for m in layers} == {4}
        assert {m.lora_dropout["default"].p for m in layers} == {0.25}
        has_magnitude = any("lora_magnitude_vector" in n for n, _ in model.named_parameters())
        assert has_magnitude == (variant == "dora")


def test_parameters_are_counted(tiny_of: Callable[[str], Any]) -> None:
    tiny = tiny_of("bert")
    total, trainable = count_parameters(tiny.model())
    assert total == trainable == sum(p.numel() for p in tiny.model().parameters())
    pooler_and_classifier = 16 * 16 + 16 + 3 * 16 + 3
    assert count_parameters(tiny.model(tune="head")) == (total, pooler_and_classifier)
    in_and_out = 4 * (16 + 16) + 2 * (16 + 32)  # query, key, value, output; the two of the MLP
    lora = count_parameters(tiny.model(tune="lora", lora_rank=4))
    assert lora[1] == pooler_and_classifier + 3 * 4 * in_and_out


# ---- gradient checkpointing ----------------------------------------------------------------------


@pytest.mark.parametrize("name", CHECKPOINTED)
@pytest.mark.parametrize("tune", ["full", "lora"])
def test_gradient_checkpointing_changes_nothing_but_memory(
    tiny_of: Callable[[str], Any], name: str, tune: str
) -> None:
    tiny = tiny_of(name)
    losses, gradients, forwards = [], [], []
    for checkpointing in (False, True):
        model = tiny.model(tune=tune, dropout=0.2)
        if checkpointing:
            enable_gradient_checkpointing(model, tune)
        bare = model.get_base_model() if isinstance(model, PeftModel) else model
        last_block = bare.get_submodule(tiny.family.layers)[-1]
        inner = next(m for m in last_block.modules() if isinstance(m, (nn.Linear, Conv1D)))
        calls: list[int] = []
        inner.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        torch.manual_seed(3)
        losses.append(tiny.backward(model))
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.requires_grad})
        forwards.append(len(calls))
    assert forwards[1] == 2 * forwards[0] > 0  # computed again in the backward pass: really on
    torch.testing.assert_close(losses[1], losses[0])
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)
    if tune == "lora":
        assert any(g.abs().max() > 0 for n, g in gradients[1].items() if "lora_B" in n)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", ["bert", "llama"])
def test_a_frozen_trunk_keeps_no_activations(
    tiny_of: Callable[[str], Any], name: str, checkpointing: bool
) -> None:
    """Checkpointing would have its input need a gradient, and keep all that leads there."""
    tiny = tiny_of(name)
    model = tiny.model(tune="head")
    if checkpointing:
        enable_gradient_checkpointing(model, "head")
    first_block = model.get_submodule(tiny.family.layers)[0]
    needed = []
    first_block.register_forward_hook(
        lambda _, __, out: needed.append((out[0] if isinstance(out, tuple) else out).requires_grad)
    )
    tiny.backward(model)
    assert needed == [False]
