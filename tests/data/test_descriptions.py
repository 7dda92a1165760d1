"""What labels mean: a sentence for every label, or for none, checked against the data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmclf.config import ConfigError, from_json, to_json
from llmclf.data.config import DataConfig
from llmclf.data.corpus import load_splits
from llmclf.data.descriptions import are_numbers

LABELS = ("a", "a=b", "c")


@pytest.fixture
def source(tmp_path: Path) -> str:
    path = tmp_path / "rows.csv"
    lines = [f"text number {i},{LABELS[i % 3]}" for i in range(60)]
    path.write_text("\n".join(["text,label", *lines]) + "\n")
    return str(path)


def test_sentences_stand_in_the_order_of_the_labels(source: str) -> None:
    given = ("c=Is  it\n so?", "a=b=It is, a = b.", "a=First of all. ")
    splits = load_splits(DataConfig(source=source, descriptions=given), seed=0)
    assert splits.labels == LABELS
    assert splits.descriptions == ("First of all.", "It is, a = b.", "Is it so?")
    assert any("read by prompts and zero_shot alone" in said for said in splits.decisions)
    without = load_splits(DataConfig(source=source), seed=0)
    assert without.descriptions is None and without.membership == splits.membership
    assert not any("descriptions" in said for said in without.decisions)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("a=x", "a=b=y", "cc=z"), r"data\.descriptions='cc=z': there is no label 'cc'.*Labels: "),
        (("a=x", "a=b=y"), r"data\.descriptions: no words for 'c'\. .*every label, or for none"),
        (("a=x", "a=b=y", "c= "), r"data\.descriptions: label 'c' has no words.*c=words"),
        (("a=x", "a=y", "c=z"), r"label 'a' is given twice"),
        (("a=x", "a=b=y", "c=x "), r"labels 'a' and 'c' both have the words 'x'"),
    ],
)
def test_what_does_not_fit_the_labels(source: str, given: tuple[str, ...], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load_splits(DataConfig(source=source, descriptions=given), seed=0)


@pytest.mark.parametrize("given", ["a=x", ("x",), (), (1,)])
def test_what_is_no_description_is_refused_before_the_data_are_read(given: object) -> None:
    with pytest.raises(ConfigError, match=r"data\.descriptions=.*label=sentence for each label"):
        DataConfig(source="no/such.csv", descriptions=given)  # type: ignore[arg-type]


def test_they_reload() -> None:
    config = DataConfig(source="x", descriptions=["a=x", "b=y"])  # type: ignore[arg-type]
    assert config.descriptions == ("a=x", "b=y")
    assert from_json(DataConfig, json.loads(json.dumps(to_json(config)))) == config


def test_numbers() -> None:
    assert are_numbers(("0", "1", "-2.5")) and not are_numbers(("0", "1 star"))
