"""The model as it is loaded for each launch, and which methods a strategy refuses before."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.utils import set_seed
from safetensors.torch import load_file, save_file
from torch import nn

from llmclf import ranks
from llmclf.config import ConfigError
from llmclf.model.config import ModelConfig
from llmclf.model.family import FAMILIES
from llmclf.model.tune import store_frozen, tune
from llmclf.train import model_builder
from llmclf.train.engine import EffectiveLaunch
from llmclf.train.launch_check import Strategy
from llmclf.train.model_builder import ModelBuilder, bring, check_strategy, shapes_alone
from tests.model.conftest import save_checkpoint

CPU, NOWHERE = torch.device("cpu"), torch.device("meta")
SEED = 7


def effective_launch(strategy: Strategy) -> EffectiveLaunch:
    return EffectiveLaunch(2, strategy, "bf16", 4, 1, 8)


def checkpoint(family: str, folder: Path, **shape: Any) -> Path:
    """A tiny one."""
    save_checkpoint(family, folder / family, **shape)
    return folder / family


def builder(checkpoint: Path, **settings: Any) -> ModelBuilder:
    return ModelBuilder(
        config=ModelConfig(checkpoint=str(checkpoint), **settings),
        labels=("bad", "good", "meh"),
        multilabel=False,
        pad_token_id=0,
        max_length=32,
    )


def in_fp32_first(made: ModelBuilder, launch: EffectiveLaunch) -> nn.Module:
    """The model, all of it loaded in fp32 and then cast, as training is to have it."""
    set_seed(SEED)
    model = made.build(made.config, dtype=torch.bfloat16)
    set_seed(SEED)
    tuned = tune(model, made.config)
    if launch.autocast:
        store_frozen(tuned, torch.bfloat16)
    return tuned


def bits(tensor: torch.Tensor) -> torch.Tensor:
    """Packed 4-bit weights may look like no numbers at all."""
    return tensor.detach().reshape(-1).view(torch.uint8)


METHODS: dict[str, dict[str, Any]] = {
    "full": {},
    "head": {"tune": "head"},
    "last_n": {"tune": "last_n", "last_n": 1},
    "lora": {"tune": "lora"},
    "dora": {"tune": "lora", "lora_variant": "dora"},
    "nf4": {"tune": "lora", "quantize": "nf4"},
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("strategy", ["ddp", "zero2"])
@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_weights_are_those_that_were_loaded_in_fp32_and_cast(
    family: str, strategy: Any, method: str, tmp_path: Path
) -> None:
    if method == "nf4":
        pytest.importorskip("bitsandbytes")
    wide = {"n_embd" if family == "gpt2" else "hidden_size": 64}
    made = builder(checkpoint(family, tmp_path, **wide), **METHODS[method])
    launch = effective_launch(strategy)
    expected = in_fp32_first(made, launch).state_dict(keep_vars=True)
    loaded = made.load(SEED, launch, CPU).state_dict(keep_vars=True)
    assert list(loaded) == list(expected)
    for name, whole in expected.items():
        found = loaded[name]
        if strategy == "zero2":  # DeepSpeed casts what is not in bf16 yet
            found, whole = found.bfloat16(), whole.bfloat16()
        assert found.dtype == whole.dtype, name
        assert torch.equal(bits(found), bits(whole)), name
        assert loaded[name].requires_grad == expected[name].requires_grad, name


@pytest.mark.parametrize("method", ["full", "lora"])
def test_zero_holds_nothing_of_the_checkpoint_in_fp32(bert: Path, method: str) -> None:
    """Nor does autocast a frozen matrix: no device has room for what only the loading needs."""
    made = builder(bert, **METHODS[method])
    zero, ddp = (made.narrow(effective_launch(s)) for s in ("zero2", "ddp"))
    body = {n for n, _ in made.build(made.config, weights=False).named_parameters()}
    assert zero == {n for n in body if not n.startswith(("classifier", "bert.pooler"))}
    matrices = {n for n in zero if "layer." in n and n.endswith("weight") and "LayerNorm" not in n}
    assert ddp == (matrices if method == "lora" else set())
    assert made.narrow(EffectiveLaunch(2, "ddp", "fp32", 4, 1, 8)) == set()


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_go_to_the_device_and_new_ones_are_drawn_on_the_cpu(
    family: str, tmp_path: Path
) -> None:
    """The meta device stands for a GPU: nothing that is there can have been on the CPU for good."""
    made = builder(checkpoint(family, tmp_path))
    set_seed(SEED)
    whole = made.build(made.config)
    after = torch.rand(1)
    set_seed(SEED)
    there = made.build(made.config, device=NOWHERE)
    assert torch.rand(1) == after
    made_anew = [n for n, p in there.named_parameters() if p.device == CPU]
    head = FAMILIES[family].head + FAMILIES[family].unused
    assert made_anew and all(name.startswith(head) for name in made_anew)
    for name in made_anew:
        assert torch.equal(there.get_parameter(name), whole.get_parameter(name)), name
    buffers = dict(whole.named_buffers())
    for name, buffer in there.named_buffers():
        assert torch.equal(buffer, buffers[name]), name


@pytest.mark.parametrize("method", ["full", "lora", "dora"])
def test_what_was_drawn_on_the_cpu_follows_the_rest(bert: Path, method: str) -> None:
    loaded = builder(bert, **METHODS[method]).load(SEED, effective_launch("ddp"), NOWHERE)
    assert {t.device for t in (*loaded.parameters(), *loaded.buffers())} == {NOWHERE}


def test_what_is_shared_stays_so() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.BatchNorm1d(2))
    model[1].weight = model[0].weight
    bring(model, NOWHERE)
    assert model[1].weight is model[0].weight
    assert {t.device for t in model.state_dict().values()} == {NOWHERE}


@pytest.mark.parametrize("family", FAMILIES)
def test_shapes_alone_are_told_apart_and_take_no_memory(family: str, tmp_path: Path) -> None:
    """As accelerate needs them on the ranks that load nothing: it gives each parameter of the state
    its shard, and has no shard for a buffer in it."""
    made = builder(checkpoint(family, tmp_path), tune="lora")
    whole = made.load_here(SEED, effective_launch("fsdp2"), CPU)
    shapes = shapes_alone(made.meta_model(), dict(whole.named_buffers()))
    expected, found = whole.state_dict(keep_vars=True), shapes.state_dict(keep_vars=True)
    assert list(found) == list(expected)
    for name, tensor in found.items():
        assert isinstance(tensor, nn.Parameter), name
        assert (tensor.shape, tensor.dtype) == (expected[name].shape, expected[name].dtype), name
        assert tensor.requires_grad == expected[name].requires_grad, name
        assert tensor.untyped_storage().nbytes() == 4
    parameters = list(shapes.parameters())
    assert len({p.data_ptr() for p in parameters}) == len(parameters)
    for (name, a), (_, b) in zip(whole.named_buffers(), shapes.named_buffers(), strict=True):
        assert torch.equal(a, b), name


def test_a_mistake_that_the_first_rank_finds_is_that_of_all(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the others would wait for its weights."""
    broken = Path(shutil.copytree(bert, tmp_path / "broken"))
    weights = load_file(broken / "model.safetensors")
    del weights["bert.encoder.layer.0.output.dense.weight"]
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    told: list[Any] = []

    def broadcast(found: list[Any]) -> list[Any]:
        if ranks.is_main():
            told[:] = pickle.loads(pickle.dumps(found))
        return told

    monkeypatch.setattr(model_builder, "broadcast_object_list", broadcast)
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(ConfigError, match="1 weights below the head are missing"):
            builder(broken).load(SEED, effective_launch("fsdp2"), CPU)


def test_fsdp_cannot_divide_8_bit_weights() -> None:
    config = ModelConfig(tune="lora", quantize="int8")
    message = r"model\.quantize='int8' under fsdp2.*--model\.quantize nf4.*zero2\.yaml"
    with pytest.raises(ConfigError, match=message):
        check_strategy(config, effective_launch("fsdp2"))


@pytest.mark.parametrize("quantize", ["none", "nf4"])
def test_other_weights_it_can(quantize: str) -> None:
    check_strategy(ModelConfig(tune="lora", quantize=quantize), effective_launch("fsdp2"))  # type: ignore[arg-type]


def test_other_strategies_take_8_bit_weights() -> None:
    for strategy in ("single", "ddp", "zero1", "zero2", "zero3", "zero3_offload"):
        check_strategy(ModelConfig(tune="lora", quantize="int8"), effective_launch(strategy))  # type: ignore[arg-type]
