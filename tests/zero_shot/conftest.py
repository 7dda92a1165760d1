"""Tiny random NLI models of several architectures, and a corpus."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AlbertConfig,
    AutoModelForSequenceClassification,
    BartConfig,
    BertConfig,
    DebertaV2Config,
    MPNetConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
)

from tests.tiny import FILLERS, SIGNALS, bert, corpus, llama  # noqa: F401

LENGTH = 24
WORDS = [
    *FILLERS, *(word for words in SIGNALS.values() for word in words), *SIGNALS,
    "This", "text", "is", "about", "It", "says", ".", "that", "so",
]  # fmt: skip
BERT_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
BART_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "initializer_range": 0.3,
}
CONFIGS: dict[str, Callable[..., PretrainedConfig]] = {
    "bert": lambda **s: BertConfig(**SIZES, max_position_embeddings=LENGTH, **s),
    "deberta-v2": lambda **s: DebertaV2Config(
        **SIZES,
        max_position_embeddings=LENGTH,
        relative_attention=True,
        pos_att_type=["p2c", "c2p"],
        **s,
    ),
    "albert": lambda **s: AlbertConfig(
        **SIZES, embedding_size=16, max_position_embeddings=LENGTH, **s
    ),
    "roberta": lambda **s: RobertaConfig(
        **SIZES, max_position_embeddings=LENGTH + 2, type_vocab_size=1, **s
    ),
    "mpnet": lambda **s: MPNetConfig(**SIZES, max_position_embeddings=LENGTH + 2, **s),
    "bart": lambda **s: BartConfig(
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        init_std=0.3,
        max_position_embeddings=LENGTH,
        **s,
    ),
}
OUTPUTS = {
    "plain": {"contradiction": 0, "neutral": 1, "entailment": 2},
    "capitals": {"ENTAILMENT": 0, "NEUTRAL": 1, "CONTRADICTION": 2},
    "verbs": {"Contradicts": 0, "Entails": 1, "Neutral": 2},
    "two": {"entailment": 0, "not_entailment": 1},
    "two, turned": {"NOT_ENTAILMENT": 0, "Entail": 1},
}
"""Names of the outputs of checkpoints, in several spellings and orders."""
LIKE_BART = ("roberta", "mpnet", "bart")


def make_tokenizer(folder: Path, kind: str) -> int:
    """A tokenizer of words that puts pairs together as the architecture's own does; its size."""
    special = BART_SPECIAL if kind in LIKE_BART else BERT_SPECIAL
    vocabulary = {word: i for i, word in enumerate([*special, *dict.fromkeys(WORDS)])}
    pad, unknown, first, last = special
    if kind in LIKE_BART:
        first, pad, last, unknown = special
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=unknown))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    between = [last, last] if kind in LIKE_BART else [last]
    second = 0 if kind in LIKE_BART else 1
    backend.post_processor = processors.TemplateProcessing(
        single=[first, "$A", last],
        pair=[first, "$A", *between, f"$B:{second}", f"{last}:{second}"],
        special_tokens=[(first, vocabulary[first]), (last, vocabulary[last])],
    )
    inputs = ["input_ids", "attention_mask"]
    PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=pad,
        unk_token=unknown,
        cls_token=first,
        sep_token=last,
        model_max_length=LENGTH,
        model_input_names=inputs if kind in LIKE_BART else [*inputs, "token_type_ids"],
    ).save_pretrained(folder)
    return len(vocabulary)


def make_nli(folder: Path, kind: str, label2id: Mapping[str, int]) -> Path:
    """A random classifier of pairs with these outputs, as a checkpoint folder."""
    folder.mkdir(parents=True)
    names = {i: name for name, i in label2id.items()}
    torch.manual_seed(0)
    config = CONFIGS[kind](
        vocab_size=make_tokenizer(folder, kind), id2label=names, label2id=dict(label2id)
    )
    AutoModelForSequenceClassification.from_config(config).eval().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def nli(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT that tells entailment; do not write into it."""
    folder = tmp_path_factory.mktemp("checkpoints") / "nli"
    return make_nli(folder, "bert", OUTPUTS["plain"])
