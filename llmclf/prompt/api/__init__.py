"""Models behind an OpenAI-compatible server: requests, cache, budget, and how answers are read."""
