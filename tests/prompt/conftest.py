"""Tiny checkpoints and corpora, and a server that misbehaves when told to, with short waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from llmclf.prompt import api_client
from tests.prompt.completions_server import CompletionsServer
from tests.tiny import bert, causal, corpus, llama, splits  # noqa: F401


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., CompletionsServer]]:
    """Start servers that are closed after the test."""
    monkeypatch.setattr(api_client, "FIRST_WAIT", 0.01)
    started: list[CompletionsServer] = []

    def start(**options: Any) -> CompletionsServer:
        started.append(CompletionsServer(**options))
        return started[-1]

    yield start
    for server in started:
        server.close()
