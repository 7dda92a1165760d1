"""What a server offers, found out by asking it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from llmclf.prompt.api.client import Client, RefusedError
from llmclf.prompt.api.request import (
    ApiPrompt,
    ChatRequest,
    Constraint,
    EchoRequest,
    NextRequest,
    NotOfferedError,
)

TOLERANCE = 0.25
"""Nats by which a log-probability may differ from one request to the next: 16-bit arithmetic."""


@dataclass(frozen=True)
class Way:
    """How rows are scored: by echoed prompts, by next tokens, or by written answers."""

    kind: Literal["echo", "next", "chat"]
    constraint: Constraint | None = None
    reasoning: bool = False

    def chat(self, prompt: ApiPrompt) -> ChatRequest:
        """The request for a written answer."""
        turns = tuple((turn["role"], turn["content"]) for turn in prompt.messages)
        return ChatRequest(turns, prompt.words, self.constraint, self.reasoning)


async def written(client: Client, prompt: ApiPrompt) -> Way:
    """How to have answers written: with a constraint if the server obeys one."""
    free = Way("chat")
    try:
        await client.ask(free.chat(prompt))
    except RefusedError as error:
        # OpenAI's newer models.
        if "max_completion_tokens" not in str(error):
            raise
        free = Way("chat", reasoning=True)
        await client.ask(free.chat(prompt))
    for constraint in get_args(Constraint):
        way = Way("chat", constraint, free.reasoning)
        try:
            answer = await client.ask(way.chat(prompt), patient=False)
        except RefusedError:
            continue
        if answer["formed"]:
            return way
    return free


async def echoes(client: Client, prompt: ApiPrompt) -> bool:
    """Whether the log-probabilities of echoed prompts are right, found out by having a token
    generated and then asked for as the end of a prompt.

    Raises NotOfferedError where there are none, or nothing to compare them with.
    """
    checks = 0
    for stem in (prompt.text, prompt.text + prompt.answers[0]):
        likeliest = await client.ask(NextRequest(stem, (), 1), patient=False)
        if likeliest is None or not likeliest["token"].isprintable() or not likeliest["token"]:
            continue
        echo = await client.ask(EchoRequest(stem, likeliest["token"]), patient=False)
        if echo is None:
            raise NotOfferedError
        if echo["start"] is None:
            continue
        values = echo["logprobs"][echo["start"] - echo["first"] :]
        if None in values or abs(sum(values) - likeliest["logprob"]) > TOLERANCE:
            return False
        checks += 1
    if not checks:
        raise NotOfferedError
    return True


async def answer_tokens(
    client: Client, text: str, answers: Sequence[str]
) -> tuple[tuple[str, ...], ...]:
    """The tokens of each answer, after ``text``. Raises NotOfferedError where they do not spell it
    out."""
    spelled = []
    for answer in answers:
        echo = await client.ask(EchoRequest(text, answer))
        if echo is None or echo["start"] is None:
            raise NotOfferedError
        tokens = tuple(echo["tokens"][echo["start"] - echo["first"] :])
        if "".join(tokens) != answer:
            raise NotOfferedError
        spelled.append(tokens)
    return tuple(spelled)
