"""What fits on which devices, by arithmetic and traces without memory: no weights, no GPU."""
