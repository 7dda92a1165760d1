"""What is computed together: every question once, behind a prefix that all of a batch share."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmclf.prompt.pack import PASS_TOKENS, Batch, Packing, pack, trie
from llmclf.prompt.tokens import TokenizedPrompt

ANSWERS = st.lists(
    st.lists(st.integers(0, 3), min_size=1, max_size=4).map(tuple),
    min_size=1,
    max_size=5,
    unique=True,
).map(tuple)


@st.composite
def questions(draw: st.DrawFn) -> list[TokenizedPrompt]:
    """Distinct questions that share beginnings: parts of a few long stems, then some tokens."""
    common = draw(st.sampled_from([0, 1, 70]))
    stems = [
        [7] * common + draw(st.lists(st.integers(0, 2), max_size=5)) * draw(st.integers(1, 60))
        for _ in range(draw(st.integers(1, 4)))
    ]
    rows = draw(
        st.lists(
            st.tuples(
                st.sampled_from(stems),
                st.integers(0, 4),  # tokens cut off the stem: some are beginnings of others
                st.lists(st.integers(0, 3), max_size=6),
                ANSWERS,
            ),
            min_size=1,
            max_size=25,
        )
    )
    found = [
        TokenizedPrompt(tuple([*stem[: len(stem) - cut], *rest] or [9]), answers)
        for stem, cut, rest, answers in rows
    ]
    return list(dict.fromkeys(found))


def padded(batch: Batch, asked: list[TokenizedPrompt]) -> tuple[int, int]:
    """Tokens of a batch with padding, and nodes with padding."""
    some = [asked[row] for row in batch.rows]
    nodes = max(nodes_of(q) for q in some)
    longest = max(len(q.prompt) for q in some) - batch.shared - 1
    return len(some) * (longest + nodes), len(some) * nodes


def nodes_of(question: TokenizedPrompt) -> int:
    """The last prompt token, and each beginning of an answer that something follows."""
    return 1 + len({a[: i + 1] for a in question.answers for i in range(len(a) - 1)})


@settings(deadline=None, max_examples=100)
@given(asked=questions(), tokens=st.integers(1, 400), logits=st.integers(1, 60))
def test_plan(asked: list[TokenizedPrompt], tokens: int, logits: int) -> None:
    made = pack(asked, token_budget=tokens, logit_budget=logits)
    rows = [row for batch in made.batches for row in batch.rows]
    assert sorted(rows) == list(range(len(asked)))
    for batch in made.batches:
        prompts = [asked[row].prompt for row in batch.rows]
        assert len({prompt[: batch.shared] for prompt in prompts}) == 1
        assert min(map(len, prompts)) >= batch.shared + 1
        assert batch.shared >= made.shared
        used, nodes = padded(batch, asked)
        assert (used <= tokens and nodes <= logits) or len(prompts) == 1
    everything = [question.prompt for question in asked]
    assert len({prompt[: made.shared] for prompt in everything}) == 1
    assert made.shared < min(map(len, everything))
    assert made.tokens(asked) == counted(made, asked)
    assert made == pack(asked, token_budget=tokens, logit_budget=logits)


def counted(made: Packing, asked: list[TokenizedPrompt]) -> int:
    """Distinct positions: the common beginning, each prefix behind it once, then each row."""
    prefixes = {asked[b.rows[0]].prompt[: b.shared] for b in made.batches}
    total = made.shared + sum(len(prefix) - made.shared for prefix in prefixes)
    for batch in made.batches:
        for row in batch.rows:
            total += len(asked[row].prompt) - batch.shared + nodes_of(asked[row]) - 1
    return total


@given(asked=questions())
def test_never_more_tokens_than_without_sharing(asked: list[TokenizedPrompt]) -> None:
    made = pack(asked, token_budget=200, logit_budget=1000)
    assert made.tokens(asked) <= sum(len(q.prompt) + nodes_of(q) - 1 for q in asked)


@given(asked=questions(), random=st.randoms(use_true_random=False))
def test_the_order_of_the_questions_does_not_count(
    asked: list[TokenizedPrompt], random: random.Random
) -> None:
    asked = list({q.prompt: q for q in asked}.values())  # equal prompts may stand in any order
    shuffled = random.sample(asked, len(asked))
    first, second = (
        [
            (batch.shared, [some[row] for row in batch.rows])
            for batch in pack(some, token_budget=100, logit_budget=40).batches
        ]
        for some in (asked, shuffled)
    )
    assert first == second


def ask(*prompt: int, answers: tuple[tuple[int, ...], ...] = ((1,), (2,))) -> TokenizedPrompt:
    return TokenizedPrompt(prompt, answers)


def test_one_question() -> None:
    made = pack([ask(1, 2, 3)], token_budget=1, logit_budget=1)
    assert made == Packing((Batch((0,), 2),), 2)
    assert made.tokens([ask(1, 2, 3)]) == 3


def test_a_question_that_another_begins_with() -> None:
    asked = [ask(1, 2, 3), ask(1, 2), ask(1, 2, 3, 4)]
    made = pack(asked, token_budget=100, logit_budget=100)
    assert made.shared == 1 and made.tokens(asked) == 1 + 2 + 1 + 3


def test_same_prompt_other_answers() -> None:
    asked = [ask(1, 2, answers=((1,), (2,))), ask(1, 2, answers=((3, 4), (3, 5)))]
    made = pack(asked, token_budget=100, logit_budget=100)
    assert made == Packing((Batch((0, 1), 1),), 1)
    assert made.tokens(asked) == 1 + 1 + 2


STEM = tuple(range(100, 100 + PASS_TOKENS + 20))


def test_groups_get_a_prefix_of_their_own() -> None:
    a = [ask(1, 5, *STEM, i) for i in range(4)]
    b = [ask(1, 6, *STEM, i) for i in range(4)]
    made = pack([*a, *b], token_budget=1000, logit_budget=1000)
    assert made.shared == 1
    assert {batch.shared for batch in made.batches} == {2 + len(STEM)}
    assert made.tokens([*a, *b]) == 1 + 2 * (1 + len(STEM)) + 8


@pytest.mark.parametrize("alone", range(3))
def test_all_of_a_group_share_wherever_others_stand(alone: int) -> None:
    """Rows with nothing in common that sort before a group must not take one of it along."""
    others = [ask(1, i + 2, 3, 4, 5) for i in range(alone)]
    asked = [*others, *(ask(1, 50, *STEM, i) for i in range(5)), ask(1, 60, 3)]
    made = pack(asked, token_budget=1000, logit_budget=1000)
    sharing = [row for b in made.batches if b.shared > made.shared for row in b.rows]
    assert sorted(sharing) == list(range(alone, alone + 5))


def test_batches_are_cut_where_a_budget_is_full() -> None:
    asked = [ask(1, *range(10, 14), i) for i in range(10)]
    made = pack(asked, token_budget=3, logit_budget=100)
    assert [len(batch.rows) for batch in made.batches] == [3, 3, 3, 1]
    made = pack(asked, token_budget=100, logit_budget=4)
    assert [len(batch.rows) for batch in made.batches] == [4, 4, 2]


def test_trie_by_hand() -> None:
    tree = trie(((5,), (6, 7), (6, 8, 9), (6, 8, 4), (5, 7)))
    # Nodes: 0 the last prompt token; 1: 6; 2: 6 8; 3: 5.
    assert (tree.tokens, tree.parents, tree.size) == ((6, 8, 5), (0, 1, 0), 4)
    assert tree.steps == (
        ((0, 5),),
        ((0, 6), (1, 7)),
        ((0, 6), (1, 8), (2, 9)),
        ((0, 6), (1, 8), (2, 4)),
        ((0, 5), (3, 7)),
    )
    assert tree.depths() == [0, 1, 2, 1]
    assert tree.visible().astype(int).tolist() == [
        [1, 0, 0, 0],
        [1, 1, 0, 0],
        [1, 1, 1, 0],
        [1, 0, 0, 1],
    ]


@given(ANSWERS)
def test_trie(answers: tuple[tuple[int, ...], ...]) -> None:
    tree = trie(answers)
    assert tree.size == nodes_of(TokenizedPrompt((0,), answers))
    paths: list[tuple[int, ...]] = [()]
    for token, parent in zip(tree.tokens, tree.parents, strict=True):
        assert parent < len(paths)
        paths.append((*paths[parent], token))
    assert len(set(paths)) == tree.size
    for answer, steps in zip(answers, tree.steps, strict=True):
        assert tuple(token for _, token in steps) == answer
        assert [paths[node] for node, _ in steps] == [answer[:i] for i in range(len(answer))]
    assert tree.depths() == list(map(len, paths))
    expected = np.array([[b == a[: len(b)] for b in paths] for a in paths])
    np.testing.assert_array_equal(tree.visible(), expected)


@given(asked=questions())
def test_steps_sum_the_log_probabilities_of_the_answer(asked: list[TokenizedPrompt]) -> None:
    """A model that depends on all it has read: each node must have read what it should."""

    def logprob(read: tuple[int, ...], token: int) -> float:
        return -(hash((read, token)) % 1000) / 100

    for question in asked[:5]:
        tree = trie(question.answers)
        read = [question.prompt]
        for token, parent in zip(tree.tokens, tree.parents, strict=True):
            read.append((*read[parent], token))
        for answer, steps in zip(question.answers, tree.steps, strict=True):
            whole = question.prompt + answer
            start = len(question.prompt)
            expected = [logprob(whole[:i], whole[i]) for i in range(start, len(whole))]
            assert [logprob(read[node], token) for node, token in steps] == expected
