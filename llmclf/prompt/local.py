"""A causal language model on this machine: encodes what is asked, and scores it on all ranks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from accelerate import Accelerator
from rich.console import Console
from transformers import PreTrainedTokenizerBase

from llmclf.config import ConfigError
from llmclf.data.corpus import Split
from llmclf.evaluate.latency import one_by_one
from llmclf.model.causal import (
    context_tokens,
    load_causal,
    load_causal_config,
    load_causal_tokenizer,
)
from llmclf.model.config import LanguageModelConfig
from llmclf.model.vocabulary import check_token
from llmclf.prompt.config import PromptConfig
from llmclf.prompt.encode import EncodedVariant, PromptEncoder
from llmclf.prompt.outcome import VariantScores
from llmclf.prompt.pack import Batch, shared_tokens
from llmclf.prompt.progress import ScoringProgress
from llmclf.prompt.score import Scorer
from llmclf.prompt.store import ScoredBatch, ScoreStore, digest
from llmclf.prompt.tokens import PromptTokenizer, TokenizedPrompt
from llmclf.prompt.variants import Variant
from llmclf.supervise.gpus import idle_gpus


@dataclass(frozen=True)
class Work:
    """One batch to be scored."""

    questions: list[TokenizedPrompt]
    """The distinct questions of its variant."""
    batch: Batch
    shared: int
    """Tokens that all questions of the variant begin with."""
    key: str

    @property
    def size(self) -> int:
        """Rows of the batch."""
        return len(self.batch.rows)


@dataclass(frozen=True, kw_only=True)
class LocalModel:
    """A model and all questions for it."""

    model_config: LanguageModelConfig
    precision: Literal["fp32", "bf16"]
    accelerator: Accelerator
    max_length: int
    chat: bool
    variants: list[Variant]
    encoded: list[EncodedVariant]
    scorer: Scorer | None
    """Scores the questions; None where only the plan is wanted."""
    refused: str | None = None
    """Why prefixes are not shared, if they are not."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Filled by :meth:`score`: what all passes took, and those over the test rows of the result,
    divided by the number of ranks."""

    def plan(self) -> dict[str, Any]:
        """What is in force, for ``--dry-run`` and environment.json."""
        lengths = [len(q.prompt) for e in self.encoded for q in e.questions]
        return {
            "world_size": self.accelerator.num_processes,
            "strategy": "single" if self.accelerator.num_processes == 1 else "ddp",
            "precision": self.precision,
            "quantize": self.model_config.quantize,
            "max_length": self.max_length,
            "chat": self.chat,
            "answer_end_counts": self.encoded[0].end,
            "prompts": len(lengths),
            "longest_prompt_tokens": max(lengths),
            "mean_prompt_tokens": round(float(np.mean(lengths)), 1),
            "shares_prefixes": None if self.scorer is None else self.scorer.shares,
        }

    def shortened(self) -> dict[str, int]:
        """Texts that did not fit, over all prompts."""
        parts = [e.shortened for e in self.encoded]
        return {
            "rows": sum(p.rows for p in parts),
            "tokens_lost": sum(p.tokens_lost for p in parts),
            "demonstrations": sum(p.demonstrations for p in parts),
        }

    def warnings(self) -> list[str]:
        """GPUs without a process, what the model will not see, and whether prefixes cannot be
        shared."""
        messages, cut = idle_gpus(), self.shortened()
        if cut["rows"] or cut["demonstrations"]:
            messages.append(
                f"{cut['rows']:,} texts are too long for the {self.max_length:,} tokens of a "
                f"prompt and lose {cut['tokens_lost']:,} tokens; {cut['demonstrations']:,} "
                "demonstrations are shortened"
            )
        if self.refused:
            messages.append(
                "every prompt is computed in full, which is slower: prefixes cannot be shared in "
                f"this model ({self.refused})"
            )
        return messages

    @property
    def parameters(self) -> int | None:
        """Number of parameters of the model."""
        return None if self.scorer is None else self.scorer.model.num_parameters()

    @property
    def world_size(self) -> int:
        """Number of processes."""
        return self.accelerator.num_processes

    def cost(self) -> dict[str, Any]:
        """What of the cost the model knows: nobody charges for tokens here."""
        return {"predict_precision": self.precision}

    def latencies(self) -> list[float]:
        """Seconds of test rows that come alone, behind the tokens that all share; on the main
        process."""
        if self.scorer is None or not self.accelerator.is_main_process:
            return []
        scorer, encoded = self.scorer, self.encoded[0]
        questions = encoded.questions[encoded.parts["test"]]
        shared = shared_tokens([question.prompt for question in questions])
        return one_by_one(
            lambda row: scorer.score_batch(questions, Batch((row,), shared), shared),
            len(questions),
        )

    def facts(self) -> dict[str, Any]:
        """How the model was asked, for results.json."""
        return {"scoring": "logprobs"}

    def examples(self) -> list[str]:
        """The first prompt of each variant as the model reads it."""
        return [encoded.example for encoded in self.encoded]

    def work(self) -> list[list[Work]]:
        """All batches, variant by variant; the same on every rank and for any number of them."""
        assert self.scorer is not None
        name = f"{self.model_config.checkpoint} {self.model_config.quantize} {self.precision}"
        by_variant = []
        for encoded in self.encoded:
            distinct = list(dict.fromkeys(encoded.questions))
            packing = self.scorer.pack(distinct)
            by_variant.append(
                [
                    Work(
                        distinct,
                        batch,
                        packing.shared,
                        digest([distinct[row] for row in batch.rows], name),
                    )
                    for batch in packing.batches
                ]
            )
        return by_variant

    def score(self, folder: Path, console: Console) -> list[VariantScores]:
        """Score what is not in ``folder`` yet, and return all of it on every rank."""
        work, accelerator = self.work(), self.accelerator
        store = ScoreStore(folder, accelerator.process_index)
        known = store.read()
        accelerator.wait_for_everyone()  # nobody writes before all have read: all deal the same
        todo = list({w.key: w for part in work for w in part if w.key not in known}.values())
        # Neighbours share a prefix, so each rank takes a stretch of them.
        ranks, rank = accelerator.num_processes, accelerator.process_index
        mine = todo[len(todo) * rank // ranks : len(todo) * (rank + 1) // ranks]
        self._score(mine, store, console)
        accelerator.wait_for_everyone()
        known = store.read()
        keys = {w.key for part in work for w in part}
        self.seconds["all"] = sum(known[key].seconds for key in keys) / ranks
        self.seconds["test"] = self._test_seconds(work[0], known) / ranks
        return [self._assemble(i, part, known) for i, part in enumerate(work)]

    def _score(self, work: Sequence[Work], store: ScoreStore, console: Console) -> None:
        assert self.scorer is not None
        rows = sum(w.size for w in work)
        with ScoringProgress(console, "scoring", rows) as progress:
            for w in work:
                started = time.perf_counter()
                logprobs_BC = self.scorer.score_batch(w.questions, w.batch, w.shared)
                self._refuse_not_finite(w, logprobs_BC)
                store.append(w.key, logprobs_BC, time.perf_counter() - started)
                progress.advance(w.size)

    def _refuse_not_finite(self, work: Work, logprobs_BC: np.ndarray) -> None:
        if not np.isfinite(logprobs_BC).all():
            raise FloatingPointError(
                f"the model gives log-probabilities that are not finite in {self.precision}, for "
                f"prompts of up to {max(len(q.prompt) for q in work.questions)} tokens. "
                "Try --prompt.precision fp32."
            )

    def _assemble(
        self, index: int, work: list[Work], known: dict[str, ScoredBatch]
    ) -> VariantScores:
        encoded = self.encoded[index]
        of = {
            w.questions[row]: logprobs
            for w in work
            for row, logprobs in zip(w.batch.rows, known[w.key].logprobs_BC, strict=True)
        }
        parts = {
            name: np.array([of[q] for q in encoded.questions[where]])
            for name, where in encoded.parts.items()
        }
        tokens = {
            name: np.array([[len(a) for a in q.answers] for q in encoded.questions[where]])
            for name, where in encoded.parts.items()
        }
        return VariantScores(variant=self.variants[index], parts=parts, tokens=tokens)

    def _test_seconds(self, work: list[Work], known: dict[str, ScoredBatch]) -> float:
        """Seconds that went to test rows: each batch's count by its share of them."""
        test = set(self.encoded[0].questions[self.encoded[0].parts["test"]])
        return sum(
            known[w.key].seconds * sum(w.questions[row] in test for row in w.batch.rows) / w.size
            for w in work
        )


def prepare(
    variants: list[Variant],
    train: Split,
    *,
    config: PromptConfig,
    model_config: LanguageModelConfig,
    max_length: int | None,
    precision: Literal["fp32", "bf16"],
    accelerator: Accelerator,
    weights: bool = True,
) -> LocalModel:
    """Encode all prompts and load the model; with ``weights=False`` only the former.

    Raises ConfigError where the checkpoint, the answers or the lengths cannot work.

    ``train``: the rows that demonstrations are taken from; ``max_length``: most tokens of a prompt
    and its answer, None: the model's own.
    """
    checkpoint = model_config.checkpoint
    hf_config = load_causal_config(checkpoint)
    tokens = context_tokens(hf_config, max_length)
    tokenizer = load_causal_tokenizer(checkpoint)
    chat = _chat(config, tokenizer.chat_template is not None, checkpoint)
    encoder = PromptEncoder(config, PromptTokenizer(tokenizer, max_length=tokens, chat=chat), train)
    encoded = [encoder.encode(variant) for variant in variants]
    num_embeddings: int = hf_config.get_text_config().vocab_size
    _check_tokens(encoded, tokenizer, num_embeddings, checkpoint)
    scorer = None
    refused = None
    if weights:
        model = load_causal(
            checkpoint,
            quantize=model_config.quantize,
            precision=precision,
            device=accelerator.device,
        )
        scorer = Scorer(
            model,
            # What stands in the padding is not read, but it must have an embedding.
            pad_token_id=min(tokenizer.pad_token_id or 0, num_embeddings - 1),
            token_budget=config.token_budget,
            precision=precision if model_config.quantize == "none" else "quantised",
        )
        refused = scorer.check(encoded[0].questions)
    return LocalModel(
        model_config=model_config,
        precision=precision,
        accelerator=accelerator,
        max_length=tokens,
        chat=chat,
        variants=variants,
        encoded=encoded,
        scorer=scorer,
        refused=refused,
    )


def _check_tokens(
    encoded: list[EncodedVariant],
    tokenizer: PreTrainedTokenizerBase,
    num_embeddings: int,
    checkpoint: str,
) -> None:
    """Raise ConfigError for a prompt with a token that the model has no embedding for."""
    check_token(
        max(variant.largest_token() for variant in encoded),
        "a prompt",
        tokenizer,
        num_embeddings=num_embeddings,
        checkpoint=checkpoint,
    )


def _chat(config: PromptConfig, has_template: bool, checkpoint: str) -> bool:
    if config.chat == "always" and not has_template:
        raise ConfigError(
            f"prompt.chat='always': the tokenizer of {checkpoint!r} has no chat template. "
            "Set --prompt.chat auto or never."
        )
    return has_template and config.chat != "never"
