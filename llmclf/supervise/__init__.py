"""What surrounds a run: signals, the watchdog over the ranks, and the answer to a full memory."""
