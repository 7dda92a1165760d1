"""Joiners belong to Persian words and emoji; what only hides a difference is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmclf.config import DataError, plain
from llmclf.data.config import DataConfig
from llmclf.data.corpus import Splits, load_splits
from llmclf.data.table import shown
from llmclf.invisible import hides_something, quoted, told_apart, visible

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
HEART = "\u2764\ufe0f\u200d\U0001f525"
ENGLAND = "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"
SCOTLAND = "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f"
PERSIAN = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"
SINHALA = "\u0dc1\u0dca\u200d\u0dbb\u0dd3"
MALAYALAM = "\u0d05\u0d35\u0d28\u0d4d\u200d"
KHMER = "\u1780\u1793\u17d2\u1791\u200b\u1794\u17d0\u178e"
VALID = (FAMILY, HEART, ENGLAND, SCOTLAND, PERSIAN, SINHALA, MALAYALAM, KHMER, "\u0600\u0661")
STRAY = (
    *("ad\u200dvice", "ad\u200cvice", "ad\u200bvice", "ad\u00advice", "a\u2060b", "a\u200eb"),
    *(
        f"\u200c{PERSIAN}",
        f"{PERSIAN}\u200c",
        f"{FAMILY}\u200d",
        f"\u200b{KHMER}",
        f"{KHMER}\ufeff",
    ),
    *("\u062e\u200c \u0648", "\u062e\u200c\u200c\u0648", "a\U000e0067", "\u202e\u0648", "\u3164"),
)


def load(folder: Path, *labels: str) -> Splits:
    path = folder / "rows.csv"
    lines = [f"text {i} is unlike any other,{labels[i % len(labels)]}" for i in range(60)]
    path.write_text("\n".join(["text,label", *lines]), encoding="utf-8")
    return load_splits(DataConfig(source=str(path)), 0)


def test_joiners_where_they_belong_are_labels_like_others(tmp_path: Path) -> None:
    assert load(tmp_path, *VALID).labels == tuple(sorted(VALID))
    assert plain(PERSIAN) == PERSIAN and plain(FAMILY) == FAMILY


@pytest.mark.parametrize("name", STRAY)
def test_invisible_characters_without_effect_are_refused(name: str, tmp_path: Path) -> None:
    assert hides_something(name)
    with pytest.raises(DataError, match="holds a line break, control or invisible character"):
        load(tmp_path, name, "other")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (PERSIAN, PERSIAN.replace("\u200c", "")),
        (SINHALA, SINHALA.replace("\u200d", "")),
        (KHMER, KHMER.replace("\u200b", "")),
        ("\u2764\ufe0f", "\u2764"),
    ],
)
def test_labels_that_only_differ_unseen_are_refused(one: str, other: str, tmp_path: Path) -> None:
    assert visible(one) == visible(other)
    with pytest.raises(DataError, match="in invisible characters"):
        load(tmp_path, one, other)


def test_emoji_that_look_different_are_two_labels(tmp_path: Path) -> None:
    parts = FAMILY.replace("\u200d", "")
    assert set(load(tmp_path, FAMILY, parts, ENGLAND, SCOTLAND).labels) == {
        FAMILY, parts, ENGLAND, SCOTLAND,
    }  # fmt: skip


@pytest.mark.parametrize("name", [*VALID, "\u6771\u3000\u4eac", "caf\u00e9", "a\\u200cb", "it's"])
def test_what_belongs_to_a_value_is_printed_in_messages(name: str) -> None:
    assert quoted(name)[1:-1] in (name, repr(name)[1:-1]) and shown(name) == quoted(name)
    assert "\\u" not in quoted(name).replace("\\\\", "")
    assert plain(name) == name
    assert quoted([name, {name: 1}]) == f"[{quoted(name)}, {{{quoted(name)}: 1}}]"


@pytest.mark.parametrize("name", [*STRAY, "a\nb", "a\u00a0b", "\ud800", "\ue000", "\u2028"])
def test_what_hides_something_is_escaped_in_messages(name: str) -> None:
    if name != "\u3164":  # a letter by its category
        assert "\\" in quoted(name) and quoted(name).isascii() == repr(name).isascii()


def test_labels_that_look_alike_are_told_apart() -> None:
    bare = PERSIAN.replace("\u200c", "")
    one, other = told_apart([PERSIAN, bare])
    assert (one, other) == (f"'{PERSIAN}'".replace("\u200c", "\\u200c"), f"'{bare}'")
    assert told_apart(["caf\u00e9", "cafe\u0301"]) == ["'caf\\xe9'", "'cafe\\u0301'"]
    assert told_apart(["\u00c9t\u00e9", "\u00e9t\u00e9"]) == ["'\u00c9t\u00e9'", "'\u00e9t\u00e9'"]


def test_refusals_show_labels_and_columns_as_they_are_written(tmp_path: Path) -> None:
    capital, small = "\u00c4rger", "\u00e4rger"
    with pytest.raises(DataError, match=rf"'{capital}' \(20 rows\), '{small}' \(20 rows\) differ"):
        load(tmp_path, capital, small, "other")
    path = tmp_path / "rows.csv"
    with pytest.raises(DataError, match=f"no column '{PERSIAN}'. Columns: 'text', 'label'"):
        load_splits(DataConfig(source=str(path), label=PERSIAN), 0)
    path.write_text(f"text,{PERSIAN}\n" + "one,a\n" * 9, encoding="utf-8")
    with pytest.raises(DataError, match=f"Did you mean '{PERSIAN}'"):
        load_splits(DataConfig(source=str(path), label=PERSIAN + "\u06cc"), 0)
    path = tmp_path / "rows.jsonl"
    path.write_text(f'[["{PERSIAN}"]]', encoding="utf-8")
    with pytest.raises(DataError, match=rf'is not an object but \'\["{PERSIAN}"\]'):
        load_splits(DataConfig(source=str(path)), 0)
