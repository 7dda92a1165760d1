"""A split by time: what is read as a time, which rows are the newest, and what is said of it."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmclf.config import ConfigError, DataError
from llmclf.data.config import DataConfig
from llmclf.data.corpus import Splits, load_splits
from llmclf.data.moments import moment
from llmclf.data.times import newest

NOON = 1711893900.0
MIDNIGHT = 1711843200.0
FORMS: dict[str, Callable[[datetime], str]] = {
    "iso": lambda t: t.isoformat(),
    "space": lambda t: f"{t:%Y-%m-%d %H:%M:%S}",
    "zone": lambda t: t.astimezone().isoformat(),
    "date": lambda t: f"{t:%Y/%m/%d}",
    "dots": lambda t: f"{t:%d.%m.%Y %H:%M}",
    "american": lambda t: f"{t:%m/%d/%Y %I:%M:%S %p}",
    "day first": lambda t: f"{t:%d/%m/%Y}",
    "words": lambda t: f"{t:%d %B %Y}",
    "twitter": lambda t: f"{t:%a %b %d %H:%M:%S} +0000 {t:%Y}",
    "mail": lambda t: f"{t:%a, %d %b %Y %H:%M:%S} +0000",
    "seconds": lambda t: str(int(t.timestamp())),
    "float": lambda t: str(t.timestamp()),
    "milliseconds": lambda t: str(int(t.timestamp() * 1000)),
    "compact": lambda t: f"{t:%Y%m%d}",
}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2024-03-31", MIDNIGHT),
        ("2024-03-31T14:05:00Z", NOON),
        ("2024-03-31 14:05 UTC", NOON),
        ("2024-03-31 16:05:00.000+02:00", NOON),
        ("2024-03-31 16:05:00+0200", NOON),
        ("31.3.2024 14:05", NOON),
        ("3/31/2024 2:05 PM", NOON),
        ("3/31/24", MIDNIGHT),
        ("3/31/2024 12:00 a.m.", MIDNIGHT),
        ("31-Mar-2024", MIDNIGHT),
        ("March 31, 2024 2:05 pm", NOON),
        ("Sunday, March 31, 2024", MIDNIGHT),
        ("Sun Mar 31 07:05:00 PDT 2024", NOON),
        ("Sun, 31 Mar 2024 16:05:00 +0200", NOON),
        ("1711893900", NOON),
        ("1711893900000", NOON),
        ("20240331", MIDNIGHT),
        ("2024-03", 1709251200.0),
        ("2024", 1704067200.0),
        *((text, None) for text in ("soon", "3.5", "12", "-5", "2024-02-30", "2024-13", "May be")),
        *((text, None) for text in ("20241331", "3/31/2024 25:00", "3/31/2024 soon", "1/2/3", "-")),
    ],
)
def test_times_as_people_write_them(text: str, seconds: float | None) -> None:
    assert moment(text, False if "/" in text else None) == seconds


@given(st.text())
def test_no_text_is_an_error(text: str) -> None:
    assert moment(text) is None or moment(text) == moment(text, True) == moment(text, False)


@given(st.lists(st.integers(0, 9), min_size=1), st.floats(0.01, 0.99))
def test_the_newest_rows_are_whole_moments_as_near_as_can_be(at: list[int], share: float) -> None:
    chosen = newest(np.array(at, float), share)
    if len(set(at)) == 1:
        assert not chosen.any()
        return
    new, old = {a for a, c in zip(at, chosen, strict=True) if c}, set(np.array(at)[~chosen])
    assert new and old and max(old) < min(new)
    sizes = [sum(a >= start for a in at) for start in sorted(set(at))[1:]]
    assert abs(chosen.sum() - share * len(at)) == min(abs(s - share * len(at)) for s in sizes)


def written(folder: Path, times: list[str], header: str = "text,label,opened") -> Path:
    path = folder / "tickets.csv"
    lines = [f'ticket {i} is unlike any other,{"ab"[i % 2]},"{t}"' for i, t in enumerate(times)]
    path.write_text("\n".join([header, *lines]), encoding="utf-8")
    return path


def load(path: Path, seed: int = 0, **settings: Any) -> Splits:
    return load_splits(DataConfig(source=str(path), text="text", label="label", **settings), seed)


def days(count: int = 100) -> list[datetime]:
    """One a day, in no order."""
    first = datetime(2024, 1, 1, 10, 30, tzinfo=UTC)
    return random.Random(1).sample([first + timedelta(days=i) for i in range(count)], count)


@pytest.mark.parametrize("form", FORMS)
def test_the_newest_rows_are_the_test_rows_then_validation(form: str, tmp_path: Path) -> None:
    times = days()
    splits = load(written(tmp_path, [FORMS[form](t) for t in times]), time="opened")
    of = {name: [times[int(i) - 1] for i in split.ids] for name, split in splits.named()}
    assert {name: len(rows) for name, rows in of.items()} == {
        "train": 72, "validation": 8, "test": 20,
    }  # fmt: skip
    assert max(of["train"]) < min(of["validation"])
    assert max(of["validation"]) < min(of["test"])
    (said,) = splits.decisions
    assert said.startswith(
        "split by time, column 'opened': test rows: the newest 20, from 2024-03-"
    )
    assert "; validation rows: the newest 8, from 2024-03-1" in said


def test_seeds_have_the_same_rows_and_equal_times_stay_together(tmp_path: Path) -> None:
    times = [f"2024-01-{1 + i % 10:02}" for i in range(100)]
    path = written(tmp_path, times)
    one, other = load(path, time="opened"), load(path, seed=7, time="opened")
    assert one.membership == other.membership
    ends = {name: {times[int(i) - 1] for i in split.ids} for name, split in one.named()}
    assert ends["test"] == {"2024-01-09", "2024-01-10"} and ends["validation"] == {"2024-01-08"}


def test_given_test_rows_need_no_time(tmp_path: Path) -> None:
    path = written(tmp_path, [FORMS["iso"](t) for t in days()])
    test = tmp_path / "given.csv"
    test.write_text("text,label\none more,a\nanother,b\n", encoding="utf-8")
    splits = load(path, time="opened", test=str(test))
    assert len(splits.test) == 2 and len(splits.validation) == 10
    assert splits.decisions[-1].startswith("split by time, column 'opened': validation rows: the")


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({4: "soon"}, r"tickets.csv row 5: column 'opened' holds 'soon', which is no time\. All"),
        ({4: "", 9: " "}, r"row 5 and 1 more rows: column 'opened' holds no time\. Allowed"),
        ({4: "2024-02-30"}, r"row 5: column 'opened' holds '2024-02-30', which is no time"),
        ({4: "3/4/2024"}, r"row 5: .* whether the day or the month comes first\. Write"),
        ({4: "31/3/2024", 5: "3/31/2024"}, r"row 5 and 1 more rows: .*the day or the month"),
        (dict.fromkeys(range(40), "2024-01-01"), r"the 40 rows that are left for train and test"),
        (
            {i: "2024-01-0" + "12"[i % 2] for i in range(40)},
            r"train and validation are of one time, 2024-01-01;.*--data.validation-fraction 0",
        ),
    ],
)
def test_what_cannot_be_split_by_time(cells: dict, message: str, tmp_path: Path) -> None:
    times = [cells.get(i, f"2024-01-{1 + i % 28:02}") for i in range(40)]
    with pytest.raises(DataError, match=message):
        load(written(tmp_path, times), time="opened")


def test_a_label_that_comes_up_late_is_refused_with_the_cure(tmp_path: Path) -> None:
    path = written(tmp_path, [f"2024-01-{1 + i % 28:02}" for i in range(40)])
    path.write_text(path.read_text() + "\nsomething new,c,2025-01-01\n")
    with pytest.raises(DataError, match=r"no training row has: 'c'.*a label that comes up late"):
        load(path, time="opened")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fold": 0, "folds": 5}, r"data.time='opened' and data.folds: each fold would be tested"),
        ({"group": "label"}, r"data.time='opened' and data.group: a group may have"),
        ({"test": "t.csv", "validation": "v.csv"}, r"data.time='opened': has no effect"),
        ({"id": "opened"}, r"data.id and data.time are both 'opened'"),
    ],
)
def test_settings_that_contradict_a_split_by_time(
    settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = written(tmp_path, [FORMS["iso"](t) for t in days()])
    with pytest.raises(ConfigError, match=message):
        load(path, time="opened", **settings)


@pytest.mark.parametrize("form", FORMS)
def test_a_random_split_of_rows_with_times_is_told(form: str, tmp_path: Path) -> None:
    name = "created_at" if form in ("seconds", "float", "milliseconds", "compact") else "opened"
    path = written(tmp_path, [FORMS[form](t) for t in days()], f"text,label,{name}")
    assert load(path).decisions == (
        f"'{name}' holds times, which a random split mixes; --data.time {name} tests on the newest "
        "rows",
    )
    assert load(path, fold=0, folds=5).decisions == load(path).decisions


@pytest.mark.parametrize(
    ("header", "cells"),
    [
        ("text,label,number", [f"{1711893900 + i}" for i in range(40)]),
        ("text,label,year", [str(2000 + i) for i in range(40)]),
        ("text,label,version", [f"1.2.{i}" for i in range(40)]),
        ("text,label,opened", ["2024-01-01"] * 40),
        ("text,label,note", [f"see {i} May" for i in range(40)]),
        ("text,label,phone", [f"555-{i:02}-1234" for i in range(40)]),
    ],
)
def test_what_is_no_time_is_not_taken_for_one(
    header: str, cells: list[str], tmp_path: Path
) -> None:
    assert load(written(tmp_path, cells, header)).decisions == ()


def test_a_corpus_with_groups_is_no_corpus_to_split_by_time() -> None:
    message = r"data.time='rating': .* has groups \(column 'group'\)"
    with pytest.raises(DataError, match=message):
        load_splits(DataConfig(source="opinions/tweets", time="rating"), 0)
