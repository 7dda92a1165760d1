"""Tokenizers of different kinds, tiny checkpoints and corpora, and a server that misbehaves when
told to."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from llmclf.model.causal import load_causal_tokenizer
from llmclf.prompt.api import client as api_client
from llmclf.prompt.config import PromptConfig, TemplateName
from llmclf.prompt.template import Wording, verbalise, word
from tests.prompt.completions_server import CompletionsServer
from tests.tiny import bert, byte_llama, corpus, llama, splits  # noqa: F401

LINES = [
    "Label each text with one of: advice, advice strong, no advice.",
    'Text: "take two of them a day"\nLabel: advice\n\n',
    'Text: "you should see a doctor"\nLabel: advice strong\n\n',
    "<text>it was a small trial of 12 rows</text>\nThe label is: no advice\n\n",
    "Read each passage and answer the question about it. Question: Is this advice?\nAnswer: no",
]
"""What the small tokenizers are trained on."""
LLAMA_CHAT = (
    "{{ '<s>' }}{% for m in messages %}{% if m['role'] == 'user' %}"
    "{{ '[INST] ' + m['content'] + ' [/INST]' }}{% else %}{{ ' ' + m['content'] + '</s>' }}"
    "{% endif %}{% endfor %}"
)
"""As Llama 2 and Mistral have it: a space between the prompt and the answer, and <s> of its own."""


def metaspace() -> PreTrainedTokenizerBase:
    """As SentencePiece's BPE in Llama 2: ▁ for spaces, one in front, bytes for what is unknown."""
    backend = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    backend.decoder = decoders.Metaspace()
    special = ["<unk>", "<s>", "</s>"]
    pieces = [*special, *(f"<0x{i:02X}>" for i in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=560, special_tokens=pieces, show_progress=False)
    backend.train_from_iterator(LINES * 3, trainer)
    # The byte pieces are ordinary entries of the vocabulary, not added tokens.
    state = backend.to_str()
    backend = Tokenizer.from_str(_without_added(state, keep=special))
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        chat_template=LLAMA_CHAT,
    )


def _without_added(state: str, keep: Sequence[str]) -> str:
    loaded = json.loads(state)
    loaded["added_tokens"] = [t for t in loaded["added_tokens"] if t["content"] in keep]
    return json.dumps(loaded)


def word_level() -> PreTrainedTokenizerBase:
    """A token for each word and each mark; line ends are lost."""
    words = sorted({w for line in LINES for w in line.replace('"', ' " ').split()})
    words += list('.,:?"<>/') + [chr(c) for c in range(97, 123)] + ["text", "advice", "Label", "is"]
    vocabulary = {w: i for i, w in enumerate(dict.fromkeys(["<unk>", "<eos>", *words]))}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", eos_token="<eos>", pad_token="<eos>"
    )


def merging() -> PreTrainedTokenizerBase:
    """BPE over whole strings: tokens reach across the seam between a prompt and its answer."""
    backend = Tokenizer(models.BPE())
    backend.decoder = decoders.Fuse()
    alphabet = [chr(c) for c in range(32, 127)] + ["\n", "é", "日", "本", "😀", "“"]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<eos>"], initial_alphabet=alphabet, show_progress=False
    )
    seams = ['"\nLabel: advice', '"\nLabel: no', "\nLabel: advice strong", 'y"\nLabel: n']
    backend.train_from_iterator([*LINES, *seams * 20], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", pad_token="<eos>")


@pytest.fixture(scope="session")
def smol() -> PreTrainedTokenizerBase:
    """SmolLM2's own: byte-level BPE with a ChatML template."""
    return load_causal_tokenizer("smollm2-135m")


@pytest.fixture(scope="session")
def tokenizers(smol: PreTrainedTokenizerBase) -> dict[str, PreTrainedTokenizerBase]:
    """Name -> tokenizer."""
    made = {"metaspace": metaspace(), "word_level": word_level(), "merging": merging()}
    return {"smol": smol, **made}


def wording(
    labels: Sequence[str] = ("advice", "no advice"),
    template: TemplateName = "quoted",
    config: PromptConfig | None = None,
) -> Wording:
    config = config or PromptConfig()
    return word(template, config, verbalise(config, tuple(labels)))


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., CompletionsServer]]:
    """Start servers that are closed after the test."""
    monkeypatch.setattr(api_client, "FIRST_WAIT", 0.01)
    started: list[CompletionsServer] = []

    def start(**options: Any) -> CompletionsServer:
        started.append(CompletionsServer(**options))
        return started[-1]

    yield start
    for server in started:
        server.close()
