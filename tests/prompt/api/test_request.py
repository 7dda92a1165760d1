"""What is read from a response: which tokens are the answer's, and what makes no sense."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from llmclf.prompt.api.request import (
    ChatRequest,
    EchoRequest,
    JunkError,
    NextRequest,
    NotOfferedError,
    Request,
    digest,
    sum_answers,
    token_bounds,
)


def echoed(text: str, tokens: list[str], generated: str | None, **changes: Any) -> dict[str, Any]:
    """A response in which token i has the log-probability -i."""
    every = tokens if generated is None else [*tokens, generated]
    logprobs = {"tokens": every, "token_logprobs": [None, *(-float(i) for i in range(1, 99))]}
    logprobs["token_logprobs"] = logprobs["token_logprobs"][: len(every)]
    choice = {"text": text + (generated or ""), "logprobs": {**logprobs, **changes}}
    return {"choices": [choice]}


def read(text: str, answer: str, tokens: list[str], generated: str | None, **changes: Any) -> Any:
    response = echoed(text + answer, tokens, generated, **changes)
    return EchoRequest(text, answer).read(response)


def test_answer_is_summed_without_the_generated_token() -> None:
    found = [
        read("Label:", " yes", ["Label", ":", " yes"], " yes"),
        read("Label:", " no way", ["Label", ":", " no", " way"], "!"),
    ]
    assert sum_answers(found) == ([-2.0, -5.0], [1, 2])


def test_nothing_may_have_been_generated() -> None:
    found = [read("Label:", " yes", ["Label", ":", " yes"], None)]
    assert sum_answers(found) == ([-2.0], [1])


def test_a_beginning_of_text_token_may_be_shown() -> None:
    found = [read("Label:", " yes", ["<s>", "Label", ":", " yes"], "\n")]
    assert sum_answers(found) == ([-3.0], [1])


def test_token_across_the_boundary_is_taken_for_all_answers() -> None:
    # " yes" merges with the colon, " no" does not.
    found = [
        read("Label:", " yes", ["Label", ": yes"], "\n"),
        read("Label:", " no", ["Label", ":", " no"], "\n"),
    ]
    assert sum_answers(found) == ([-1.0, -3.0], [1, 2])


def test_tokens_that_part_before_the_boundary_are_taken_too() -> None:
    found = [
        read("The label", "s", ["The", " labels"], "\n"),
        read("The label", "led", ["The", " la", "bel", "led"], "\n"),
        read("The label", " x", ["The", " label", " x"], "\n"),
    ]
    assert sum_answers(found) == ([-1.0, -6.0, -3.0], [1, 3, 2])


def test_answer_that_begins_another() -> None:
    found = [
        read("L:", " a", ["L", ":", " a"], "\n"),
        read("L:", " a b", ["L", ":", " a", " b"], "\n"),
    ]
    assert sum_answers(found) == ([-2.0, -5.0], [1, 2])


def test_text_with_characters_of_several_tokens() -> None:
    # llama.cpp gives parts of a character as empty strings.
    found = [
        read("日本 🙂\nL:", " yes", ["", "", "本", " ", "", "🙂", "\n", "L", ":", " yes"], "x")
    ]
    assert sum_answers(found) == ([-9.0], [1])


def test_answer_with_characters_of_several_tokens_needs_offsets() -> None:
    tokens = ["L", ":", " ", "", "日", "", "本"]
    offsets = {"text_offset": [0, 1, 2, 3, 3, 4, 4, 5]}
    right = read("L:", " 日本", ["L", ":", " ", "", "", "", ""], "\n", **offsets)
    assert sum_answers([right]) == ([-20.0], [5])
    drifted = {"text_offset": [0, 1, 2, 3, 6, 7, 8, 9]}
    for changes in ({}, drifted):
        unknown = read("L:", " 日本", ["L", ":", " ", "", "", "", ""], "\n", **changes)
        with pytest.raises(NotOfferedError):
            sum_answers([unknown])
    assert sum_answers([read("L:", " 日本", tokens, "\n")]) == ([-20.0], [5])


def test_long_prompts_are_kept_in_part() -> None:
    text = " a" * 60
    found = read(text, " yes", [*[" a"] * 60, " yes"], "\n")
    assert len(found["tokens"]) < 40
    assert sum_answers([found]) == ([-60.0], [1])


def test_echo_that_is_none_is_not_offered() -> None:
    request = EchoRequest("Label:", " yes")
    generated = {"tokens": ["!"], "token_logprobs": [-1.0]}
    assert request.read({"choices": [{"text": "!", "logprobs": generated}]}) is None
    assert request.read({"choices": [{"text": "Label: yes!", "logprobs": None}]}) is None


def spoilt(value: Any) -> Iterator[Any]:
    """A value with each part of it replaced by what does not belong there."""
    yield from (None, 3, float("nan"), "x", [], {}, [None], {"x": 1})
    parts: list[Any] = []
    if isinstance(value, dict | list):
        parts = list(value.items() if isinstance(value, dict) else enumerate(value))
    for key, part in parts:
        for other in spoilt(part):
            changed = value.copy()
            changed[key] = other
            yield changed


def test_no_response_is_too_strange_to_be_read() -> None:
    top = {"top_logprobs": [{" yes": -1.0}], "text_offset": [0, 5, 6, 10]}
    echo = echoed("Label: yes", ["Label", ":", " yes"], "!", **top)
    single = {"tokens": [" yes"], "token_logprobs": [-1.0], "top_logprobs": [{" yes": -1.0}]}
    completion = {"choices": [{"text": " yes", "logprobs": single}]}
    chat = {"choices": [{"message": {"content": "yes"}}]}
    cases: list[tuple[Request, Any]] = [
        (EchoRequest("Label:", " yes"), echo),
        (NextRequest("Label:", (" yes",), 5), completion),
        (ChatRequest((("user", "Label:"),), ("yes", "no")), chat),
    ]
    for request, response in cases:
        assert request.read(response) is not None
        for other in spoilt(response):
            with contextlib.suppress(JunkError, NotOfferedError):
                found = request.read(other)
                json.dumps(found)
                if found and isinstance(request, EchoRequest):
                    sum_answers([found])


def test_missing_log_probability_is_junk() -> None:
    found = read("L", " yes", ["L", " yes"], "\n", token_logprobs=[None, None, -1.0])
    with pytest.raises(JunkError, match="without a log-probability"):
        sum_answers([found])


def test_digest_depends_on_all_that_matters() -> None:
    first = ChatRequest((("user", "hello"),), ("a", "b"))
    others = [
        (ChatRequest((("user", "hello!"),), ("a", "b")), "http://x/v1", "m"),
        (ChatRequest((("user", "hello"),), ("a", "c")), "http://x/v1", "m"),
        (ChatRequest((("user", "hello"),), ("a", "b"), "json_schema"), "http://x/v1", "m"),
        (first, "http://y/v1", "m"),
        (first, "http://x/v1", "n"),
    ]
    found = {digest(*each) for each in [(first, "http://x/v1", "m"), *others]}
    assert len(found) == 6
    assert digest(first, "http://x/v1", "m") in found


def test_bounds_are_not_below_a_token_per_byte() -> None:
    request = ChatRequest((("user", "日本" * 10),), ("positive", "negative"))
    given, written = token_bounds(request.body("m"))
    assert given >= 60 and written >= len('"positive"')
