"""Rows to be scored by a server, and a run of it that can be killed (``python -m``)."""

from __future__ import annotations

import sys
from pathlib import Path

from llmclf.config import exit_on_user_error
from llmclf.prompt.api.model import ApiModel, ApiPrompt
from llmclf.prompt.config import ApiConfig


def rows(count: int, words: tuple[str, ...] = ("positive", "negative")) -> list[ApiPrompt]:
    """Prompts that differ in a number."""
    texts = [f'Label: {", ".join(words)}.\n\nText: "sentence {i}"\nLabel:' for i in range(count)]
    return [
        ApiPrompt(
            text=text,
            messages=[{"role": "user", "content": text}],
            answers=tuple(f" {word}" for word in words),
            words=words,
        )
        for text in texts
    ]


if __name__ == "__main__":
    url, cache, count = sys.argv[1:]
    config = ApiConfig(base_url=url, concurrency=2, scoring="answer")
    with exit_on_user_error():
        ApiModel(config, "m", cache=Path(cache)).score(rows(int(count)), print)
