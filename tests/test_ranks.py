"""What a launch says of this process."""

from __future__ import annotations

import pytest

from llmclf import ranks

NAMES = (
    "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE",
)  # fmt: skip


def found() -> tuple[int, ...]:
    return (
        ranks.rank(),
        ranks.world_size(),
        ranks.local_rank(),
        ranks.local_world_size(),
        ranks.machine(),
        ranks.machines(),
    )


def test_without_a_launcher_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    assert found() == (0, 1, 0, 1, 0, 1)
    assert ranks.is_main() and not ranks.launched()


def test_a_launcher_says_who_this_is(monkeypatch: pytest.MonkeyPatch) -> None:
    told = (5, 6, 2, 3, 1, 2)
    for name, value in zip(NAMES, told, strict=True):
        monkeypatch.setenv(name, str(value))
    assert found() == told
    assert ranks.launched() and not ranks.is_main()
