"""What mirrors a run folder to W&B, trackio and TensorBoard; metrics.jsonl stays the truth."""
