"""What an architecture forces on us, one row per family; everything else is the same for all.

A new family is one entry in ``FAMILIES``; ``tests/model/test_family.py`` then checks each of its
facts on a tiny model.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from transformers import PretrainedConfig

from llmclf.config import ConfigError, did_you_mean

Pooling = Literal["first", "last"]


@dataclass(frozen=True, kw_only=True)
class Family:
    """Facts about one architecture as transformers implements ``*ForSequenceClassification`` for
    it."""

    layers: str
    """Path of the list of transformer blocks, from the classification model down."""
    head: tuple[str, ...]
    """Modules that belong to the classifier: trained by every method, kept in float, saved beside
    an adapter. PEFT alone would save only those called ``classifier`` or ``score``."""
    lora_targets: tuple[str, ...]
    """Last names of the linear layers inside a block that get an adapter."""
    pooling: Pooling = "first"
    """The token whose state is classified: the first (CLS) or the last attended one."""
    padding_side: Literal["left", "right"] = "right"
    token_types: bool = False
    """Whether the tokenizer has to be asked for the token types that the model was pre-trained
    with."""
    gradient_checkpointing: bool = True
    final_norm: tuple[str, ...] = ()
    """Normalisation above the last block, trained along with the last blocks."""
    unused: tuple[str, ...] = ()
    """Parameters that the classifier's forward never reads: they get no gradient, and DDP would
    wait for one."""
    position_offset: int = 0
    """Rows of the position table that are never a position (RoBERTa counts from ``padding_idx +
    1``)."""


_BERT_TARGETS = ("query", "key", "value", "dense")
_GATED_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

_ROBERTA = Family(
    layers="roberta.encoder.layer",
    head=("classifier",),
    lora_targets=_BERT_TARGETS,
    position_offset=2,
)
_DECODER = Family(
    layers="model.layers",
    head=("score",),
    lora_targets=_GATED_TARGETS,
    pooling="last",
    final_norm=("model.norm",),
)

FAMILIES: dict[str, Family] = {
    "bert": Family(
        layers="bert.encoder.layer",
        # The pooler is pre-trained, but for next-sentence prediction or not at all (MiniLM): it
        # learns with the head.
        head=("bert.pooler", "classifier"),
        lora_targets=_BERT_TARGETS,
    ),
    "distilbert": Family(
        layers="distilbert.transformer.layer",
        head=("pre_classifier", "classifier"),
        lora_targets=("q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2"),
    ),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "deberta": Family(
        layers="deberta.encoder.layer",
        head=("pooler", "classifier"),
        lora_targets=("in_proj", "pos_proj", "pos_q_proj", "dense"),
    ),
    "deberta-v2": Family(  # DeBERTa-v3 checkpoints declare this type too
        layers="deberta.encoder.layer",
        head=("pooler", "classifier"),
        lora_targets=(
            "query_proj",
            "key_proj",
            "value_proj",
            "pos_query_proj",
            "pos_key_proj",
            "dense",
        ),
    ),
    "electra": Family(
        layers="electra.encoder.layer",
        head=("classifier",),
        lora_targets=_BERT_TARGETS,
    ),
    "modernbert": Family(
        layers="model.layers",
        head=("head", "classifier"),
        lora_targets=("Wqkv", "Wo", "Wi"),
        final_norm=("model.final_norm",),
    ),
    "xlnet": Family(
        layers="transformer.layer",
        head=("sequence_summary", "logits_proj"),
        # Its attention projections are plain 3-D parameters, which an adapter cannot wrap.
        lora_targets=("layer_1", "layer_2"),
        pooling="last",
        padding_side="left",  # the summary takes hidden[:, -1], whatever stands there
        token_types=True,  # without them the segment parameters of each block would get no gradient
        gradient_checkpointing=False,
        unused=("transformer.mask_emb",),
    ),
    "longformer": Family(
        layers="longformer.encoder.layer",
        head=("classifier",),
        lora_targets=(*_BERT_TARGETS, "query_global", "key_global", "value_global"),
        position_offset=2,
    ),
    "big_bird": Family(
        layers="bert.encoder.layer",
        head=("classifier",),
        lora_targets=_BERT_TARGETS,
        unused=("bert.pooler",),  # the head reads the first token's state itself
    ),
    "gpt2": Family(
        layers="transformer.h",
        head=("score",),
        lora_targets=("c_attn", "c_proj", "c_fc"),
        pooling="last",
        final_norm=("transformer.ln_f",),
    ),
    "llama": _DECODER,
    "mistral": _DECODER,
    "qwen2": _DECODER,
    "qwen3": _DECODER,
    "gemma": _DECODER,
    "gemma2": _DECODER,
    "gemma3_text": _DECODER,
}


FROZEN = FAMILIES | {
    "albert": Family(layers="", head=("classifier",), lora_targets=()),
    "bart": Family(layers="", head=("classification_head",), lora_targets=()),
    "mpnet": Family(layers="", head=("classifier",), lora_targets=(), position_offset=2),
}
"""Those and architectures that are read as they are, and not trained here."""


def frozen_family_of(config: PretrainedConfig) -> Family:
    """As :func:`family_of`, for a model of which nothing learns."""
    return FROZEN.get(config.model_type) or family_of(config)


def family_of(config: PretrainedConfig) -> Family:
    """Look the architecture up; ConfigError names the nearest one when it is not in the table."""
    try:
        return FAMILIES[config.model_type]
    except KeyError:
        raise ConfigError(
            f"model.checkpoint: architecture {config.model_type!r} is not supported."
            f"{did_you_mean(config.model_type, FAMILIES)} Supported: {', '.join(sorted(FAMILIES))}."
        ) from None


def block_of(name: str, family: Family) -> int | None:
    """Index of the transformer block that a parameter or module belongs to; None outside the
    blocks.

    Works through wrappers, which put a prefix in front of the name.
    """
    match = re.search(rf"(?:^|\.){re.escape(family.layers)}\.(\d+)(?:\.|$)", name)
    return int(match.group(1)) if match else None


def within(name: str, modules: tuple[str, ...]) -> bool:
    """Whether a parameter lies in one of the modules, looking through wrapper prefixes."""
    return any(re.search(rf"(?:^|\.){re.escape(m)}(?:\.|$)", name) for m in modules)


def context_length(config: PretrainedConfig, family: Family) -> int | None:
    """The longest input in tokens that the architecture can take; None where it has no limit
    (XLNet)."""
    # Names differ, and XLNet declares -1.
    limit = getattr(config, "max_position_embeddings", None) or 0
    return limit - family.position_offset if limit > 0 else None


def padding_multiple_and_minimum(config: PretrainedConfig, max_length: int) -> tuple[int, int]:
    """Return ``(multiple, minimum)`` of tokens that a batch is padded to.

    BigBird leaves block-sparse attention for good at the first batch that is too short for it,
    which would make results depend on the order of batches: so pad every batch past that point (or,
    where ``max_length`` never gets there, :func:`prepare_config` has switched it to full
    attention). Longformer pads to its window by itself.
    """
    if config.model_type == "big_bird" and config.attention_type == "block_sparse":
        shortest = (5 + 2 * config.num_random_blocks) * config.block_size
        return config.block_size, shortest + config.block_size
    return 1, 1
