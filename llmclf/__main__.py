"""``python -m llmclf`` is ``llmclf``."""

from llmclf.cli.app import main

if __name__ == "__main__":
    main()
