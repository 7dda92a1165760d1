"""One side of bench/sleeping_vs_spinning.py: training steps of a small BERT, a block whenever it is
told to. It imports nothing of llmclf, which would set the very variable in question."""

from __future__ import annotations

import json
import sys
import time

import torch
from transformers import BertConfig, BertForSequenceClassification

LABELS = 3


def main() -> None:
    """``waiting_side.py THREADS ROWS TOKENS LAYERS``: for each number of steps on a line of stdin,
    the seconds that they took and the last loss on a line of stdout."""
    threads, rows, tokens, layers = map(int, sys.argv[1:])
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    config = BertConfig(  # MiniLM's size
        hidden_size=384,
        intermediate_size=1536,
        num_attention_heads=12,
        num_hidden_layers=layers,
        num_labels=LABELS,
    )
    model = BertForSequenceClassification(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    ids = torch.randint(1000, config.vocab_size, (rows, tokens))
    targets = torch.randint(LABELS, (rows,))
    for line in sys.stdin:
        started = time.perf_counter()
        for _ in range(int(line)):
            with torch.autocast("cpu", torch.bfloat16):
                loss = model(input_ids=ids, labels=targets).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        record = {"seconds": time.perf_counter() - started, "loss": loss.item()}
        print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
