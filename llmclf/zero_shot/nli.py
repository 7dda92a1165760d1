"""Entailment: a classifier of pairs says whether a text entails the hypothesis on each label.

Scored as ``pipeline("zero-shot-classification")`` of transformers does (Yin et al. 2019). N: rows,
C: labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from transformers import (
    AutoModelForSequenceClassification,
    PretrainedConfig,
    PreTrainedTokenizerBase,
)

from llmclf.compat.transformers import without_zero3_init
from llmclf.config import ConfigError
from llmclf.data.corpus import Split
from llmclf.data.encode import Encoded, encode
from llmclf.data.table import listed, shown
from llmclf.features.once import CHUNK, once
from llmclf.features.probe import PROBE
from llmclf.features.states import OneProcess
from llmclf.model.build import from_pretrained, load_config, load_tokenizer, max_tokens
from llmclf.model.config import LanguageModelConfig
from llmclf.model.family import frozen_family_of, within
from llmclf.model.quantize import check_quantized, keep_layout, quantization_config
from llmclf.train.config import Precision
from llmclf.train.predict import check_tokens, collator, predict_logits

BETWEEN = "\n"
"""What parts a row's text and its second text, which are one premise."""


@dataclass(frozen=True, kw_only=True)
class Entailment:
    """A frozen NLI model and the hypotheses; its weights are loaded when a text needs them."""

    model_config: LanguageModelConfig
    hf_config: PretrainedConfig
    tokenizer: PreTrainedTokenizerBase
    hypotheses: tuple[str, ...]
    """What each label claims of a text (C)."""
    outputs: tuple[int, int]
    """Indices of the model's outputs for contradiction and entailment."""
    multilabel: bool
    max_length: int
    precision: Precision
    batch_size: int
    accelerator: Accelerator | OneProcess
    scored_by: str = "entailment"

    @classmethod
    def of(
        cls,
        model_config: LanguageModelConfig,
        hypotheses: tuple[str, ...],
        *,
        multilabel: bool,
        max_length: int | None,
        precision: Precision,
        batch_size: int,
        accelerator: Accelerator | OneProcess,
    ) -> Entailment:
        """What the settings name. Raises ConfigError for a checkpoint that knows no entailment, and
        for hypotheses that leave no room for a text."""
        checkpoint = model_config.checkpoint
        hf_config = load_config(checkpoint)
        outputs = contradiction_and_entailment(hf_config, checkpoint)
        family = frozen_family_of(hf_config)
        tokenizer = load_tokenizer(checkpoint, family)
        longest = max_tokens(hf_config, tokenizer, max_length, family)
        _check_room(tokenizer, hypotheses, longest)
        return cls(
            model_config=model_config,
            hf_config=hf_config,
            tokenizer=tokenizer,
            hypotheses=hypotheses,
            outputs=outputs,
            multilabel=multilabel,
            max_length=longest,
            precision=precision,
            batch_size=batch_size,
            accelerator=accelerator,
        )

    @cached_property
    def model(self) -> Any:
        """The classifier of pairs, in eval mode on the device. Raises ConfigError for a checkpoint
        without the weights of its classifier."""
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[self.precision]
        quantize, family = self.model_config.quantize, frozen_family_of(self.hf_config)
        with without_zero3_init():
            model, report = from_pretrained(
                AutoModelForSequenceClassification,
                self.model_config.checkpoint,
                dtype=dtype,
                quantization_config=quantization_config(quantize, family, dtype),
                output_loading_info=True,
            )
        lost = sorted(n for n in report["missing_keys"] if not within(n, family.unused))
        if lost:
            raise ConfigError(
                f"model.checkpoint={self.model_config.checkpoint!r}: {len(lost)} weights of its "
                f"classifier are missing ({listed(lost, 3)}), so it cannot tell entailment."
            )
        check_quantized(model, quantize)
        keep_layout(model)
        model.config.pad_token_id = self.tokenizer.pad_token_id
        model.config.use_cache = False  # nothing is generated
        return model.eval() if quantize != "none" else model.eval().to(self.accelerator.device)

    @property
    def parameters(self) -> int:
        """Weights of the model."""
        return int(self.model.num_parameters())

    def scores(self, split: Split) -> tuple[np.ndarray, float]:
        """Logits of the labels, float64 (N, C): of entailment, or when multilabel those of
        entailment above those of contradiction, of which a sigmoid is the softmax over the two; and
        the seconds that they took."""
        model = self.model_config
        settings = (model.checkpoint, model.quantize, self.precision, self.max_length)
        key = ("entailment", *settings, self.hypotheses)
        chunk = -(-CHUNK * 8 // len(self.hypotheses))
        logits_NC2, seconds = once(key, split, self._compute, chunk=chunk)
        return self._of(logits_NC2), seconds

    def fresh(self, split: Split) -> np.ndarray:
        """The same, computed now."""
        return self._of(self._compute(split))

    def _of(self, logits_NC2: np.ndarray) -> np.ndarray:
        contradiction_NC, entailment_NC = np.moveaxis(logits_NC2.astype(np.float64), -1, 0)
        return entailment_NC - contradiction_NC if self.multilabel else entailment_NC

    def _compute(self, split: Split) -> np.ndarray:
        """Logits of contradiction and entailment of each text with each hypothesis, float32 (N, C,
        2), in batches of pairs of like length, divided over the ranks."""
        encoded = self._pairs(split, self.hypotheses)
        check_tokens(encoded, self.tokenizer, self.model, self.model_config.checkpoint)
        logits = predict_logits(
            self.model,
            encoded,
            collator(self.hf_config, self.tokenizer, self.max_length, self.accelerator.device),
            self.accelerator,
            batch_size=self.batch_size,
        )
        return logits[:, list(self.outputs)].reshape(len(split), len(self.hypotheses), 2)

    def _pairs(self, split: Split, hypotheses: tuple[str, ...]) -> Encoded:
        """Each text with each hypothesis; of what is too long, the text loses its end."""
        premises, count = split.joined(BETWEEN), len(hypotheses)
        pairs = Split(
            ids=[row for row in split.ids for _ in range(count)],
            texts=[text for text in premises for _ in range(count)],
            pairs=list(hypotheses) * len(premises),
            targets=np.zeros(count * len(premises), np.int64),
            groups=None,
        )
        return encode(pairs, self.tokenizer, self.max_length, shorten="only_first")

    def encoded(self, split: Split) -> Encoded:
        """The texts with the longest hypothesis."""
        tokens = self.tokenizer(list(self.hypotheses), add_special_tokens=False).input_ids
        longest = max(range(len(tokens)), key=lambda c: len(tokens[c]))
        return self._pairs(split, (self.hypotheses[longest],))

    def probe(self) -> np.ndarray:
        """Logits of PROBE, float32 (2C)."""
        return self._compute(Split.of_texts([PROBE])).ravel()

    def facts(self) -> dict[str, Any]:
        """What is in force."""
        names = id_to_label(self.hf_config)
        contradiction, entailment = self.outputs
        return {
            "kind": "nli",
            "entailment": names[entailment],
            "contradiction": names[contradiction],
        }


def id_to_label(config: PretrainedConfig) -> dict[int, str]:
    """Output of the classifier -> its name, by both tables that a checkpoint may have."""
    names = {int(i): str(name) for i, name in (config.id2label or {}).items()}
    # The pipeline reads this one.
    return names | {int(i): str(name) for name, i in (config.label2id or {}).items()}


def contradiction_and_entailment(config: PretrainedConfig, checkpoint: str) -> tuple[int, int]:
    """Which outputs stand for contradiction and entailment.

    Entailment by its name, as the pipeline finds it. Contradiction by its name, too (or as "not
    entailment"); where no output is called that, as the pipeline takes it: the first one, or the
    last one where the first is entailment. Raises ConfigError where none is called entailment.
    """
    names = {i: name.strip().lower() for i, name in sorted(id_to_label(config).items())}
    entailing = [i for i, name in names.items() if name.startswith("entail")]
    if not entailing:
        shown = listed(id_to_label(config)[i] for i in names)
        raise ConfigError(
            f"model.checkpoint={checkpoint!r}: its labels are {shown}; none begins with 'entail', "
            "so it was not trained to tell entailment. Give an NLI checkpoint, or compare "
            "embeddings: --zero-shot.kind embeddings."
        )
    entailment = entailing[0]
    opposed = [
        i
        for i, name in names.items()
        if name.startswith("contradict") or (name.startswith(("not", "non")) and "entail" in name)
    ]
    by_place = 0 if entailment else max(names)
    return opposed[0] if opposed else by_place, entailment


def _check_room(
    tokenizer: PreTrainedTokenizerBase, hypotheses: tuple[str, ...], max_length: int
) -> None:
    special = tokenizer.num_special_tokens_to_add(pair=True)
    for hypothesis in hypotheses:
        needed = len(tokenizer(hypothesis, add_special_tokens=False).input_ids) + special + 1
        if needed > max_length:
            raise ConfigError(
                f"data.max_length={max_length}: the hypothesis {shown(hypothesis)} needs "
                f"{needed} tokens with one of a text. Shorten it (data.descriptions, "
                "zero_shot.hypothesis), or raise data.max_length."
            )
