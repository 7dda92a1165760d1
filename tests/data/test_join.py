"""Columns joined into one text, columns that a guess left aside, label columns without a 1."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from llmclf.cli.recipe import RunCommand, read
from llmclf.config import ConfigError, DataError, from_json, to_json
from llmclf.data.config import DataConfig
from llmclf.data.corpus import Splits, load_splits
from llmclf.methods.classical import Classical

BOTH = ("title", "description")


def ticket(i: int, **changes: Any) -> dict[str, Any]:
    values = {
        "title": f"Ticket {i} about printing",
        "description": f"The printer number {i} has lost its paper again",
        "category": "ab"[i % 2],
    }
    return values | changes


def written(folder: Path, *rows: dict[str, Any], suffix: str = "csv") -> Path:
    path = folder / f"tickets.{suffix}"
    frame = pl.DataFrame(rows, infer_schema_length=None)
    frame.write_csv(path) if suffix == "csv" else frame.write_parquet(path)
    return path


def load(path: Path, **settings: Any) -> Splits:
    return load_splits(DataConfig(source=str(path), validation_fraction=0, **settings), 0)


def by_id(splits: Splits) -> dict[str, str]:
    return {i: t for _, s in splits.named() for i, t in zip(s.ids, s.texts, strict=True)}


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_columns_are_joined_in_order_and_empty_ones_left_out(suffix: str, tmp_path: Path) -> None:
    rows = [ticket(i) for i in range(40)]
    rows[3] |= {"title": None}
    rows[4] |= {"description": "  "}
    rows[5] |= {"title": None, "description": None}
    path = written(tmp_path, *rows, suffix=suffix)
    splits = load(path, text=BOTH, label="category")
    texts = by_id(splits)
    assert texts["1"] == f"{rows[0]['title']}\n{rows[0]['description']}"
    assert texts["4"] == rows[3]["description"] and texts["5"] == rows[4]["title"]
    assert splits.empty_rows == (f"tickets.{suffix} row 6",) and "6" not in texts
    assert splits.decisions == ()
    turned = by_id(load(path, text=BOTH[::-1], label="category"))
    assert turned["1"] == f"{rows[0]['description']}\n{rows[0]['title']}"


def test_a_pair_stays_apart(tmp_path: Path) -> None:
    path = written(tmp_path, *(ticket(i, answer=f"Add paper {i}") for i in range(40)))
    train = load(path, text=BOTH, pair="answer", label="category").train
    assert train.pairs is not None
    assert all("\n" in t for t in train.texts) and all("\n" not in p for p in train.pairs)


def test_one_column_of_a_list_is_that_column(tmp_path: Path) -> None:
    path = written(tmp_path, *(ticket(i) for i in range(40)))
    one, listed = load(path, text="title"), load(path, text=("title",))
    assert one.membership == listed.membership
    assert to_json(DataConfig(source="x", text=("title",)))["text"] == "title"


def test_the_command_line_and_json_have_both_forms() -> None:
    default = Classical(name="x", data=DataConfig(source="s.csv"))
    for words, text in ((["title"], "title"), (list(BOTH), BOTH)):
        argv = ["--data.text", *words, "--data.label", "category"]
        _, (found,) = read([default], argv, "", RunCommand())
        assert found.data.text == text and found.data.label == "category"
        stored = json.loads(json.dumps(found.to_json()))
        assert Classical.from_json(stored) == found
    with pytest.raises(ConfigError, match=r"text=3"):
        from_json(DataConfig, {"source": "s.csv", "text": 3})


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"text": ("title", "body")}, DataError, r"no column 'body'. Columns: 'title'"),
        ({"text": "title,description"}, DataError, r"spaces: --data.text title description\.$"),
        ({"text": ("title", "title")}, ConfigError, r"data.text and data.text are both 'title'"),
        ({"text": BOTH, "pair": "title"}, ConfigError, r"data.text and data.pair are both"),
        ({"text": BOTH, "label": "title"}, ConfigError, r"data.text and data.label are both"),
        ({"text": ("title", "")}, ConfigError, r"data.text=\['title', ''\]: allowed is one name"),
        ({"text": ()}, ConfigError, r"data.text=\[\]: allowed is one name or several"),
    ],
)
def test_what_cannot_be_joined(
    settings: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    path = written(tmp_path, *(ticket(i) for i in range(40)))
    with pytest.raises(error, match=message):
        load(path, **settings)


def test_lists_are_no_part_of_a_text(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pl.DataFrame([ticket(i, tags=["x", "y"]) for i in range(40)]).write_parquet(path)
    with pytest.raises(DataError, match=r"row 1: column 'tags' holds a list"):
        load(path, text=("title", "tags"))


def test_texts_that_a_guess_leaves_aside_are_named(tmp_path: Path) -> None:
    changes = {
        "url": "https://example.org/a/b/c",
        "opened": "2024-03-01 10:00:00",
        "team": "a b c d",
    }
    path = written(tmp_path, *(ticket(i, **changes, id=f"k{i}") for i in range(40)))
    assert load(path).decisions == (
        "text column: 'description' (guessed; set --data.text)",
        "label column: 'category' (guessed; set --data.label)",
        "id column: 'id' (guessed; set --data.id)",
        "left aside, though text: 'title' (to join: --data.text title description)",
    )
    assert not [d for d in load(path, text="title").decisions if d.startswith("left aside")]
    chinese = "\u8fd9\u4e2a\u6253\u5370\u673a\u53c8\u6ca1\u6709\u7eb8\u4e86"
    rows = (ticket(i, **{"my note": f"{chinese} {i}"}) for i in range(40))
    said = load(written(tmp_path, *rows)).decisions[-1]
    assert said.endswith("--data.text title description 'my note')")


def test_a_label_column_without_a_1_is_named(tmp_path: Path) -> None:
    rows = [ticket(i, joy=i % 2, anger=(i // 2) % 2, fear=0) for i in range(80)]
    splits = load(written(tmp_path, *rows), text="title", label="joy,anger,fear")
    assert splits.labels == ("anger", "joy")
    assert splits.decisions == ("label columns without a 1, left out: 'fear'",)
