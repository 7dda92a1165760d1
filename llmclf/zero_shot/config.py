"""Settings of zero-shot classification by encoders: what is compared, and how."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from llmclf.config import ConfigError, changeable

Kind = Literal["nli", "embeddings"]
LABEL, DESCRIPTION = "{label}", "{description}"


@dataclass(frozen=True, kw_only=True)
class ZeroShotConfig:
    """How texts are compared with labels by a model of which nothing learns."""

    kind: Literal["auto", "nli", "embeddings"] = "auto"
    """nli: whether the text entails a hypothesis on each label, by a checkpoint that was trained to
    tell; embeddings: how similar its pooled states are to the label's. auto: nli of checkpoints
    with a classifier, else embeddings."""
    hypothesis: str | None = None
    """What stands for a label, with {label} or {description} in it. If not given: its description
    (data.descriptions), or without one "This text is about {label}." for nli, and the label's
    name for embeddings."""
    pooling: Literal["auto", "mean", "first", "last"] = "auto"
    """Of embeddings, which states of a text: the mean over its tokens, the first token's or the
    last one's. auto: as the checkpoint declares it (1_Pooling), else the last one of decoders and
    the mean of encoders."""
    temperature: float | None = None
    """Of embeddings, what cosine similarities are divided by before the softmax; 0.05 if not given.
    Validation rows calibrate the probabilities behind it, as those of every method."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Type of the frozen weights and of arithmetic; auto takes bf16 where the device computes
    it."""
    batch_size: int = changeable(64)
    """Texts per forward pass on one device; for nli, texts with one hypothesis each."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(f"zero_shot.batch_size={self.batch_size}: must be 1 or more.")
        t = self.temperature
        if t is not None and not (t > 0 and math.isfinite(t)):
            raise ConfigError(f"zero_shot.temperature={t}: must be a number above 0.")
        given = self.hypothesis
        if given is not None and LABEL not in given and DESCRIPTION not in given:
            raise ConfigError(
                f"zero_shot.hypothesis={given!r}: it is the same for all labels. Put {LABEL} or "
                f"{DESCRIPTION} where the label's name or description goes."
            )
        if self.kind != "auto" and (problems := self.problems_of(self.kind)):
            raise ConfigError("\n".join(problems))

    def problems_of(self, kind: Kind) -> list[str]:
        """Settings that a kind does not read, one sentence each."""
        return [
            f"zero_shot.{name}={value!r}: has no effect with nli; leave it out."
            for name, value, default in (
                ("pooling", self.pooling, "auto"),
                ("temperature", self.temperature, None),
            )
            if kind == "nli" and value != default
        ]

    def template(self, kind: Kind, *, described: bool) -> str:
        """What stands for a label, not filled in yet. ``described``: whether labels are."""
        if self.hypothesis is not None:
            return self.hypothesis
        if described:
            return DESCRIPTION
        return f"This text is about {LABEL}." if kind == "nli" else LABEL
