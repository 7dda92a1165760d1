"""Tiny checkpoints and a corpus."""

from tests.tiny import bert, corpus, llama  # noqa: F401
