"""What is computed together: questions that share a beginning, cut into batches of even length.

B: rows of a batch, T: prompt tokens of a row, the last one left out, J: nodes of a row, which are
the last prompt token and the answer tokens that another one follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from llmclf.prompt.tokens import Question, common_prefix

Answers = tuple[tuple[int, ...], ...]
LEAST_SHARED = 64
"""Tokens that the questions of a group have in common at least, for a prefix of their own."""


@dataclass(frozen=True)
class Trie:
    """The answers of a question as a tree below the last prompt token, which is node 0."""

    tokens: tuple[int, ...]
    """Of nodes 1 to J - 1."""
    parents: tuple[int, ...]
    """Likewise, each before its children."""
    steps: tuple[tuple[tuple[int, int], ...], ...]
    """Of each answer: (node, token that follows it), whose log-probabilities add up."""

    @property
    def size(self) -> int:
        """Nodes, J."""
        return len(self.tokens) + 1

    def depths(self) -> list[int]:
        """Distance of each node from node 0 (J)."""
        found = [0]
        for parent in self.parents:
            found.append(found[parent] + 1)
        return found

    def visible(self) -> np.ndarray:
        """Whether a node is another one's ancestor or itself, bool (J, J): row sees column."""
        seen = np.eye(self.size, dtype=bool)
        for node, parent in enumerate(self.parents, start=1):
            seen[node] |= seen[parent]
        return seen


@cache
def trie(answers: Answers) -> Trie:
    """Share what answers begin with. Their last tokens are looked up, never computed with."""
    nodes: dict[tuple[int, ...], int] = {(): 0}
    tokens, parents, steps = [], [], []
    for answer in answers:
        path = []
        for i, token in enumerate(answer):
            path.append((nodes[answer[:i]], token))
            if i + 1 < len(answer) and answer[: i + 1] not in nodes:
                nodes[answer[: i + 1]] = len(nodes)
                tokens.append(token)
                parents.append(nodes[answer[:i]])
        steps.append(tuple(path))
    return Trie(tuple(tokens), tuple(parents), tuple(steps))


@dataclass(frozen=True)
class Batch:
    """Questions that are scored in one forward pass, behind ``shared`` tokens computed before."""

    rows: tuple[int, ...]
    """Indices into the questions."""
    shared: int
    """Tokens that all of them begin with."""


@dataclass(frozen=True)
class Plan:
    """Batches in the order in which they are computed."""

    batches: tuple[Batch, ...]
    shared: int
    """Tokens that all questions begin with."""

    def tokens(self, questions: Sequence[Question]) -> int:
        """Tokens that are computed with, padding left out."""
        total, before = self.shared, None
        for batch in self.batches:
            first = questions[batch.rows[0]].prompt[: batch.shared]
            if first != before:
                total += batch.shared - self.shared
                before = first
            for row in batch.rows:
                question = questions[row]
                total += len(question.prompt) - batch.shared + trie(question.answers).size - 1
        return total


def plan(questions: Sequence[Question], *, token_budget: int, logit_budget: int) -> Plan:
    """Group questions by what they begin with, and cut groups into batches.

    ``token_budget``: tokens of a batch at most, padding included. ``logit_budget``: nodes of a
    batch at most. A single question may pass both. Equal questions must have been removed.
    """
    order = sorted(range(len(questions)), key=lambda i: questions[i].prompt)
    prompts = [questions[i].prompt for i in order]
    # The last prompt token is a node: it is computed in each row.
    shared = min(common_prefix(prompts[0], prompts[-1]), min(map(len, prompts)) - 1)
    batches: list[Batch] = []
    for group, length in _groups(order, prompts, shared):
        group = sorted(group, key=lambda i: (len(questions[i].prompt), questions[i].prompt))
        batches += _cut(group, questions, length, token_budget, logit_budget)
    return Plan(tuple(batches), shared)


def _groups(
    order: list[int], prompts: list[tuple[int, ...]], shared: int
) -> list[tuple[list[int], int]]:
    """Neighbours in sorted order that share at least half of what each of them holds beyond
    ``shared``; with the number of tokens they share."""
    groups: list[tuple[list[int], int]] = [([order[0]], shared)]
    first, length = prompts[0], len(prompts[0]) - 1
    for row, prompt in zip(order[1:], prompts[1:], strict=True):
        common = min(common_prefix(first, prompt), length, len(prompt) - 1)
        longest = max(len(first), len(prompt))
        worth = common - shared >= max(LEAST_SHARED, (longest - shared) // 2)
        rows, held = groups[-1]
        if worth:
            if held == shared and len(rows) > 1:  # the one before stands among others: part them
                groups.append(([rows.pop()], common))
            groups[-1][0].append(row)
            groups[-1] = (groups[-1][0], common)
            length = common
            continue
        if held == shared:
            rows.append(row)
        else:
            groups.append(([row], shared))
        first, length = prompt, len(prompt) - 1
    return groups


def _cut(
    group: list[int],
    questions: Sequence[Question],
    shared: int,
    token_budget: int,
    logit_budget: int,
) -> list[Batch]:
    """Batches of a group that is sorted by length."""
    batches: list[Batch] = []
    rows: list[int] = []
    nodes = 0
    for row in group:
        size = trie(questions[row].answers).size
        width = len(questions[row].prompt) - shared - 1 + max(nodes, size)
        count = len(rows) + 1
        if rows and (count * width > token_budget or count * max(nodes, size) > logit_budget):
            batches.append(Batch(tuple(rows), shared))
            rows, nodes = [], 0
        rows.append(row)
        nodes = max(nodes, size)
    batches.append(Batch(tuple(rows), shared))
    return batches
