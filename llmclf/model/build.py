"""Checkpoint -> tokenizer and classification model, with the label names inside.

Everything goes through transformers' Auto classes; what an architecture forces on us is in
:mod:`.family`.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from llmclf import embedded
from llmclf.compat.deepspeed import is_sharded
from llmclf.compat.transformers import loaded_in, missing_made_on_cpu, without_zero3_init
from llmclf.config import ConfigError
from llmclf.model.config import ModelConfig
from llmclf.model.family import Family, context_length, family_of, within
from llmclf.model.hub import refusal
from llmclf.model.quantize import check_quantized, keep_layout, quantization_config

log = logging.getLogger(__name__)


def locate(checkpoint: str) -> str:
    """Turn ``model.checkpoint`` into what ``from_pretrained`` takes: a folder, or a hub id as it
    is.

    Raises ConfigError for a path that is not a model folder.
    """
    if checkpoint in embedded.CHECKPOINTS:
        return str(embedded.checkpoint_dir(checkpoint))
    path = Path(checkpoint).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ConfigError(f"model.checkpoint={checkpoint!r}: the folder has no config.json.")
        return str(path)
    if path.is_absolute() or checkpoint.startswith((".", "~")) or checkpoint.count("/") > 1:
        raise ConfigError(f"model.checkpoint={checkpoint!r}: there is no such folder.")
    return checkpoint


def load_config(checkpoint: str) -> PretrainedConfig:
    """Read the checkpoint's configuration; ConfigError when neither disk nor hub has it."""
    return from_pretrained(AutoConfig, checkpoint)


def load_tokenizer(checkpoint: str, family: Family | None = None) -> PreTrainedTokenizerBase:
    """Load the tokenizer, with a padding token and the side that the architecture needs.

    ``split_special_tokens`` makes a text that spells a control token (``[SEP]``, ``<|endoftext|>``)
    plain text: no row can forge one. For decoders it also means that the last attended token is
    never the padding token, so the heads of transformers, which look for the rightmost token that
    is not padding, pool exactly the last attended token, even where padding and end-of-text are the
    same token. (The unigram models of XLM-R, CamemBERT, DeBERTa-v2, XLNet and BigBird hold control
    tokens as ordinary pieces and still find them; none of these pools by looking for one.)

    ``family``: where it is not one that can be trained. Raises ConfigError where there is no
    tokenizer, or none that can pad.
    """
    config = load_config(checkpoint)
    family = family or family_of(config)
    settings: dict[str, Any] = {"split_special_tokens": True, "padding_side": family.padding_side}
    if family.token_types:
        settings["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    tokenizer = from_pretrained(AutoTokenizer, checkpoint, **settings)
    check_vocabulary(tokenizer, checkpoint)
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise ConfigError(
                f"model.checkpoint={checkpoint!r}: its tokenizer has neither a padding nor an "
                "end-of-text token. Set pad_token in its tokenizer_config.json."
            )
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token_id >= config.vocab_size:
        raise ConfigError(
            f"model.checkpoint={checkpoint!r}: its padding token {tokenizer.pad_token!r} has id "
            f"{tokenizer.pad_token_id}, but the model has embeddings for {config.vocab_size} "
            "tokens. Set another pad_token in its tokenizer_config.json."
        )
    if family.pooling == "last" and tokenizer("a").input_ids[-1] == tokenizer.pad_token_id:
        raise ConfigError(
            f"model.checkpoint={checkpoint!r}: its tokenizer ends each text with "
            f"{tokenizer.pad_token!r}, which is also its padding token, so the end of a text "
            "cannot be told from padding. Set another pad_token in its tokenizer_config.json."
        )
    return tokenizer


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, checkpoint: str) -> None:
    """Raise ConfigError for a tokenizer that knows control tokens alone: without its files,
    transformers makes up one to which every text is unknown."""
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise ConfigError(
            f"model.checkpoint={checkpoint!r}: the files of its tokenizer are missing. "
            "Put tokenizer.json and tokenizer_config.json beside config.json."
        )


def build_model(
    config: ModelConfig,
    *,
    labels: Sequence[str],
    multilabel: bool,
    pad_token_id: int,
    max_length: int,
    dtype: torch.dtype = torch.float32,
    narrow: Collection[str] = (),
    device: torch.device | None = None,
    weights: bool = True,
) -> PreTrainedModel:
    """Load the backbone and put a classification head on it, in fp32 (what is quantised aside) and
    with the label names in its config.

    ``dtype``: what 4-bit weights are computed in, and what the parameters named in ``narrow`` are
    loaded in. ``device``: where the checkpoint's weights are loaded to, one by one; what is new is
    drawn on the CPU and stays there. None: wherever transformers puts them. ``weights=False`` gives
    the same model in fp32 on the meta device: names and shapes, no memory and no download of
    weights.

    The head is random (seed before calling) unless the checkpoint is a classifier of exactly these
    labels; then its rows are brought into our order. Raises ConfigError when the checkpoint lacks
    weights below the head, or is an adapter.

    ``labels``: names in the order of the head's rows; ``max_length``: tokens of the longest row.
    """
    model_config = load_config(config.checkpoint)
    family = family_of(model_config)
    trained = [name for _, name in sorted((model_config.id2label or {}).items())]
    prepare_config(model_config, config, labels, multilabel, pad_token_id, max_length)
    if not weights:
        return _without_weights(model_config)
    _refuse_quantised(model_config, config.checkpoint)
    renamed = None if len(trained) == len(labels) else _without_output(model_config, family)
    with _loading(device, dtype, narrow):
        model, report = from_pretrained(
            AutoModelForSequenceClassification,
            config.checkpoint,
            config=model_config,
            dtype=torch.float32,
            device_map=None if device is None or device.type == "cpu" else {"": device},
            quantization_config=quantization_config(config.quantize, family, dtype),
            key_mapping=renamed,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    _check_loaded(model, report, family, config)
    keep_layout(model)
    name, layer = output_layer(model, family)
    if len(trained) != len(labels):
        if type(model).__name__ in (model_config.architectures or ()):
            _warn_of_fresh_head(trained, labels)
    elif f"{name}.weight" not in report["missing_keys"]:
        with gathered(layer.parameters()):
            _align_head(model, layer, trained, labels)
    return model


def _refuse_quantised(model_config: PretrainedConfig, checkpoint: str) -> None:
    if getattr(model_config, "quantization_config", None) is not None:
        raise ConfigError(
            f"model.checkpoint={checkpoint!r} is quantised already, its head perhaps with "
            "it. Give the checkpoint it was made from, and --model.quantize int8 or nf4."
        )


@contextlib.contextmanager
def _loading(
    device: torch.device | None, dtype: torch.dtype, narrow: Collection[str]
) -> Iterator[None]:
    """How weights are loaded in this block; as transformers does where no device is given."""
    with contextlib.ExitStack() as stack:
        if device is not None:
            stack.enter_context(missing_made_on_cpu())
        if narrow:
            stack.enter_context(loaded_in(dtype, narrow))
        yield


def _without_weights(model_config: PretrainedConfig) -> PreTrainedModel:
    """The model on the meta device."""
    with without_zero3_init(), torch.device("meta"):
        return AutoModelForSequenceClassification.from_config(model_config)


def _without_output(model_config: PretrainedConfig, family: Family) -> dict[str, str]:
    """A renaming by which transformers does not find the checkpoint's output layer, and makes a new
    one: under ZeRO-3 it does not pass over layers of another shape, but dies of them."""
    name, _ = output_layer(_without_weights(model_config), family)
    return {rf"^{re.escape(name)}\.": "output_layer_of_other_labels."}


def _check_loaded(
    model: PreTrainedModel, report: dict[str, Any], family: Family, config: ModelConfig
) -> None:
    """Raise ConfigError for an adapter, and for weights that are missing below the head."""
    if hasattr(model, "peft_config"):
        raise ConfigError(
            f"model.checkpoint={config.checkpoint!r} holds an adapter. Give a merged model: "
            "save it with --model.save merged."
        )
    check_quantized(model, config.quantize)
    absent = report["missing_keys"] | {name for name, *_ in report["mismatched_keys"]}
    lost = [name for name in absent if not within(name, family.head + family.unused)]
    if lost:
        raise ConfigError(
            f"model.checkpoint={config.checkpoint!r}: {len(lost)} weights below the head are "
            f"missing or of another shape ({', '.join(sorted(lost)[:3])}, ...): it is not a "
            f"checkpoint of {type(model).__name__}."
        )


@contextlib.contextmanager
def gathered(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Gather parameters that ZeRO-3 has sharded whole on every rank in this block; changes are
    those of rank 0."""
    sharded = [p for p in parameters if is_sharded(p)]
    if not sharded:
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters(sharded, modifier_rank=0):
        yield


def prepare_config(
    model_config: PretrainedConfig,
    config: ModelConfig,
    labels: Sequence[str],
    multilabel: bool,
    pad_token_id: int,
    max_length: int,
) -> None:
    """Write labels, problem type, padding token and dropout into ``model_config``, transformers'
    settings; ``config``: ours. ``max_length``: tokens of the longest row, by which BigBird chooses
    its attention."""
    model_config.num_labels = len(labels)
    model_config.id2label = dict(enumerate(labels))
    model_config.label2id = {name: i for i, name in enumerate(labels)}
    model_config.problem_type = (
        "multi_label_classification" if multilabel else "single_label_classification"
    )
    model_config.pad_token_id = pad_token_id
    if hasattr(model_config, "use_cache"):
        model_config.use_cache = False  # nothing is generated, and a cache forbids checkpointing
    if config.dropout is not None:
        _set_dropout(model_config, config.dropout)
    if model_config.model_type == "big_bird":
        shortest = (5 + 2 * model_config.num_random_blocks) * model_config.block_size
        if max_length <= shortest:
            model_config.attention_type = "original_full"


def _set_dropout(model_config: PretrainedConfig, probability: float) -> None:
    for name, value in model_config.to_dict().items():
        # Some are None, where they follow another one; some are the integer 0.
        is_probability = isinstance(value, float) or value == 0
        if ("dropout" in name or name.endswith("pdrop")) and is_probability:
            setattr(model_config, name, probability)


def output_layer(model: nn.Module, family: Family) -> tuple[str, nn.Linear]:
    """The last linear layer of the head, which has one row per label, and its name."""
    layers = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and within(name, family.head)
    ]
    assert layers, "the head has no output layer"
    return layers[-1]


def _align_head(
    model: PreTrainedModel, layer: nn.Linear, trained: list[str], labels: Sequence[str]
) -> None:
    """Reorder the rows of a trained head, which mean names, not positions, or start the layer
    afresh."""
    if sorted(trained) == sorted(labels):
        order = torch.tensor([trained.index(name) for name in labels])
        with torch.no_grad():
            layer.weight.copy_(layer.weight[order].clone())
            if layer.bias is not None:
                layer.bias.copy_(layer.bias[order].clone())
        return
    _warn_of_fresh_head(trained, labels)
    std = getattr(model.config, "initializer_range", 0.02)
    with torch.no_grad():  # drawn on the CPU: the same numbers for every device
        layer.weight.copy_(nn.init.normal_(torch.empty_like(layer.weight, device="cpu"), std=std))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _warn_of_fresh_head(trained: list[str], labels: Sequence[str]) -> None:
    log.warning(
        "the checkpoint is a classifier of %s, not of %s: its output layer starts afresh",
        trained[:5],
        list(labels)[:5],
    )


def max_tokens(
    config: PretrainedConfig,
    tokenizer: PreTrainedTokenizerBase,
    wanted: int | None,
    family: Family | None = None,
) -> int:
    """Resolve ``data.max_length``: the wanted length, or the model's limit. ``family``: where it is
    not one that can be trained.

    Raises ConfigError where the wanted length passes what the model can take.
    """
    declared = tokenizer.model_max_length if tokenizer.model_max_length < 10**9 else None
    limit = context_length(config, family or family_of(config)) or declared
    if wanted is None:
        # A tokenizer may declare less than the position table holds, never the other way round.
        return min(n for n in (limit, declared, 1 << 20) if n is not None)
    if limit is not None and wanted > limit:
        raise ConfigError(
            f"data.max_length={wanted}: the model takes at most {limit} tokens. "
            f"Set --data.max-length {limit} or less, or choose a long-document model "
            "(recipes/longformer.py)."
        )
    return wanted


def from_pretrained(auto_class: Any, checkpoint: str, **kwargs: Any) -> Any:
    """``auto_class.from_pretrained`` for ``model.checkpoint``; ConfigError with advice where it
    fails."""
    located = locate(checkpoint)
    try:
        return auto_class.from_pretrained(located, **kwargs)
    except (OSError, ValueError, SafetensorError) as error:
        refused = refusal(error, checkpoint)
        if refused is not None:
            raise ConfigError(f"model.checkpoint={checkpoint!r}: {refused}") from error
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[0] if lines else type(error).__name__
        advice = (
            "Without a connection to the hub, give a local folder (on a connected machine: "
            f"`hf download {checkpoint} --local-dir DIR`) or an embedded alias: "
            f"{', '.join(sorted(embedded.CHECKPOINTS))}."
        )
        if Path(located).is_dir():
            advice = "The folder is damaged or not complete: copy the checkpoint again."
        raise ConfigError(
            f"model.checkpoint={checkpoint!r} cannot be loaded: {reason[:300]} {advice}"
        ) from error
