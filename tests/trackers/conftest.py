"""Tiny checkpoints and corpora for tracked runs."""

from tests.tiny import bert, corpus  # noqa: F401
