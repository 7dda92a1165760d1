"""Tiny checkpoints and corpora for the loop."""

from tests.tiny import bert, causal, corpus, llama, splits  # noqa: F401
