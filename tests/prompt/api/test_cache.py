"""The cache of responses: it outlives the process, and damage."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from llmclf.config import ConfigError
from llmclf.prompt.api.cache import ResponseCache


def filled(path: Path, count: int = 500) -> bytes:
    cache = ResponseCache(path)
    for i in range(count):
        cache.put(f"{i:064}", {"kept": {"choice": i, "padding": "x" * 100}, "usage": [1, 2]})
    cache.close()
    return path.read_bytes()


def test_what_was_put_is_there_in_the_next_process(tmp_path: Path) -> None:
    filled(tmp_path / "new" / "c")
    cache = ResponseCache(tmp_path / "new" / "c")
    assert cache.get(f"{7:064}")["kept"]["choice"] == 7
    assert cache.get("other") is None
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["c"]


def test_two_processes_may_share_it(tmp_path: Path) -> None:
    first, second = ResponseCache(tmp_path / "c"), ResponseCache(tmp_path / "c")
    first.put("a", 1)
    second.put("a", 1)
    second.put("b", 2)
    assert (first.get("b"), second.get("a")) == (2, 1)


@pytest.mark.parametrize("left", [0, 1, 50, 4096, 40_000, 80_000])
def test_cut_off_file_is_set_aside(
    left: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c"
    whole = filled(path)
    path.write_bytes(whole[:left])
    cache = ResponseCache(path)
    found = sum(cache.get(f"{i:064}") is not None for i in range(500))
    cache.put("new", 1)
    cache.close()
    assert ResponseCache(path).get("new") == 1
    if left > 1:  # to SQLite a file of a byte is an empty one
        assert f"{path.name}.damaged; {found} of its answers" in capfd.readouterr().err
        assert (tmp_path / "c.damaged").read_bytes() == whole[:left]


def test_overwritten_page_loses_no_more_than_must_be(tmp_path: Path) -> None:
    path = tmp_path / "c"
    whole = filled(path)
    path.write_bytes(whole[:60_000] + b"\xff" * 5_000 + whole[65_000:])
    cache = ResponseCache(path)
    found = [cache.get(f"{i:064}") for i in range(500)]
    assert all(value is None or value["kept"]["choice"] == i for i, value in enumerate(found))
    assert any(found)


def test_damaged_answer_is_a_missing_one(tmp_path: Path) -> None:
    cache = ResponseCache(tmp_path / "c")
    cache.put("a", {"x": 1})
    with sqlite3.connect(tmp_path / "c") as other:
        other.execute("UPDATE answers SET answer = '{\"x\"'")
    assert cache.get("a") is None


@pytest.mark.parametrize("content", [b"not a database, but long enough" * 100, b"\x00" * 5000])
def test_another_kind_of_file_is_set_aside(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(content)
    cache = ResponseCache(tmp_path / "c")
    cache.put("a", 1)
    assert cache.get("a") == 1
    assert (tmp_path / "c.damaged").read_bytes() == content


def test_folder_in_its_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    with pytest.raises(ConfigError, match=r"/c: cannot keep the server's answers"):
        ResponseCache(tmp_path / "c")


def test_table_of_another_kind_is_named(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "c") as other:
        other.execute("CREATE TABLE answers (x INT)")
    cache = ResponseCache(tmp_path / "c")
    with pytest.raises(ConfigError, match="cannot keep"):
        cache.get("a")
