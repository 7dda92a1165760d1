"""From prompt specifications to questions: what is too long loses text, and nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from llmclf.config import ConfigError
from llmclf.data.corpus import Split
from llmclf.model.causal import load_causal_tokenizer
from llmclf.prompt.config import PromptConfig, TemplateName
from llmclf.prompt.demos import Draw
from llmclf.prompt.encode import EncodedVariant, PromptEncoder
from llmclf.prompt.score import Scorer
from llmclf.prompt.template import verbalise, word
from llmclf.prompt.tokens import PromptTokenizer, TokenizedPrompt, common_prefix
from llmclf.prompt.variants import PromptSpec, Variant
from tests.tiny import make_byte_llama

TEMPLATES = get_args(TemplateName)
TEXTS = {
    "words": "the study of patients in our ward shows that some of them " * 40,
    "markup": '<p>it\'s "A & B"</p>\n' * 60,
    "emoji": "😀👩‍👩‍👧" * 60,
    "control": "<|im_end|><|im_start|>assistant\n" * 50,
    "lines": "\n\n\n\n\t\\" * 150,
    "cjk": "日本語の文章です。" * 50,
}


def variant(
    texts: Sequence[str],
    *,
    pairs: Sequence[str] | None = None,
    shown: tuple[int, ...] = (),
    template: TemplateName = "quoted",
    labels: tuple[str, ...] = ("advice", "no advice"),
    **settings: Any,
) -> Variant:
    config = PromptConfig(**settings)
    specs = [PromptSpec(shown, t, None if pairs is None else pairs[i]) for i, t in enumerate(texts)]
    return Variant(
        template=template,
        draw=Draw(0, 0),
        wording=word(template, config, verbalise(config, labels)),
        parts={"test": specs[:1], "reference": specs[1:]},
        attacked={},
    )


def train(texts: Sequence[str], pairs: list[str] | None = None) -> Split:
    ids = [f"train-{i}" for i in range(len(texts))]
    return Split(ids, list(texts), pairs, np.arange(len(texts)) % 2, None)


def encoder(
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    rows: Split | None = None,
    *,
    chat: bool = True,
    **settings: Any,
) -> PromptEncoder:
    prompt = PromptTokenizer(tokenizer, max_length=max_length, chat=chat)
    return PromptEncoder(PromptConfig(**settings), prompt, rows or train([]))


def longest(question: TokenizedPrompt) -> int:
    return len(question.prompt) + max(map(len, question.answers))


def body(smol: PreTrainedTokenizerBase, question: TokenizedPrompt) -> str:
    """What stands between the quotes of the last text."""
    return smol.decode(list(question.prompt)).rpartition('Text: "')[2].rpartition('"')[0]


def test_parts_lie_in_order_with_the_bare_lead_last(smol: PreTrainedTokenizerBase) -> None:
    made = variant(["one", "two", "three"])
    found = encoder(smol, 500).encode(made)
    assert found.parts == {"test": slice(0, 1), "reference": slice(1, 3), "premise": slice(3, 4)}
    assert [body(smol, q) for q in found.questions[:3]] == ["one", "two", "three"]
    assert "Text:" not in smol.decode(list(found.questions[3].prompt))
    assert found.questions[3].answers == found.questions[0].answers
    assert found.shortened == dataclasses.replace(found.shortened, rows=0, tokens_lost=0)
    assert found.example == smol.decode(list(found.questions[0].prompt))
    assert not found.end


def test_each_row_stands_behind_its_own_demonstrations(smol: PreTrainedTokenizerBase) -> None:
    made = variant(["q0", "q1", "q2", "q3"])
    specs = [
        dataclasses.replace(spec, shown=shown)
        for spec, shown in zip(made.specs(), [(0, 1), (2, 3), (0, 1), ()], strict=True)
    ]
    made = dataclasses.replace(made, parts={"test": specs})
    found = encoder(smol, 500, train(["d0", "d1", "d2", "d3"])).encode(made)
    for spec, question in zip(specs, found.questions, strict=False):
        text = smol.decode(list(question.prompt))
        places = [text.index(f'"d{row}"') for row in spec.shown]
        assert places == sorted(places) and text.count('Text: "') == len(spec.shown) + 1
        assert body(smol, question) == spec.text
        for row in spec.shown:
            answer = ("advice", "no advice")[row % 2]
            assert f'"d{row}"<|im_end|>\n<|im_start|>assistant\nLabel: {answer}<|im_end|>' in text


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("chat", [True, False])
def test_a_long_text_is_shortened_and_nothing_else(
    smol: PreTrainedTokenizerBase, template: TemplateName, kind: str, chat: bool
) -> None:
    texts = ["short", TEXTS[kind], TEXTS[kind][7:]]
    whole = encoder(smol, 1 << 20, chat=chat).encode(variant(texts, template=template))
    found = encoder(smol, 150, chat=chat).encode(variant(texts, template=template))
    assert found.questions[0] == whole.questions[0]
    head = common_prefix(*(q.prompt for q in whole.questions[:2]))
    tail = whole.questions[0].prompt[-3:]
    lost = 0
    for before, after in zip(whole.questions[1:3], found.questions[1:3], strict=True):
        assert 120 < longest(after) <= 150 < longest(before)
        assert after.prompt[:head] == before.prompt[:head]
        assert after.prompt[-3:] == before.prompt[-3:] == tail
        assert after.answers == before.answers
        lost += len(before.prompt) - len(after.prompt)
    assert (found.shortened.rows, found.shortened.tokens_lost) == (2, lost)
    assert found.shortened.demonstrations == 0


SHORTEST = 90
"""Fewer tokens cannot hold the longest of the prompts below beside eight tokens of text."""


@settings(deadline=None, max_examples=60)
@given(
    text=st.lists(
        st.sampled_from([*(t[:30] for t in TEXTS.values()), " ", "\n", '"', "<", "&", "é", "1"]),
        max_size=80,
    ).map("".join),
    pair=st.none() | st.text(max_size=200),
    max_length=st.integers(SHORTEST, 140),
    template=st.sampled_from(TEMPLATES),
    chat=st.booleans(),
)
def test_every_prompt_fits_and_ends_alike(
    smol: PreTrainedTokenizerBase,
    text: str,
    pair: str | None,
    max_length: int,
    template: TemplateName,
    chat: bool,
) -> None:
    made = variant(["x", text], pairs=None if pair is None else ["y", pair], template=template)
    found = encoder(smol, max_length, chat=chat).encode(made)
    first, second = found.questions[:2]
    assert max(longest(first), longest(second)) <= max_length
    ends = [smol.decode(list(q.prompt[-14:]))[-7:] for q in (first, second)]
    assert ends[0] == ends[1]
    assert first.answers == second.answers
    unlimited = encoder(smol, 1 << 20, chat=chat).encode(made).questions[1]
    fits = longest(unlimited) <= max_length
    assert (second == unlimited) == fits
    assert (found.shortened.rows == 0) == fits


def test_of_a_pair_the_longer_part_is_shortened_first(smol: PreTrainedTokenizerBase) -> None:
    long, short = TEXTS["words"], "eight words that must not be lost here"
    for texts, pairs in ([long], [short]), ([short], [long]):
        found = encoder(smol, 200).encode(variant(texts, pairs=pairs))
        text = smol.decode(list(found.questions[0].prompt))
        assert f'"{short}"' in text and 180 < longest(found.questions[0]) <= 200
    found = encoder(smol, 200).encode(variant([long], pairs=[long]))
    first, _, second = body(smol, found.questions[0]).partition('"\nSecond text: "')
    counts = [len(smol(part).input_ids) for part in (first, second)]
    assert abs(counts[0] - counts[1]) <= 2 and min(counts) > 40


def test_what_cannot_fit_is_refused(smol: PreTrainedTokenizerBase) -> None:
    made = variant([TEXTS["words"]])
    least = max(longest(q) for q in encoder(smol, 500).encode(variant([""])).questions)
    assert longest(encoder(smol, least + 8).encode(made).questions[0]) <= least + 8
    with pytest.raises(ConfigError) as error:
        encoder(smol, least + 7).encode(made)
    options = ("--prompt.shots", "--prompt.instruction", "--data.max-length")
    for told in ("cannot fit", f"{least} tokens beside", f"{least + 7} in all", *options):
        assert told in str(error.value)
    with pytest.raises(ConfigError, match="cannot fit"):
        encoder(smol, least).encode(variant(["ok"]))
    assert encoder(smol, least).encode(variant([""])).shortened.rows == 0


def shown_texts(smol: PreTrainedTokenizerBase, found: EncodedVariant) -> list[str]:
    parts = smol.decode(list(found.questions[0].prompt)).split('Text: "')[1:-1]
    return [part.partition('"<|im_end|>')[0] for part in parts]


def test_long_demonstrations_share_half_of_the_context(smol: PreTrainedTokenizerBase) -> None:
    rows = train(["a short one", TEXTS["words"], TEXTS["words"][4:], "another short one"])
    made = variant(["q0", "q1", "q2"], shown=(0, 1, 2, 3))
    found = encoder(smol, 400, rows).encode(made)
    texts = shown_texts(smol, found)
    assert (texts[0], texts[3]) == (rows.texts[0], rows.texts[3])
    counts = [len(smol(text).input_ids) for text in texts]
    assert 45 <= counts[1] <= 50 and 45 <= counts[2] <= 50  # a quarter of half of 400
    assert rows.texts[1].startswith(texts[1])
    assert found.shortened.demonstrations == 2 * 3 and found.shortened.rows == 0
    assert max(map(longest, found.questions)) <= 400
    assert encoder(smol, 4000, rows).encode(made).shortened.demonstrations == 0


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("template", TEMPLATES)
def test_demonstrations_are_measured_as_the_model_reads_them(
    smol: PreTrainedTokenizerBase, template: TemplateName, kind: str
) -> None:
    """Escapes take tokens: a text that fits as it is may not fit in its block."""
    rows = train([TEXTS[kind], TEXTS[kind][3:], "short", "short too"])
    made = variant([TEXTS[kind], "q"], shown=(0, 1, 2, 3), template=template)
    found = encoder(smol, 450, rows).encode(made)
    assert max(map(longest, found.questions)) <= 450
    assert found.shortened.demonstrations == 2 * 2 and found.shortened.rows == 1
    text = smol.decode(list(found.questions[1].prompt))
    assert "short too" in text


def test_too_many_demonstrations_are_refused(smol: PreTrainedTokenizerBase) -> None:
    rows = train([TEXTS["words"]] * 20)
    with pytest.raises(ConfigError) as error:
        encoder(smol, 300, rows).encode(variant(["q"], shown=tuple(range(20))))
    told = str(error.value)
    assert "prompt.shots=20" in told and "half of the 300 tokens" in told and "7 each" in told
    assert "--data.max-length" in told


def test_a_shown_pair_is_shortened_as_a_pair(smol: PreTrainedTokenizerBase) -> None:
    rows = train([TEXTS["words"], "a"], ["the second text stays", "b"])
    found = encoder(smol, 300, rows).encode(variant(["q"], pairs=["p"], shown=(0, 1)))
    text = smol.decode(list(found.questions[0].prompt))
    assert 'Second text: "the second text stays"' in text
    assert found.shortened.demonstrations == 1
    assert longest(found.questions[0]) <= 300


PREFIXED: dict[str, Any] = {"labels": ("advice", "advice strong", "other")}


@pytest.mark.parametrize("chat", [True, False])
def test_the_end_counts_where_one_answer_begins_with_another(
    smol: PreTrainedTokenizerBase, chat: bool
) -> None:
    made = variant(["a text", "b"], **PREFIXED)
    found = encoder(smol, 500, chat=chat).encode(made)
    assert found.end
    mark = smol.convert_tokens_to_ids("<|im_end|>") if chat else smol("\n\n").input_ids[0]
    for question in found.questions:
        assert {answer[-1] for answer in question.answers} == {mark}
    bare = encoder(smol, 500, chat=chat).encode(variant(["a text"]))
    assert not bare.end and mark not in {a[-1] for a in bare.questions[0].answers}
    always = encoder(smol, 500, chat=chat, end_mark="always").encode(variant(["a text"]))
    assert always.end and {a[-1] for a in always.questions[0].answers} == {mark}


@pytest.mark.parametrize("chat", [True, False])
def test_the_end_counts_in_the_scores(tmp_path: Path, chat: bool) -> None:
    """Log-likelihoods are those of the whole string, its end token included."""
    folder = make_byte_llama(tmp_path, chat=chat)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    made = variant(["a text", "another one"], **PREFIXED)
    found = encoder(load_causal_tokenizer(str(folder)), 500, chat=chat).encode(made)
    scored_NC = Scorer(model, pad_token_id=0).score(found.questions)
    for question, scores in zip(found.questions, scored_NC, strict=True):
        for answer, scored in zip(question.answers, scores, strict=True):
            ids = torch.tensor([question.prompt + answer])
            with torch.inference_mode():
                logprobs = model(ids).logits[0, :-1].double().log_softmax(-1)
            chosen = logprobs.gather(1, ids[0, 1:, None])[-len(answer) :]
            assert float(chosen.sum()) == pytest.approx(scored, abs=1e-4)
    # Else "advice strong" could never be likelier than "advice".
    open_ = [TokenizedPrompt(q.prompt, tuple(a[:-1] for a in q.answers)) for q in found.questions]
    open_NC = Scorer(model, pad_token_id=0).score(open_)
    assert (open_NC[:, 1] < open_NC[:, 0]).all() and (scored_NC < open_NC).all()


def test_answers_that_begin_with_another_are_refused_without_the_end(
    smol: PreTrainedTokenizerBase,
) -> None:
    with pytest.raises(ConfigError) as error:
        encoder(smol, 500, end_mark="never").encode(variant(["a"], **PREFIXED))
    told = str(error.value)
    assert "prompt.end_mark='never'" in told and "'advice strong'" in told and "'advice'" in told
    assert "--prompt.end-mark auto" in told and "--prompt.verbaliser" in told
    assert not encoder(smol, 500, end_mark="never").encode(variant(["a"])).end


@pytest.mark.parametrize("end_mark", ["auto", "always", "never"])
def test_answers_that_are_the_same_tokens_are_refused(
    tokenizers: dict[str, PreTrainedTokenizerBase], end_mark: str
) -> None:
    """To a tokenizer of whole words that knows neither, both are the unknown word."""
    made = variant(["a"], labels=("gut", "schlecht"))
    with pytest.raises(ConfigError) as error:
        encoder(tokenizers["word_level"], 500, chat=False, end_mark=end_mark).encode(made)
    assert "'gut'" in str(error.value) and "'schlecht'" in str(error.value)
    assert "--prompt.verbaliser" in str(error.value)


def test_answers_without_an_end_that_could_count_are_refused(
    tokenizers: dict[str, PreTrainedTokenizerBase],
) -> None:
    """The end of a line is no token here, so it cannot tell the two apart."""
    with pytest.raises(ConfigError, match=r"'advice strong'.*begins with the tokens of 'advice'"):
        encoder(tokenizers["word_level"], 500, chat=False).encode(variant(["a"], **PREFIXED))


@pytest.mark.parametrize("answers", ["words", "letters"])
def test_77_labels(smol: PreTrainedTokenizerBase, answers: Any) -> None:
    labels = tuple(f"intent_{i}" for i in range(77))
    made = variant(["a text"], labels=labels, answers=answers)
    found = encoder(smol, 4000, answers=answers).encode(made)
    scored = found.questions[0].answers
    assert len(set(scored)) == 77
    assert found.end  # intent_1 and intent_10
    for i, a in enumerate(scored):
        assert not any(a == b[: len(a)] for j, b in enumerate(scored) if i != j)
