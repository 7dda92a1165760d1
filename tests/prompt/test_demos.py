"""Demonstrations: training rows only, never what is asked, and the same for the same seed."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from llmclf.config import ConfigError
from llmclf.data.corpus import Split, Splits
from llmclf.data.repeats import normalised
from llmclf.prompt.config import PromptConfig
from llmclf.prompt.demos import (
    CHUNK,
    Draw,
    Nearest,
    check_shots,
    choose_shared,
    draws,
)
from llmclf.prompt.embed import Encoder
from llmclf.prompt.template import verbalise
from llmclf.prompt.variants import reference_rows, variants

KINDS = ("random", "balanced", "nearest")
FIRST = Draw(0, 0)


def rows(texts: list[str], targets: Any, pairs: list[str] | None = None) -> Split:
    ids = [f"row-{i}" for i in range(len(texts))]
    return Split(ids=ids, texts=texts, pairs=pairs, targets=np.array(targets), groups=None)


def task(train: Split, test: Split, labels: int = 3) -> Splits:
    empty = test.take([])
    names = tuple(f"label-{i}" for i in range(labels))
    return Splits(train=train, validation=empty, test=test, labels=names, multilabel=False)


def config(kind: str, shots: int, **changes: Any) -> PromptConfig:
    return PromptConfig(demonstrations=kind, shots=shots, **changes)  # type: ignore[arg-type]


def choose(
    splits: Splits, settings: PromptConfig, draw: Draw = FIRST, seed: int = 0
) -> list[tuple[int, ...]]:
    """The demonstrations of each test row."""
    if settings.demonstrations == "nearest":
        return list(map(tuple, Nearest(settings, splits)(splits.test, draw, seed).tolist()))
    excluded = set(normalised(splits.test))
    return [tuple(choose_shared(settings, splits, excluded, draw, seed).tolist())] * len(
        splits.test
    )


@pytest.fixture(scope="module")
def repeating(splits: Splits) -> Splits:
    """Real splits whose training rows hold each test row and each other, in other letters."""
    train, test = splits.train, splits.test
    again = [text.upper() + "!" for text in test.texts] + [f" {t} ." for t in train.texts[:50]]
    targets = np.concatenate([train.targets, test.targets, train.targets[:50]])
    return dataclasses.replace(splits, train=rows([*train.texts, *again], targets))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shots", [1, 2, 7, 30])
def test_no_demonstration_repeats_the_query_or_another_one(
    repeating: Splits, kind: str, shots: int
) -> None:
    train, test = normalised(repeating.train), normalised(repeating.test)
    for query, shown in zip(test, choose(repeating, config(kind, shots)), strict=True):
        texts = [train[row] for row in shown]
        assert len(shown) == len(set(texts)) == shots
        assert query not in texts
        if kind != "nearest":  # shown to every row, so none of them may be among them
            assert not set(texts) & set(test)


def test_nearest_passes_over_many_copies_of_the_query() -> None:
    copies = ["The Film was good", "the film was good.", "THE FILM, was good", "the  film was good"]
    train = rows([*copies, "the film was fine", "the film ran", "a dog"], [0] * 7)
    splits = task(train, rows(["the film was good"], [1]))
    assert choose(splits, config("nearest", 2)) == [(5, 4)]
    assert choose(splits, config("nearest", 3)) == [(6, 5, 4)]
    with pytest.raises(ConfigError, match=r"prompt\.shots=4: only 3 different training rows"):
        choose(splits, config("nearest", 4))


def test_nearest_by_hand() -> None:
    train = rows(["red wine", "red beer", "blue wine", "green tea"], [0, 1, 2, 0])
    splits = task(train, rows(["red wine now", "green tea please"], [0, 0]))
    first, second = choose(splits, config("nearest", 4))
    assert first[-1] == 0 and set(first[-3:]) == {0, 1, 2} and first[0] == 3
    assert second[-1] == 3
    assert choose(splits, config("nearest", 1)) == [(0,), (3,)]


def test_nearest_by_label() -> None:
    train = rows(["red wine", "red beer", "blue wine", "green tea"], [2, 1, 2, 0])
    splits = task(train, rows(["red wine now"], [0]))
    # Behind each other by label, and within one the nearest first.
    assert choose(splits, config("nearest", 4, order="by_label")) == [(3, 1, 0, 2)]


def test_nearest_reads_both_texts() -> None:
    train = rows(["same"] * 3, [0, 1, 2], ["red wine", "blue beer", "green tea"])
    splits = task(train, rows(["same", "same"], [0, 0], ["green tea now", "the blue beer"]))
    assert choose(splits, config("nearest", 1)) == [(2,), (1,)]
    assert train.joined("\n")[0] == "same\nred wine"


def test_a_pair_repeats_another_only_if_both_texts_do() -> None:
    train = rows(["a", "a", "b"], [0, 0, 0], ["b", "c", "a"])
    assert len(set(normalised(train))) == 3
    splits = task(train, rows(["A!"], [0], ["b"]))
    assert sorted(choose(splits, config("random", 2))[0]) == [1, 2]


def test_texts_without_a_word_to_compare_by() -> None:
    splits = task(rows([":)", ":(", "a", "b 1", "😀"], [0, 1, 2, 0, 1]), rows(["c", ":)"], [0, 0]))
    assert len(set(choose(splits, config("balanced", 3))[0])) == 3
    with pytest.raises(
        ConfigError, match=r"prompt\.similarity='tfidf'.*--prompt\.similarity minilm"
    ):
        choose(splits, config("nearest", 3))


def test_nearest_by_an_encoder() -> None:
    texts = ["The cat sleeps on the sofa.", "Shares fell after the bank's report.", "I hate rain."]
    asked = ["A kitten is napping.", "The market dropped.", "Terrible wet weather!", ""]
    splits = task(rows(texts, [0, 1, 2]), rows(asked, [0] * 4))
    encoder = Encoder("minilm-l6", torch.device("cpu"))
    one = config("nearest", 1)
    found = Nearest(one, splits, encoder)(splits.test, Draw(0, 0), 0)
    assert found[:3, 0].tolist() == [0, 1, 2]  # no word in common: tf-idf cannot tell
    vectors_ND = encoder([*texts, "long " * 2000])
    assert vectors_ND.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors_ND, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(encoder(texts[:1])[0], vectors_ND[0], atol=1e-5)


@pytest.mark.parametrize("kind", ["random", "balanced"])
def test_same_seed_same_draw_other_seed_another_draw(splits: Splits, kind: str) -> None:
    settings = config(kind, 12)
    first = choose(splits, settings)[0]
    assert choose(splits, settings)[0] == first
    others = {choose(splits, settings, Draw(i, 0))[0] for i in range(1, 4)}
    others |= {choose(splits, settings, seed=i)[0] for i in range(1, 4)}
    assert len(others | {first}) == 7
    assert all(set(first) != set(other) for other in others)


@pytest.mark.parametrize("kind", KINDS)
def test_another_order_is_of_the_same_rows(splits: Splits, kind: str) -> None:
    settings = config(kind, 12, order="shuffled")
    found = [choose(splits, settings, Draw(0, order)) for order in range(4)]
    for shown in zip(*found, strict=True):
        assert len(set(shown)) == 4
        assert len({frozenset(one) for one in shown}) == 1


def test_rows_of_nearest_are_shuffled_each_on_its_own(splits: Splits) -> None:
    """The same seed for all rows must not mean that the nearest always stands in one place."""
    nearest = [shown[-1] for shown in choose(splits, config("nearest", 6))]
    shuffled = choose(splits, config("nearest", 6, order="shuffled"))
    places = {shown.index(row) for row, shown in zip(nearest, shuffled, strict=True)}
    assert places == set(range(6))


@pytest.mark.parametrize("kind", ["random", "balanced"])
def test_by_label(splits: Splits, kind: str) -> None:
    shown = list(choose(splits, config(kind, 10, order="by_label"))[0])
    labels = splits.train.targets[shown].tolist()
    assert labels == sorted(labels)


@pytest.mark.parametrize("kind", KINDS)
def test_more_test_rows_change_nothing_but_what_is_excluded(splits: Splits, kind: str) -> None:
    settings = config(kind, 9, order="shuffled")
    few = dataclasses.replace(splits, test=splits.test.take(range(20)))
    assert choose(few, settings) == choose(splits, settings)[:20]
    # A test row that repeats a demonstration takes it out, and no other.
    before = choose(few, settings)[0]
    extra = rows([splits.train.texts[before[0]]], [0])
    more = rows([*few.test.texts, *extra.texts], np.append(few.test.targets, 0))
    after = choose(dataclasses.replace(few, test=more), settings)
    if kind == "nearest":
        assert after[:20] == choose(few, settings)
    else:
        assert len(set(before) - set(after[0])) == 1 and before[0] not in after[0]


def test_rows_of_later_chunks_get_their_own_neighbours() -> None:
    count = CHUNK + 5
    texts = [f"word{i} word{i}x" for i in range(count)]
    asked = [f"word{i} here" for i in range(count)]
    splits = task(rows(texts, [0] * count), rows(asked, [0] * count))
    found = choose(splits, config("nearest", 1))
    assert found == [(i,) for i in range(count)]


@pytest.mark.parametrize("shots", range(11))
def test_balanced_as_evenly_as_possible(splits: Splits, shots: int) -> None:
    shown = choose(splits, config("balanced", shots))[0]
    counts = np.bincount(splits.train.targets[list(shown)], minlength=3)
    assert counts.sum() == shots and counts.max() - counts.min() <= 1


def test_the_labels_that_get_one_more_differ_by_draw(splits: Splits) -> None:
    drawn = [choose(splits, config("balanced", 4), Draw(i, 0))[0] for i in range(16)]
    assert {int(np.bincount(splits.train.targets[list(s)]).argmax()) for s in drawn} == {0, 1, 2}


@pytest.mark.parametrize("kind", KINDS)
def test_no_shots(splits: Splits, kind: str) -> None:
    settings = config(kind, 0)
    check_shots(settings, splits)
    answers = verbalise(settings, splits.labels)
    (variant,) = variants(settings, splits, answers, seed=0, embed=None)
    assert {spec.shown for spec in variant.specs()} == {()}


UNEVEN = task(
    rows([f"text number {i}" for i in range(12)], [0] * 2 + [1] * 5 + [2] * 5), rows(["q"], [0])
)


@pytest.mark.parametrize("shots", range(1, 9))
def test_a_rare_label_gets_no_more_than_it_has(shots: int) -> None:
    """8 of 3 labels are 3, 3 and 2: the label with 2 rows must be the one with fewer."""
    settings = config("balanced", shots)
    check_shots(settings, UNEVEN)
    for seed in range(6):
        shown = list(choose(UNEVEN, settings, Draw(seed, 0))[0])
        assert len(shown) == shots and np.bincount(UNEVEN.train.targets[shown])[0] <= 2


@pytest.mark.parametrize("shots", [9, 10, 11, 12])
def test_more_shots_than_rows_of_a_label(shots: int) -> None:
    with pytest.raises(ConfigError) as error:
        check_shots(config("balanced", shots), UNEVEN)
    told = str(error.value)
    assert f"prompt.shots={shots}" in told and "2 of 'label-0'" in told
    share = {9: "3", 10: "3 to 4", 11: "3 to 4", 12: "4"}[shots]
    assert f": {share} demonstrations of each label" in told
    assert "Set --prompt.shots 8 or less, or --prompt.demonstrations random" in told
    check_shots(config("random", shots), UNEVEN)


@pytest.mark.parametrize("kind", KINDS)
def test_more_shots_than_rows(kind: str) -> None:
    with pytest.raises(ConfigError, match=r"prompt\.shots=13: (there are 12|4 to 5)"):
        check_shots(config(kind, 13), UNEVEN)


def test_a_label_whose_rows_are_repeats(splits: Splits) -> None:
    texts = ["one", "One!", "ONE", *(f"other {i}" for i in range(6))]
    repeats = task(rows(texts, [0] * 3 + [1] * 6), rows(["q"], [0]), labels=2)
    with pytest.raises(ConfigError) as error:
        choose(repeats, config("balanced", 4))
    told = str(error.value)
    assert "prompt.shots=4" in told and "1 of 'label-0'" in told and "repeat" in told
    assert "Set --prompt.shots 3 or less" in told
    assert len(choose(repeats, config("balanced", 3))[0]) == 3
    with pytest.raises(ConfigError, match=r"prompt\.shots=8: only 7 training rows may be shown"):
        choose(repeats, config("random", 8))


def test_a_label_without_training_rows() -> None:
    with pytest.raises(ConfigError, match=r"0 of 'label-3'.*Set --prompt\.shots 3 or less"):
        check_shots(
            config("balanced", 4), dataclasses.replace(UNEVEN, labels=(*"ab", "c", "label-3"))
        )


def test_all_draws() -> None:
    assert draws(config("random", 4)) == [Draw(0, 0)]
    assert draws(config("random", 4, seeds=2, orders=2)) == [
        Draw(0, 0),
        Draw(0, 1),
        Draw(1, 0),
        Draw(1, 1),
    ]


def test_variants_show_training_rows_that_are_nobodys_copy(repeating: Splits) -> None:
    settings = config("balanced", 6, seeds=2, templates=("quoted", "tagged"), injection_rows=5)
    found = variants(settings, repeating, verbalise(settings, repeating.labels), seed=3, embed=None)
    asked = set(normalised(repeating.test)) | set(normalised(repeating.validation))
    train = normalised(repeating.train)
    assert [(v.template, v.draw.seed) for v in found] == [
        ("quoted", 0),
        ("quoted", 1),
        ("tagged", 0),
        ("tagged", 1),
    ]
    for variant in found:
        for spec in variant.specs():
            assert len(spec.shown) == 6 and not {train[row] for row in spec.shown} & asked
        assert [spec.text for spec in variant.parts["test"]] == repeating.test.texts
    # One draw, two wordings: the same demonstrations.
    assert found[0].parts["test"] == found[2].parts["test"]
    assert set(found[0].parts) == {
        *("test", "validation", "reference", "content_free"),
        *found[0].attacked,
    }
    assert set(found[1].parts) == {"test", "reference", "content_free"}


def test_reference_rows_are_validation_rows_or_else_test_rows(splits: Splits) -> None:
    settings = PromptConfig(calibration_rows=10)
    found = reference_rows(settings, splits, 0)
    assert len(found) == 10 and set(found.ids) <= set(splits.validation.ids)
    assert found.ids == reference_rows(settings, splits, 0).ids
    bare = dataclasses.replace(splits, validation=splits.validation.take([]))
    assert set(reference_rows(settings, bare, 0).ids) <= set(splits.test.ids)
    assert len(reference_rows(PromptConfig(), bare, 0)) == len(splits.test)
