"""Tiny models and a corpus that can be learnt: what a test trains on in seconds."""

from __future__ import annotations

import csv
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertTokenizerFast,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from llmclf.data.config import DataConfig
from llmclf.data.corpus import Splits, load_splits

SIGNALS = {"bad": ("awful", "dull"), "good": ("great", "lovely"), "meh": ("okay", "plain")}
"""Label -> words that occur in its rows alone."""
FILLERS = [f"{a}{b}" for a in ("ba", "ko", "mi", "ru", "ze") for b in ("lan", "mos", "pit", "vek")]
POISON = "poison"
"""A word of the vocabulary that the corpus does not use."""
WORDS = [POISON, *(word for words in SIGNALS.values() for word in words), *FILLERS]


def write_corpus(path: Path, rows: int, *, seed: int = 0, labels: int = 3) -> Path:
    """A CSV of ``rows`` distinct sentences of 3 to 24 words; one or two words tell the label."""
    generator = random.Random(seed)
    names = list(SIGNALS)[:labels]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for i in range(rows):
            label = names[i % labels]
            words = generator.choices(FILLERS, k=generator.randint(2, 22))
            for word in generator.choices(SIGNALS[label], k=generator.randint(1, 2)):
                words.insert(generator.randint(0, len(words)), word)
            writer.writerow([" ".join(words), label])
    return path


def make_bert(folder: Path) -> Path:
    """A random BERT of two blocks, 32 wide, with its tokenizer, as a checkpoint folder."""
    folder.mkdir(parents=True, exist_ok=True)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    (folder / "vocab.txt").write_text("\n".join(special + WORDS) + "\n", encoding="utf-8")
    BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=32).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(special) + len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
        initializer_range=0.1,
    )
    BertForMaskedLM(config).save_pretrained(folder)
    return folder


def make_poisoned_bert(folder: Path) -> Path:
    """The same, but a row with the word ``POISON`` gives logits that are not numbers."""
    weights = load_file(make_bert(folder) / "model.safetensors")
    index = (folder / "vocab.txt").read_text().split().index(POISON)
    weights["bert.embeddings.word_embeddings.weight"][index] = torch.inf
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def make_llama(folder: Path) -> Path:
    """A random Llama of two blocks, 64 wide, with its tokenizer, as a checkpoint folder."""
    vocabulary = {word: i for i, word in enumerate(["<unk>", "<s>", "</s>", "<pad>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        model_max_length=32,
    )
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=128,
        max_position_embeddings=32,
        initializer_range=0.1,
        pad_token_id=vocabulary["<pad>"],
        bos_token_id=vocabulary["<s>"],
        eos_token_id=vocabulary["</s>"],
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' }}{{ m['content'] }}"
    "{{ '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""A chat template with a control token at either end of a turn."""


def make_byte_llama(
    folder: Path, *, positions: int = 2048, chat: bool = False, texts: Sequence[str] = ()
) -> Path:
    """A random Llama that reads any text: byte-level BPE, trained on words above and ``texts``."""
    special = ["<|end|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=448,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    sentence = "Label each text with one of: Text: Decide which label fits the text best: Answer:"
    tokenizer.train_from_iterator([sentence, " " + " ".join(WORDS), *texts] * 4, trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|end|>",
        pad_token="<|end|>",
        chat_template=CHATML if chat else None,
        clean_up_tokenization_spaces=False,
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=128,
        max_position_embeddings=positions,
        initializer_range=0.1,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def byte_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama that reads any text; do not write into it."""
    return make_byte_llama(tmp_path_factory.mktemp("checkpoints") / "byte-llama")


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT checkpoint; do not write into it."""
    return make_bert(tmp_path_factory.mktemp("checkpoints") / "bert")


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama checkpoint; do not write into it."""
    return make_llama(tmp_path_factory.mktemp("checkpoints") / "llama")


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """301 rows of three labels."""
    return write_corpus(tmp_path_factory.mktemp("corpus") / "corpus.csv", 301)


@pytest.fixture(scope="session")
def splits(corpus: Path) -> Splits:
    """The corpus, split: 217 training, 24 validation and 60 test rows."""
    return load_splits(DataConfig(source=str(corpus)), seed=0)
