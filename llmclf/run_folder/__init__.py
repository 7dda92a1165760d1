"""The run folder, the only place that reads or writes one: started with what is about to run,
finished by results.json, never overwritten. Importing it imports no torch."""

SCHEMA = 1
"""Of results.json."""
PAIR = " \u2016 "
"""Stands between text and pair in splits.parquet."""
