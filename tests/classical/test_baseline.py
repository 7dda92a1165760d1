"""Baselines: quality on real text, determinism, shipping, and rows that leave little to learn."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from llmclf.classical import learn
from llmclf.classical.baseline import Baseline, fit
from llmclf.classical.config import BaselineConfig
from llmclf.config import ConfigError, DataError
from llmclf.data.config import DataConfig
from llmclf.data.corpus import Split, Splits, load_splits
from llmclf.evaluate.scores import score

CLASSIFIERS = get_type_hints(BaselineConfig)["classifier"].__args__
LEARNERS = [name for name in CLASSIFIERS if name != "majority"]


def split(texts: list[str], targets: Any, **changes: Any) -> Split:
    ids = [str(i) for i in range(len(texts))]
    values = {"ids": ids, "texts": texts, "pairs": None, "targets": np.array(targets)}
    return Split(**{**values, "groups": None, **changes})


def fitted(train: Split, classifier: str, **changes: Any) -> Baseline:
    """Fit on two labels, or as many as the targets have columns."""
    multilabel = train.targets.ndim == 2
    labels = tuple("abcdefgh"[: train.targets.shape[1] if multilabel else 2])
    config = BaselineConfig(classifier=classifier, **changes)
    return fit(config, train, labels=labels, multilabel=multilabel, seed=0)


def fit_splits(splits: Splits, classifier: str, **changes: Any) -> Baseline:
    config = BaselineConfig(classifier=classifier, **changes)
    return fit(config, splits.train, labels=splits.labels, multilabel=False, seed=0)


@pytest.fixture(scope="module")
def advice(shared_data: Path) -> DataConfig:
    return DataConfig(source=str(shared_data / "health_advice.csv"), text="text", label="label")


@pytest.fixture(scope="module")
def some(advice: DataConfig) -> Splits:
    return load_splits(dataclasses.replace(advice, limit=800), seed=0)


WORDS = split(["red wine", "red beer", "blue wine", "blue beer"] * 3, [0, 0, 1, 1] * 3)


def test_linear_svm_on_health_advice(advice: DataConfig) -> None:
    splits = load_splits(dataclasses.replace(advice, fold=0, folds=5), seed=0)
    found = score(fit_splits(splits, "linear_svm").predict(splits.test))
    assert found["macro_f1"] >= 0.83


@pytest.mark.parametrize("classifier", LEARNERS)
def test_learns_from_real_text_the_same_each_time(some: Splits, classifier: str) -> None:
    first, again = fit_splits(some, classifier), fit_splits(some, classifier)
    predictions = first.predict(some.test)
    assert predictions.ids == some.test.ids
    assert score(predictions)["macro_f1"] > 0.45  # the majority class alone: 0.25
    assert first.chosen == again.chosen
    assert first.chosen["rows"] == len(some.train)
    p = predictions.probabilities
    np.testing.assert_array_equal(p, again.predict(some.test).probabilities)


def test_saved_baselines_give_the_same_probabilities_in_a_new_process(
    some: Splits, tmp_path: Path
) -> None:
    for classifier in CLASSIFIERS:
        model = fit_splits(some, classifier, search_folds=0)
        model.save(tmp_path / classifier)
        np.save(tmp_path / classifier / "expected.npy", model.probabilities(some.test.texts))
    (tmp_path / "texts.txt").write_text("\n".join(some.test.texts), encoding="utf-8")
    code = """if True:
        import sys, numpy as np
        from pathlib import Path
        from llmclf.classical.baseline import Baseline
        texts = Path("texts.txt").read_text(encoding="utf-8").split("\\n")
        for folder in map(Path, sys.argv[1:]):
            found = Baseline.load(folder).probabilities(texts)
            np.testing.assert_array_equal(found, np.load(folder / "expected.npy"))"""
    subprocess.run([sys.executable, "-c", code, *CLASSIFIERS], check=True, cwd=tmp_path)


def test_majority_is_the_share_of_each_label() -> None:
    train = split(["x"] * 5, [1, 0, 1, 1, 0])
    predictions = fitted(train, "majority").predict(split(["anything", ""], [0, 1]))
    assert predictions.probabilities.tolist() == [[0.4, 0.6]] * 2
    assert predictions.scored_by == "prior"


@pytest.mark.filterwarnings("ignore:Label .* is present in all")
def test_majority_of_a_multilabel_task_is_the_share_of_each_label() -> None:
    targets = np.array([[1, 0, 1], [0, 0, 1], [0, 0, 1], [0, 0, 1]], dtype=np.float32)
    predictions = fitted(split(["x"] * 4, targets), "majority").predict(split(["y"], targets[:1]))
    assert predictions.probabilities.tolist() == [[0.25, 0, 1]]


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_label_without_training_rows_gets_no_probability(classifier: str) -> None:
    labels = ("absent", "red", "blue")
    train = split(WORDS.texts, WORDS.targets + 1)
    config = BaselineConfig(classifier=classifier)
    found = fit(config, train, labels=labels, multilabel=False, seed=0).predict(train)
    assert not found.probabilities[:, 0].any()


@pytest.mark.filterwarnings("ignore:Label not 2 is present in all")
@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_multilabel(classifier: str) -> None:
    # One label for a colour, one for a drink, one that never occurs.
    targets = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0]] * 3, dtype=np.float32)
    train = split(WORDS.texts, targets)
    predictions = fitted(train, classifier).predict(train)
    assert not predictions.predicted[:, 2].any()
    if classifier != "majority":
        np.testing.assert_array_equal(predictions.predicted, targets)


@pytest.mark.filterwarnings("ignore:Label not 1 is present in all")
@pytest.mark.parametrize("classifier", CLASSIFIERS)
@pytest.mark.parametrize("column", [0, 2])
def test_labels_without_a_choice_are_learnt_without_warnings(
    classifier: str, column: int, tmp_path: Path
) -> None:
    """One label that every row has, first or last, and one that no row has, between."""
    targets = np.zeros((12, 3), np.float32)
    targets[:, column] = 1
    targets[:, 2 - column] = np.arange(12) % 2
    train = split(WORDS.texts, targets)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = fitted(train, classifier)
        found.save(tmp_path)
        p = Baseline.load(tmp_path).predict(train)
    assert p.predicted[:, column].all()
    assert not p.predicted[:, 1].any()


@pytest.mark.parametrize("classifier", CLASSIFIERS)
@pytest.mark.parametrize("targets", [[0, 1], [0, 1, 1], [0] * 9 + [1]])
def test_a_label_of_one_row_is_learnt_without_warnings(classifier: str, targets: list) -> None:
    texts = [f"word {i}" for i in range(len(targets))]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted(split(texts, targets), classifier).predict(split(texts, targets))


def test_what_did_not_converge_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        learn, "LogisticRegression", lambda **o: LogisticRegression(**{**o, "max_iter": 1})
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fitted(WORDS, "logistic_regression").chosen["converged"] is False
    assert "converged" not in fitted(WORDS, "linear_svm").chosen


def test_svm_without_known_words_says_no_to_every_label() -> None:
    targets = np.array([[0, 0], [1, 0], [1, 0]] * 4, dtype=np.float32)
    train = split(["cold", "hot", "hot sun"] * 4, targets)
    found = fitted(train, "linear_svm").predict(split([""], targets[:1]))
    assert found.predicted[0, 1] == 0
    assert found.scored_by == "sigmoid of margins"


@pytest.mark.parametrize("labels", [2, 3])
def test_svm_probabilities_keep_its_decision(some: Splits, labels: int) -> None:
    train = some.train.take(np.flatnonzero(some.train.targets < labels))
    config = BaselineConfig(classifier="linear_svm", search_folds=0)
    names = some.labels[:labels]
    model = fit(config, train, labels=names, multilabel=False, seed=0)
    found = model.probabilities(some.test.texts)
    decisions = model.pipeline.predict(some.test.texts)
    np.testing.assert_array_equal(found.argmax(axis=1), decisions)
    assert len(np.unique(decisions)) == labels


@pytest.mark.parametrize("classifier", LEARNERS)
def test_second_text_is_read(classifier: str) -> None:
    train = split(["same"] * 12, WORDS.targets, pairs=WORDS.texts)
    assert score(fitted(train, classifier).predict(train))["accuracy"] == 1


def test_text_and_pair_are_told_apart() -> None:
    pairs = [("red", "blue"), ("blue", "red")] * 6
    train = split([a for a, _ in pairs], [0, 1] * 6, pairs=[b for _, b in pairs])
    assert score(fitted(train, "linear_svm").predict(train))["accuracy"] == 1


@pytest.mark.parametrize("classifier", LEARNERS)
@pytest.mark.parametrize("targets", [[0, 1], [0, 0, 0, 1], [0, 0, 1, 1, 1]])
def test_few_rows(classifier: str, targets: list[int]) -> None:
    words = ["good", "bad"]
    train = split([f"a {words[t]} {i}" for i, t in enumerate(targets)], targets)
    assert len(fitted(train, classifier).predict(train).ids) == len(targets)


@pytest.mark.parametrize("targets", [WORDS.targets, np.eye(2, dtype=np.float32)[WORDS.targets]])
def test_cross_validation_keeps_groups_together(targets: np.ndarray) -> None:
    groups = np.array(list("aabbccddeeff"))
    folds = learn.cross_validation(3, targets, groups, seed=0)
    assert len(folds) == 3
    for train, test in folds:
        assert not set(groups[train]) & set(groups[test])


def test_groups_of_the_training_rows_are_used() -> None:
    # In each group one word gives the label away, but the next group contradicts it.
    texts = [f"word{i // 4} {'x' if i % 2 else 'y'}" for i in range(24)]
    targets = [(i % 2) ^ (i // 4 % 2) for i in range(24)]
    apart = fitted(split(texts, targets, groups=[str(i // 4) for i in range(24)]), "random_forest")
    mixed = fitted(split(texts, targets), "random_forest")
    assert apart.chosen["cv_macro_f1"] < mixed.chosen["cv_macro_f1"]


def test_single_group_leaves_nothing_to_search() -> None:
    found = fitted(dataclasses.replace(WORDS, groups=["same"] * 12), "linear_svm")
    assert found.chosen["cv_macro_f1"] is None
    assert found.chosen["C"] == 1


def test_slow_classifiers_learn_from_a_bounded_number_of_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(learn, "SLOW_ROWS", 9)
    assert fitted(WORDS, "nearest_neighbours").chosen["rows"] == 9
    assert fitted(WORDS, "linear_svm").chosen["rows"] == 12


@pytest.mark.parametrize(
    ("classifier", "count"),
    [("majority", 2), ("logistic_regression", 9), ("random_forest", None)],
)
def test_parameters_are_counted(classifier: str, count: int | None) -> None:
    # 4 words and 4 pairs of words, and the intercept; the shares of 2 labels.
    assert fitted(WORDS, classifier).parameters == count


def test_characters_serve_text_without_spaces() -> None:
    train = split(["とても美しい映画", "ひどい退屈な映画"] * 6, [0, 1] * 6)
    test = split(["この映画は美しい", "本当に退屈な話"], [0, 1])
    found = fitted(train, "linear_svm", features="characters").predict(test)
    assert found.predicted.tolist() == [0, 1]


def test_texts_without_words_are_refused() -> None:
    with pytest.raises(DataError, match=r"no term to learn from.*'characters'"):
        fitted(split(["!!!", "???"], [0, 1]), "naive_bayes")


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"search_folds": 1}, "search_folds=1"), ({"search_rows": 0}, "search_rows=0")],
)
def test_settings_are_checked(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BaselineConfig(**changes)


@pytest.mark.parametrize("damaged", ["baseline.json", "baseline.skops"])
@pytest.mark.parametrize("content", [None, b"", b"{}"])
def test_damaged_folder_is_named(damaged: str, content: bytes | None, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    fitted(WORDS, "majority").save(folder)
    if content is None:
        (folder / damaged).unlink()
    else:
        (folder / damaged).write_bytes(content)
    with pytest.raises(DataError, match=r"model: no saved baseline"):
        Baseline.load(folder)
