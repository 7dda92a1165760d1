"""Fine-tuning: the one training loop, the strategies it runs under, and its checkpoints."""
