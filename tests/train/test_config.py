"""Settings of the loop: each field refuses what cannot work, naming key and value."""

from __future__ import annotations

from typing import Any

import pytest

from llmclf.config import ConfigError
from llmclf.train.config import TrainConfig

ABOVE_ZERO = [
    "epochs", "max_steps", "learning_rate", "global_batch_size", "micro_batch_size", "layer_decay",
    "evaluate_every", "patience", "checkpoint_every", "log_every",
]  # fmt: skip


@pytest.mark.parametrize("name", ABOVE_ZERO)
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_must_be_above_zero(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"^train\.{name}={value}: must be a number above 0\.$"):
        TrainConfig(**{name: value})


@pytest.mark.parametrize(
    "name", ["min_steps", "weight_decay", "max_grad_norm", "focal_gamma", "checkpoint_minutes"]
)
@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_must_not_be_negative(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"^train\.{name}={value}: must be 0 or more\.$"):
        TrainConfig(**{name: value})
    assert getattr(TrainConfig(**{name: 0.0}), name) == 0


@pytest.mark.parametrize("name", ["warmup", "label_smoothing"])
@pytest.mark.parametrize("value", [-0.1, 1, float("nan")])
def test_must_be_a_share(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"^train\.{name}={value}: must be in \[0, 1\)\.$"):
        TrainConfig(**{name: value})


def test_layer_decay_is_at_most_one() -> None:
    with pytest.raises(ConfigError, match=r"train\.layer_decay=1\.5: must be in \(0, 1\]"):
        TrainConfig(layer_decay=1.5)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({}, []),
        ({"loss": "focal"}, []),
        ({"label_smoothing": 0.1}, []),
        ({"loss": "focal", "label_smoothing": 0.1}, ["train.label_smoothing=0.1", "focal"]),
    ],
)
def test_problems_names_combinations_that_cannot_work(
    settings: dict[str, Any], named: list[str]
) -> None:
    problems = TrainConfig(**settings).problems()
    assert len(problems) == bool(named)
    assert all(word in problem for problem in problems for word in named)
