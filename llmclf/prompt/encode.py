"""From asks to questions: worded, tokenised, and cut to what the model takes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from llmclf.config import ConfigError
from llmclf.data.corpus import Split
from llmclf.prompt.ask import Ask, Variant
from llmclf.prompt.config import PromptConfig
from llmclf.prompt.template import Frame, Wording
from llmclf.prompt.tokens import PromptTokenizer, Question, collision

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
    """All questions of a variant, in the order of its asks, the bare lead last."""

    questions: list[Question]
    parts: dict[str, slice]
    """Where each part of the asks lies."""
    end: bool
    """Whether the end of an answer counts."""
    shortened: Shortened
    example: str
    """The first prompt as the model reads it."""


@dataclass
class PromptEncoder:
    """Words and tokenises the asks of a run."""

    config: PromptConfig
    tokenizer: PromptTokenizer
    train: Split
    _lengths: dict[int, int] = field(default_factory=dict)

    def encode(self, variant: Variant) -> EncodedVariant:
        """Raises ConfigError where a prompt cannot fit, or one answer begins with another."""
        asks, shortened = variant.asks(), Shortened()
        groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for i, ask in enumerate(asks):
            groups[ask.shown].append(i)
        frames = {
            shown: self._frame(variant.wording, shown, shortened, len(rows))
            for shown, rows in groups.items()
        }
        words = variant.wording.answers.words
        end = self._counts_end(frames[asks[0].shown], words)
        found: list[Question | None] = [None] * len(asks)
        for shown, rows in groups.items():
            some = [asks[i] for i in rows]
            questions = self._fitting(variant.wording, frames[shown], some, end, shortened)
            for i, question in zip(rows, questions, strict=True):
                found[i] = question
        questions = [question for question in found if question is not None]
        parts, start = {}, 0
        for name, part in variant.parts.items():
            parts[name] = slice(start, start + len(part))
            start += len(part)
        parts["premise"] = slice(start, start + 1)
        questions.append(self.tokenizer.premise(frames[asks[0].shown], words, end=end))
        return EncodedVariant(
            questions=questions,
            parts=parts,
            end=end,
            shortened=shortened,
            example=str(self.tokenizer.tokenizer.decode(list(questions[0].prompt))),
        )

    def _counts_end(self, frame: Frame, words: tuple[str, ...]) -> bool:
        if self.config.end_mark == "always":
            return True
        open_ = self.tokenizer.premise(frame, words, end=False).answers
        alike = collision(open_)
        if alike is None:
            return False
        if self.config.end_mark == "never":
            i, j = alike
            raise ConfigError(
                f"prompt.end_mark='never': the answer {words[j]!r} begins with the tokens of "
                f"{words[i]!r}, which could never be less likely. Set --prompt.end_mark auto, or "
                "give other words by --prompt.verbaliser."
            )
        return True

    def _frame(
        self, wording: Wording, shown: tuple[int, ...], shortened: Shortened, prompts: int
    ) -> Frame:
        """The prompt around a text. Demonstrations may take half of the context: where they would
        take more, the long ones are shortened alike."""
        texts = [self._text(row) for row in shown]
        if shown:
            room = self.tokenizer.max_length // 2
            if sum(self._length(row) for row in shown) > room:
                cap = room // len(shown)
                if cap < LEAST_TEXT:
                    raise ConfigError(
                        f"prompt.shots={len(shown)}: demonstrations may take half of the "
                        f"{self.tokenizer.max_length:,} tokens of a prompt, {cap} each, which is "
                        "too few. Set fewer --prompt.shots or a larger --data.max-length."
                    )
                long = [i for i, row in enumerate(shown) if self._length(row) > cap]
                shortened.demonstrations += len(long) * prompts
                for i in long:
                    texts[i] = self._cut(*texts[i], cap)
        blocks = [self._block(wording, *text) for text in texts]
        targets = self.train.targets[np.array(shown, np.int64)].tolist()
        return self.tokenizer.frame(wording, list(zip(blocks, targets, strict=True)))

    def _fitting(
        self, wording: Wording, frame: Frame, asks: list[Ask], end: bool, shortened: Shortened
    ) -> list[Question]:
        """Questions behind one frame; texts that are too long lose their end."""
        texts = [(ask.text, ask.pair) for ask in asks]
        words = wording.answers.words

        def worded(rows: list[int]) -> list[Question]:
            blocks = [self._block(wording, *texts[i]) for i in rows]
            return self.tokenizer.questions(frame, blocks, words, end=end)

        questions = worded(list(range(len(texts))))
        long = [i for i, q in enumerate(questions) if self._excess(q) > 0]
        shortened.rows += len(long)
        before = sum(len(questions[i].prompt) for i in long)
        for i in long:
            while (excess := self._excess(questions[i])) > 0:
                length = sum(self.tokenizer.text_tokens(t) for t in texts[i] if t)
                if length - excess < min(LEAST_TEXT, length):
                    raise ConfigError(
                        f"a prompt cannot fit: {len(questions[i].prompt) - length:,} tokens beside "
                        f"the text, {self.tokenizer.max_length:,} in all. Set fewer "
                        "--prompt.shots, a shorter --prompt.instruction, or a larger "
                        "--data.max-length if the model takes it."
                    )
                texts[i] = self._cut(*texts[i], length - excess)
                questions[i] = worded([i])[0]
        shortened.tokens_lost += before - sum(len(questions[i].prompt) for i in long)
        return questions

    def _excess(self, question: Question) -> int:
        longest = max(map(len, question.answers))
        return len(question.prompt) + longest - self.tokenizer.max_length

    def _cut(self, text: str, pair: str | None, tokens: int) -> tuple[str, str | None]:
        """Keep so many tokens; of a pair, the longer part is shortened first."""
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
        harmless = self.tokenizer.harmless
        return wording.block(harmless(text), None if pair is None else harmless(pair))

    def _text(self, row: int) -> tuple[str, str | None]:
        return self.train.texts[row], None if self.train.pairs is None else self.train.pairs[row]

    def _length(self, row: int) -> int:
        if row not in self._lengths:
            text, pair = self._text(row)
            self._lengths[row] = self.tokenizer.text_tokens(text + (pair or ""))
        return self._lengths[row]
