"""Texts to vectors by a pre-trained encoder, to find similar demonstrations."""

from __future__ import annotations

import numpy as np
import torch
from transformers import AutoModel

from llmclf.model.build import from_pretrained, load_config, load_tokenizer
from llmclf.model.causal import context_tokens
from llmclf.model.pooling import pool

ROWS = 64


class Encoder:
    """Mean of the last hidden states, scaled to length 1 (as in Reimers & Gurevych 2019)."""

    def __init__(self, checkpoint: str, device: torch.device) -> None:
        self.tokenizer = load_tokenizer(checkpoint)
        self.model = from_pretrained(AutoModel, checkpoint, dtype=torch.float32).to(device).eval()
        declared = min(self.tokenizer.model_max_length, 512)
        self.max_length = min(declared, context_tokens(load_config(checkpoint), None))

    @torch.inference_mode()
    def __call__(self, texts: list[str]) -> np.ndarray:
        """Unit vectors of texts, float32 (N, D)."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        vectors: list[np.ndarray | None] = [None] * len(texts)
        for start in range(0, len(order), ROWS):
            rows = order[start : start + ROWS]
            batch = self.tokenizer(
                [texts[i] for i in rows],
                truncation=True,
                max_length=self.max_length,
                padding=True,
                return_tensors="pt",
            ).to(self.model.device)
            states_BTD = self.model(**batch).last_hidden_state
            mean_BD = pool(states_BTD, batch["attention_mask"], "mean")
            unit_BD = torch.nn.functional.normalize(mean_BD, dim=-1).cpu().numpy()
            for row, vector in zip(rows, unit_BD, strict=True):
                vectors[row] = vector
        return np.stack(vectors)  # type: ignore[arg-type]
