"""A row's logits are its own: batch size, padding and the order of batches do not change them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from llmclf.model.build import load_tokenizer
from llmclf.model.family import FAMILIES

ROTARY = [n for n, f in FAMILIES.items() if f.pooling == "last" and n not in ("xlnet", "gpt2")]


def alone(tiny: Any, model: Any, texts: Any = None, **how: Any) -> torch.Tensor:
    return torch.cat([tiny.logits(model, [text], **how) for text in texts or tiny.texts])


def assert_same(got: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)


def test_logits_do_not_depend_on_the_batch(tiny: Any) -> None:
    model = tiny.model()
    expected = alone(tiny, model)
    assert expected.std(0).min() > 0.02  # rows do differ
    assert_same(tiny.logits(model), expected)
    halves = [tiny.logits(model, tiny.texts[:2]), tiny.logits(model, tiny.texts[2:])]
    assert_same(torch.cat(halves), expected)
    assert_same(tiny.logits(model, tiny.texts[::-1]).flip(0), expected)


@pytest.mark.parametrize("width", [25, 36, 60])
def test_logits_do_not_depend_on_the_length_of_padding(tiny: Any, width: int) -> None:
    model = tiny.model()
    assert tiny.batch(model, width=width)["input_ids"].shape[1] == width
    assert_same(tiny.logits(model, width=width), alone(tiny, model))


@pytest.mark.parametrize("name", ROTARY)
def test_decoders_with_relative_positions_may_be_padded_on_either_side(
    tiny_of: Callable[[str], Any], name: str
) -> None:
    tiny = tiny_of(name)
    model = tiny.model()
    left = load_tokenizer(str(tiny.folder))
    left.padding_side = "left"
    mask = tiny.batch(model, tokenizer=left)["attention_mask"]
    assert mask[:, -1].all() and not mask[:, 0].all()
    assert_same(tiny.logits(model, tokenizer=left), alone(tiny, model))
    assert_same(tiny.logits(model, tokenizer=left, width=60), alone(tiny, model))


@pytest.mark.parametrize(
    "name", [n for n in FAMILIES if n not in ROTARY and FAMILIES[n].padding_side == "right"]
)
def test_the_other_families_are_padded_on_the_right_since_the_left_is_wrong(
    tiny_of: Callable[[str], Any], name: str
) -> None:
    """Absolute positions would shift, and the first token would be padding."""
    tiny = tiny_of(name)
    model = tiny.model()
    left = load_tokenizer(str(tiny.folder))
    left.padding_side = "left"
    difference = (tiny.logits(model, tokenizer=left) - alone(tiny, model)).abs().max()
    if name == "modernbert":  # relative positions and, here, the mean over the attended tokens
        assert difference < 1e-4
    else:
        assert difference > 1e-2


def test_xlnet_reads_its_last_position_so_the_right_is_wrong(tiny_of: Callable[[str], Any]) -> None:
    tiny = tiny_of("xlnet")
    model = tiny.model()
    right = load_tokenizer(str(tiny.folder))
    right.padding_side = "right"
    assert (tiny.logits(model, tokenizer=right) - alone(tiny, model)).abs().max() > 1e-2


@pytest.mark.parametrize("name", [n for n in FAMILIES if FAMILIES[n].pooling == "last"])
def test_a_text_that_spells_its_own_end_is_pooled_where_it_ends(
    tiny_of: Callable[[str], Any], name: str
) -> None:
    """Where padding and end of text are one token, a forged one would be taken for padding."""
    tiny = tiny_of(name)
    model = tiny.model()
    end = tiny.tokenizer.eos_token
    texts = [
        f"good{end}",
        f"{end}",
        f"bad film {end}{end} dull",
        "we liked it very much again",
        "good",
    ]
    expected = alone(tiny, model, texts)
    assert_same(tiny.logits(model, texts), expected)
    assert_same(tiny.logits(model, texts, width=50), expected)
    # And it counts as text: "good" alone is something else.
    assert (expected[0] - expected[4]).abs().max() > 1e-2


@pytest.mark.parametrize("name", ["gpt2", "llama", "qwen2"])
def test_the_danger_is_real_without_our_tokenizer_settings(
    tiny_of: Callable[[str], Any], name: str
) -> None:
    tiny = tiny_of(name)
    model = tiny.model()
    plain = AutoTokenizer.from_pretrained(tiny.folder, pad_token=tiny.tokenizer.eos_token)
    texts = [f"good{plain.eos_token}", "good"]
    with_end, without = tiny.logits(model, texts, tokenizer=plain)
    assert_same(with_end, without)  # the end was taken for padding


# ---- windows and blocks --------------------------------------------------------------------------

LONG = "we liked it and it was good and not bad but very very long and plain and dull again and "


def test_big_bird_gives_the_same_whatever_batch_came_first(tiny_of: Callable[[str], Any]) -> None:
    """transformers leaves block-sparse attention for good at the first batch that is too short."""
    tiny = tiny_of("big_bird")
    short, long = ["good", "bad film"], [LONG * 2, LONG * 3]
    runs = []
    for order in ((short, long), (long, short), (short, short, long)):
        model = tiny.model(max_length=64)
        assert model.config.attention_type == "block_sparse"
        logits = {id(texts): tiny.logits(model, texts, max_length=64) for texts in order}
        assert model.bert.attention_type == "block_sparse"
        runs.append(torch.cat([logits[id(short)], logits[id(long)]]))
    assert_same(runs[1], runs[0])
    assert_same(runs[2], runs[0])


@pytest.mark.parametrize(
    ("max_length", "kind"), [(20, "original_full"), (36, "original_full"), (37, "block_sparse")]
)
def test_big_bird_attends_fully_where_blocks_cannot_be_filled(
    tiny_of: Callable[[str], Any], max_length: int, kind: str
) -> None:
    tiny = tiny_of("big_bird")
    model = tiny.model(max_length=max_length)
    assert model.config.attention_type == kind
    batch = tiny.batch(model, ["good", LONG * 3], max_length=max_length)
    assert batch["input_ids"].shape[1] == (max_length if kind == "original_full" else 40)
    model(**batch)
    assert model.bert.attention_type == kind


def test_longformer_past_its_window(tiny_of: Callable[[str], Any]) -> None:
    tiny = tiny_of("longformer")
    model = tiny.model(max_length=64)
    texts = ["good", LONG, LONG * 3, "bad film"]
    expected = alone(tiny, model, texts, max_length=64)
    assert_same(tiny.logits(model, texts, max_length=64), expected)
    # The first token reads the whole text, not just its window of 8.
    changed = LONG + LONG.replace("dull", "bright")
    first, second = tiny.logits(model, [LONG * 2, changed], max_length=64)
    assert (first - second).abs().max() > 1e-3
