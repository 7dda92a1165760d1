"""Each fact of the table, against what transformers builds for the family."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification
from transformers.pytorch_utils import Conv1D

from llmclf.config import ConfigError
from llmclf.model.build import load_config, max_tokens
from llmclf.model.family import (
    FAMILIES,
    block_of,
    context_length,
    family_of,
    padding_multiple_and_minimum,
    within,
)


def gradients(model: nn.Module) -> dict[str, torch.Tensor | None]:
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def test_layers_are_the_list_of_all_blocks(tiny: Any) -> None:
    model = tiny.model()
    blocks = model.get_submodule(tiny.family.layers)
    assert isinstance(blocks, nn.ModuleList) and len(blocks) == 3
    inside = {id(p): i for i, block in enumerate(blocks) for p in block.parameters()}
    for name, parameter in model.named_parameters():
        assert block_of(name, tiny.family) == inside.get(id(parameter)), name


def test_blocks_and_modules_are_found_under_any_prefix_and_never_by_half_a_name(tiny: Any) -> None:
    family = tiny.family
    assert block_of(f"module.base_model.model.{family.layers}.11.some.weight", family) == 11
    assert block_of(f"x{family.layers}.1.weight", family) is None
    assert within(f"module.{family.head[-1]}.weight", family.head)
    assert not within(f"module.x{family.head[-1]}.weight", family.head)
    assert not within(f"module.{family.head[-1]}x.weight", family.head)


def test_head_is_all_that_is_trained_above_the_blocks(tiny: Any) -> None:
    """With the last block's output cut off from the gradient, what still gets one lies above it."""
    model = tiny.model()
    last_block = model.get_submodule(tiny.family.layers)[-1]

    def cut(module: nn.Module, args: Any, output: Any) -> Any:
        if isinstance(output, torch.Tensor):
            return output.detach()
        return tuple(o.detach() if isinstance(o, torch.Tensor) else o for o in output)

    last_block.register_forward_hook(cut)
    tiny.backward(model)
    above = {name for name, gradient in gradients(model).items() if gradient is not None}
    declared = {
        n
        for n, _ in model.named_parameters()
        if within(n, tiny.family.head + tiny.family.final_norm)
    }
    assert above == declared


def test_head_covers_whatever_lies_outside_the_backbone(tiny: Any) -> None:
    model = tiny.model()
    outside = [
        n for n, _ in model.named_parameters() if not n.startswith(model.base_model_prefix + ".")
    ]
    assert outside and all(within(name, tiny.family.head) for name in outside)
    for module in tiny.family.head + tiny.family.final_norm + tiny.family.unused:
        assert any(within(name, (module,)) for name, _ in model.named_parameters()), module


def test_lora_targets_are_the_linear_layers_of_a_block(tiny: Any) -> None:
    block = tiny.model().get_submodule(tiny.family.layers)[0]
    linear = {
        n.split(".")[-1] for n, m in block.named_modules() if isinstance(m, (nn.Linear, Conv1D))
    }
    optional = {  # depending on the configuration of a checkpoint
        "deberta": {"pos_proj", "pos_q_proj"},
        "deberta-v2": {"pos_key_proj", "pos_query_proj"},
    }
    assert linear | optional.get(tiny.name, set()) == set(tiny.family.lora_targets)


def test_deberta_with_projections_of_its_own_for_positions(tiny_of: Callable[[str], Any]) -> None:
    config = AutoConfig.from_pretrained(tiny_of("deberta-v2").folder, share_att_key=False)
    model = AutoModelForSequenceClassification.from_config(config)
    block = model.get_submodule("deberta.encoder.layer.0")
    linear = {n.split(".")[-1] for n, m in block.named_modules() if isinstance(m, nn.Linear)}
    assert linear == set(FAMILIES["deberta-v2"].lora_targets)


def test_gradient_checkpointing_is_what_transformers_says(tiny: Any) -> None:
    assert tiny.family.gradient_checkpointing == tiny.model().supports_gradient_checkpointing


def test_every_weight_that_learns_gets_a_gradient_and_no_other(tiny: Any) -> None:
    model = tiny.model()
    tiny.backward(model)
    for name, parameter in model.named_parameters():
        # DDP would wait for ever for one that never comes.
        assert (parameter.grad is not None) == parameter.requires_grad, name
        assert parameter.requires_grad != within(name, tiny.family.unused), name
        if within(name, tiny.family.head):
            assert parameter.grad.abs().max() > 0, name
    for block in model.get_submodule(tiny.family.layers):
        assert max(p.grad.abs().max() for p in block.parameters()) > 0


def test_unused_parameters_are_really_never_read(tiny: Any) -> None:
    model = tiny.model()
    model.requires_grad_(True)
    tiny.backward(model)
    without = {name for name, gradient in gradients(model).items() if gradient is None}
    assert without == {n for n, _ in model.named_parameters() if within(n, tiny.family.unused)}


@pytest.mark.parametrize(
    "name", ["bert", "electra", "roberta", "deberta", "deberta-v2", "longformer", "big_bird"]
)
@pytest.mark.parametrize("with_types", [False, True])
def test_token_types_do_not_change_what_gets_a_gradient(
    tiny_of: Callable[[str], Any], name: str, with_types: bool
) -> None:
    tiny = tiny_of(name)
    model = tiny.model()
    batch = tiny.batch(model)
    batch.pop("token_type_ids", None)
    if with_types:
        batch["token_type_ids"] = torch.zeros_like(batch["input_ids"])
    model(**batch).logits.square().sum().backward()
    without = {name for name, gradient in gradients(model).items() if gradient is None}
    assert without == {n for n, _ in model.named_parameters() if within(n, tiny.family.unused)}


def test_context_length_is_the_longest_input_that_works(tiny: Any) -> None:
    config = load_config(str(tiny.folder))
    length = context_length(config, tiny.family)
    assert length == (None if tiny.name == "xlnet" else 64)
    model = tiny.model(max_length=64)
    token = tiny.tokenizer("good").input_ids[0]
    model(torch.full((1, 64), token))
    table = {
        "bert",
        "distilbert",
        "roberta",
        "xlm-roberta",
        "camembert",
        "electra",
        "big_bird",
        "gpt2",
    }
    if tiny.name in table:
        with pytest.raises((IndexError, RuntimeError)):
            model(torch.full((1, 65), token))


def test_roberta_takes_two_tokens_less_than_it_has_positions(tiny_of: Callable[[str], Any]) -> None:
    tiny = tiny_of("roberta")
    config = load_config(str(tiny.folder))
    config.max_position_embeddings = 514
    assert max_tokens(config, tiny.tokenizer, None) == 512
    assert max_tokens(config, tiny.tokenizer, 512) == 512
    with pytest.raises(
        ConfigError, match=r"data.max_length=513: .* at most 512 tokens.*--data.max-length 512"
    ):
        max_tokens(config, tiny.tokenizer, 513)


def test_the_shorter_of_tokenizer_and_model_is_the_default_length(
    tiny_of: Callable[[str], Any],
) -> None:
    bert, xlnet = tiny_of("bert"), tiny_of("xlnet")
    config = load_config(str(bert.folder))
    tokenizer = type(bert.tokenizer).from_pretrained(bert.folder, model_max_length=48)
    assert max_tokens(config, tokenizer, None) == 48
    assert max_tokens(config, tokenizer, 64) == 64  # what the position table holds
    assert max_tokens(load_config(str(xlnet.folder)), xlnet.tokenizer, 100_000) == 100_000


def test_big_bird_pads_past_the_limit_of_block_sparse_attention(
    tiny_of: Callable[[str], Any],
) -> None:
    config = load_config(str(tiny_of("big_bird").folder))
    config.block_size, config.num_random_blocks = 64, 3
    multiple, shortest = padding_multiple_and_minimum(config, 4096)
    assert multiple == 64 and shortest > (5 + 2 * 3) * 64
    config.attention_type = "original_full"
    assert padding_multiple_and_minimum(config, 704) == (1, 1)
    assert padding_multiple_and_minimum(load_config(str(tiny_of("longformer").folder)), 64) == (
        1,
        1,
    )


def test_unknown_architecture_names_the_nearest() -> None:
    config = AutoConfig.for_model("albert")
    with pytest.raises(
        ConfigError, match=r"'albert' is not supported. Did you mean 'bert'\? Supported: bert, "
    ):
        family_of(config)
