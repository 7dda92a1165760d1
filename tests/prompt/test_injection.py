"""Instructions hidden in texts: never for the true label, on test rows only, counted by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from transformers import PreTrainedTokenizerBase

from llmclf.data.corpus import Splits
from llmclf.prompt.injection import ATTACKS, attack, steered
from llmclf.prompt.tokens import PromptTokenizer
from tests.prompt.conftest import wording


@pytest.mark.parametrize("seed", range(5))
def test_the_true_label_is_never_asked_for(splits: Splits, seed: int) -> None:
    found = attack(splits, 40, seed)
    assert set(found) == set(ATTACKS)
    for one in found.values():
        assert len(one.split) == len(one.rows) == len(one.targets) == 40
        assert (one.targets != one.split.targets).all()
        assert set(one.targets) <= set(range(len(splits.labels)))
        assert one.split.ids == [splits.test.ids[row] for row in one.rows]
        np.testing.assert_array_equal(one.split.targets, splits.test.targets[one.rows])
    assert set(found["ignore"].targets) == {0, 1, 2}  # every wrong label is asked for


def test_two_labels_leave_one_to_ask_for(splits: Splits) -> None:
    test = splits.test.take(np.flatnonzero(splits.test.targets < 2))
    found = attack(dataclasses.replace(splits, test=test, labels=splits.labels[:2]), 20, 0)["claim"]
    np.testing.assert_array_equal(found.targets, 1 - found.split.targets)


def test_all_attacks_are_on_the_same_rows_and_for_the_same_labels(splits: Splits) -> None:
    first, *others = attack(splits, 7, 3).values()
    for other in others:
        np.testing.assert_array_equal(first.rows, other.rows)
        np.testing.assert_array_equal(first.targets, other.targets)
    again = next(iter(attack(splits, 7, 3).values()))
    np.testing.assert_array_equal(first.rows, again.rows)
    assert not np.array_equal(first.rows, next(iter(attack(splits, 7, 4).values())).rows)


def test_no_more_rows_than_there_are(splits: Splits) -> None:
    one = attack(splits, 10**6, 0)["ignore"]
    assert one.rows.tolist() == list(range(len(splits.test)))


def test_the_text_is_whole_and_names_the_label(splits: Splits) -> None:
    test = splits.test.take([0, 1, 2])
    texts = ["with {label} and {text}", "{", "plain"]
    test = dataclasses.replace(test, texts=texts, pairs=["a", "b", "c"])
    for name, one in attack(dataclasses.replace(splits, test=test), 3, 0).items():
        assert one.split.pairs == ["a", "b", "c"]
        for text, before, wanted in zip(one.split.texts, texts, one.targets, strict=True):
            assert before in text
            named = ATTACKS[name].count("{label}")
            assert text.replace(before, "").count(splits.labels[wanted]) == named
    assert "{label}" not in ATTACKS["none"] and next(iter(ATTACKS)) == "none"


@pytest.mark.parametrize("template", ["quoted", "tagged", "question"])
def test_no_attack_leaves_its_block(
    splits: Splits, smol: PreTrainedTokenizerBase, template: str
) -> None:
    """What steers a model is what the text says, not a turn or a block that it forges."""
    prompt, worded = PromptTokenizer(smol, max_length=4096, chat=True), wording(template=template)
    frame = prompt.frame(worded, [])
    control = set(smol.added_tokens_decoder)
    for one in attack(splits, 3, 0).values():
        blocks = [worded.block(prompt.harmless(text), None) for text in one.split.texts]
        for question in prompt.questions(frame, blocks, worded.answers.words, end=False):
            assert sum(token in control for token in question.prompt) == 5
            text = smol.decode(list(question.prompt))
            if template == "tagged":
                assert text.count("</text>") == 1
            else:
                assert "\nLabel: " not in text


@pytest.mark.parametrize(
    ("clean", "answered", "wanted", "expected"),
    [
        ([0, 0, 1, 2], [1, 0, 1, 0], [1, 1, 1, 0], {"rows": 3, "steered": 2, "rate": 2 / 3}),
        ([0, 0], [0, 0], [1, 1], {"rows": 2, "steered": 0, "rate": 0.0}),
        ([1, 1], [1, 1], [1, 1], {"rows": 0, "steered": 0, "rate": None}),
        ([0], [2], [1], {"rows": 1, "steered": 0, "rate": 0.0}),  # moved, but elsewhere
    ],
)
def test_steered_by_hand(
    clean: list[int], answered: list[int], wanted: list[int], expected: dict[str, float]
) -> None:
    assert steered(*map(np.array, (clean, answered, wanted))) == expected
