"""What scoring prompts must cost: floating-point operations from the lengths, and the rate at which
this machine multiplies matrices.

A product of (m, k) and (k, n) counts as 2 m k n; embeddings, norms and softmax do not count, and
neither does padding. Attention counts what a causal mask leaves.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import linear
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from llmclf.prompt.pack import Packing, trie
from llmclf.prompt.tokens import TokenizedPrompt

ROWS = 1024
"""Of the matrix products that are timed."""
SECONDS = 0.15
"""That timing a shape takes, about."""


@dataclass(frozen=True)
class Shapes:
    """What of a causal model decides its operations."""

    matrices: tuple[tuple[int, int, int], ...]
    """(out, in, how many) of the weights that every token is multiplied with."""
    head_weights: int
    """Of the projection to the vocabulary."""
    attention_width: int
    """Head size x query heads x blocks."""

    @property
    def body_weights(self) -> int:
        """Weights that every token is multiplied with."""
        return sum(out * width * count for out, width, count in self.matrices)

    def line(self, before: int, tokens: int) -> int:
        """Operations of ``tokens`` in a line that also attend to ``before`` others."""
        pairs = tokens * before + tokens * (tokens + 1) // 2
        return 2 * self.body_weights * tokens + 4 * self.attention_width * pairs

    def logits(self, tokens: int) -> int:
        """Operations of the vocabulary's logits behind ``tokens``."""
        return 2 * self.head_weights * tokens


def shapes_of(model: PreTrainedModel) -> Shapes:
    """Read them off a model with linear layers or GPT-2's Conv1D."""
    head, counts = model.get_output_embeddings(), Counter[tuple[int, int]]()
    for module in model.modules():
        if module is not head and isinstance(module, nn.Linear | Conv1D):
            out, width = module.weight.shape
            counts[(width, out) if isinstance(module, Conv1D) else (out, width)] += 1
    config = model.config.get_text_config()
    heads = config.num_attention_heads
    head_size = getattr(config, "head_dim", None) or config.hidden_size // heads
    return Shapes(
        matrices=tuple((out, width, count) for (out, width), count in sorted(counts.items())),
        head_weights=head.weight.numel(),
        attention_width=head_size * heads * config.num_hidden_layers,
    )


def packing_flops(shapes: Shapes, packing: Packing, questions: Sequence[TokenizedPrompt]) -> int:
    """Of all batches of a packing with their prefixes: ours."""
    flops, tokens = shapes.line(0, packing.shared), packing.shared
    held = questions[packing.batches[0].rows[0]].prompt[: packing.shared]
    for batch in packing.batches:
        prefix = questions[batch.rows[0]].prompt[: batch.shared]
        if prefix != held:
            flops += shapes.line(packing.shared, batch.shared - packing.shared)
            tokens += batch.shared - packing.shared
            held = prefix
        for row in batch.rows:
            tree, length = trie(questions[row].answers), len(questions[row].prompt) - 1
            flops += shapes.line(batch.shared, length - batch.shared)
            flops += sum(shapes.line(length + depth, 1) for depth in tree.depths())
            flops += shapes.logits(tree.size)
            tokens += length - batch.shared + tree.size
    assert tokens == packing.tokens(questions)
    return flops


def padding(packing: Packing, questions: Sequence[TokenizedPrompt]) -> int:
    """Tokens that fill up the batches of a packing."""
    found = 0
    for batch in packing.batches:
        lines = [len(questions[row].prompt) for row in batch.rows]
        nodes = [trie(questions[row].answers).size for row in batch.rows]
        found += len(lines) * (max(lines) + max(nodes)) - sum(lines) - sum(nodes)
    return found


def whole_flops(shapes: Shapes, questions: Iterable[TokenizedPrompt]) -> int:
    """Of one pass over each distinct prompt and answer, with logits everywhere: lm-eval's."""
    flops = 0
    for question in questions:
        for sequence in {question.prompt + answer[:-1] for answer in question.answers}:
            flops += shapes.line(0, len(sequence)) + shapes.logits(len(sequence))
    return flops


@torch.inference_mode()
def matmul_rate(shapes: Shapes, dtype: torch.dtype, device: torch.device) -> float:
    """Operations per second of the model's own matrix products with ``ROWS`` rows, each shape at
    its best."""
    flops = seconds = 0.0
    for out, width, count in shapes.matrices:
        x = torch.randn(ROWS, width, device=device).to(dtype)
        weight = torch.randn(out, width, device=device).to(dtype)
        flops += 2 * ROWS * out * width * count
        seconds += best_seconds(x, weight) * count
    return flops / seconds


def best_seconds(x: torch.Tensor, weight: torch.Tensor) -> float:
    """Of one product, the best of many."""
    best, end = float("inf"), time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        if x.is_cuda:
            torch.cuda.synchronize()
        started = time.perf_counter()
        linear(x, weight)
        if x.is_cuda:
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return best
