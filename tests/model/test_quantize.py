"""8- and 4-bit weights: what is quantised, what stays in float, and the way back."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from transformers.integrations.bitsandbytes import dequantize_bnb_weight

from llmclf.model.config import ModelConfig, Quantize
from llmclf.model.quantize import dequantize_into, is_quantized
from llmclf.model.tune import store_frozen
from tests.model.conftest import Tiny, save_checkpoint

QUANTIZED = ("int8", "nf4")
WIDE = {  # 4-bit weights come in blocks of 64
    "gpt2": {"n_embd": 64},
    "llama": {"hidden_size": 64, "head_dim": 32, "intermediate_size": 128},
    "distilbert": {"dim": 64, "hidden_dim": 128},
    "bert": {"hidden_size": 64, "intermediate_size": 128},
}


@pytest.fixture(scope="module")
def wide_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Tiny]:
    made: dict[str, Tiny] = {}

    def wide_of(name: str) -> Tiny:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            save_checkpoint(name, folder, **WIDE[name])
            made[name] = Tiny(name, folder)
        return made[name]

    return wide_of


@pytest.mark.parametrize("quantize", QUANTIZED)
@pytest.mark.parametrize("name", WIDE)
def test_every_linear_layer_below_the_head_and_no_other(
    wide_of: Callable[[str], Tiny], name: str, quantize: Quantize
) -> None:
    tiny = wide_of(name)
    plain, quantized = (tiny.model(tune="head", quantize=q) for q in ("none", quantize))
    expected = {
        n
        for n, m in plain.named_modules()
        if type(m).__name__ in ("Linear", "Conv1D") and n.startswith(tiny.family.layers)
    }
    assert {n for n, m in quantized.named_modules() if is_quantized(m)} == expected
    for module in tiny.family.head:
        for parameter in quantized.get_submodule(module).parameters():
            assert parameter.dtype == torch.float32 and parameter.requires_grad


@pytest.mark.parametrize("storage", [torch.float32, torch.bfloat16])
def test_4_bits_are_stored_as_floating_point(
    wide_of: Callable[[str], Tiny], storage: torch.dtype
) -> None:
    """Or ZeRO-3 and FSDP would not divide them; eight, or four, to a number."""
    tiny = wide_of("llama")
    model = tiny.model(tune="lora", quantize="nf4", dtype=storage)
    for module in model.modules():
        if is_quantized(module):
            elements = module.in_features * module.out_features
            assert module.weight.dtype == storage
            assert module.weight.numel() * storage.itemsize * 2 == elements
            assert module.compute_dtype == storage
            assert module.weight.quant_state.nested  # double quantisation


@pytest.mark.parametrize("quantize", QUANTIZED)
@pytest.mark.parametrize("name", WIDE)
def test_dequantised_weights_give_nearly_the_same_logits(
    wide_of: Callable[[str], Tiny], name: str, quantize: Quantize
) -> None:
    """GPT-2's matrices are transposed on the way; of a square one the shape does not show it."""
    tiny = wide_of(name)
    quantized, plain = (tiny.model(tune="head", quantize=q) for q in (quantize, "none"))
    before = tiny.logits(plain)
    dequantize_into(quantized, plain)
    for module_name, module in quantized.named_modules():
        if is_quantized(module):
            weight = dequantize_bnb_weight(module.weight, getattr(module, "state", None))
            target = plain.get_submodule(module_name).weight
            expected = (
                weight.T if type(plain.get_submodule(module_name)) is not nn.Linear else weight
            )
            assert torch.equal(target.float(), expected.float())
    after, ours = tiny.logits(plain), tiny.logits(quantized)
    scale = float(before.abs().max())
    difference = (after - ours).abs()
    if quantize == "nf4":
        assert float(difference.max()) <= 1e-5 * scale
    else:  # 8-bit layers round their inputs as well
        assert float(difference.mean()) <= 0.05 * scale
    assert not torch.equal(after, before)


@pytest.mark.parametrize("tune", ["full", "last_n"])
@pytest.mark.parametrize("quantize", QUANTIZED)
def test_quantised_weights_cannot_learn(tune: str, quantize: Quantize) -> None:
    (problem,) = ModelConfig(tune=tune, quantize=quantize).problems()  # type: ignore[arg-type]
    assert problem.startswith(f"model.quantize={quantize!r} needs model.tune='lora' or 'head'")
    assert f"got {tune!r}" in problem and "--model.quantize none" in problem


@pytest.mark.parametrize("tune", ["head", "lora"])
@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_frozen_matrices_in_bf16_give_the_same_bits(
    tiny_of: Callable[[str], Tiny], name: str, tune: str
) -> None:
    """Autocast casts them anyway."""
    tiny = tiny_of(name)
    found = []
    for stored in (False, True):
        model = tiny.model(tune=tune, lora_dropout=0.0, dropout=0.0)
        if stored:
            store_frozen(model, torch.bfloat16)
        assert stored == any(p.dtype == torch.bfloat16 for p in model.parameters())
        with torch.autocast("cpu", torch.bfloat16):
            loss = tiny.backward(model)
        gradients = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
        found.append((loss, gradients))
    (loss_a, gradients_a), (loss_b, gradients_b) = found
    assert torch.equal(loss_a, loss_b)
    assert all(torch.equal(gradients_a[n], gradients_b[n]) for n in gradients_a)
