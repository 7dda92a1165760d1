"""Prompts as token ids: the tokens that the whole string has, answer included.

A prompt and its answer are one string to the tokenizer, which may join characters across the seam.
So every string is tokenised as a whole, or from parts of which it is proven on real rows that they
give the same.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from llmclf.config import ConfigError
from llmclf.prompt.template import QUERY, Frame, Wording

ANGLED = re.compile("<.+>")
PROBES = 4
"""Rows that are tokenised both ways, of all that end alike."""


@dataclass(frozen=True)
class TokenizedPrompt:
    """One prompt, and for each label the tokens of its answer."""

    prompt: tuple[int, ...]
    answers: tuple[tuple[int, ...], ...]
    """Tokens of each answer (C), one or more each."""


class PromptTokenizer:
    """Turns frames and blocks into questions of at most ``max_length`` tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, max_length: int, chat: bool) -> None:
        self.tokenizer, self.max_length, self.chat = tokenizer, max_length, chat
        self.start = [] if chat else _start_token(tokenizer)
        special = {str(token) for token in tokenizer.all_special_tokens}
        added = tokenizer.added_tokens_decoder.values()
        # Thoughts and calls of tools are marked by tokens in angles that are not called special.
        marks = {t.content for t in added if t.special or ANGLED.fullmatch(t.content)}
        self._proven: dict[tuple[str, tuple[str, ...], str | None], int | None] = {}
        """What follows a block -> rows that were tokenised both ways; None: with other tokens."""
        self.special = sorted(special | marks, key=len)[::-1]

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each string, nothing added."""
        if not texts:
            return []
        encoded = self.tokenizer(
            list(texts),
            add_special_tokens=False,
            split_special_tokens=False,
            return_attention_mask=False,
            verbose=False,
        )
        return encoded["input_ids"]

    def harmless(self, text: str) -> str:
        """A text without control tokens: a space inside takes each apart, or for those of one
        character its place."""
        for token in self.special:
            if token in text:
                text = text.replace(token, f"{token[0]} {token[1:]}" if token[1:] else " ")
        return text

    def frame(self, wording: Wording, demonstrations: Sequence[tuple[str, int]]) -> Frame:
        """The prompt around the block in question, in the model's chat format if there is one."""
        if not self.chat:
            return wording.plain(demonstrations)
        # The lead opens the answer of a chat, too: without it small models begin a sentence.
        whole = self._chat(wording.messages(demonstrations, QUERY, lead=True), ask=True)
        # The last one: a demonstration may spell the placeholder, too.
        head, marker, tail = whole.rpartition(QUERY)
        before, end = self._around_answer
        if not marker or not end:
            raise ConfigError(
                "prompt.chat: the tokenizer's chat template does not show the turns as they are. "
                "Set --prompt.chat never."
            )
        tail += before + wording.template.lead
        return Frame(head=head, tail=tail, before_answer=" ", end=end)

    @cached_property
    def _around_answer(self) -> tuple[str, str]:
        """What a conversation has between the prompt and an answer (a space in Llama 2 and
        Mistral), and what follows the answer."""
        ask = [{"role": "user", "content": "x"}]
        asked = self._chat(ask, ask=True)
        answered = self._chat([*ask, {"role": "assistant", "content": QUERY}], ask=False)
        before, _, end = answered.rpartition(QUERY)
        return before.removeprefix(asked) if before.startswith(asked) else "", end

    def _chat(self, messages: list[dict[str, str]], *, ask: bool) -> str:
        try:
            # Models that may think first are asked not to; other templates ignore the flag.
            text = self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=ask, enable_thinking=False
            )
        except TemplateError as error:
            raise ConfigError(
                f"prompt.chat: the tokenizer's chat template refuses the turns of a prompt "
                f"({error}). Set --prompt.chat never."
            ) from error
        assert isinstance(text, str)
        return text

    def questions(
        self, frame: Frame, blocks: Sequence[str], words: Sequence[str], *, end: bool
    ) -> list[TokenizedPrompt]:
        """One question for each block. ``words``: the answers; ``end``: whether the token that
        follows an answer counts."""
        answers = [frame.before_answer + word for word in words]
        ending = frame.end if end else None
        prompts = self._prompts(frame, blocks)
        last = frame.tail[frame.tail.rfind("\n") :] if "\n" in frame.tail else frame.tail
        stem, joint = self._continued(last, answers, ending)
        shared = tuple(tuple(ids[len(stem) :]) for ids in joint)
        # Rows with demonstrations of their own have a frame each: what follows a block is proven
        # once for all frames that end alike.
        key = (frame.tail, tuple(answers), ending)
        proven = self._proven.get(key, 0)
        if proven is not None:
            fast = [TokenizedPrompt(tuple(prompt), shared) for prompt in prompts]
            probes = sorted(range(len(blocks)), key=lambda i: -len(blocks[i]))[: PROBES - proven]
            whole = self._whole(frame, [blocks[i] for i in probes], answers, ending)
            if whole == [fast[i] for i in probes]:
                self._proven[key] = proven + len(probes)
                return fast
            self._proven[key] = None
        return self._whole(frame, blocks, answers, ending)

    def premise(self, frame: Frame, words: Sequence[str], *, end: bool) -> TokenizedPrompt:
        """The answers behind their lead alone: no instruction, demonstration or text."""
        answers = [frame.before_answer + word for word in words]
        return self._whole(frame.bare(), [""], answers, frame.end if end else None)[0]

    def _prompts(self, frame: Frame, blocks: Sequence[str]) -> list[list[int]]:
        """Tokens of head + block + tail. The head is tokenised once, up to its last line, if that
        gives the same on the probes."""
        whole = [frame.head + block + frame.tail for block in blocks]
        probed = [self.start + ids for ids in self.ids(whole[:PROBES])]
        if len(whole) <= PROBES:
            return probed
        cut = frame.head.rfind("\n") + 1
        head = self.start + self.ids([frame.head[:cut]])[0] if cut else self.start
        rest = [frame.head[cut:] + block + frame.tail for block in blocks]
        rows = [head + ids for ids in self.ids(rest)]
        if probed != rows[:PROBES]:
            rows = [self.start + ids for ids in self.ids(whole)]
        return rows

    def _whole(
        self, frame: Frame, blocks: Sequence[str], answers: Sequence[str], end: str | None
    ) -> list[TokenizedPrompt]:
        """Tokens of each whole string; what all answers of a row have in common, up to the end of
        the prompt, is the prompt."""
        prompts = []
        for block in blocks:
            stem, joint = self._continued(frame.head + block + frame.tail, answers, end)
            shared = min(common_prefix(stem, ids) for ids in joint)
            prompt = tuple(self.start + stem[:shared])
            prompts.append(TokenizedPrompt(prompt, tuple(tuple(ids[shared:]) for ids in joint)))
        return prompts

    def _continued(
        self, stem: str, answers: Sequence[str], end: str | None
    ) -> tuple[list[int], list[list[int]]]:
        """Tokens of a string, and of it with each answer behind it."""
        alone, *joint = self.ids([stem, *(stem + answer for answer in answers)])
        if end is not None:
            ended = self.ids([stem + answer + end for answer in answers])
            joint = [
                long[: len(short) + 1] if long[: len(short)] == short else long
                for short, long in zip(joint, ended, strict=True)
            ]
        return alone, joint

    def text_tokens(self, text: str) -> int:
        """Length of a text on its own."""
        return len(self.ids([text])[0])

    def shorten(self, text: str, tokens: int) -> str:
        """The first ``tokens`` tokens of a text."""
        if tokens < 1:
            return ""
        encoded = self.tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        offsets = encoded["offset_mapping"]
        if len(offsets) <= tokens:
            return text
        # The first token left out may be a part of the last character kept, which goes too.
        return text[: min(offsets[tokens - 1][1], offsets[tokens][0])]


def _start_token(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The token that the model expects before any text, if its tokenizer adds one."""
    first = tokenizer("a").input_ids[:1]
    return first if first == [tokenizer.bos_token_id] else []


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two sequences begin with alike."""
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return i
    return min(len(a), len(b))


def collision(answers: Sequence[tuple[int, ...]]) -> tuple[int, int] | None:
    """Two answers of which the second begins with all tokens of the first, which could therefore
    never be less likely; None where there are none."""
    for i, a in enumerate(answers):
        for j, b in enumerate(answers):
            if i != j and b[: len(a)] == a:
                return i, j
    return None
