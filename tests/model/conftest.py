"""A tiny random checkpoint of each family, with a real tokenizer, made on the spot."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    BertTokenizer,
    BigBirdTokenizer,
    CamembertTokenizer,
    DebertaTokenizer,
    DebertaV2Tokenizer,
    GemmaTokenizer,
    GPT2Tokenizer,
    LlamaTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen2Tokenizer,
    RobertaTokenizer,
    XLMRobertaTokenizer,
    XLNetTokenizer,
)

from llmclf.data.corpus import Split
from llmclf.data.encode import Collator, encode
from llmclf.model.build import build_model, load_tokenizer
from llmclf.model.config import ModelConfig
from llmclf.model.family import FAMILIES, Family, padding_multiple_and_minimum
from llmclf.model.tune import set_training_mode, tune

WORDS = ["the", "film", "was", "good", "bad", "not", "a", "very", "long", "plain", "dull", "bright"]
WORDS += ["and", "we", "liked", "it", "much", "again"]
CHARACTERS = string.ascii_letters + string.digits + string.punctuation


def wordpiece(specials: Sequence[str]) -> dict[str, int]:
    """Words, characters and their continuations."""
    pieces = [*specials, *WORDS, *CHARACTERS, *(f"##{c}" for c in CHARACTERS)]
    return {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}


def unigram(specials: Sequence[str]) -> list[tuple[str, float]]:
    """Like SentencePiece's: control symbols with score 0, then words, then characters."""
    pieces = [*((f"▁{word}", -4.0) for word in WORDS), ("▁", -6.0)]
    return [*((s, 0.0) for s in specials), *pieces, *((c, -8.0) for c in CHARACTERS)]


def bpe(specials: Sequence[str], alphabet: Sequence[str], space: str) -> dict[str, Any]:
    """Merges that build each word from the left; ``space`` is how the tokenizer spells one."""
    words = [space + word for word in WORDS]
    merges = [(word[:end], word[end]) for word in words for end in range(1, len(word))]
    merges = list(dict.fromkeys(merges))
    pieces = dict.fromkeys([*specials, *alphabet, *("".join(pair) for pair in merges)])
    return {"vocab": {piece: i for i, piece in enumerate(pieces)}, "merges": merges}


def byte_bpe(*specials: str) -> dict[str, Any]:
    return bpe(specials, sorted(pre_tokenizers.ByteLevel.alphabet()), "Ġ")


def sentencepiece_bpe(*specials: str) -> dict[str, Any]:
    return bpe(specials, [*(f"<0x{byte:02X}>" for byte in range(256)), "▁", *CHARACTERS], "▁")


def modernbert_tokenizer() -> PreTrainedTokenizerFast:
    """ModernBERT has no tokenizer class of its own."""
    backend = Tokenizer(models.BPE(**byte_bpe("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]")))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        mask_token="[MASK]",
    )


BERT_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ROBERTA_SPECIALS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
CAMEMBERT_SPECIALS = (
    "<s>NOTUSED",
    "<pad>",
    "</s>NOTUSED",
    "<unk>",
    "<unk>NOTUSED",
    "<s>",
    "</s>",
    "<mask>",
)
XLNET_SPECIALS = ("<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>", "<mask>", "<eod>", "<eop>")
BIG_BIRD_SPECIALS = ("<pad>", "</s>", "<s>", "<unk>", "[SEP]", "[MASK]", "[CLS]")
GEMMA_SPECIALS = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>")


def bert_tokenizer() -> BertTokenizer:
    return BertTokenizer(vocab=wordpiece(BERT_SPECIALS))


def roberta_tokenizer() -> RobertaTokenizer:
    return RobertaTokenizer(**byte_bpe(*ROBERTA_SPECIALS))


def llama_tokenizer() -> LlamaTokenizer:
    """Without a padding token, as Llama and Mistral are published."""
    return LlamaTokenizer(**sentencepiece_bpe("<unk>", "<s>", "</s>"), add_bos_token=True)


def qwen_tokenizer() -> Qwen2Tokenizer:
    """Padding and end of text are the same token."""
    return Qwen2Tokenizer(**byte_bpe("<|endoftext|>"))


def gemma_tokenizer() -> GemmaTokenizer:
    return GemmaTokenizer(**sentencepiece_bpe(*GEMMA_SPECIALS), add_bos_token=True)


TOKENIZERS: dict[str, Callable[[], PreTrainedTokenizerBase]] = {
    "bert": bert_tokenizer,
    "distilbert": bert_tokenizer,
    "electra": bert_tokenizer,
    "roberta": roberta_tokenizer,
    "longformer": roberta_tokenizer,
    "xlm-roberta": lambda: XLMRobertaTokenizer(vocab=unigram(ROBERTA_SPECIALS)),
    "camembert": lambda: CamembertTokenizer(vocab=unigram(CAMEMBERT_SPECIALS)),
    "deberta": lambda: DebertaTokenizer(**byte_bpe("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]")),
    "deberta-v2": lambda: DebertaV2Tokenizer(vocab=unigram(BERT_SPECIALS)),
    "modernbert": modernbert_tokenizer,
    "xlnet": lambda: XLNetTokenizer(vocab=unigram(XLNET_SPECIALS)),
    "big_bird": lambda: BigBirdTokenizer(vocab=unigram(BIG_BIRD_SPECIALS)),
    "gpt2": lambda: GPT2Tokenizer(**byte_bpe("<|endoftext|>")),
    "llama": llama_tokenizer,
    "mistral": llama_tokenizer,
    "qwen2": qwen_tokenizer,
    "qwen3": qwen_tokenizer,
    "gemma": gemma_tokenizer,
    "gemma2": gemma_tokenizer,
    "gemma3_text": gemma_tokenizer,
}

CONTEXT = 64
SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
GATED = {**SIZES, "num_key_value_heads": 1, "head_dim": 8}
DEBERTA = {
    **SIZES,
    "relative_attention": True,
    "pos_att_type": ["c2p", "p2c"],
    "position_biased_input": False,
    "type_vocab_size": 0,
}
SETTINGS: dict[
    str, dict[str, Any]
] = {  # what sets a family's published checkpoints apart, made small
    "distilbert": {"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 32},
    "deberta": DEBERTA,
    "deberta-v2": {
        **DEBERTA,
        "position_buckets": 8,
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
    },
    "electra": {**SIZES, "embedding_size": 8},
    "modernbert": {**SIZES, "local_attention": 8, "classifier_pooling": "mean"},
    "xlnet": {"d_model": 16, "n_layer": 3, "n_head": 2, "d_inner": 32},
    "longformer": {**SIZES, "attention_window": 8},
    "big_bird": {**SIZES, "block_size": 4, "num_random_blocks": 2},
    "gpt2": {"n_embd": 16, "n_layer": 3, "n_head": 2},
    "llama": GATED,
    "mistral": {**GATED, "sliding_window": 8},
    "qwen2": {**SIZES, "num_key_value_heads": 1},
    "qwen3": GATED,
    "gemma": GATED,
    "gemma2": {**GATED, "sliding_window": 8},
    "gemma3_text": {**GATED, "sliding_window": 8},
}


def save_checkpoint(name: str, folder: Path, **settings: Any) -> None:
    """Write what a hub would give: a language model, whose head is not ours, and its tokenizer."""
    tokenizer = TOKENIZERS[name]()
    tokenizer.save_pretrained(folder)
    specials = ("pad", "bos", "eos", "cls", "sep")
    config = AutoConfig.for_model(
        name,
        **{f"{s}_token_id": getattr(tokenizer, f"{s}_token_id") for s in specials},
        vocab_size=len(tokenizer),
        # Wide enough that rows differ and that every part of the network shows in the logits.
        initializer_range=0.3,
        **SETTINGS.get(name, SIZES),
    )
    if name != "xlnet":  # which has no limit
        config.max_position_embeddings = CONTEXT + FAMILIES[name].position_offset
    config.update(settings)
    decoder = FAMILIES[name].pooling == "last"
    auto_class = AutoModelForCausalLM if decoder else AutoModelForMaskedLM
    torch.manual_seed(0)
    auto_class.from_config(config).save_pretrained(folder)


@dataclass(frozen=True)
class Tiny:
    """A checkpoint of one family, and the product's own functions applied to it."""

    name: str
    folder: Path
    labels: tuple[str, ...] = ("negative", "neutral", "positive")
    texts: tuple[str, ...] = (
        "the film was good and we liked it very much",
        "bad",
        "not a good film, not a bad film",
        "dull and long",
        "we liked it again",
        "a very very long, plain and dull film and not good, not bright",
    )
    max_length: int = 36  # BigBird's block-sparse attention starts above

    @property
    def family(self) -> Family:
        return FAMILIES[self.name]

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return load_tokenizer(str(self.folder))

    @property
    def targets(self) -> torch.Tensor:
        return torch.arange(len(self.texts)) % len(self.labels)

    def config(self, **settings: Any) -> ModelConfig:
        return ModelConfig(checkpoint=str(self.folder), **settings)

    def model(
        self,
        *,
        labels: Sequence[str] | None = None,
        multilabel: bool = False,
        max_length: int | None = None,
        dtype: torch.dtype = torch.float32,
        weights: bool = True,
        seed: int = 0,
        **settings: Any,
    ) -> PreTrainedModel | PeftModel:
        """Built and tuned, in eval mode."""
        config = self.config(**settings)
        torch.manual_seed(seed)
        model = build_model(
            config,
            labels=labels or self.labels,
            multilabel=multilabel,
            pad_token_id=self.tokenizer.pad_token_id,
            max_length=max_length or self.max_length,
            dtype=dtype,
            weights=weights,
        )
        return tune(model, config).eval()

    def batch(
        self,
        model: PreTrainedModel | PeftModel,
        texts: Sequence[str] | None = None,
        *,
        width: int = 1,
        max_length: int | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
    ) -> dict[str, torch.Tensor]:
        """Encoded and padded as a run does it, to ``width`` tokens at least."""
        texts = list(texts or self.texts)
        tokenizer = tokenizer or self.tokenizer
        rows = [str(i) for i in range(len(texts))]
        split = Split(ids=rows, texts=texts, pairs=None, targets=np.zeros(len(rows)), groups=None)
        length = max_length or self.max_length
        multiple, shortest = padding_multiple_and_minimum(model.config, length)
        collate = Collator(
            tokenizer=tokenizer, pad_to_multiple_of=multiple, min_length=max(shortest, width)
        )
        return collate(encode(split, tokenizer, length), np.arange(len(texts)))

    def logits(
        self, model: PreTrainedModel | PeftModel, texts: Sequence[str] | None = None, **how: Any
    ) -> torch.Tensor:
        """Logits (B, C) of one batch, in eval mode."""
        model.eval()
        with torch.inference_mode():
            return model(**self.batch(model, texts, **how)).logits

    def backward(self, model: PreTrainedModel | PeftModel) -> torch.Tensor:
        """Loss of all texts as training sees them, its gradient left in the parameters."""
        set_training_mode(model)
        logits_BC = model(**self.batch(model)).logits
        loss = torch.nn.functional.cross_entropy(logits_BC, self.targets)
        loss.backward()
        return loss.detach()

    def train(self, model: PreTrainedModel | PeftModel, steps: int = 1) -> None:
        """A few AdamW updates large enough to be seen in the probabilities."""
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=0.02, weight_decay=0.0)
        for _ in range(steps):
            self.backward(model)
            optimizer.step()
            optimizer.zero_grad()


@pytest.fixture(scope="session")
def tiny_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Tiny]:
    """The tiny checkpoint of a family by name, made once per session."""
    made: dict[str, Tiny] = {}

    def tiny_of(name: str) -> Tiny:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            save_checkpoint(name, folder)
            made[name] = Tiny(name, folder)
        return made[name]

    return tiny_of


@pytest.fixture(params=list(FAMILIES))
def tiny(request: pytest.FixtureRequest, tiny_of: Callable[[str], Tiny]) -> Tiny:
    """The tiny checkpoint of each family in turn."""
    return tiny_of(request.param)
