"""From prompt specifications to questions: worded, tokenised, and cut to what the model takes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from llmclf.config import ConfigError
from llmclf.data.corpus import Split
from llmclf.invisible import quoted
from llmclf.prompt.config import PromptConfig
from llmclf.prompt.template import Frame, Wording
from llmclf.prompt.tokens import PromptTokenizer, TokenizedPrompt, collision
from llmclf.prompt.variants import PromptSpec, Variant

LEAST_TEXT = 8
"""Tokens of a text that are kept at least."""


@dataclass
class Shortened:
    """Texts that did not fit."""

    rows: int = 0
    tokens_lost: int = 0
    demonstrations: int = 0
    """Demonstrations that were shortened, counted once for each prompt they stand in."""


@dataclass(frozen=True, kw_only=True)
class EncodedVariant:
    """All questions of a variant, in the order of its specifications, the bare lead last."""

    questions: list[TokenizedPrompt]
    parts: dict[str, slice]
    """Where each part of the variant lies among the questions."""
    end: bool
    """Whether the end of an answer counts."""
    shortened: Shortened
    example: str
    """The first prompt as the model reads it."""

    def largest_token(self) -> int:
        """The largest token id of all prompts and answers."""
        return max(
            max(map(max, filter(None, (question.prompt, *question.answers))))
            for question in self.questions
        )


@dataclass
class PromptEncoder:
    """Words and tokenises the prompts of a run."""

    config: PromptConfig
    tokenizer: PromptTokenizer
    train: Split
    _lengths: dict[tuple[Callable[[str], str], int], int] = field(default_factory=dict)

    def encode(self, variant: Variant) -> EncodedVariant:
        """Word and tokenise all prompts of a variant. Raises ConfigError where a prompt cannot fit,
        or one answer begins with another."""
        specs, shortened = variant.specs(), Shortened()
        groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for i, spec in enumerate(specs):
            groups[spec.shown].append(i)
        frames = {
            shown: self._frame(variant.wording, shown, shortened, len(rows))
            for shown, rows in groups.items()
        }
        words = variant.wording.answers.words
        end = self._counts_end(frames[specs[0].shown], words)
        in_order: list[TokenizedPrompt | None] = [None] * len(specs)
        for shown, rows in groups.items():
            some = [specs[i] for i in rows]
            questions = self._fitting(variant.wording, frames[shown], some, end, shortened)
            for i, question in zip(rows, questions, strict=True):
                in_order[i] = question
        questions = [question for question in in_order if question is not None]
        parts, start = {}, 0
        for name, part in variant.parts.items():
            parts[name] = slice(start, start + len(part))
            start += len(part)
        parts["premise"] = slice(start, start + 1)
        questions.append(self.tokenizer.premise(frames[specs[0].shown], words, end=end))
        return EncodedVariant(
            questions=questions,
            parts=parts,
            end=end,
            shortened=shortened,
            example=str(self.tokenizer.tokenizer.decode(list(questions[0].prompt))),
        )

    def _counts_end(self, frame: Frame, words: tuple[str, ...]) -> bool:
        mark, end = self.config.end_mark, self.config.end_mark == "always"
        answers = self.tokenizer.premise(frame, words, end=end).answers
        alike = collision(answers)
        if alike and mark == "auto":
            end = True
            answers = self.tokenizer.premise(frame, words, end=True).answers
            alike = collision(answers)
        if alike is None:
            return end
        i, j = alike
        other = "Give other words by --prompt.verbaliser."
        if answers[i] == answers[j]:
            raise ConfigError(
                f"the answers {quoted(words[i])} and {quoted(words[j])} are the same tokens to the "
                f"model. {other}"
            )
        raise ConfigError(
            f"prompt.end_mark={quoted(mark)}: the answer {quoted(words[j])} begins with the tokens "
            f"of {quoted(words[i])}, which could never be less likely. "
            + ("Set --prompt.end-mark auto. Or: " if mark == "never" else "")
            + other
        )

    def _frame(
        self, wording: Wording, shown: tuple[int, ...], shortened: Shortened, prompts: int
    ) -> Frame:
        """The prompt around a text. Demonstrations may take half of the context: where they would
        take more, the long ones are shortened alike."""
        texts = [self.train.text_and_pair(row) for row in shown]
        if shown:
            room = self.tokenizer.max_length // 2
            lengths = [self._length(wording, row) for row in shown]
            if sum(lengths) > room:
                cap = room // len(shown)
                if cap < LEAST_TEXT:
                    raise ConfigError(
                        f"prompt.shots={len(shown)}: demonstrations may take half of the "
                        f"{self.tokenizer.max_length:,} tokens of a prompt, {cap} each, which is "
                        "too few. Set fewer --prompt.shots or a larger --data.max-length."
                    )
                long = [i for i, length in enumerate(lengths) if length > cap]
                shortened.demonstrations += len(long) * prompts
                for i in long:
                    texts[i] = self._shortened(wording, *texts[i], cap)
        blocks = [self._block(wording, *text) for text in texts]
        targets = self.train.targets[np.array(shown, np.int64)].tolist()
        return self.tokenizer.frame(wording, list(zip(blocks, targets, strict=True)))

    def _fitting(
        self,
        wording: Wording,
        frame: Frame,
        specs: list[PromptSpec],
        end: bool,
        shortened: Shortened,
    ) -> list[TokenizedPrompt]:
        """Questions behind one frame; texts that are too long lose their end."""
        texts = [(spec.text, spec.pair) for spec in specs]
        words = wording.answers.words

        def worded(rows: list[int]) -> list[TokenizedPrompt]:
            blocks = [self._block(wording, *texts[i]) for i in rows]
            return self.tokenizer.questions(frame, blocks, words, end=end)

        questions = worded(list(range(len(texts))))
        long = [i for i, q in enumerate(questions) if self._excess(q) > 0]
        shortened.rows += len(long)
        before = sum(len(questions[i].prompt) for i in long)
        room = self._room(wording, frame, specs[0].pair is not None, end) if long else 0
        for i in long:
            left = room
            while self._excess(questions[i]) > 0:
                texts[i] = self._shortened(wording, specs[i].text, specs[i].pair, left)
                questions[i] = worded([i])[0]
                left = max(left - max(self._excess(questions[i]), 1), 0)
        shortened.tokens_lost += before - sum(len(questions[i].prompt) for i in long)
        return questions

    def _room(self, wording: Wording, frame: Frame, pairs: bool, end: bool) -> int:
        """Tokens that a text may take behind a frame."""
        block = self._block(wording, "", "" if pairs else None)
        (bare,) = self.tokenizer.questions(frame, [block], wording.answers.words, end=end)
        room = -self._excess(bare)
        if room < LEAST_TEXT:
            raise ConfigError(
                f"a prompt cannot fit: {self.tokenizer.max_length - room:,} tokens beside the "
                f"text, {self.tokenizer.max_length:,} in all. Set fewer --prompt.shots, a shorter "
                "--prompt.instruction, or a larger --data.max-length if the model takes it."
            )
        return room

    def _excess(self, question: TokenizedPrompt) -> int:
        longest = max(map(len, question.answers))
        return len(question.prompt) + longest - self.tokenizer.max_length

    def _shortened(
        self, wording: Wording, text: str, pair: str | None, room: int
    ) -> tuple[str, str | None]:
        """The beginning of a text that takes at most ``room`` tokens in its block."""
        size, kept = self._size(wording, text, pair), (text, pair)
        tokens = sum(self.tokenizer.text_tokens(part) for part in (text, pair) if part)
        while size > room:
            # Escapes make a block longer than its text, by a factor that the next try corrects.
            tokens = min(tokens - 1, tokens * room // size)
            kept = self._cut(text, pair, tokens)
            size = self._size(wording, *kept)
        return kept

    def _size(self, wording: Wording, text: str, pair: str | None) -> int:
        """Tokens that a text takes in its block, escapes included."""
        escape, harmless = wording.template.escape, self.tokenizer.harmless
        return sum(self.tokenizer.text_tokens(escape(harmless(p))) for p in (text, pair) if p)

    def _cut(self, text: str, pair: str | None, tokens: int) -> tuple[str, str | None]:
        """A text, and its pair, cut to so many tokens; of a pair, the longer part is shortened
        first."""
        if pair is None:
            return self.tokenizer.shorten(text, tokens), None
        first, second = map(self.tokenizer.text_tokens, (text, pair))
        shorter = min(first, second, tokens // 2)
        if first <= second:
            return (
                self.tokenizer.shorten(text, shorter),
                self.tokenizer.shorten(pair, tokens - shorter),
            )
        return self.tokenizer.shorten(text, tokens - shorter), self.tokenizer.shorten(pair, shorter)

    def _block(self, wording: Wording, text: str, pair: str | None) -> str:
        return wording.block(text, pair, self.tokenizer.harmless)

    def _length(self, wording: Wording, row: int) -> int:
        key = (wording.template.escape, row)
        if key not in self._lengths:
            self._lengths[key] = self._size(wording, *self.train.text_and_pair(row))
        return self._lengths[key]
