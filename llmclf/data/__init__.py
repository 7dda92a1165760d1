"""Corpora: from a source to audited splits, and from texts to batches."""
