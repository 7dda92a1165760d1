"""Prompts as tokens: those of the whole string, whatever the tokenizer does at the seams."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from llmclf.config import ConfigError
from llmclf.prompt.config import TemplateName
from llmclf.prompt.template import QUERY, Frame
from llmclf.prompt.tokens import PromptTokenizer, TokenizedPrompt, collision, common_prefix
from tests.prompt.conftest import wording
from tests.tiny import CHATML

TEMPLATES = get_args(TemplateName)
LABELS = ("advice", "advice strong", "no advice", "日本", "12")
ROWS = [
    "take two of them",
    "ends in a space ",
    " starts with one",
    "1234567 89",
    "in 2024",
    "emoji 😀😀",
    "👩‍👩‍👧 family",
    "日本語の文",
    '"quoted"',
    "it's “curly”",
    "",
    "\n\n",
    "tab\t",
    "a\\",
    "é",
]
KINDS = ["smol", "smol-chat", "metaspace", "metaspace-chat", "word_level", "merging"]


def made(tokenizers: dict[str, PreTrainedTokenizerBase], kind: str) -> PromptTokenizer:
    name, _, chat = kind.partition("-")
    return PromptTokenizer(tokenizers[name], max_length=4096, chat=bool(chat))


def whole(prompt: PromptTokenizer, text: str) -> list[int]:
    """As the tokenizer has it, which adds a start token to plain text if it adds one at all."""
    return prompt.tokenizer(text, add_special_tokens=not prompt.chat).input_ids


class Counting(PromptTokenizer):
    """Counts the rows whose answers are tokenised as part of the whole string."""

    rows = 0

    def _whole(
        self, frame: Frame, blocks: Sequence[str], answers: Sequence[str], end: str | None
    ) -> list[TokenizedPrompt]:
        self.rows += len(blocks)
        return super()._whole(frame, blocks, answers, end)


@pytest.mark.parametrize("shots", [0, 2])
@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("kind", KINDS)
def test_tokens_are_those_of_the_whole_string(
    tokenizers: dict[str, PreTrainedTokenizerBase], kind: str, template: TemplateName, shots: int
) -> None:
    prompt, worded = made(tokenizers, kind), wording(LABELS, template)
    shown = [(worded.block(prompt.harmless(ROWS[i]), None), i) for i in range(shots)]
    frame = prompt.frame(worded, shown)
    blocks = [worded.block(prompt.harmless(text), None) for text in ROWS]
    questions = prompt.questions(frame, blocks, worded.answers.words, end=False)
    assert len(questions) == len(ROWS)
    for block, question in zip(blocks, questions, strict=True):
        for name, answer in zip(LABELS, question.answers, strict=True):
            text = frame.head + block + frame.tail + frame.before_answer + name
            assert list(question.prompt + answer) == whole(prompt, text)
            assert answer


@pytest.mark.parametrize("kind", KINDS)
def test_the_end_of_an_answer_is_the_token_behind_it(
    tokenizers: dict[str, PreTrainedTokenizerBase], kind: str
) -> None:
    # Elsewhere a token holds the last letters of an answer and the mark, or there is no mark.
    apart = kind in ("smol", "smol-chat", "metaspace-chat")
    prompt, worded = made(tokenizers, kind), wording(LABELS[:2])
    frame = prompt.frame(worded, [])
    blocks = [worded.block(text, None) for text in ROWS[:3]]
    ended = prompt.questions(frame, blocks, LABELS[:2], end=True)
    for block, question in zip(blocks, ended, strict=True):
        for name, answer in zip(LABELS[:2], question.answers, strict=True):
            text = frame.head + block + frame.tail + frame.before_answer + name
            scored = list(question.prompt + answer)
            assert scored == whole(prompt, text + frame.end)[: len(scored)]
            # Some tokens hold the end of an answer and its mark; word_level has no mark.
            apart = kind in ("smol", "smol-chat", "metaspace-chat")
            assert len(scored) - len(whole(prompt, text)) == 1 or not apart
    if apart:
        assert collision(prompt.premise(frame, LABELS[:2], end=False).answers) == (0, 1)
        assert collision(ended[0].answers) is None


@pytest.mark.parametrize("kind", ["smol", "smol-chat", "metaspace-chat", "word_level"])
def test_the_fast_way_is_taken_where_it_holds(
    tokenizers: dict[str, PreTrainedTokenizerBase], kind: str
) -> None:
    name, _, chat = kind.partition("-")
    prompt = Counting(tokenizers[name], max_length=4096, chat=bool(chat))
    worded = wording(LABELS[:3])
    blocks = [worded.block(text, None) for text in ROWS]
    prompt.questions(prompt.frame(worded, []), blocks, LABELS[:3], end=True)
    assert prompt.rows == 4  # the probes
    # Each row behind demonstrations of its own: no probes of its own.
    for shown in blocks:
        frame = prompt.frame(worded, [(shown, 1)])
        (question,) = prompt.questions(frame, blocks[:1], LABELS[:3], end=True)
        text = frame.head + blocks[0] + frame.tail + frame.before_answer + LABELS[0] + frame.end
        scored = list(question.prompt + question.answers[0])
        assert scored == whole(prompt, text)[: len(scored)]
    assert prompt.rows == 4


def test_the_slow_way_is_taken_where_tokens_reach_across_the_seam(
    tokenizers: dict[str, PreTrainedTokenizerBase],
) -> None:
    prompt = Counting(tokenizers["merging"], max_length=4096, chat=False)
    worded = wording(LABELS[:3])
    frame = prompt.frame(worded, [])
    blocks = [worded.block(text, None) for text in ROWS]
    questions = prompt.questions(frame, blocks, LABELS[:3], end=False)
    assert prompt.rows == 4 + len(ROWS)
    alone = prompt.ids([frame.head + blocks[0] + frame.tail])[0]
    again = prompt.questions(prompt.frame(worded, [(blocks[0], 0)]), blocks, LABELS[:3], end=False)
    assert prompt.rows == 4 + 2 * len(ROWS) and len(again) == len(ROWS)  # not tried again
    assert len(questions[0].prompt) < len(alone)  # the answers' first token holds the lead's end


@pytest.mark.parametrize("kind", ["metaspace", "metaspace-chat", "smol", "smol-chat"])
def test_one_start_token_where_the_tokenizer_adds_one(
    tokenizers: dict[str, PreTrainedTokenizerBase], kind: str
) -> None:
    prompt, worded = made(tokenizers, kind), wording(LABELS)
    block = worded.block("a text", None)
    frame = prompt.frame(worded, [(block, 0)])
    questions = prompt.questions(frame, [block], LABELS, end=False)
    if kind.startswith("metaspace"):
        start = prompt.tokenizer.bos_token_id
        questions.append(prompt.premise(frame, LABELS, end=False)) if kind == "metaspace" else None
        for question in questions:
            assert question.prompt[0] == start and start not in question.prompt[1:]
    elif kind == "smol":  # its bos is <|im_start|>, which it does not add
        assert prompt.tokenizer.bos_token_id not in questions[0].prompt


@pytest.mark.parametrize("kind", ["smol-chat", "metaspace-chat"])
def test_a_conversation_is_the_one_of_the_chat_template(
    tokenizers: dict[str, PreTrainedTokenizerBase], kind: str
) -> None:
    """The answer too stands where the template puts it, with the space that some put before it."""
    prompt, worded = made(tokenizers, kind), wording(LABELS)
    blocks = [worded.block(text, None) for text in ROWS[:3]]
    frame = prompt.frame(worded, [(blocks[0], 1), (blocks[1], 0)])
    (question,) = prompt.questions(frame, [blocks[2]], LABELS, end=True)
    turns = worded.messages([(blocks[0], 1), (blocks[1], 0)], blocks[2], lead=True)
    for name, answer in zip(LABELS, question.answers, strict=True):
        answered = [*turns, {"role": "assistant", "content": f"Label: {name}"}]
        ids = prompt.tokenizer.apply_chat_template(answered, return_dict=False)
        scored = list(question.prompt + answer)
        assert ids[: len(scored)] == scored
        end = "<|im_end|>" if kind == "smol-chat" else "</s>"
        assert scored[-1] == prompt.tokenizer.convert_tokens_to_ids(end)


def test_a_demonstration_that_spells_the_placeholder(smol: PreTrainedTokenizerBase) -> None:
    prompt, worded = PromptTokenizer(smol, max_length=4096, chat=True), wording()
    frame = prompt.frame(worded, [(worded.block(f"a {QUERY} b", None), 0)])
    assert f"a {QUERY} b" in frame.head and QUERY not in frame.tail
    assert frame.tail == "<|im_end|>\n<|im_start|>assistant\nLabel:"


def with_template(smol: PreTrainedTokenizerBase, template: str) -> PromptTokenizer:
    changed = PreTrainedTokenizerFast(
        tokenizer_object=smol.backend_tokenizer, eos_token="<|im_end|>", chat_template=template
    )
    return PromptTokenizer(changed, max_length=4096, chat=True)


def test_a_chat_template_that_thinks_first(smol: PreTrainedTokenizerBase) -> None:
    off = "{% if enable_thinking is false %}{{ '<think></think>\\n' }}{% endif %}"
    prompt = with_template(smol, CHATML.replace("assistant\\n' }}", "assistant\\n' }}" + off))
    frame = prompt.frame(wording(), [])
    assert frame.tail.endswith("<|im_start|>assistant\n<think></think>\nLabel:")
    assert frame.before_answer == " "


@pytest.mark.parametrize(
    "template",
    ["{% for m in messages %}{{ m['role'] }}{% endfor %}", "{{ messages[-1]['content'] }}"],
)
def test_a_chat_template_that_hides_the_turns_is_refused(
    smol: PreTrainedTokenizerBase, template: str
) -> None:
    with pytest.raises(ConfigError, match=r"prompt\.chat.*Set --prompt\.chat never"):
        with_template(smol, template).frame(wording(), [])


def test_a_chat_template_that_refuses_is_told(smol: PreTrainedTokenizerBase) -> None:
    template = "{{ raise_exception('only after a system turn') }}"
    with pytest.raises(ConfigError, match=r"only after a system turn.*--prompt\.chat never"):
        with_template(smol, template).frame(wording(), [])


@pytest.mark.parametrize("kind", ["smol", "smol-chat", "metaspace", "word_level"])
def test_premise_is_the_lead_and_the_answers(
    tokenizers: dict[str, PreTrainedTokenizerBase], kind: str
) -> None:
    prompt, worded = made(tokenizers, kind), wording(LABELS)
    frame = prompt.frame(worded, [(worded.block("a shown text", None), 0)])
    premise = prompt.premise(frame, LABELS, end=False)
    for name, answer in zip(LABELS, premise.answers, strict=True):
        text = frame.tail.lstrip("\n") + frame.before_answer + name
        assert list(premise.prompt + answer) == whole(prompt, text)


def test_a_pair_is_one_block(smol: PreTrainedTokenizerBase) -> None:
    prompt, worded = PromptTokenizer(smol, max_length=4096, chat=True), wording(("no", "yes"))
    frame = prompt.frame(worded, [])
    (question,) = prompt.questions(frame, [worded.block("one", "two")], ["no", "yes"], end=False)
    text = smol.decode(list(question.prompt))
    assert 'Text: "one"\nSecond text: "two"<|im_end|>' in text


@pytest.mark.parametrize("kind", ["smol", "metaspace", "word_level", "merging"])
@given(text=st.text('ab é😀日本“"1 \n<', max_size=20), tokens=st.integers(0, 20))
def test_shortened_to_so_many_tokens(
    tokenizers: dict[str, PreTrainedTokenizerBase], kind: str, text: str, tokens: int
) -> None:
    prompt = made(tokenizers, kind)
    short = prompt.shorten(text, tokens)
    assert text.startswith(short)
    assert prompt.text_tokens(short) <= tokens
    if 1 <= prompt.text_tokens(text) <= tokens:
        assert short == text


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        ([(1,), (2,)], None),
        ([(1,), (1, 2)], (0, 1)),
        ([(1, 2), (1,)], (1, 0)),
        ([(1, 2), (1, 2)], (0, 1)),
        ([(1, 2), (1, 3), (2, 1)], None),
    ],
)
def test_an_answer_that_begins_with_another(
    answers: list[tuple[int, ...]], found: tuple[int, int] | None
) -> None:
    assert collision(answers) == found


@given(st.lists(st.integers(0, 2)), st.lists(st.integers(0, 2)))
def test_common_prefix(a: list[int], b: list[int]) -> None:
    n = common_prefix(a, b)
    assert a[:n] == b[:n]
    assert n in (len(a), len(b)) or a[n] != b[n]
