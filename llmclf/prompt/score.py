"""Log-likelihoods of every answer to every question, by one causal language model.

B: rows, T: prompt tokens in a line, J: nodes of the answers' tree (see pack.py), P: shared tokens,
V: vocabulary, N: questions, C: answers.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from transformers import PreTrainedModel

from llmclf.compat.transformers import attention_implementation
from llmclf.data.transfer import to_device
from llmclf.prompt.attention import NAME, SharedPrefix
from llmclf.prompt.pack import Batch, Packing, pack, trie
from llmclf.prompt.tokens import TokenizedPrompt

LOGITS = 1 << 26
"""Numbers in the logits of a batch at most, unless one question needs more: 256 MB in fp32."""
TOKENS = {"cpu": 512}
TOKENS_ELSEWHERE = 8192
"""Tokens of a batch where nothing else is known: enough to keep the processor busy, few enough to
stay in a CPU's cache."""
TOLERANCE = {"fp32": 1e-3, "bf16": 0.5, "quantised": 2.0}
"""Largest difference in nats between both schemes that is rounding."""
CHECKED = 2
CHECKED_ANSWERS = 3
"""Questions that are scored by both schemes before a run relies on the fast one, and the answers to
each, the longest ones: the plain scheme reads a prompt as often as it has answers."""


@dataclass
class Scorer:
    """Scores questions by a model, behind prefixes that are computed once.

    Architectures whose attention is not a plain softmax over tokens go the plain way: every prompt
    in full. :meth:`check` finds out.
    """

    model: PreTrainedModel
    pad_token_id: int
    token_budget: int | None = None
    precision: str = "fp32"
    """Precision of the weights, fp32, bf16 or quantised: how far two ways of computing the same may
    differ."""
    shares: bool = True
    """Whether prefixes are shared."""
    prefix: SharedPrefix = field(default_factory=SharedPrefix)
    _held: tuple[tuple[int, ...], int] = ((), 0)
    """Tokens of the prefix, and how many of them all questions of a packing begin with."""

    def __post_init__(self) -> None:
        self.model.eval()
        self.device = self.model.device
        self.tokens = self.token_budget or TOKENS.get(self.device.type, TOKENS_ELSEWHERE)
        takes = inspect.signature(self.model.forward).parameters
        self.keeps_logits = "logits_to_keep" in takes
        self.vocabulary = self.model.config.get_text_config().vocab_size

    def pack(self, questions: Sequence[TokenizedPrompt]) -> Packing:
        """How the questions will be computed; the same for any number of processes."""
        return pack(
            questions,
            token_budget=self.tokens,
            logit_budget=max(1, LOGITS // self.vocabulary),
        )

    def score(self, questions: Sequence[TokenizedPrompt]) -> np.ndarray:
        """Log-likelihood of each answer in nats, float64 (N, C)."""
        packing = self.pack(questions)
        found_NC = np.zeros((len(questions), len(questions[0].answers)))
        for batch in packing.batches:
            found_NC[list(batch.rows)] = self.score_batch(questions, batch, packing.shared)
        return found_NC

    @torch.inference_mode()
    def score_batch(
        self, questions: Sequence[TokenizedPrompt], batch: Batch, common: int
    ) -> np.ndarray:
        """Score one batch of a packing, float64 (B, C). ``common``: tokens that all questions of
        the packing begin with."""
        some = [questions[row] for row in batch.rows]
        if not self.shares:
            return self.plain(some)
        self._hold(some[0].prompt[: batch.shared], common)
        return self._within_memory(some, batch.shared)

    def _hold(self, tokens: tuple[int, ...], common: int) -> None:
        """Have the prefix hold these tokens; of the one before, the ``common`` first may stay.

        Both parts are always computed in the same pieces, so that the bits of a score do not depend
        on what was scored before it.
        """
        if (tokens, common) == self._held:
            return
        before, before_common = self._held
        keep = common if (before[:common], before_common) == (tokens[:common], common) else 0
        self.prefix.crop(keep)
        self.prefix.recording, self.prefix.node_mask_BJL = True, None
        for first, last in ((keep, common), (common, len(tokens))):
            for start in range(first, last, self.tokens):
                part = tokens[start : min(start + self.tokens, last)]
                ids_1T = torch.tensor([part], device=self.device)
                positions_1T = torch.arange(start, start + len(part), device=self.device)[None]
                self._forward(ids_1T, positions_1T, keep=1)
        self.prefix.recording = False
        self._held = (tokens, common)

    def _within_memory(self, questions: Sequence[TokenizedPrompt], shared: int) -> np.ndarray:
        """Score half of the questions at a time where the device has no memory for all."""
        try:
            return self._packed(questions, shared)
        except torch.OutOfMemoryError:
            if len(questions) == 1:
                raise
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        half = len(questions) // 2
        parts = (questions[:half], questions[half:])
        return np.concatenate([self._within_memory(part, shared) for part in parts])

    def _packed(self, questions: Sequence[TokenizedPrompt], shared: int) -> np.ndarray:
        """Log-likelihoods of questions that all begin with the prefix."""
        tries = [trie(q.answers) for q in questions]
        lines = [q.prompt[shared:-1] for q in questions]
        B, T, J = len(lines), max(map(len, lines)), max(t.size for t in tries)
        ids_BL = np.full((B, T + J), self.pad_token_id, np.int64)
        positions_BL = np.zeros((B, T + J), np.int64)
        mask_BJL = np.zeros((B, J, T + J), bool)
        mask_BJL[:, np.arange(J), T + np.arange(J)] = True  # padding sees itself: no empty softmax
        positions_BL[:, :T] = shared + np.arange(T)
        for b, (question, line, tree) in enumerate(zip(questions, lines, tries, strict=True)):
            t, j = len(line), tree.size
            ids_BL[b, :t] = line
            ids_BL[b, T : T + j] = (question.prompt[-1], *tree.tokens)
            positions_BL[b, T : T + j] = shared + t + np.array(tree.depths())
            mask_BJL[b, :j, :t] = True
            mask_BJL[b, :j, T : T + j] = tree.visible()
        arrays = {"ids": ids_BL, "positions": positions_BL, "mask": mask_BJL}
        moved = to_device(arrays, self.device)
        self.prefix.node_mask_BJL = moved["mask"]
        logits_BJV = self._forward(moved["ids"], moved["positions"], keep=J)
        return _along(logits_BJV, [t.steps for t in tries])

    def _forward(
        self, ids_BL: torch.Tensor, positions_BL: torch.Tensor, *, keep: int
    ) -> torch.Tensor:
        """Logits of the last ``keep`` tokens, behind the prefix."""
        kept = {"logits_to_keep": keep} if self.keeps_logits else {}
        before = attention_implementation(self.model)
        self.model.set_attn_implementation(NAME)
        try:
            logits = self.model(
                input_ids=ids_BL,
                position_ids=positions_BL,
                use_cache=False,
                shared_prefix=self.prefix,
                **kept,
            ).logits
        finally:
            self.model.set_attn_implementation(before)
        return logits[:, -keep:]

    @torch.inference_mode()
    def plain(self, questions: Sequence[TokenizedPrompt]) -> np.ndarray:
        """Log-likelihoods from whole prompts, one for each answer, with nothing shared."""
        sequences = [q.prompt + answer[:-1] for q in questions for answer in q.answers]
        width = max(map(len, sequences))
        rows = max(1, self.tokens // width)
        likelihoods: list[float] = []
        targets = [answer for q in questions for answer in q.answers]
        for start in range(0, len(sequences), rows):
            some = sequences[start : start + rows]
            ids_BL = torch.full((len(some), width), self.pad_token_id)
            mask_BL = torch.zeros((len(some), width), dtype=torch.long)
            for b, sequence in enumerate(some):
                ids_BL[b, : len(sequence)] = torch.tensor(sequence)
                mask_BL[b, : len(sequence)] = 1
            answers = targets[start : start + rows]
            first = min(len(s) - len(a) for s, a in zip(some, answers, strict=True))
            kept = {"logits_to_keep": width - first} if self.keeps_logits else {}
            logits_BLV = self.model(
                input_ids=ids_BL.to(self.device),
                attention_mask=mask_BL.to(self.device),
                use_cache=False,
                **kept,
            ).logits[:, -(width - first) :]
            steps = [
                (tuple((len(s) - len(a) - first + i, t) for i, t in enumerate(a)),)
                for s, a in zip(some, answers, strict=True)
            ]
            likelihoods += _along(logits_BLV, steps)[:, 0].tolist()
        return np.array(likelihoods).reshape(len(questions), -1)

    @torch.inference_mode()
    def check(self, questions: Sequence[TokenizedPrompt]) -> str | None:
        """Score a few questions both ways; where they differ, or the architecture does not take
        part, go the plain way and return why."""
        some = sorted(questions, key=lambda q: len(q.prompt))[-CHECKED:]
        lengths = [len(answer) for answer in some[0].answers]
        few = sorted(range(len(lengths)), key=lambda c: lengths[c])[-CHECKED_ANSWERS:]
        plain_NC = self.plain(
            [TokenizedPrompt(q.prompt, tuple(q.answers[c] for c in few)) for q in some]
        )
        try:
            packed_NC = self.score(some)[:, few]
        except torch.OutOfMemoryError:
            raise
        except (NotImplementedError, TypeError, AttributeError, RuntimeError, ValueError) as error:
            reason = f"{type(error).__name__}: {error}"
        else:
            difference = float(np.abs(packed_NC - plain_NC).max())
            if difference <= TOLERANCE[self.precision]:
                return None
            reason = f"log-probabilities differ by {difference:.3g}"
        self.shares = False
        self.prefix = SharedPrefix()
        return reason.splitlines()[0]


def _along(
    logits_BJV: torch.Tensor, steps: Sequence[Sequence[Sequence[tuple[int, int]]]]
) -> np.ndarray:
    """Add up log-probabilities along each answer's steps: float64 (B, C)."""
    lse_BJ = logits_BJV.float().logsumexp(-1).double().cpu()
    at = [
        (b, node, token, c)
        for b, answers in enumerate(steps)
        for c, answer in enumerate(answers)
        for node, token in answer
    ]
    b, node, token, c = (torch.tensor(column) for column in zip(*at, strict=True))
    device = logits_BJV.device
    chosen = logits_BJV[b.to(device), node.to(device), token.to(device)].double().cpu()
    found_BC = torch.zeros((len(steps), len(steps[0])), dtype=torch.float64)
    found_BC.index_put_((b, c), chosen - lse_BJ[b, node], accumulate=True)
    return found_BC.numpy()
