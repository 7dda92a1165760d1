"""Checkpoints that can be prompted, and those that cannot: each is told before a run begins."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    BloomConfig,
    GPT2Config,
    LlamaConfig,
    PreTrainedModel,
    XLNetConfig,
)

from llmclf.config import ConfigError
from llmclf.model.causal import (
    check_causal,
    context_tokens,
    load_causal,
    load_causal_config,
    load_causal_tokenizer,
)
from llmclf.model.config import LanguageModelConfig
from llmclf.model.quantize import is_quantized
from tests.model.conftest import save_checkpoint
from tests.tiny import make_byte_llama

WIDE: dict[str, dict[str, Any]] = {  # bitsandbytes' blocks are of 64
    "gpt2": {"n_embd": 64},
    "llama": {"hidden_size": 64, "head_dim": 32, "intermediate_size": 128},
}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def folder_of(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            if name == "byte_llama":
                make_byte_llama(made[name])
            else:
                save_checkpoint(name, made[name], **WIDE.get(name, {}))
        return made[name]

    return folder_of


@pytest.fixture
def copy_of(folder_of: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy that a test may break."""
    return lambda name: Path(shutil.copytree(folder_of(name), tmp_path / name))


def load(
    checkpoint: Path | str, quantize: Any = "none", precision: Any = "fp32"
) -> PreTrainedModel:
    return load_causal(str(checkpoint), quantize=quantize, precision=precision, device=CPU)


def edit(path: Path, **changes: Any) -> None:
    settings = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(settings | changes), encoding="utf-8")


# ---- models that can be prompted -----------------------------------------------------------------


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "byte_llama"])
def test_decoders_load_as_they_are(
    folder_of: Callable[[str], Path], name: str, precision: str
) -> None:
    model, tokenizer = load(folder_of(name), precision=precision), load_causal_tokenizer(
        str(folder_of(name))
    )  # fmt: skip
    assert not model.training
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    assert {p.dtype for p in model.parameters()} == {dtype}
    ids = torch.tensor([tokenizer("the film was good", add_special_tokens=False).input_ids])
    plain = AutoModelForCausalLM.from_pretrained(folder_of(name), dtype=dtype)
    with torch.inference_mode():
        torch.testing.assert_close(model(ids).logits, plain(ids).logits)


@pytest.mark.parametrize("quantize", ["int8", "nf4"])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_quantised_decoders_load(
    folder_of: Callable[[str], Path], name: str, quantize: str
) -> None:
    model = load(folder_of(name), quantize=quantize)
    modules = dict(model.named_modules())
    quantised = {n for n, m in modules.items() if is_quantized(m)}
    assert quantised == {
        n
        for n, m in AutoModelForCausalLM.from_pretrained(folder_of(name)).named_modules()
        if type(m).__name__ in ("Linear", "Conv1D") and n != "lm_head"
    }
    ids = torch.arange(1, 9)[None]
    with torch.inference_mode():
        found, plain = model(ids).logits, load(folder_of(name))(ids).logits
    assert torch.isfinite(found).all()
    # Close to the float model: the weights were quantised, not drawn at random.
    similar = torch.nn.functional.cosine_similarity(found.float(), plain, dim=-1)
    assert similar.mean() > {"int8": 0.99, "nf4": 0.8}[quantize]


def test_output_layer_is_tied_where_the_checkpoint_ties_it(
    folder_of: Callable[[str], Path],
) -> None:
    model = load(folder_of("gpt2"))
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


# ---- models that cannot --------------------------------------------------------------------------


@pytest.mark.parametrize("checkpoint", ["minilm-l6", "bert", "roberta"])
def test_encoders_are_refused_before_their_weights_are_read(
    folder_of: Callable[[str], Path], checkpoint: str
) -> None:
    where = checkpoint if checkpoint == "minilm-l6" else str(folder_of(checkpoint))
    with pytest.raises(ConfigError) as error:
        load_causal_config(where)
    told = str(error.value)
    assert f"model.checkpoint={where!r}" in told and "smollm2-135m" in told
    assert "both directions" in told


@pytest.mark.parametrize("name", ["distilbert", "modernbert"])
def test_architectures_without_a_language_model_head(
    folder_of: Callable[[str], Path], name: str
) -> None:
    with pytest.raises(ConfigError, match=f"{name} has no causal language model's head"):
        load_causal_config(str(folder_of(name)))


def test_classifiers_are_refused(folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(folder_of("llama"), num_labels=3)
    model.save_pretrained(tmp_path)
    with pytest.raises(
        ConfigError, match=r"fine-tuned classifier \(LlamaForSequenceClassification\)"
    ):
        load_causal_config(str(tmp_path))
    with pytest.raises(ConfigError, match="fine-tuned classifier"):
        load(tmp_path)


def test_missing_weights_are_refused(copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("byte_llama")
    path = folder / "model.safetensors"
    weights = load_file(path)
    del weights["model.layers.1.mlp.up_proj.weight"], weights["lm_head.weight"]
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(ConfigError) as error:
        load(folder)
    for told in ("2 weights of LlamaForCausalLM are missing", "lm_head.weight", "up_proj"):
        assert told in str(error.value)


def test_no_weights_at_all(copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("byte_llama")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"cannot be loaded.*copy the checkpoint again"):
        load(folder)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_missing_tokenizer_is_told(copy_of: Callable[[str], Path], name: str) -> None:
    folder = copy_of(name)
    for path in folder.iterdir():
        if path.name not in ("config.json", "model.safetensors"):
            path.unlink()
    with pytest.raises(ConfigError, match=r"files of its tokenizer are missing|cannot be loaded"):
        load_causal_tokenizer(str(folder))


def test_a_model_that_reads_in_both_directions_is_refused(
    folder_of: Callable[[str], Path],
) -> None:
    """Whatever its configuration says: the logits are looked at."""
    both = AutoModelForMaskedLM.from_pretrained(folder_of("bert")).eval()
    with pytest.raises(ConfigError, match="BertForMaskedLM reads text in both directions"):
        check_causal(both, "some/checkpoint")
    check_causal(AutoModelForCausalLM.from_pretrained(folder_of("llama")).eval(), "x")


def test_xlnet_reads_in_both_directions(folder_of: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigError, match="both directions"):
        load(folder_of("xlnet"))


def test_a_decoder_that_was_made_of_an_encoder_is_taken(tmp_path: Path) -> None:
    save_checkpoint("bert", tmp_path, is_decoder=True)
    edit(tmp_path / "config.json", architectures=["BertLMHeadModel"], is_decoder=True)
    assert load_causal_config(str(tmp_path)).is_decoder


# ---- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "limit"),
    [
        (LlamaConfig(max_position_embeddings=64), 64),
        (GPT2Config(n_positions=48), 48),
        (BloomConfig(), None),
        (XLNetConfig(), None),  # declares -1
    ],
)
def test_tokens_of_a_prompt(config: Any, limit: int | None) -> None:
    assert context_tokens(config, 32) == 32
    if limit is None:
        assert context_tokens(config, 10**6) == 10**6
        assert context_tokens(config, None) >= 10**6
        return
    assert context_tokens(config, None) == context_tokens(config, limit) == limit
    with pytest.raises(ConfigError, match=rf"data\.max_length={limit + 1}: .*at most {limit} tok"):
        context_tokens(config, limit + 1)


@pytest.mark.parametrize("quantize", ["none", "int8", "nf4"])
def test_quantised_weights_need_no_method(quantize: Any) -> None:
    assert LanguageModelConfig(checkpoint="x", quantize=quantize).problems() == []
