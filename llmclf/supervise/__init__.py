"""What surrounds a run: signals, the lock of the folder, the watchdog over the ranks, and the
answer to a full memory."""
