"""Texts -> token ids, once per run; batches are padded from these when they are needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from llmclf.config import ConfigError, DataError
from llmclf.data.corpus import Split
from llmclf.data.transfer import to_device
from llmclf.invisible import quoted

CHUNK = 4096  # rows tokenised at a time: bounds the memory that the tokenizer's own objects take


@dataclass(frozen=True)
class Encoded:
    """Token ids of a split, flat: row ``i`` is ``input_ids[offsets[i]:offsets[i + 1]]``."""

    ids: list[str]
    """Ids of the rows, (N,)."""
    input_ids: np.ndarray
    """Token ids of all rows, int32 (sum of lengths,)."""
    token_type_ids: np.ndarray | None
    """Token types of all rows, int8 (sum of lengths,); None where the model has no such input."""
    offsets: np.ndarray
    """Where each row begins in the flat arrays, and their length, int64 (N + 1,)."""
    targets: np.ndarray
    """Labels of the rows, int64 (N,), or float32 (N, C) for multilabel."""
    num_truncated: int
    """Rows longer than ``max_length``."""
    num_tokens_lost: int
    """Tokens cut off from those rows."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens per row, int64 (N,)."""
        return np.diff(self.offsets)

    def largest_token(self) -> tuple[int, str]:
        """The largest token id, and the id of the first row that has it; there must be rows."""
        place = int(self.input_ids.argmax())
        row = int(np.searchsorted(self.offsets, place, side="right")) - 1
        return int(self.input_ids[place]), self.ids[row]


def truncation(encoded: Mapping[str, Encoded]) -> dict[str, dict[str, Any]]:
    """Rows and tokens that were cut off, per split, as JSON values."""
    return {
        name: {
            "rows": e.num_truncated,
            "share": e.num_truncated / max(len(e), 1),
            "tokens_lost": e.num_tokens_lost,
        }
        for name, e in encoded.items()
    }


def truncation_warnings(cut: Mapping[str, dict[str, Any]], max_length: int) -> list[str]:
    """One line for each split of which the model will not see all. ``cut``: of
    :func:`truncation`."""
    return [
        f"{name}: {of['rows']:,} rows ({of['share']:.1%}) are longer than "
        f"{max_length:,} tokens and lose {of['tokens_lost']:,} tokens"
        for name, of in cut.items()
        if of["rows"]
    ]


def encode(
    split: Split,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    *,
    shorten: Literal["longest_first", "only_first"] = "longest_first",
) -> Encoded:
    """Tokenise a split, each row cut to ``max_length`` tokens, special tokens included.

    A text pair is encoded as a true pair; ``shorten``: which part of it, the longer one first, or
    the first one alone, which must then be long enough.
    Raises ConfigError where ``max_length`` has no room for text beside the special tokens, and
    DataError for a row that leaves no token at all.
    """
    special = tokenizer.num_special_tokens_to_add(pair=split.pairs is not None)
    if max_length <= special:  # the tokenizer would not cut at all
        raise ConfigError(
            f"data.max_length={max_length}: the tokenizer adds {special} tokens to each row, which "
            f"leaves none for its text. Set --data.max-length {special + 1} or more."
        )
    with_types = "token_type_ids" in tokenizer.model_input_names
    input_ids: list[np.ndarray] = []
    token_type_ids: list[np.ndarray] = []
    lengths: list[int] = []
    num_truncated = num_tokens_lost = 0
    for start in range(0, len(split), CHUNK):
        rows = slice(start, start + CHUNK)
        texts = (split.texts[rows], None if split.pairs is None else split.pairs[rows])
        encoded = tokenizer(*texts, return_attention_mask=False, verbose=False)
        excess = np.array([len(row) for row in encoded["input_ids"]]) - max_length
        if (excess > 0).any():
            num_truncated += int((excess > 0).sum())
            num_tokens_lost += int(excess[excess > 0].sum())
            encoded = tokenizer(
                *texts, truncation=shorten, max_length=max_length, return_attention_mask=False
            )
        lengths += [len(row) for row in encoded["input_ids"]]
        input_ids += [np.asarray(row, np.int32) for row in encoded["input_ids"]]
        if with_types:
            token_type_ids += [np.asarray(row, np.int8) for row in encoded["token_type_ids"]]
    if 0 in lengths:
        row_id = split.ids[lengths.index(0)]
        raise DataError(f"row {quoted(row_id)}: its text leaves no token. Remove the row.")
    return Encoded(
        ids=split.ids,
        input_ids=np.concatenate(input_ids) if input_ids else np.zeros(0, np.int32),
        token_type_ids=np.concatenate(token_type_ids) if token_type_ids else None,
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        targets=split.targets,
        num_truncated=num_truncated,
        num_tokens_lost=num_tokens_lost,
    )


@dataclass(frozen=True, kw_only=True)
class Collator:
    """Pads rows to the longest of a batch, on the side and with the values that the tokenizer
    declares."""

    tokenizer: PreTrainedTokenizerBase
    pad_to_multiple_of: int = 1
    min_length: int = 1
    device: torch.device | str = "cpu"
    """Where the batch is put."""

    def __call__(self, data: Encoded, rows: Sequence[int] | np.ndarray) -> dict[str, torch.Tensor]:
        """Return ``input_ids``, ``attention_mask`` (and ``token_type_ids``), each int64 (B, T)."""
        return to_device(self._padded(data, rows), self.device)

    def with_targets(
        self, data: Encoded, rows: Sequence[int] | np.ndarray
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """The batch of these rows and their targets, (B,) or (B, C), in one copy."""
        arrays = self._padded(data, rows) | {"targets": data.targets[rows]}
        batch = to_device(arrays, self.device)
        targets = batch.pop("targets")
        return batch, targets

    def _padded(self, data: Encoded, rows: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
        starts_B, lengths_B = data.offsets[:-1][rows], data.lengths[rows]
        width = max(int(lengths_B.max()), self.min_length)
        width = -(-width // self.pad_to_multiple_of) * self.pad_to_multiple_of
        left = self.tokenizer.padding_side == "left"
        first_B = width - lengths_B if left else np.zeros_like(lengths_B)
        position_BT = np.arange(width)[None, :] - first_B[:, None]
        mask_BT = (position_BT >= 0) & (position_BT < lengths_B[:, None])
        source_BT = np.where(mask_BT, starts_B[:, None] + position_BT, 0)

        def pad(values: np.ndarray, padding: int) -> np.ndarray:
            return np.where(mask_BT, values[source_BT], padding).astype(np.int64)

        batch = {
            "input_ids": pad(data.input_ids, self.tokenizer.pad_token_id),
            "attention_mask": mask_BT.astype(np.int64),
        }
        if data.token_type_ids is not None:
            padding = self.tokenizer.pad_token_type_id
            batch["token_type_ids"] = pad(data.token_type_ids, padding)
        return batch
