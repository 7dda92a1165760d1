"""What is used of other libraries without their promise: private and undocumented parts, by
library, each behind a function in our own terms.

``tests/test_compat.py`` names every one of them, ``pyproject.toml`` bounds these libraries.
Importing a module here imports its library no sooner than it is needed.
"""
