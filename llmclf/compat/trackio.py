"""trackio: the id of a run."""

from __future__ import annotations

from typing import Any


def name_run(run: Any, run_id: str) -> None:
    """Have a run that ``trackio.init`` made go by an id of our own: ``init`` makes up one, and
    asks for none."""
    run.id = run_id
