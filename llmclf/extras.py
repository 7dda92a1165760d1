"""How to install what only some users need: the extras of pyproject.toml."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def install_hint(extra: str, root: Path = ROOT) -> str:
    """The command that installs an extra, for the message that something is missing.

    In a checkout it names the files there: no package index need know llmclf. ``root``: the folder
    that holds the package.
    """
    if (root / "pyproject.toml").is_file():
        return f"pip install -e '.[{extra}]' in the root of the repository, or make install"
    return f"pip install 'llmclf[{extra}]'"
