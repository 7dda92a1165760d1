"""Settings of prompting: each wrong value, and each combination that cannot work."""

from __future__ import annotations

import math
from typing import Any

import pytest

from llmclf.config import ConfigError, from_json, to_json
from llmclf.prompt.config import ApiConfig, PromptConfig


@pytest.mark.parametrize(
    ("field", "value", "least"),
    [
        ("shots", -1, 0),
        ("seeds", 0, 1),
        ("orders", 0, 1),
        ("calibration_rows", 0, 1),
        ("token_budget", 0, 1),
        ("token_budget", -5, 1),
        ("injection_rows", -1, 0),
    ],
)
def test_numbers_that_are_too_small(field: str, value: int, least: int) -> None:
    with pytest.raises(ConfigError) as error:
        PromptConfig(**{field: value})
    assert str(error.value) == f"prompt.{field}={value}: must be {least} or more."
    PromptConfig(**{field: least})


@pytest.mark.parametrize("templates", [(), ("quoted", "quoted"), ("tagged", "quoted", "tagged")])
def test_templates_each_once(templates: tuple[Any, ...]) -> None:
    with pytest.raises(ConfigError, match=r"prompt\.templates=.*quoted, tagged and question"):
        PromptConfig(templates=templates)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"order": "nearest_last", "shots": 4}, ["prompt.order='nearest_last'", "'balanced'"]),
        ({"seeds": 3}, ["prompt.seeds=3", "prompt.shots=0", "--prompt.shots"]),
        ({"orders": 2}, ["prompt.orders=2", "prompt.shots=0", "--prompt.shots"]),
        (
            {"demonstrations": "nearest", "shots": 4, "seeds": 2},
            ["prompt.seeds=2", "--prompt.templates", "--prompt.orders"],
        ),
        (
            {"demonstrations": "nearest", "shots": 4, "orders": 2},
            ["prompt.orders=2", "'nearest_last'", "--prompt.order shuffled"],
        ),
        (
            {"order": "by_label", "shots": 4, "orders": 2},
            ["prompt.orders=2", "'by_label'", "--prompt.order shuffled"],
        ),
        (
            {"answers": "letters", "verbaliser": ("a=b",)},
            ["prompt.verbaliser", "prompt.answers='letters'", "one of them"],
        ),
    ],
)
def test_combinations_that_cannot_work(settings: dict[str, Any], told: list[str]) -> None:
    (problem,) = PromptConfig(**settings).problems()
    for part in told:
        assert part in problem


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"shots": 16, "seeds": 3, "orders": 2},
        {"demonstrations": "nearest", "shots": 8},
        {"demonstrations": "nearest", "shots": 8, "order": "nearest_last"},
        {"demonstrations": "nearest", "shots": 8, "order": "shuffled", "orders": 3},
        {"demonstrations": "nearest"},  # zero shots of a recipe for more
        {"answers": "letters"},
        {"templates": ("quoted", "tagged", "question")},
    ],
)
def test_combinations_that_work(settings: dict[str, Any]) -> None:
    config = PromptConfig(**settings)
    assert config.problems() == []
    assert from_json(PromptConfig, to_json(config)) == config


def test_all_problems_at_once() -> None:
    config = PromptConfig(seeds=2, order="nearest_last", answers="letters", verbaliser=("a=b",))
    assert len(config.problems()) == 3


@pytest.mark.parametrize(
    ("settings", "order"),
    [
        ({}, "shuffled"),
        ({"demonstrations": "random"}, "shuffled"),
        ({"demonstrations": "nearest"}, "nearest_last"),
        ({"demonstrations": "nearest", "order": "shuffled"}, "shuffled"),
        ({"order": "by_label"}, "by_label"),
    ],
)
def test_order_without_auto(settings: dict[str, Any], order: str) -> None:
    assert PromptConfig(**settings).resolved_order == order


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("concurrency", 0, "must be 1 or more"),
        ("retries", -1, "must be 0 or more"),
        ("timeout", -1.0, "must be 0 or more"),
        ("timeout", 0.0, "must be above 0"),
        ("timeout", math.nan, "must be 0 or more"),
        ("timeout", math.inf, "must be 0 or more"),
        ("input_price", -0.1, "must be 0 or more"),
        ("output_price", math.nan, "must be 0 or more"),
        ("spending_cap", -1.0, "must be 0 or more"),
    ],
)
def test_wrong_numbers_of_a_server(field: str, value: float, told: str) -> None:
    with pytest.raises(ConfigError, match=rf"api\.{field}=.*{told}"):
        ApiConfig(**{field: value})


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"base_url": "localhost:8000/v1"}, "api.base_url='localhost:8000/v1': must begin with"),
        ({"base_url": ""}, "api.base_url=''"),
        ({"spending_cap": 5.0}, "api.spending_cap=5.0: needs api.input_price and"),
        ({"spending_cap": 5.0, "input_price": 1.0}, "api.spending_cap=5.0"),
    ],
)
def test_settings_of_a_server_that_cannot_work(settings: dict[str, Any], told: str) -> None:
    (problem,) = ApiConfig(**settings).problems()
    assert told in problem


def test_settings_of_a_server_that_work() -> None:
    assert ApiConfig().problems() == []
    prices = {"input_price": 0.0, "output_price": 2.5, "spending_cap": 1.0}
    assert ApiConfig(base_url="https://example.org/v1", **prices).problems() == []
