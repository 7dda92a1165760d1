"""Texts to token ids and padded batches, against what the tokenizer itself gives."""

from __future__ import annotations

import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import pre_tokenizers
from transformers import (
    AutoTokenizer,
    BertTokenizer,
    GPT2Tokenizer,
    PreTrainedTokenizerBase,
    XLNetTokenizer,
)

from llmclf.config import ConfigError, DataError
from llmclf.data import encode as encode_module
from llmclf.data.corpus import Split
from llmclf.data.encode import Collator, Encoded, encode

WORDS = ["the", "film", "was", "good", "bad", "not", "very", "long"]
CHARACTERS = string.ascii_lowercase + string.punctuation


def bert() -> PreTrainedTokenizerBase:
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *CHARACTERS]
    pieces += [f"##{c}" for c in CHARACTERS]
    return BertTokenizer(vocab={piece: i for i, piece in enumerate(pieces)})


def xlnet() -> PreTrainedTokenizerBase:
    """Padded on the left, with a padding token type of its own."""
    controls = ["<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>", "<mask>", "<eod>", "<eop>"]
    pieces = [*((c, 0.0) for c in controls), *((f"▁{w}", -4.0) for w in WORDS), ("▁", -6.0)]
    names = ["input_ids", "token_type_ids", "attention_mask"]
    vocab = [*pieces, *((c, -8.0) for c in CHARACTERS)]
    tokenizer = XLNetTokenizer(vocab=vocab, model_input_names=names)
    tokenizer._pad_token_type_id = 3  # as in its pre-training; transformers 5 has lost it
    return tokenizer


def gpt2() -> PreTrainedTokenizerBase:
    """No special token around a text, and no token types."""
    pieces = ["<|endoftext|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    return GPT2Tokenizer(vocab=vocab, merges=[], pad_token="<|endoftext|>")


TOKENIZERS = {"bert": bert, "xlnet": xlnet, "gpt2": gpt2}
TEXTS = ["the film was good", "bad", "not a very very long film, not a bad film", "good good"]
PAIRS = ["bad film", "the film was very long and not good", "dull", "x"]


@pytest.fixture(params=list(TOKENIZERS))
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerBase:
    return TOKENIZERS[request.param]()


def split_of(texts: list[str], pairs: list[str] | None = None) -> Split:
    ids = [f"row {i}" for i in range(len(texts))]
    targets = np.arange(len(texts), dtype=np.int64)
    return Split(ids=ids, texts=texts, pairs=pairs, targets=targets, groups=None)


def row(data: Encoded, values: np.ndarray, i: int) -> list[int]:
    return values[data.offsets[i] : data.offsets[i + 1]].tolist()


# ---- encode --------------------------------------------------------------------------------------


@pytest.mark.parametrize("pairs", [None, PAIRS])
@pytest.mark.parametrize("max_length", [7, 12, 1000])
def test_flat_storage_holds_what_the_tokenizer_gives(
    tokenizer: PreTrainedTokenizerBase, pairs: list[str] | None, max_length: int
) -> None:
    data = encode(split_of(TEXTS, pairs), tokenizer, max_length)
    assert len(data) == 4 and data.ids == ["row 0", "row 1", "row 2", "row 3"]
    assert data.targets.tolist() == [0, 1, 2, 3]
    for i, text in enumerate(TEXTS):
        pair = pairs[i] if pairs else None
        own = tokenizer(text, pair, truncation=True, max_length=max_length)
        assert row(data, data.input_ids, i) == own.input_ids
        if "token_type_ids" in tokenizer.model_input_names:
            assert row(data, data.token_type_ids, i) == own.token_type_ids
    assert (data.token_type_ids is None) == ("token_type_ids" not in tokenizer.model_input_names)
    assert data.lengths.tolist() == [len(row(data, data.input_ids, i)) for i in range(4)]
    assert data.lengths.sum() == len(data.input_ids) and data.lengths.max() <= max_length


def test_truncated_rows_and_lost_tokens_are_counted(tokenizer: PreTrainedTokenizerBase) -> None:
    full = [len(tokenizer(text).input_ids) for text in TEXTS]
    for max_length in (4, 6, max(full), max(full) + 1):
        data = encode(split_of(TEXTS), tokenizer, max_length)
        lost = [max(0, n - max_length) for n in full]
        assert data.num_truncated == sum(n > 0 for n in lost)
        assert data.num_tokens_lost == sum(lost)


def test_the_longer_part_of_a_pair_is_shortened_first() -> None:
    tokenizer = bert()
    short, long = "good film", "the film was not good not bad and very very very long"
    for texts, pairs in ((short, long), (long, short)):
        data = encode(split_of([texts], [pairs]), tokenizer, 10)
        text = tokenizer.decode(data.input_ids)
        assert "good film" in text and text.count("[SEP]") == 2
        assert len(data.input_ids) == 10
    types = encode(split_of([short], ["bad"]), tokenizer, 10).token_type_ids
    assert types.tolist() == [0, 0, 0, 0, 1, 1]


def test_chunks_are_joined_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second chunk alone has a row to cut, the first row of the third follows it."""
    texts = ["good", "bad film", "the film was very very long", "not bad", "film"]
    whole = encode(split_of(texts), bert(), 6)
    monkeypatch.setattr(encode_module, "CHUNK", 2)
    chunked = encode(split_of(texts), bert(), 6)
    for name in ("input_ids", "token_type_ids", "offsets"):
        np.testing.assert_array_equal(getattr(chunked, name), getattr(whole, name))
    assert chunked.num_truncated == whole.num_truncated == 1
    assert chunked.num_tokens_lost == whole.num_tokens_lost == 2


def test_truncation_and_padding_inside_the_tokenizer_file_are_ignored(tmp_path: Path) -> None:
    """Sentence encoders are published with both switched on."""
    tokenizer = bert()
    tokenizer.backend_tokenizer.enable_truncation(4)
    tokenizer.backend_tokenizer.enable_padding(length=32)
    tokenizer.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    data = encode(split_of(TEXTS), loaded, 100)
    expected = encode(split_of(TEXTS), bert(), 100)
    np.testing.assert_array_equal(data.input_ids, expected.input_ids)


def test_no_rows() -> None:
    data = encode(split_of([]), bert(), 8)
    assert len(data) == 0 and data.offsets.tolist() == [0] and not len(data.lengths)


def test_a_row_without_any_token_is_named() -> None:
    with pytest.raises(DataError, match=r"row 'row 1': its text leaves no token\. Remove the row"):
        encode(split_of(["good", "", "bad"]), gpt2(), 8)


@pytest.mark.parametrize(
    ("make", "pairs", "least"),
    [(bert, None, 3), (bert, ["bad"], 4), (xlnet, ["bad"], 4), (gpt2, None, 1)],
)
def test_no_room_beside_the_special_tokens(
    make: Callable[[], PreTrainedTokenizerBase], pairs: list[str] | None, least: int
) -> None:
    """The tokenizer would not cut at all, and rows would be longer than the model can take."""
    split = split_of(["the film was good"], pairs)
    for max_length in range(1, least):
        with pytest.raises(
            ConfigError,
            match=rf"data\.max_length={max_length}: .* adds {least - 1} tokens.*{least} or more",
        ):
            encode(split, make(), max_length)
    assert encode(split, make(), least).lengths.tolist() == [least]


# ---- Collator ------------------------------------------------------------------------------------


def padded_by_tokenizer(
    tokenizer: PreTrainedTokenizerBase, data: Encoded, rows: list[int], multiple: int
) -> dict[str, Any]:
    features: dict[str, list[list[int]]] = {
        "input_ids": [row(data, data.input_ids, i) for i in rows]
    }
    if data.token_type_ids is not None:
        features["token_type_ids"] = [row(data, data.token_type_ids, i) for i in rows]
    return dict(
        tokenizer.pad(features, padding=True, pad_to_multiple_of=multiple, return_tensors="pt")
    )


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(list(TOKENIZERS)),
    side=st.sampled_from(["left", "right"]),
    rows=st.lists(st.integers(0, 3), min_size=1, max_size=6),
    multiple=st.sampled_from([1, 3, 8]),
    with_pairs=st.booleans(),
)
def test_batches_are_padded_as_the_tokenizer_pads(
    name: str, side: str, rows: list[int], multiple: int, with_pairs: bool
) -> None:
    tokenizer = TOKENIZERS[name]()
    tokenizer.padding_side = side
    data = encode(split_of(TEXTS, PAIRS if with_pairs else None), tokenizer, 14)
    collate = Collator(tokenizer=tokenizer, pad_to_multiple_of=multiple)
    batch, expected = collate(data, rows), padded_by_tokenizer(tokenizer, data, rows, multiple)
    assert set(batch) == set(expected)
    for key, tensor in batch.items():
        assert tensor.dtype == torch.int64
        assert torch.equal(tensor, expected[key]), key


@pytest.mark.parametrize("side", ["left", "right"])
def test_batch_of_least_length(side: str) -> None:
    tokenizer = bert()
    tokenizer.padding_side = side
    data = encode(split_of(TEXTS), tokenizer, 100)
    collate = Collator(tokenizer=tokenizer, pad_to_multiple_of=8, min_length=27)
    batch = collate(data, np.array([1, 0]))
    assert {tuple(tensor.shape) for tensor in batch.values()} == {(2, 32)}
    assert batch["attention_mask"].sum(1).tolist() == data.lengths[[1, 0]].tolist()
    for ids, mask, i in zip(batch["input_ids"], batch["attention_mask"], (1, 0), strict=True):
        assert ids[mask == 1].tolist() == row(data, data.input_ids, i)
        assert (ids[mask == 0] == tokenizer.pad_token_id).all()
        assert mask[0] == (side == "right") and mask[-1] == (side == "left")


def test_xlnet_pads_with_a_token_type_of_its_own() -> None:
    tokenizer = xlnet()
    data = encode(split_of(["good", "the film was good"], ["bad", "film"]), tokenizer, 20)
    batch = Collator(tokenizer=tokenizer)(data, [0, 1])
    assert batch["token_type_ids"].tolist() == [
        [3, 3, 3, 0, 0, 1, 1, 2],
        [0, 0, 0, 0, 0, 1, 1, 2],
    ]
    assert batch["attention_mask"].tolist() == [[0, 0, 0, 1, 1, 1, 1, 1], [1] * 8]
