"""What is computed together: questions that share a beginning, cut into batches of even length.

B: rows of a batch, T: prompt tokens of a row, the last one left out, J: nodes of a row, which are
the last prompt token and the answer tokens that another one follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np

from llmclf.prompt.tokens import TokenizedPrompt, common_prefix

Answers = tuple[tuple[int, ...], ...]
PASS_TOKENS = 64
"""Cost of a forward pass for a prefix beside its tokens: that of so many more of them."""


@dataclass(frozen=True)
class Trie:
    """The answers of a question as a tree below the last prompt token, which is node 0."""

    tokens: tuple[int, ...]
    """Tokens of nodes 1 to J - 1."""
    parents: tuple[int, ...]
    """Parent of each of nodes 1 to J - 1, which comes before its children."""
    steps: tuple[tuple[tuple[int, int], ...], ...]
    """Steps of each answer: (node, token that follows it), whose log-probabilities add up."""

    @property
    def size(self) -> int:
        """Number of nodes, J."""
        return len(self.tokens) + 1

    def depths(self) -> list[int]:
        """Distance of each node from node 0 (J)."""
        depths = [0]
        for parent in self.parents:
            depths.append(depths[parent] + 1)
        return depths

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
class Packing:
    """Batches of questions in the order in which they are computed."""

    batches: tuple[Batch, ...]
    shared: int
    """Tokens that all questions begin with."""

    def tokens(self, questions: Sequence[TokenizedPrompt]) -> int:
        """Number of tokens that are computed with, padding left out."""
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


def pack(questions: Sequence[TokenizedPrompt], *, token_budget: int, logit_budget: int) -> Packing:
    """Group questions by what they begin with, and cut groups into batches.

    ``token_budget``: tokens of a batch at most, padding included. ``logit_budget``: nodes of a
    batch at most. A single question may pass both. Equal questions must have been removed.
    """
    order = sorted(range(len(questions)), key=lambda i: questions[i].prompt)
    prompts = [questions[i].prompt for i in order]
    shared = shared_tokens(prompts)
    batches: list[Batch] = []
    for group, length in _groups(order, prompts, shared):
        group = sorted(group, key=lambda i: (len(questions[i].prompt), questions[i].prompt))
        batches += _cut(group, questions, length, token_budget, logit_budget)
    return Packing(tuple(batches), shared)


def shared_tokens(prompts: Sequence[tuple[int, ...]]) -> int:
    """Tokens that all prompts begin with. The last token of a prompt is a node, which is computed
    in each row, and does not count."""
    return min(common_prefix(min(prompts), max(prompts)), min(map(len, prompts)) - 1)


@dataclass
class _Stretch:
    """Neighbours in sorted order, and the cheapest way to group them."""

    start: int
    count: int = 0
    tokens: int = 0
    """Tokens of all prompts of the stretch."""
    cost: int = 0
    """Tokens to compute, beyond those that all questions share."""
    groups: tuple[tuple[int, int, int], ...] = ()
    """First neighbour, number of them, and tokens that they begin with."""

    def add(self, part: _Stretch) -> None:
        self.count += part.count
        self.tokens += part.tokens
        self.cost += part.cost
        self.groups += part.groups

    def closed(self, length: int, shared: int) -> _Stretch:
        """The stretch as one group behind the ``length`` tokens that all of it begin with, if that
        is cheaper."""
        alone = self.tokens - self.count * length + length - shared + PASS_TOKENS
        if length > shared and alone < self.cost:
            self.cost, self.groups = alone, ((self.start, self.count, length),)
        return self


def _groups(
    order: list[int], prompts: list[tuple[int, ...]], shared: int
) -> list[tuple[list[int], int]]:
    """Questions with a prefix of their own, and those that have but ``shared`` in common.

    Sorted prompts form a tree of common beginnings: a stretch of neighbours is one group, or what
    its parts are, whichever has fewer tokens to compute.
    """
    lengths = [min(common_prefix(a, b), len(a) - 1, len(b) - 1) for a, b in pairwise(prompts)]
    open_: list[tuple[int, _Stretch]] = [(shared, _Stretch(0))]
    for i, prompt in enumerate(prompts):
        part = _Stretch(i, 1, len(prompt), len(prompt) - shared)
        follows = lengths[i] if i < len(lengths) else shared
        if follows > open_[-1][0]:
            open_.append((follows, _Stretch(i)))
        open_[-1][1].add(part)
        while open_[-1][0] > follows:
            length, stretch = open_.pop()
            if open_[-1][0] < follows:
                open_.append((follows, _Stretch(stretch.start)))
            open_[-1][1].add(stretch.closed(length, shared))
    ((_, whole),) = open_
    grouped, loose = [], set(order)
    for start, count, length in whole.groups:
        group = order[start : start + count]
        loose -= set(group)
        grouped.append((group, length))
    rest = [row for row in order if row in loose]
    return ([(rest, shared)] if rest else []) + grouped


def _cut(
    group: list[int],
    questions: Sequence[TokenizedPrompt],
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
