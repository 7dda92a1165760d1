"""Rows scored through a server, in one of three ways.

N: rows, C: labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from llmclf.prompt.api.client import Client, RefusedError
from llmclf.prompt.api.probe import Way, answer_tokens, echoes, written
from llmclf.prompt.api.request import (
    ApiPrompt,
    EchoRequest,
    NextRequest,
    NotOfferedError,
    Request,
    sum_answers,
)

FEW, ALL = 1000, 1_000_000
"""How many of the likeliest next tokens to ask for: enough for most answers, or more than any
vocabulary has."""
OnDone = Callable[[int], None]
Tree = dict[tuple[str, ...], set[str]]


@dataclass(frozen=True, kw_only=True)
class ApiScores:
    """Scores that the server gave the rows."""

    logprobs_NC: np.ndarray | None
    """Log-likelihood of each answer in nats, summed over its tokens; None for written answers."""
    tokens_NC: np.ndarray | None
    """Number of tokens of each answer; None for written answers."""
    choice_N: np.ndarray
    """Index of the likeliest or written answer; -1: invalid."""


async def choose_way(
    client: Client, scoring: Literal["auto", "logprobs", "answer"], prompt: ApiPrompt
) -> Way:
    """Find out how rows can be scored. Raises NotOfferedError when log-probabilities are asked for
    and there are none."""
    if scoring == "answer":
        return await written(client, prompt)
    try:
        way = Way("echo" if await echoes(client, prompt) else "next")
        await score(client, way, [prompt], lambda _: None)
        return way
    except (NotOfferedError, RefusedError) as error:
        if scoring == "logprobs":
            raise NotOfferedError(str(error)) from None
        return await written(client, prompt)


async def score(
    client: Client, way: Way, prompts: Sequence[ApiPrompt], on_done: OnDone
) -> ApiScores:
    """Score rows. ``way``: how the server is asked; ``on_done``: told how many rows are done."""
    if way.kind == "chat":
        answers = await _ask_rows(client, [[way.chat(prompt)] for prompt in prompts], on_done)
        choices = np.array([answer["choice"] for (answer,) in answers], dtype=np.int64)
        return ApiScores(logprobs_NC=None, tokens_NC=None, choice_N=choices)
    rows = await (_by_echo if way.kind == "echo" else _by_next)(client, prompts, on_done)
    logprobs_NC = np.array([values for values, _ in rows], dtype=np.float64)
    return ApiScores(
        logprobs_NC=logprobs_NC,
        tokens_NC=np.array([counts for _, counts in rows], dtype=np.int64),
        choice_N=logprobs_NC.argmax(axis=1),
    )


async def _by_echo(
    client: Client, prompts: Sequence[ApiPrompt], on_done: OnDone
) -> list[tuple[list[float], list[int]]]:
    rows = [[EchoRequest(prompt.text, answer) for answer in prompt.answers] for prompt in prompts]
    echoed = await _ask_rows(client, rows, on_done)
    if any(echo is None for row in echoed for echo in row):
        raise NotOfferedError
    return [sum_answers(row) for row in echoed]


async def _by_next(
    client: Client, prompts: Sequence[ApiPrompt], on_done: OnDone
) -> list[tuple[list[float], list[int]]]:
    """Answers as paths through a tree of tokens, with one request at each inner node: a single one
    where every answer has one token. The answers are spelled out once, by the first row, since what
    stands before them ends alike in all rows."""
    spelled = {}
    for prompt in prompts:
        if prompt.answers not in spelled:
            spelled[prompt.answers] = await answer_tokens(client, prompt.text, prompt.answers)
    trees = [_tree(spelled[prompt.answers]) for prompt in prompts]
    looked_up = await _look_up(client, prompts, trees, FEW, on_done)
    lacking = [i for i, tree in enumerate(trees) if _lacks(tree, looked_up[i])]
    rare, rare_trees = [prompts[i] for i in lacking], [trees[i] for i in lacking]
    again = await _look_up(client, rare, rare_trees, ALL, lambda _: None)
    for i, answers in zip(lacking, again, strict=True):
        if _lacks(trees[i], answers):
            raise NotOfferedError
        looked_up[i] = answers
    return [
        _sum_paths(spelled[prompt.answers], of)
        for prompt, of in zip(prompts, looked_up, strict=True)
    ]


async def _look_up(
    client: Client, prompts: Sequence[ApiPrompt], trees: Sequence[Tree], top: int, on_done: OnDone
) -> list[dict[tuple[str, ...], dict[str, float]]]:
    """For each row and node of its tree the log-probabilities of the tokens after it."""
    rows = [
        [
            NextRequest(prompt.text + "".join(node), tuple(sorted(after)), top)
            for node, after in tree.items()
        ]
        for prompt, tree in zip(prompts, trees, strict=True)
    ]
    responses = await _ask_rows(client, rows, on_done)
    return [
        {node: (answer or {"of": {}})["of"] for node, answer in zip(tree, answers, strict=True)}
        for tree, answers in zip(trees, responses, strict=True)
    ]


def _tree(paths: Sequence[tuple[str, ...]]) -> Tree:
    """Tokens that may follow each beginning of an answer."""
    tree: Tree = {}
    for path in paths:
        for i, token in enumerate(path):
            tree.setdefault(path[:i], set()).add(token)
    return tree


def _lacks(tree: Tree, logprobs: dict[tuple[str, ...], dict[str, float]]) -> bool:
    return any(not after <= logprobs[node].keys() for node, after in tree.items())


def _sum_paths(
    paths: Sequence[tuple[str, ...]], of: dict[tuple[str, ...], dict[str, float]]
) -> tuple[list[float], list[int]]:
    sums = [sum(of[path[:i]][token] for i, token in enumerate(path)) for path in paths]
    return sums, [len(path) for path in paths]


async def _ask_rows(
    client: Client, rows: Sequence[Sequence[Request]], on_done: OnDone
) -> list[list[Any]]:
    """What is kept of the responses to each row's requests."""
    names = [[client.digest(request) for request in row] for row in rows]
    rows_of: dict[str, list[int]] = {}
    for i, row in enumerate(names):
        for name in set(row):
            rows_of.setdefault(name, []).append(i)
    left = [len(set(row)) for row in names]
    done = 0

    def count(name: str) -> None:
        nonlocal done
        for i in rows_of[name]:
            left[i] -= 1
            done += left[i] == 0
        on_done(done)

    requests = [request for row in rows for request in row]
    answers = await client.ask_all(requests, count)
    return [[answers[name] for name in row] for row in names]
