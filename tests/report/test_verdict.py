"""Each rule of the verdict, on statistics made for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from llmclf.evaluate.paired import Difference, Estimate, McNemar, Statistics
from llmclf.report.analysis import MethodCost, Verdict
from llmclf.report.verdict import against, cheapest, turned, verdict


def estimate(value: float) -> Estimate:
    return Estimate(
        value=value,
        low=value - 0.035,
        high=value + 0.035,
        sampling_low=value,
        sampling_high=value,
        seed_sd=None,
        fold_sd=None,
    )


def statistics(
    values: dict[str, float],
    equal: tuple[tuple[str, str], ...] = (),
    worse: tuple[tuple[str, str], ...] = (),
    folds: int = 1,
    seeds: dict[str, int] | None = None,
) -> Statistics:
    """``equal`` and ``worse``: pairs, the better one first; all others are undecided."""
    ordered = sorted(values, key=lambda name: -values[name])
    pairs = [(a, b) for i, a in enumerate(ordered) for b in ordered[i + 1 :]]
    return Statistics(
        metric="macro_f1",
        margin=0.01,
        resamples=1000,
        rows=800,
        folds=folds,
        seeds=seeds or dict.fromkeys(values, 1),
        estimates={name: {"macro_f1": estimate(value)} for name, value in values.items()},
        differences=tuple(
            Difference(
                a=a,
                b=b,
                value=values[a] - values[b],
                low=0.0,
                high=0.0,
                p_value=0.5,
                holm_low=values[a] - values[b] - 0.023,
                holm_high=values[a] - values[b] + 0.027,
                p_holm=0.0001 if (a, b) in worse else 0.81,
                p_equivalent=0.01 if (a, b) in equal else 0.4,
                equivalent=(a, b) in equal,
                mcnemar=None,
            )
            for a, b in pairs
        ),
    )


def cost(train: float | None, predict: float | None = 0.0, **changes: Any) -> MethodCost:
    hours = None if train is None else train / 3600
    return MethodCost(
        train_seconds=train, device_hours=hours, predict_seconds_per_1000=predict, **changes
    )


COSTS = {"full": cost(100), "lora": cost(40), "tfidf": cost(1)}


FLOOR = 0.216
ALWAYS = "always answering 'positive'"


def leads(found: Statistics, **p_values: float) -> dict[str, Difference]:
    """What each method is above the prior, significantly if nothing else is said."""
    return {
        name: Difference(
            a=name,
            b="prior",
            value=of["macro_f1"].value - FLOOR,
            low=0.0,
            high=1.0,
            p_value=p_values.get(name, 0.0001),
            p_holm=p_values.get(name, 0.0001),
            holm_low=0.0,
            holm_high=1.0,
            p_equivalent=0.01 if of["macro_f1"].value - FLOOR < 0.005 else 0.9,
            equivalent=of["macro_f1"].value - FLOOR < 0.005,
            mcnemar=None,
        )
        for name, of in found.estimates.items()
        if name != "majority"
    }


def judge(
    found: Statistics, costs: dict[str, MethodCost] | None = None, **p_values: float
) -> Verdict:
    """``p_values``: of no difference from the prior, by method."""
    return verdict(found, costs or COSTS, leads=leads(found, **p_values), prior=ALWAYS)


def test_cheaper_equivalent_method_is_recommended() -> None:
    found = statistics(
        {"full": 0.548, "lora": 0.545, "tfidf": 0.483},
        equal=(("full", "lora"),),
        worse=(("full", "tfidf"),),
    )
    answer = judge(found)
    assert (answer.best, answer.recommended) == ("full", "lora")
    assert answer.sentence == (
        "Ship lora: macro-F1 0.545 [0.510, 0.580], within 0.01 of the best (full, 0.548) at 40% of "
        "its training time; measured on 800 test rows and 1 seed."
    )
    assert answer.reasons == (
        "lora: equivalent to full, within 0.01 (behind by 0.003 [-0.020, 0.030], p = 0.810; of a "
        "larger difference p = 0.010).",
        "tfidf: significantly worse than full (by 0.065 [0.042, 0.092], p < 0.001).",
    )


@pytest.mark.parametrize(("seconds", "recommended"), [(40, "lora"), (60, "full"), (300, "full")])
def test_time_decides_only_where_a_busy_machine_cannot(seconds: int, recommended: str) -> None:
    """What else a machine does may double a time; the same runs must not say another thing."""
    found = statistics(
        {"full": 0.548, "lora": 0.545, "tfidf": 0.483},
        equal=(("full", "lora"),),
        worse=(("full", "tfidf"),),
    )
    costs = COSTS | {"lora": cost(seconds)}
    assert judge(found, costs).recommended == recommended
    undecided = statistics({"full": 0.548, "lora": 0.545})
    said = judge(undecided, costs).sentence
    assert ("cheaper of the two by time" in said) == (seconds != 60)


def test_cheaper_equivalent_method_and_one_undecided() -> None:
    found = statistics({"full": 0.548, "lora": 0.545, "tfidf": 0.54}, equal=(("full", "lora"),))
    answer = judge(found)
    assert answer.recommended == "lora"
    assert "; 800 test rows leave open how tfidf would compare; measured" in answer.sentence


def test_best_that_beats_all_others() -> None:
    found = statistics(
        {"full": 0.548, "lora": 0.50, "tfidf": 0.483}, worse=(("full", "lora"), ("full", "tfidf"))
    )
    answer = judge(found)
    assert answer.recommended == "full"
    assert answer.sentence == (
        "Ship full: macro-F1 0.548 [0.513, 0.583], significantly better than all others (smallest "
        "lead 0.048 over lora, p < 0.001); measured on 800 test rows and 1 seed."
    )


def test_best_that_is_cheaper_than_its_equal() -> None:
    found = statistics(
        {"full": 0.548, "lora": 0.545, "tfidf": 0.483},
        equal=(("full", "lora"),),
        worse=(("full", "tfidf"),),
    )
    answer = judge(found, COSTS | {"lora": cost(200)})
    assert answer.recommended == "full"
    assert "significantly better than tfidf (smallest lead 0.065 over tfidf" in answer.sentence
    assert "within 0.01 of lora, and it takes less than twice the time of it" in answer.sentence


def test_no_clear_winner_names_the_nearest_and_the_cheaper() -> None:
    found = statistics({"full": 0.548, "lora": 0.545}, folds=5, seeds={"full": 3, "lora": 3})
    answer = judge(found)
    assert (answer.best, answer.recommended) == ("full", None)
    assert answer.sentence == (
        "No clear winner: full leads with macro-F1 0.548 [0.513, 0.583], but 800 test rows, 5 "
        "folds and 3 seeds can neither tell it from lora nor show that they are within 0.01 of "
        "each other; lora is the cheaper of the two by time."
    )
    assert answer.reasons[0].startswith("lora: undecided")


def test_no_clear_winner_among_several() -> None:
    answer = judge(statistics({"full": 0.548, "lora": 0.545, "tfidf": 0.53}))
    assert "can neither tell it from lora or tfidf nor show" in answer.sentence
    assert "tfidf is the cheapest of these by time" in answer.sentence


def test_significantly_worse_within_the_margin_is_a_candidate() -> None:
    pair = (("full", "lora"),)
    answer = judge(statistics({"full": 0.548, "lora": 0.545}, equal=pair, worse=pair))
    assert answer.recommended == "lora"
    assert "significantly worse than full, but within 0.01 of it" in answer.reasons[0]


def test_one_method_stands_against_the_commonest_label() -> None:
    answer = judge(statistics({"full": 0.548}))
    assert "full is the only method, so there is nothing to compare it with" in answer.sentence
    assert "significantly above the 0.216 of always answering 'positive' (p < " in answer.sentence
    assert (answer.recommended, answer.reasons) == ("full", ())


def test_one_method_that_is_not_better_than_the_prior_is_not_shipped() -> None:
    answer = judge(statistics({"full": 0.3}), full=0.2)
    assert answer.recommended is None
    assert answer.sentence == (
        "Nothing here is worth shipping yet: full, the only method, has macro-F1 0.300 [0.265, "
        "0.335], but 800 test rows and 1 seed cannot tell it from always answering 'positive' "
        "(0.216, p = 0.200)."
    )


def test_nothing_is_shipped_that_is_no_better_than_the_prior() -> None:
    found = statistics({"svm": 0.216, "majority": 0.216}, equal=(("svm", "majority"),))
    answer = judge(found, {"svm": cost(1), "majority": cost(0.1)}, svm=1.0)
    assert answer.recommended is None
    assert "is worth shipping: majority, the best, has macro-F1 0.216" in answer.sentence
    assert "no better than always answering 'positive'; measured on 800 test" in answer.sentence
    alone = judge(statistics({"majority": 0.216}))
    assert alone.recommended is None
    assert "majority, the only method" in alone.sentence


def test_a_lead_that_does_not_matter_is_not_shipped() -> None:
    found = statistics({"svm": 0.22, "majority": 0.216}, equal=(("svm", "majority"),))
    answer = judge(found, {"svm": cost(1), "majority": cost(0.1)})
    assert answer.recommended is None
    assert "within 0.01 of always answering 'positive' (0.216); measured" in answer.sentence


def test_a_cheaper_equal_of_the_best_is_not_shipped_if_no_better_than_the_prior() -> None:
    found = statistics({"full": 0.3, "tfidf": 0.295}, equal=(("full", "tfidf"),))
    answer = judge(found, tfidf=0.2)
    assert answer.recommended == "full"


def test_a_best_that_is_not_shown_to_beat_the_prior_is_no_winner() -> None:
    answer = judge(statistics({"full": 0.3, "lora": 0.29, "majority": 0.216}), full=0.2)
    assert answer.recommended is None
    assert answer.sentence.startswith("No clear winner: full leads")
    assert answer.sentence.endswith("within 0.01 of each other.")


def test_a_prior_that_is_not_known_judges_nothing() -> None:
    found = statistics({"full": 0.216})
    answer = verdict(found, COSTS, leads={}, prior="")
    assert answer.recommended == "full"
    assert "above" not in answer.sentence


def test_seeds_that_differ_are_told() -> None:
    answer = judge(statistics({"full": 0.548, "lora": 0.545}, seeds={"full": 1, "lora": 5}))
    assert "1 to 5 seeds" in answer.sentence


def test_prices_decide_where_all_are_known() -> None:
    full = cost(100, train_price=1.0, price_per_1000=0.1)
    lora = cost(40, train_price=2.0, price_per_1000=0.1)
    assert cheapest(["full", "lora"], {"full": full, "lora": lora}) == ("full", "price")
    assert cheapest(["full", "lora"], {"full": full, "lora": cost(40)}) == ("lora", "time")
    found = statistics({"lora": 0.548, "full": 0.545}, equal=(("lora", "full"),))
    sentence = judge(found, {"full": full, "lora": lora}).sentence
    assert "Ship full" in sentence
    assert "at 52% of its price" in sentence


def test_unknown_costs_decide_nothing() -> None:
    costs = {"full": cost(100), "lora": cost(None, None)}
    assert cheapest(["full", "lora"], costs) == ("full", None)
    found = statistics({"full": 0.548, "lora": 0.545}, equal=(("full", "lora"),))
    answer = judge(found, costs)
    assert answer.recommended == "full"
    assert "of unknown cost" in answer.sentence


def test_what_was_not_trained_costs_no_training() -> None:
    prompted = cost(None, 9000.0, trainable_parameters=0)
    trained = cost(3600, 1.0)
    assert cheapest(["a", "b"], {"a": prompted, "b": trained}) == ("b", "time")


def test_equal_scores_may_stand_either_way_round() -> None:
    found = statistics({"b": 0.5, "a": 0.5})
    assert (found.differences[0].a, found.differences[0].b) == ("b", "a")
    difference = against(found, "a", "b")
    assert (difference.a, difference.b, difference.value) == ("a", "b", 0)
    assert difference.holm_low == pytest.approx(-0.027)
    assert judge(found, {"a": cost(1), "b": cost(2)}).best == "a"


def test_turning_a_difference_turns_its_table() -> None:
    (found,) = statistics({"a": 0.6, "b": 0.5}).differences
    table = McNemar(only_a=7, only_b=2, p_value=0.2)
    assert turned(replace(found, mcnemar=table)).mcnemar == McNemar(only_a=2, only_b=7, p_value=0.2)
