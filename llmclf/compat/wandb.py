"""W&B: settings that it calls experimental."""

from __future__ import annotations


def tell_nothing_of_the_machine() -> dict[str, bool]:
    """Settings that keep command line, user, host, load and packages out of what is sent.

    W&B has no others for it; those that begin with ``x_`` may change with any release.
    """
    return {
        "x_disable_machine_info": True,
        "x_disable_meta": True,
        "x_disable_stats": True,
        "x_save_requirements": False,
    }
