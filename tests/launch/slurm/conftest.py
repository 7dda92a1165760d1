"""Tiny checkpoints and corpora for the loop."""

from tests.tiny import bert, corpus, llama, splits  # noqa: F401
