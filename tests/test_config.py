"""Strict dataclass <-> JSON, and one message for a user's mistake."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from llmclf.config import (
    ConfigError,
    DataError,
    changeable,
    changeable_keys,
    did_you_mean,
    dump_json,
    exit_on_user_error,
    flatten,
    from_json,
    to_json,
)


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 0.5
    kind: Literal["a", "b"] = "a"
    limit: int | None = None


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str
    flag: bool = False
    path: Path | None = None
    names: tuple[str, ...] = ()
    note: Annotated[str, "a note"] = ""
    inner: Inner = field(default_factory=Inner)


@pytest.mark.parametrize(
    "config",
    [
        Outer(name="x"),
        Outer(name="é", flag=True, path=Path("/a/b"), names=("p", "q"), note="n"),
        Outer(name="x", inner=Inner(rate=1.0, kind="b", limit=3)),
    ],
)
def test_round_trip_through_text_is_exact(config: Outer) -> None:
    restored = from_json(Outer, json.loads(dump_json(to_json(config))))
    assert restored == config
    assert type(restored.inner.rate) is float


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"name": "x", "flg": True}, r"unknown key 'flg'\. Did you mean 'flag'\?"),
        ({"name": "x", "inner": {"rat": 1}}, r"unknown key 'inner\.rat'\. Did you mean 'rate'\?"),
        ({"name": "x", "zzz": 1}, r"unknown key 'zzz'\. Allowed: \["),
        ({}, "missing key 'name'"),
        ({"name": 1}, r"name=1 \(int\): expected str"),
        ({"name": "x", "flag": 1}, r"flag=1 \(int\): expected bool"),
        ({"name": "x", "flag": "true"}, r"flag='true' \(str\): expected bool"),
        ({"name": "x", "names": "pq"}, "names='pq': expected a list"),
        ({"name": "x", "names": [1]}, r"names=1 \(int\): expected str"),
        ({"name": "x", "inner": 3}, "inner: expected an object, got int"),
        ({"name": "x", "inner": {"rate": "1"}}, r"inner\.rate='1' \(str\): expected float"),
        ({"name": "x", "inner": {"rate": True}}, r"inner\.rate=True \(bool\): expected float"),
        ({"name": "x", "inner": {"limit": 1.5}}, r"inner\.limit=1\.5 \(float\): expected int"),
        ({"name": "x", "inner": {"limit": True}}, r"inner\.limit=True \(bool\): expected int"),
        ({"name": "x", "inner": {"kind": "c"}}, r"inner\.kind='c': allowed are \['a', 'b'\]"),
        ([], "the file: expected an object, got list"),
    ],
)
def test_what_is_not_exactly_right_is_refused(value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_json(Outer, value)


def test_a_whole_number_is_a_float_but_not_the_other_way_round() -> None:
    assert from_json(Inner, {"rate": 2}).rate == 2.0


def test_not_a_number_is_no_json() -> None:
    with pytest.raises(ValueError, match="JSON"):
        dump_json({"loss": float("nan")})


@pytest.mark.parametrize(
    ("name", "expected"),
    [("flga", " Did you mean 'flag'?"), ("FLAG", " Did you mean 'flag'?"), ("quite else", "")],
)
def test_did_you_mean(name: str, expected: str) -> None:
    assert did_you_mean(name, ["flag", "path"]) == expected


def test_flatten_joins_keys_by_dots() -> None:
    flat = flatten({"a": 1, "b": {"c": 2, "d": {"e": [3]}}})
    assert flat == {"a": 1, "b.c": 2, "b.d.e": [3]}


def test_marked_fields_and_sections_may_change() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Marked:
        name: str
        rows: int = changeable(8)
        inner: Inner = field(default_factory=Inner)
        told: Inner = changeable(Inner())

    assert Marked(name="x").rows == 8
    assert changeable_keys(Marked(name="x")) == {"rows", "told.rate", "told.kind", "told.limit"}


@pytest.mark.parametrize("error", [ConfigError("set it"), DataError("row 3")])
def test_a_users_mistake_is_one_message_and_exit_code_2(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught, exit_on_user_error():
        raise error
    assert caught.value.code == 2
    assert capsys.readouterr().err == f"error: {error}\n"


def test_of_several_ranks_the_first_speaks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit), exit_on_user_error():
        raise ConfigError("set it")
    assert capsys.readouterr().err == ""


def test_a_failure_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError), exit_on_user_error():
        _ = 1 / 0
