"""Tiny checkpoints and corpora for prompting."""

from tests.tiny import bert, causal, corpus, llama, splits  # noqa: F401
