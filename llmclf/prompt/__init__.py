"""Zero- and few-shot classification by a causal language model, local or behind an API."""
