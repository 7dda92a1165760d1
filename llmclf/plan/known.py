"""Shapes of well-known checkpoints, for planning where no hub is at hand; never for training.

Values are those of each checkpoint's ``config.json`` on the hub. ``tests/plan/test_known.py``
holds the resulting parameter counts against the published ones.
"""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, PretrainedConfig

from llmclf.config import ConfigError
from llmclf.model.build import load_config


def _shape(
    hidden_size: int, intermediate_size: int, layers: int, heads: int, **more: Any
) -> dict[str, Any]:
    return {
        "hidden_size": hidden_size,
        "intermediate_size": intermediate_size,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        **more,
    }


_BASE, _LARGE = _shape(768, 3072, 12, 12), _shape(1024, 4096, 24, 16)
_ROBERTA = {
    "vocab_size": 50265,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "pad_token_id": 1,
}
_LLAMA_3 = {"vocab_size": 128256, "num_key_value_heads": 8, "max_position_embeddings": 8192}
_LONG = {"max_position_embeddings": 131072}
_8B = _shape(4096, 14336, 32, 32, **_LLAMA_3)
_70B = _shape(8192, 28672, 80, 64, **_LLAMA_3)

KNOWN: dict[str, tuple[str, dict[str, Any]]] = {
    "google-bert/bert-base-uncased": ("bert", _BASE),
    "google-bert/bert-large-uncased": ("bert", _LARGE),
    "FacebookAI/roberta-base": ("roberta", _BASE | _ROBERTA),
    "FacebookAI/roberta-large": ("roberta", _LARGE | _ROBERTA),
    "distilbert/distilbert-base-uncased": ("distilbert", {}),
    "allenai/longformer-base-4096": (
        "longformer",
        _BASE | _ROBERTA | {"max_position_embeddings": 4098, "attention_window": [512] * 12},
    ),
    "answerdotai/ModernBERT-base": ("modernbert", _shape(768, 1152, 22, 12)),
    "answerdotai/ModernBERT-large": ("modernbert", _shape(1024, 2624, 28, 16)),
    "openai-community/gpt2": ("gpt2", {}),
    "openai-community/gpt2-large": ("gpt2", {"n_embd": 1280, "n_layer": 36, "n_head": 20}),
    "openai-community/gpt2-xl": ("gpt2", {"n_embd": 1600, "n_layer": 48, "n_head": 25}),
    "meta-llama/Llama-3.2-1B": (
        "llama",
        _shape(2048, 8192, 16, 32, head_dim=64, tie_word_embeddings=True, **_LLAMA_3 | _LONG),
    ),
    "meta-llama/Meta-Llama-3-8B": ("llama", _8B),
    "meta-llama/Llama-3.1-8B": ("llama", _8B | _LONG),
    "meta-llama/Meta-Llama-3-70B": ("llama", _70B),
    "meta-llama/Llama-3.1-70B": ("llama", _70B | _LONG),
    "mistralai/Mistral-7B-v0.3": (
        "mistral",
        _shape(
            4096,
            14336,
            32,
            32,
            num_key_value_heads=8,
            vocab_size=32768,
            max_position_embeddings=32768,
            sliding_window=None,
        ),
    ),
    "Qwen/Qwen2.5-0.5B": (
        "qwen2",
        _shape(
            896,
            4864,
            24,
            14,
            num_key_value_heads=2,
            vocab_size=151936,
            max_position_embeddings=32768,
            tie_word_embeddings=True,
        ),
    ),
    "Qwen/Qwen2.5-7B": (
        "qwen2",
        _shape(
            3584,
            18944,
            28,
            28,
            num_key_value_heads=4,
            vocab_size=152064,
            max_position_embeddings=131072,
        ),
    ),
}


def known_config(checkpoint: str) -> PretrainedConfig:
    """The configuration of a checkpoint in ``KNOWN``, as far as shapes go."""
    model_type, values = KNOWN[checkpoint]
    return AutoConfig.for_model(model_type, **values)


def config_for_planning(checkpoint: str) -> tuple[PretrainedConfig, bool]:
    """The checkpoint's own configuration and True, or where it cannot be had, a known one and
    False. Raises ConfigError where there is neither.

    Raises ConfigError where there is neither.
    """
    try:
        return load_config(checkpoint), True
    except ConfigError as error:
        if checkpoint not in KNOWN:
            names = ", ".join(sorted(KNOWN))
            raise ConfigError(f"{error} Known to the planner without a hub: {names}.") from error
        return known_config(checkpoint), False
