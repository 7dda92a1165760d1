"""The wording of a prompt: instruction, demonstrations, the text in question, and the answers.

Plain text for base models, turns of a conversation for chat models. A text stands in a block with
an end that it cannot spell itself, since what marks the end is escaped.
"""

from __future__ import annotations

import html
import itertools
import json
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from llmclf.data.descriptions import by_label, check_words
from llmclf.prompt.config import PromptConfig, TemplateName

QUERY = "\u241fquery\u241f"
"""Placeholder of the text in question while the rest is put together."""


@dataclass(frozen=True, kw_only=True)
class Template:
    """One wording. ``{labels}`` in the instruction becomes the list of answers."""

    instruction: str
    block: str
    """The text of a row with what stands around it, ``{text}``."""
    pair_block: str
    """A text and a second one with what stands around them, ``{text}`` and ``{pair}``."""
    escape: Callable[[str], str]
    """How a text is made unable to end its block."""
    lead: str
    """Words that stand right before an answer."""


def _as_json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _as_markup(text: str) -> str:
    return html.escape(text, quote=False)


TEMPLATES: dict[TemplateName, Template] = {
    "quoted": Template(
        instruction="Label each text with one of: {labels}.",
        block="Text: {text}",
        pair_block="Text: {text}\nSecond text: {pair}",
        escape=_as_json,
        lead="Label:",
    ),
    "tagged": Template(
        instruction="Decide which label fits the text between the tags best. Labels: {labels}.",
        block="<text>{text}</text>",
        pair_block="<text>{text}</text>\n<second>{pair}</second>",
        escape=_as_markup,
        lead="The label is:",
    ),
    "question": Template(
        instruction="Read each passage and answer the question about it.",
        block="Passage: {text}\nQuestion: Is this {labels}?",
        pair_block="Passage: {text}\nOther passage: {pair}\nQuestion: Is this {labels}?",
        escape=_as_json,
        lead="Answer:",
    ),
}


@dataclass(frozen=True)
class Answers:
    """What the model may answer, one string per label (C)."""

    labels: tuple[str, ...]
    words: tuple[str, ...]
    """The answers in the order of ``labels``."""
    shown: tuple[str, ...]
    """How the instruction names each answer."""
    descriptions: tuple[str, ...] | None = None
    """What each label means, in a sentence; None where nobody says."""

    def of(self, target: int) -> str:
        """The answer that stands for a label."""
        return self.words[target]


def verbalise(
    config: PromptConfig, labels: tuple[str, ...], descriptions: tuple[str, ...] | None = None
) -> Answers:
    """Find the words for each label. ``descriptions``: a sentence on each (C).

    Raises ConfigError for a word for an unknown label, a label without one, or two alike.
    """
    if config.answers == "letters":
        letters = _letters(len(labels))
        shown = tuple(f"{k} ({name})" for k, name in zip(letters, labels, strict=True))
        return Answers(labels, letters, shown, descriptions)
    words = {name: name for name in labels}
    if config.verbaliser:
        words = by_label("prompt.verbaliser", config.verbaliser, labels)
    chosen = tuple(words[name].strip() for name in labels)
    check_words("prompt.verbaliser", labels, chosen, told_by="their answers")
    return Answers(labels, chosen, chosen, descriptions)


def _letters(count: int) -> tuple[str, ...]:
    """The letters A to Z, then AA, AB, ..., as many as are asked for."""
    lengths = itertools.count(1)
    names = (
        "".join(p) for n in lengths for p in itertools.product(string.ascii_uppercase, repeat=n)
    )
    return tuple(itertools.islice(names, count))


@dataclass(frozen=True)
class Frame:
    """A prompt without the text in question: what stands before its block, and after it.

    ``head + block + tail + answer`` is the whole string that is scored.
    """

    head: str
    tail: str
    before_answer: str
    """What stands between ``tail`` and the answer."""
    end: str
    """What follows an answer."""

    def bare(self) -> Frame:
        """The frame of the answer's lead alone."""
        return replace(self, head="", tail=self.tail.lstrip("\n"))


@dataclass(frozen=True)
class Wording:
    """A template filled in for one task."""

    template: Template
    answers: Answers
    instruction: str

    def block(
        self, text: str, pair: str | None, harmless: Callable[[str], str] = lambda text: text
    ) -> str:
        """The block of one text, or of a pair. ``harmless`` takes control tokens out of a text."""
        shape = self.template.block if pair is None else self.template.pair_block
        # Plain replacement, one pass over the shape: a text may hold braces.
        values = {
            "text": self.template.escape(harmless(text)),
            "pair": "" if pair is None else self.template.escape(harmless(pair)),
            "labels": _enumerated(self.answers.shown),
        }
        return fill(shape, values)

    def plain(self, demonstrations: Sequence[tuple[str, int]]) -> Frame:
        """The prompt as running text. ``demonstrations``: blocks with the index of their label."""
        lead = self.template.lead
        shown = [
            f"{block}\n{lead} {self.answers.of(target)}\n\n" for block, target in demonstrations
        ]
        return Frame(
            head=f"{self.instruction}\n\n" + "".join(shown),
            tail=f"\n{lead}",
            before_answer=" ",
            end="\n\n",
        )

    def messages(
        self, demonstrations: Sequence[tuple[str, int]], block: str, *, lead: bool
    ) -> list[dict[str, str]]:
        """The prompt as the turns of a conversation; the instruction opens the first turn, since
        some models know no system role. ``lead``: whether it opens each answer."""
        before = f"{self.template.lead} " if lead else ""
        turns: list[dict[str, str]] = []
        for shown, target in demonstrations:
            turns.append({"role": "user", "content": shown})
            turns.append({"role": "assistant", "content": before + self.answers.of(target)})
        turns.append({"role": "user", "content": block})
        turns[0]["content"] = f"{self.instruction}\n\n{turns[0]['content']}"
        return turns


def word(name: TemplateName, config: PromptConfig, answers: Answers) -> Wording:
    """A wording of this name with its instruction filled in, and below it a line on each answer
    that is described."""
    template = TEMPLATES[name]
    instruction = template.instruction if config.instruction is None else config.instruction
    lines = [fill(instruction, {"labels": ", ".join(answers.shown)})]
    if answers.descriptions is not None:
        described = zip(answers.words, answers.descriptions, strict=True)
        lines += [f"{answer}: {sentence}" for answer, sentence in described]
    return Wording(template, answers, "\n".join(lines))


def fill(shape: str, values: dict[str, str]) -> str:
    """Replace ``{name}`` by its value, in one pass, so that no value is searched again."""
    parts: list[str] = []
    rest = shape
    while rest:
        places = [(rest.find("{" + name + "}"), name) for name in values]
        places = [(at, name) for at, name in places if at >= 0]
        if not places:
            break
        at, name = min(places)
        parts += [rest[:at], values[name]]
        rest = rest[at + len(name) + 2 :]
    return "".join([*parts, rest])


def _enumerated(names: Sequence[str]) -> str:
    """Names in a sentence: a, b or c."""
    return f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0]
