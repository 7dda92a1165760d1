"""Tiny checkpoints for runs that are to be resumed."""

from tests.tiny import bert, byte_llama, corpus  # noqa: F401
