"""Which runs are one method, and which cannot be compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmclf.config import DataError
from llmclf.evaluate.predictions import Predictions
from llmclf.evaluate.scores import score
from llmclf.report.align import pooled
from llmclf.report.group import group, labelled_rows
from llmclf.run_folder.read import Finished, read
from tests.report.made import LABELS, MEMBERSHIP, predicted, write_run


def made(folder: Path, right: int = 9, **options: Any) -> Finished:
    test = options.pop("test", None) or predicted(right, first_id=100 * (options.get("fold") or 0))
    return read(write_run(folder, test, **options))


def membership(*parts: Any) -> str:
    return "".join(map(str, parts)).ljust(64, "0")


def test_folds_and_seeds_are_repeats_of_one_method(tmp_path: Path) -> None:
    runs = [
        made(
            tmp_path / f"{name}{fold}{seed}",
            name=name,
            fold=fold,
            seed=seed,
            membership=membership(fold),
        )
        for name in ("full", "lora")
        for seed in (1, 0)
        for fold in (2, 0, 1)
    ]
    groups = group(runs)
    assert [m.name for m in groups.methods] == ["full", "lora"]
    assert groups.left_out == ()
    for method in groups.methods:
        repeats = [(r.unit, r.run.fold, r.run.seed) for r in method.repeats]
        assert repeats == [(f, f, s) for f in (0, 1, 2) for s in (0, 1)]
        assert [run.seed for run in method.first_of_units] == [0, 0, 0]
        assert [t.fold for t in method.tested] == [0, 0, 1, 1, 2, 2]


def test_seeds_that_drew_other_test_rows_of_the_same_are_refused(tmp_path: Path) -> None:
    """Neither one test set nor folds: rows would be counted twice, once as if they were others."""
    runs = [
        made(
            tmp_path / str(seed),
            seed=seed,
            membership=membership(seed),
            test=predicted(9, 10 + seed),
        )
        for seed in (5, 3)
    ]
    with pytest.raises(DataError, match=r"they share 13, such as '0'.*--data.seed"):
        group(runs)


def on_folds(folder: Path, name: str, *folds: int) -> list[Finished]:
    return [
        made(folder / f"{name}{fold}", name=name, fold=fold, membership=membership(fold))
        for fold in folds
    ]


def test_method_that_lacks_a_fold_is_left_out_and_named(tmp_path: Path) -> None:
    runs = [
        *on_folds(tmp_path, "full", 0, 1, 2),
        *on_folds(tmp_path, "head", 0, 1, 2),
        *on_folds(tmp_path, "lora", 0),
    ]
    groups = group(runs)
    assert [m.name for m in groups.methods] == ["full", "head"]
    assert len(groups.left_out) == 1
    assert "lora: tested on 1 of the 3 test sets" in groups.left_out[0]
    assert str(tmp_path / "lora0") in groups.left_out[0]


def test_fold_that_one_method_alone_has_is_left_out_and_named(tmp_path: Path) -> None:
    runs = [
        *on_folds(tmp_path, "full", 0, 1),
        *on_folds(tmp_path, "head", 0, 1),
        *on_folds(tmp_path, "lora", 0, 1, 2),
    ]
    groups = group(runs)
    assert [m.name for m in groups.methods] == ["full", "head", "lora"]
    assert [len(m.repeats) for m in groups.methods] == [2, 2, 2]
    assert len(groups.left_out) == 1
    assert "a test set that the other methods lack" in groups.left_out[0]
    assert str(tmp_path / "lora2") in groups.left_out[0]


@pytest.mark.parametrize("same_test_rows", [True, False])
def test_other_rows_are_refused_with_all_folders(same_test_rows: bool, tmp_path: Path) -> None:
    """Another training set with the same test rows is refused, too."""
    runs = [made(tmp_path / f"run{i}", name=f"m{i}") for i in range(2)]
    test = None if same_test_rows else predicted(9, first_id=50)
    runs.append(made(tmp_path / "run2", name="m2", membership="ab" * 32, test=test))
    with pytest.raises(DataError) as caught:
        group(runs)
    message = str(caught.value)
    assert "these runs differ in the rows in each split" in message
    assert f"{MEMBERSHIP[:12]}: {tmp_path / 'run0'}, {tmp_path / 'run1'}\n" in message
    assert f"abababababab: {tmp_path / 'run2'}\n" in message


def test_other_true_labels_are_other_rows(tmp_path: Path) -> None:
    test = predicted(9)
    other = replace(test, targets=1 - test.targets)
    runs = [made(tmp_path / "a", name="a"), made(tmp_path / "b", name="b", test=other)]
    with pytest.raises(DataError, match="differ in the"):
        group(runs)


def test_other_labels_are_refused(tmp_path: Path) -> None:
    runs = [
        made(tmp_path / "a", name="a"),
        made(tmp_path / "b", name="b", test=predicted(9, labels=("advice", "other"))),
    ]
    with pytest.raises(DataError, match=r"differ in the labels(.|\n)*advice, other: .*b\n"):
        group(runs)


def test_nothing_to_compare() -> None:
    with pytest.raises(DataError, match="nothing to compare"):
        group([])


def test_order_of_rows_and_labels_does_not_matter(tmp_path: Path) -> None:
    test = predicted(7)
    turned = test.with_labels(LABELS[::-1]).take(np.arange(10)[::-1])
    runs = [made(tmp_path / "a", name="a", test=test), made(tmp_path / "b", name="b", test=turned)]
    first, second = (m.first.test for m in group(runs).methods)
    assert (second.ids, second.labels) == (first.ids, first.labels)
    np.testing.assert_array_equal(second.targets, first.targets)
    np.testing.assert_allclose(second.probabilities, first.probabilities)


def test_settings_that_differ_are_named_with_values_and_folders(tmp_path: Path) -> None:
    runs = [
        made(tmp_path / f"run{seed}", seed=seed, settings={"train": {"epochs": 3 + seed}})
        for seed in (0, 1)
    ]
    with pytest.raises(DataError) as caught:
        group(runs)
    message = str(caught.value)
    assert message.startswith("full: its runs differ in train.epochs")
    assert f"  3: {tmp_path / 'run0'}\n  4: {tmp_path / 'run1'}\n" in message


def test_trackers_and_output_may_differ(tmp_path: Path) -> None:
    runs = [
        made(tmp_path / f"run{seed}", seed=seed, settings={"track": {"project": str(seed)}})
        for seed in (0, 1)
    ]
    assert len(group(runs).methods) == 1


def test_runs_of_one_name_and_seed_are_told_apart_by_folder(tmp_path: Path) -> None:
    runs = [made(tmp_path / f"run{i}", settings={"train": {"epochs": i}}) for i in (0, 1)]
    names = [m.name for m in group(runs).methods]
    assert names == [f"full ({tmp_path / 'run0'})", f"full ({tmp_path / 'run1'})"]


def test_studies_of_one_name_are_told_apart_by_their_folder(tmp_path: Path) -> None:
    runs = [
        made(tmp_path / study / str(seed), seed=seed, settings={"train": {"epochs": epochs}})
        for study, epochs in (("old", 1), ("new", 2))
        for seed in (0, 1)
    ]
    methods = group(runs).methods
    assert [m.name for m in methods] == [f"full ({tmp_path / 'old'})", f"full ({tmp_path / 'new'})"]
    assert [len(m.repeats) for m in methods] == [2, 2]


def test_budgets_are_of_one_method_and_the_largest_is_shown(tmp_path: Path) -> None:
    runs = [
        made(
            tmp_path / f"full{budget}{seed}",
            labels_per_class=budget,
            seed=seed,
            membership=membership(budget, seed if budget else ""),
            train_rows=2 * (budget or 50),
        )
        for budget in (None, 8, 16)
        for seed in (0, 1)
    ]
    runs += [
        made(
            tmp_path / f"prompt{seed}",
            name="prompt",
            method="prompt",
            labels_per_class=8,
            seed=seed,
            membership=membership(8, seed),
            train_rows=16,
        )
        for seed in (0, 1)
    ]
    groups = group(runs)
    full, prompt = groups.methods
    assert list(full.budgets) == [8, 16, None]
    assert [r.run.labels_per_class for r in full.repeats] == [None, None]
    assert [r.run.labels_per_class for r in prompt.repeats] == [8, 8]
    assert labelled_rows(groups.methods) == {8: 16, 16: 32, None: 100}
    assert groups.left_out == (
        "prompt: shown with 8 labelled rows of each class, the most it was run with.",
    )


def test_budget_that_lacks_a_fold_is_left_out(tmp_path: Path) -> None:
    runs = [
        made(
            tmp_path / f"{budget}-{fold}",
            labels_per_class=budget,
            fold=fold,
            membership=membership(budget, fold),
        )
        for budget, fold in ((8, 0), (8, 1), (8, 2), (None, 0))
    ]
    groups = group(runs)
    assert [list(m.budgets) for m in groups.methods] == [[8]]
    assert "full: tested on 1 of the 3 test sets" in groups.left_out[0]


@given(st.permutations(range(10)), st.permutations(range(3)), st.integers(0, 10))
def test_scores_outlast_any_order(rows: list[int], columns: list[int], right: int) -> None:
    test = predicted(right, labels=("a", "b", "c"))
    turned = test.take(rows).with_labels([test.labels[c] for c in columns])
    assert score(turned)["macro_f1"] == pytest.approx(score(test)["macro_f1"], abs=1e-12)
    both = pooled([test, test])
    assert score(both)["macro_f1"] == pytest.approx(score(test)["macro_f1"], abs=1e-12)


def test_pooled_rows_keep_which_are_invalid() -> None:
    test = predicted(9)
    p = test.probabilities.copy()
    p[0] = 0.5
    invalid = replace(test, probabilities=p, invalid=np.arange(10) == 0)
    both: Predictions = pooled([test, invalid])
    assert both.invalid is not None
    assert np.flatnonzero(both.invalid).tolist() == [10]
    assert len(set(both.ids)) == 20
