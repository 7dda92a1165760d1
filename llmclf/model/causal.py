"""Checkpoint -> causal language model and its tokenizer, for prompting."""

from __future__ import annotations

from typing import Literal

import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from llmclf.compat.transformers import without_zero3_init
from llmclf.config import ConfigError
from llmclf.model.build import check_vocabulary, from_pretrained, load_config
from llmclf.model.config import Quantize
from llmclf.model.quantize import check_quantized, frozen_quantization_config, keep_layout

ADVICE = "Give a decoder such as smollm2-135m, a Llama or a GPT"


def load_causal_config(checkpoint: str) -> PretrainedConfig:
    """Read the configuration; ConfigError where its architecture is no causal language model."""
    config = load_config(checkpoint)
    named = getattr(config, "architectures", None) or []
    classifiers = [name for name in named if "Classification" in name]
    if classifiers:
        raise ConfigError(
            f"model.checkpoint={checkpoint!r} is a fine-tuned classifier ({classifiers[0]}): it "
            f"has no language model's head to prompt. {ADVICE}."
        )
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ConfigError(
            f"model.checkpoint={checkpoint!r}: {config.model_type} has no causal language model's "
            f"head to prompt. {ADVICE}."
        )
    masked = type(config) in MODEL_FOR_MASKED_LM_MAPPING
    if masked and getattr(config, "is_decoder", True) is False:
        # So said before a download or in a dry run; check_causal sees to what is left.
        raise _bidirectional(checkpoint, config.model_type)
    return config


def _bidirectional(checkpoint: str, name: str) -> ConfigError:
    return ConfigError(
        f"model.checkpoint={checkpoint!r}: {name} reads text in both directions, so it cannot be "
        f"prompted. {ADVICE}."
    )


def load_causal_tokenizer(checkpoint: str) -> PreTrainedTokenizerBase:
    """Load the tokenizer as it is; prompts are made harmless before they reach it."""
    tokenizer = from_pretrained(AutoTokenizer, checkpoint)
    check_vocabulary(tokenizer, checkpoint)
    if not tokenizer.is_fast:
        raise ConfigError(
            f"model.checkpoint={checkpoint!r}: prompting needs a fast tokenizer "
            "(tokenizer.json beside config.json)."
        )
    return tokenizer


def load_causal(
    checkpoint: str,
    *,
    quantize: Quantize,
    precision: Literal["fp32", "bf16"],
    device: torch.device,
) -> PreTrainedModel:
    """Load the model for scoring, in eval mode on ``device``.

    Raises ConfigError where weights are missing, or where the model looks at later tokens.

    ``quantize``: how the weights are held; ``precision``: of float weights and of arithmetic.
    """
    config = load_causal_config(checkpoint)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    with without_zero3_init():
        model, report = from_pretrained(
            AutoModelForCausalLM,
            checkpoint,
            config=config,
            dtype=dtype,
            quantization_config=frozen_quantization_config(quantize, dtype),
            output_loading_info=True,
        )
    if report["missing_keys"]:
        lost = sorted(report["missing_keys"])
        raise ConfigError(
            f"model.checkpoint={checkpoint!r}: {len(lost)} weights of {type(model).__name__} are "
            f"missing ({', '.join(lost[:3])}): it is no language model's checkpoint. {ADVICE}."
        )
    check_quantized(model, quantize)
    keep_layout(model)
    model = model.eval()
    if quantize == "none":
        model = model.to(device)
    check_causal(model, checkpoint)
    return model


@torch.inference_mode()
def check_causal(model: PreTrainedModel, checkpoint: str) -> None:
    """Raise ConfigError if a later token changes what is predicted before it."""
    ids = torch.arange(1, 9, device=model.device)[None]
    other = ids.clone()
    other[0, -1] = 0
    kept = [model(input_ids=i, use_cache=False).logits[0, :-1].float() for i in (ids, other)]
    if float((kept[0] - kept[1]).abs().max()) > 0.05 * max(1.0, float(kept[0].abs().max())):
        raise _bidirectional(checkpoint, type(model).__name__)


def context_tokens(config: PretrainedConfig, wanted: int | None) -> int:
    """Tokens that a prompt and its answer may have.

    Raises ConfigError where ``data.max_length`` passes what the model takes.
    """
    # XLNet declares -1, Bloom nothing: neither has a limit.
    limit = getattr(config.get_text_config(), "max_position_embeddings", None) or 0
    if wanted is None:
        return limit if limit > 0 else 1 << 20
    if 0 < limit < wanted:
        raise ConfigError(
            f"data.max_length={wanted}: the model takes at most {limit} tokens. "
            f"Set --data.max-length {limit} or less."
        )
    return wanted
