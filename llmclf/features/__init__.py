"""Features of a frozen model: its states, pooled, and a linear classifier on them."""
