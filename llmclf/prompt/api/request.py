"""What is asked of a server, and what of its response is kept.

Each request knows its path, its body, and how to read a response: ``read`` returns the part that is
needed as JSON values, None where the server does not offer what was asked for, and raises JunkError
for a response that makes no sense.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from llmclf.prompt.api.answer import parse_answer

Constraint = Literal["json_schema", "json_object"]
Bounds = tuple[int, int]
"""Tokens of input and output, at most."""
TAIL_TOKENS = 32
"""Tokens kept before an answer: none that runs into it begins further back."""
REASONING_TOKENS = 4096
"""Tokens for the thoughts of a model that thinks before it answers."""


class JunkError(ValueError):
    """A response that makes no sense: worth another attempt."""


class NotOfferedError(Exception):
    """The server does not give the log-probabilities that are needed."""


@dataclass(frozen=True, kw_only=True)
class ApiPrompt:
    """What is asked about one row."""

    text: str
    """The prompt as running text, up to before the answer; not empty."""
    messages: list[dict[str, str]]
    """The prompt as turns of a conversation."""
    answers: tuple[str, ...]
    """Answers, one per label, as each follows ``text`` (C)."""
    words: tuple[str, ...]
    """Answers without what stands around them (C)."""


@dataclass(frozen=True)
class EchoRequest:
    """The log-probabilities of the tokens of a prompt, as far as its end, an answer, needs them.

    OpenAI's legacy completions with ``echo``; vLLM's server and llama-cpp-python's have it.
    """

    text: str
    answer: str
    path = "/completions"

    def body(self, model: str) -> dict[str, Any]:
        """Body of the request. One token is generated, and dropped: llama-cpp-python takes 0 for no
        limit."""
        return _completion(model, self.text + self.answer, logprobs=1, echo=True)

    def read(self, payload: Any) -> Any:
        """What is kept of a response. ``first``: index of the first token kept; ``start``: of the
        one that the answer begins in, null if unknown; ``tokens``; ``logprobs`` in nats."""
        prompt = self.text + self.answer
        choice = _choice(payload)
        details = choice.get("logprobs")
        if not isinstance(choice.get("text"), str):
            raise JunkError("a completion without text")
        if not details or not choice["text"].startswith(prompt):
            return None
        tokens, logprobs = _lists(details)
        end = _end_of_prompt(tokens, prompt, choice["text"][len(prompt) :])
        start = _start_of_answer(tokens[:end], self.answer)
        if start is None:
            start = _start_by_offset(details.get("text_offset"), end, len(self.text), len(prompt))
        first = max(0, min(end if start is None else start, end - len(self.answer)) - TAIL_TOKENS)
        return {
            "first": first,
            "start": start,
            "tokens": tokens[first:end],
            "logprobs": logprobs[first:end],
        }


@dataclass(frozen=True)
class NextRequest:
    """The log-probabilities of certain tokens right after a prompt."""

    prompt: str
    tokens: tuple[str, ...]
    top: int
    """How many of the likeliest tokens are asked for."""
    path = "/completions"

    def body(self, model: str) -> dict[str, Any]:
        """Body of the request: one token, and the likeliest in its place."""
        return _completion(model, self.prompt, logprobs=self.top)

    def read(self, payload: Any) -> Any:
        """What is kept of a response: ``token`` and ``logprob`` of the likeliest, and ``of``: token
        to log-probability in nats, of those among the likeliest."""
        details = _choice(payload).get("logprobs")
        if not details:
            return None
        tokens, logprobs = _lists(details)
        if len(tokens) != 1 or logprobs[0] is None:
            return None
        top = details.get("top_logprobs")
        first = top[0] if isinstance(top, list) and top and isinstance(top[0], dict) else {}
        of = {name: first[name] for name in self.tokens if _is_logprob(first.get(name))}
        return {"token": tokens[0], "logprob": logprobs[0], "of": of}


@dataclass(frozen=True)
class ChatRequest:
    """The answer that a model writes."""

    messages: tuple[tuple[str, str], ...]
    """Role and content of each turn."""
    words: tuple[str, ...]
    constraint: Constraint | None = None
    """How the server is told to write nothing but an answer: OpenAI's way, that of
    llama-cpp-python, or not at all."""
    reasoning: bool = False
    """Whether the model refuses ``max_tokens`` and a temperature."""
    path = "/chat/completions"

    def body(self, model: str) -> dict[str, Any]:
        """Body of the request: greedy, and as long as the longest answer in bytes, which no
        tokenizer exceeds, with some room for what stands around it."""
        turns = [{"role": role, "content": content} for role, content in self.messages]
        body: dict[str, Any] = {"model": model, "messages": turns}
        longest = max(len(json.dumps(word)) for word in self.words)
        room = 24 if self.constraint else 6
        if self.reasoning:
            body["max_completion_tokens"] = longest + REASONING_TOKENS
        else:
            body |= {"max_tokens": longest + room, "temperature": 0}
        return body | ({"response_format": self._format()} if self.constraint else {})

    def _format(self) -> dict[str, Any]:
        schema = {
            "type": "object",
            "properties": {"label": {"type": "string", "enum": list(self.words)}},
            "required": ["label"],
            "additionalProperties": False,
        }
        if self.constraint == "json_object":
            return {"type": "json_object", "schema": schema}
        return {
            "type": "json_schema",
            "json_schema": {"name": "answer", "strict": True, "schema": schema},
        }

    def read(self, payload: Any) -> Any:
        """What is kept of a response. ``choice``: index of the answer, -1 for none; ``formed``:
        whether it came as the constraint wants it."""
        message = _choice(payload).get("message")
        if not isinstance(message, dict):
            raise JunkError("a chat completion without a message")
        content = message.get("content")
        if not isinstance(content, str | None):
            raise JunkError("a message whose content is no text")
        labelled = _label(content or "")
        if labelled in self.words:
            return {"choice": self.words.index(labelled), "formed": True}
        return {"choice": parse_answer(content or "", self.words), "formed": False}


Request = EchoRequest | NextRequest | ChatRequest


def digest(request: Request, base_url: str, model: str) -> str:
    """SHA-256 of the request and of what is kept of its response."""
    facts = [base_url, request.path, request.body(model), type(request).__name__, asdict(request)]
    text = json.dumps(facts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def token_bounds(body: dict[str, Any]) -> Bounds:
    """Tokens of input and output that a request cannot exceed, without knowing the tokenizer.

    A token stands for a byte at least; what a chat format adds is allowed for generously.
    """
    given = body.get("prompt")
    if given is None:
        turns = [turn["content"] for turn in body["messages"]]
        given, extra = "".join(turns), 64 + 16 * len(turns)
        extra += len(json.dumps(body.get("response_format", "")))
    else:
        extra = 2
    output = body.get("max_tokens") or body["max_completion_tokens"]
    return len(given.encode(errors="replace")) + extra, output


def sum_answers(echoes: Sequence[dict[str, Any]]) -> tuple[list[float], list[int]]:
    """Log-likelihood in nats and number of tokens of each answer of one row (C).

    Raises NotOfferedError where it is unknown which tokens an answer has.

    A token that straddles the end of the text is taken for all answers alike: they are summed from
    the last place where all of them are still at the same token, at or before each one's start.
    """
    at = max(echo["first"] for echo in echoes)
    windows = [echo["tokens"][at - echo["first"] :] for echo in echoes]
    shared = 0
    while all(len(w) > shared and w[shared] == windows[0][shared] for w in windows):
        shared += 1
    starts = [echo["start"] for echo in echoes]
    if None in starts:
        raise NotOfferedError
    start = min(at + shared, *starts)
    values = [echo["logprobs"][max(0, start - echo["first"]) :] for echo in echoes]
    if any(value is None for answer in values for value in answer):
        raise JunkError("a token without a log-probability")
    return [float(sum(answer)) for answer in values], [len(answer) for answer in values]


def _completion(model: str, prompt: str, **options: Any) -> dict[str, Any]:
    return {"model": model, "prompt": prompt, "max_tokens": 1, "temperature": 0, **options}


def _choice(payload: Any) -> dict[str, Any]:
    choices = payload.get("choices") if isinstance(payload, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise JunkError("no choices in it")
    return choices[0]


def _lists(details: Any) -> tuple[list[str], list[float | None]]:
    tokens = details.get("tokens") if isinstance(details, dict) else None
    logprobs = details.get("token_logprobs") if isinstance(details, dict) else None
    if not isinstance(tokens, list) or not isinstance(logprobs, list):
        raise JunkError("log-probabilities without tokens")
    if len(tokens) != len(logprobs) or not all(isinstance(token, str) for token in tokens):
        raise JunkError("tokens and log-probabilities that do not go together")
    if not all(value is None or _is_logprob(value) for value in logprobs):
        raise JunkError("a log-probability that is none")
    return tokens, logprobs


def _is_logprob(value: Any) -> bool:
    """Whether a value is a number up to 0, but for rounding; a NaN fails the comparison."""
    return isinstance(value, int | float) and value <= 1e-3


def _end_of_prompt(tokens: list[str], prompt: str, generated: str) -> int:
    """How many of the tokens belong to the prompt: all, or all but the generated one.

    Offsets are a last resort: they may count bytes or characters, and drift where a character has
    several tokens.
    """
    whole, less = (_agreement("".join(part), prompt) for part in (tokens, tokens[:-1]))
    if whole == less:
        return len(tokens) - (tokens[-1:] == [generated])
    return len(tokens) if whole > less else len(tokens) - 1


def _agreement(text: str, prompt: str) -> int:
    """Length of the longest end that two texts share."""
    length = 0
    for a, b in zip(reversed(text), reversed(prompt), strict=False):
        if a != b:
            break
        length += 1
    return length


def _start_of_answer(tokens: list[str], answer: str) -> int | None:
    """Index of the token that the answer begins in; None where tokens cannot be spelled out."""
    spelled, at = "", len(tokens)
    while len(spelled) < len(answer) and at > 0:
        at -= 1
        spelled = tokens[at] + spelled
    return at if spelled.endswith(answer) else None


def _start_by_offset(offsets: Any, end: int, start: int, stop: int) -> int | None:
    """Index of the token at character ``start``, where the offsets are seen to count characters:
    that of the generated token is where the prompt stops."""
    if isinstance(offsets, list) and end < len(offsets) and offsets[end] == stop:
        return offsets.index(start) if start in offsets[:end] else None
    return None


def _label(content: str) -> Any:
    try:
        value = json.loads(content)
    except ValueError:
        return None
    return value.get("label") if isinstance(value, dict) else None
