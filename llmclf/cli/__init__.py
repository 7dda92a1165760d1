"""The command line, one file per command; ``app`` is ``llmclf`` itself, ``recipe``
what recipes call."""
