"""Tiny checkpoints and corpora for the loop."""

from tests.tiny import bert, byte_llama, corpus, llama, splits  # noqa: F401
