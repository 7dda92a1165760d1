"""Scored batches on disk as they come: what a killed run keeps, and how ranks share their work.

Each rank appends to a file of its own. A batch goes by a digest of its tokens, so it is found again
whatever the number of ranks, and never taken for another one.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llmclf.prompt.tokens import TokenizedPrompt


@dataclass(frozen=True)
class ScoredBatch:
    """Log-likelihoods of a batch, and what they took."""

    logprobs_BC: list[list[float]]
    seconds: float


def digest(questions: Sequence[TokenizedPrompt], model: str) -> str:
    """Names a batch: the tokens of its prompts and answers, and the model that scores them."""
    text = json.dumps([model, [[q.prompt, q.answers] for q in questions]])
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


class ScoreStore:
    """The files ``scored-*.jsonl`` of a folder."""

    def __init__(self, folder: Path, rank: int) -> None:
        self.folder = folder
        self.path = folder / f"scored-{rank:05d}.jsonl"

    def read(self) -> dict[str, ScoredBatch]:
        """All batches that any rank has written; a line that was cut off is left out."""
        batches: dict[str, ScoredBatch] = {}
        for path in sorted(self.folder.glob("scored-*.jsonl")):
            for line in path.read_bytes().split(b"\n"):
                try:
                    record = json.loads(line)
                except ValueError:  # not JSON, or no text at all
                    continue  # the next run starts a new line
                batches[record["batch"]] = ScoredBatch(record["logprobs"], record["seconds"])
        return batches

    def append(self, batch: str, logprobs_BC: np.ndarray, seconds: float) -> None:
        """Keep a batch; it is on disk when this returns."""
        record = {"batch": batch, "seconds": seconds, "logprobs": logprobs_BC.tolist()}
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            if file.tell() and not _ends_line(self.path):
                file.write(b"\n")  # what a killed run left of its last line
            file.write(json.dumps(record, allow_nan=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def _ends_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
