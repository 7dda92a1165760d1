"""A forward pass over a split on any number of ranks; every row is scored exactly once.

N: rows, B: rows of a batch, C: labels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from llmclf.data.batches import plan_prediction
from llmclf.data.encode import Collator, Encoded
from llmclf.evaluate.predictions import Predictions
from llmclf.invisible import quoted
from llmclf.model.family import padding_multiple_and_minimum
from llmclf.model.vocabulary import check_token


def collator(
    config: PretrainedConfig,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    device: torch.device,
) -> Collator:
    """Makes batches for this architecture, padded as it needs them, on a device."""
    multiple, shortest = padding_multiple_and_minimum(config, max_length)
    return Collator(
        tokenizer=tokenizer, pad_to_multiple_of=multiple, min_length=shortest, device=device
    )


def check_tokens(
    data: Encoded, tokenizer: PreTrainedTokenizerBase, model: Any, checkpoint: str
) -> None:
    """Raise ConfigError for a row with a token that the model has no embedding for. ``model``:
    whole, or on the meta device."""
    if not len(data):
        return
    token_id, row_id = data.largest_token()
    check_token(
        token_id,
        f"row {quoted(row_id)}",
        tokenizer,
        num_embeddings=model.get_input_embeddings().weight.shape[0],
        checkpoint=checkpoint,
    )


def predict_logits(
    model: nn.Module,
    data: Encoded,
    collate: Collator,
    accelerator: Accelerator,
    *,
    batch_size: int,
) -> np.ndarray:
    """Return logits, float32 (N, C), in the order of ``data`` and equal on every rank. Leaves the
    model in eval mode.

    Rows are gathered by their index, so nothing is counted twice.
    Raises FloatingPointError naming the rows whose logits are not finite.

    ``collate``: pads rows to a batch; ``batch_size``: rows of one forward pass on one rank.
    """
    model.eval()
    world_size = accelerator.num_processes
    batches = plan_prediction(
        data.lengths,
        batch_size=batch_size,
        rank=accelerator.process_index,
        world_size=world_size,
    )
    # A forward pass may be a collective (DDP sends buffers, sharded weights travel), so every rank
    # makes as many: one that has no rows left runs row 0 again and drops the result.
    num_passes = -(-len(data) // (batch_size * world_size))
    mine: list[torch.Tensor] = []
    # Not inference_mode: training goes on with weights that ZeRO-3 gathers in here.
    with torch.no_grad():
        for i in range(num_passes):
            rows = batches[i] if i < len(batches) else np.zeros(1, np.int64)
            logits_BC = model(**collate(data, rows)).logits.float()
            if i < len(batches):
                mine.append(logits_BC)
    # Fetched only now: the host prepares a batch while the device computes the one before.
    parts = [(np.concatenate(batches), torch.cat(mine).cpu().numpy())] if mine else []
    if world_size > 1:
        parts = gather_object(parts)
    rows_N = np.concatenate([rows for rows, _ in parts])
    assert len(np.unique(rows_N)) == len(rows_N) == len(data), "a row was lost or scored twice"
    logits_NC = np.concatenate([logits for _, logits in parts])
    logits_NC = logits_NC[np.argsort(rows_N)]
    broken = np.flatnonzero(~np.isfinite(logits_NC).all(axis=1))
    if len(broken):
        names = ", ".join(data.ids[i] for i in broken[:5])
        raise FloatingPointError(f"{len(broken)} rows have logits that are not finite: {names}")
    return logits_NC


def to_predictions(
    logits_NC: np.ndarray, data: Encoded, labels: tuple[str, ...], *, multilabel: bool
) -> Predictions:
    """Predictions from logits, their probabilities in float64: softmax over the labels, or a
    sigmoid for each when multilabel. ``data``: the encoded rows, in the order of the logits."""
    logits = torch.from_numpy(logits_NC).double()
    probabilities_NC = logits.sigmoid() if multilabel else logits.softmax(-1)
    return Predictions(
        ids=data.ids,
        labels=labels,
        targets=data.targets,
        probabilities=probabilities_NC.numpy(),
        scored_by="sigmoid" if multilabel else "softmax",
        multilabel=multilabel,
    )
