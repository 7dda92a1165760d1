"""Files and folders are whole or absent, and nothing else is left."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmclf.atomic import new_folder, replace_folder, replaced, temporary_name, write_text


def test_write_text_replaces_the_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "file.json"
    write_text(path, "old")
    write_text(path, "new é")
    assert path.read_text(encoding="utf-8") == "new é"
    assert [p.name for p in path.parent.iterdir()] == ["file.json"]


def test_write_text_that_fails_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):  # half of it is written by then
        write_text(path, "x" * 100_000 + "\ud800")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.json"]


def test_a_file_is_whole_before_it_has_its_name(tmp_path: Path) -> None:
    path = tmp_path / "made" / "file.bin"
    with replaced(path) as temporary:
        temporary.write_bytes(b"half")
        assert temporary.parent == path.parent  # a rename works within a file system alone
        assert temporary.name.startswith(".")
        assert not path.exists()
    assert path.read_bytes() == b"half"
    assert [p.name for p in path.parent.iterdir()] == ["file.bin"]


def test_what_a_killed_process_left_of_a_file_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    temporary_name(path).write_text("left")
    write_text(path, "new")
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["file.json"]


def test_a_block_that_writes_nothing_is_an_error_and_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_text(path, "old")
    with pytest.raises(FileNotFoundError), replaced(path):
        pass
    assert path.read_text() == "old"


def test_a_folder_takes_the_place_of_another_with_all_its_files(tmp_path: Path) -> None:
    old, new = tmp_path / "step", tmp_path / ".step.tmp"
    for folder, name in ((old, "before"), (new, "after")):
        folder.mkdir()
        (folder / name).touch()
    replace_folder(new, old)
    assert [p.name for p in old.iterdir()] == ["after"]
    assert not new.exists()


def test_a_new_folder_is_whole_or_absent(tmp_path: Path) -> None:
    target = tmp_path / "cache"
    (tmp_path / ".cache.0123.partial").mkdir()  # as a killed process leaves it
    with pytest.raises(FileNotFoundError), new_folder(target) as partial:
        (partial / "half" / "file").touch()
    assert list(tmp_path.iterdir()) == []
    with new_folder(target) as partial:
        (partial / "whole").touch()
        assert not target.exists()
    assert [p.name for p in target.iterdir()] == ["whole"]


def test_of_two_that_fill_a_folder_the_first_one_wins(tmp_path: Path) -> None:
    target = tmp_path / "cache"
    with pytest.raises(OSError), new_folder(target):
        (target / "first").mkdir(parents=True)
    assert [p.name for p in target.iterdir()] == ["first"]
    assert [p.name for p in tmp_path.iterdir()] == ["cache"]
