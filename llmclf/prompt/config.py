"""Settings of prompting: what is asked, how labels are scored, and by whom."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from llmclf.config import ConfigError, changeable

TemplateName = Literal["quoted", "tagged", "question"]
PromptCalibration = Literal["none", "mean", "pmi", "contextual", "batch"]


@dataclass(frozen=True, kw_only=True)
class PromptConfig:
    """How a language model is asked for the label of a text, without learning."""

    shots: int = 0
    """Demonstrations in a prompt, in all: training rows with their labels."""
    demonstrations: Literal["random", "balanced", "nearest"] = "balanced"
    """How demonstrations are chosen: at random, as evenly over the labels as possible, or for each
    text those most similar to it."""
    similarity: str = "tfidf"
    """What demonstrations=nearest compares by: tfidf, or a checkpoint whose mean token states are
    compared (minilm-l6, a hub id, a folder)."""
    order: Literal["auto", "shuffled", "by_label", "nearest_last"] = "auto"
    """Order of the demonstrations; auto: the most similar last for nearest, else shuffled."""
    seeds: int = 1
    """Draws of demonstrations. The first is the run's result, all of them its spread."""
    orders: int = 1
    """Shuffled orders of each draw. The first is the run's result, all of them its spread."""
    templates: tuple[TemplateName, ...] = ("quoted",)
    """Wordings of the prompt. The first is the run's result, all of them its spread."""
    instruction: str | None = None
    """What stands on top of the prompt instead of the template's own words; {labels} becomes the
    list of answers."""
    verbaliser: tuple[str, ...] = ()
    """Words that stand for the labels, each as label=words; the labels' own names if not given."""
    answers: Literal["words", "letters"] = "words"
    """Answer by the words of the label, or by a letter that the instruction gives it: one token
    each, and a text that names a label does not name its letter."""
    end_mark: Literal["auto", "always", "never"] = "auto"
    """Whether the end of the answer counts in its likelihood; auto: where one answer begins with
    another."""
    chat: Literal["auto", "always", "never"] = "auto"
    """Whether to ask in the model's chat format; auto: where its tokenizer has one."""
    calibration: PromptCalibration = "batch"
    """How likelihoods become probabilities: as they are, per token (mean), over that without the
    text (pmi, Holtzman et al. 2021), over that of empty texts (contextual, Zhao et al. 2021), or
    over the mean of other rows (batch, Zhou et al. 2023). All of them are reported."""
    calibration_rows: int = 128
    """Validation rows, without their labels, that batch calibration takes its mean over, at
    most."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Precision of weights and arithmetic; auto takes bf16 where the device computes it, else
    fp32."""
    token_budget: int | None = changeable(None)
    """Tokens of one forward pass, at most, unless one prompt is longer; None: 512 on a CPU and
    8,192 on a GPU. It bounds memory and does not change results."""
    injection_rows: int = 0
    """Test rows that are scored again with an instruction hidden in their text, to measure how
    often that steers the answer."""

    def __post_init__(self) -> None:
        least = {
            "shots": 0,
            "seeds": 1,
            "orders": 1,
            "calibration_rows": 1,
            "token_budget": 1,
            "injection_rows": 0,
        }
        for name, minimum in least.items():
            value = getattr(self, name)
            if value is not None and value < minimum:
                raise ConfigError(f"prompt.{name}={value}: must be {minimum} or more.")
        if not self.templates or len(set(self.templates)) < len(self.templates):
            raise ConfigError(
                f"prompt.templates={self.templates}: give one or more of quoted, tagged and "
                "question, each once."
            )

    def problems(self) -> list[str]:
        """Combinations of settings that cannot work, one sentence each."""
        problems = []
        if self.order == "nearest_last" and self.demonstrations != "nearest":
            problems.append(
                "prompt.order='nearest_last' needs prompt.demonstrations='nearest' (got "
                f"{self.demonstrations!r})."
            )
        if self.shots == 0 and (self.seeds > 1 or self.orders > 1):
            problems.append(
                f"prompt.seeds={self.seeds} and prompt.orders={self.orders}: without "
                "demonstrations (prompt.shots=0) there is nothing to draw or to order. Leave them "
                "out, or set --prompt.shots."
            )
        if self.demonstrations == "nearest" and self.shots and self.seeds > 1:
            problems.append(
                f"prompt.seeds={self.seeds}: the nearest demonstrations are not drawn, each seed "
                "gives the same. Vary --prompt.templates or, with --prompt.order shuffled, "
                "--prompt.orders."
            )
        if self.orders > 1 and self.resolved_order != "shuffled":
            problems.append(
                f"prompt.orders={self.orders}: there is one order only with prompt.order="
                f"{self.resolved_order!r}. Set --prompt.order shuffled."
            )
        if self.answers == "letters" and self.verbaliser:
            problems.append(
                "prompt.verbaliser and prompt.answers='letters': the letters stand for the labels. "
                "Give one of them."
            )
        return problems

    @property
    def resolved_order(self) -> str:
        """The order of demonstrations that auto stands for."""
        if self.order != "auto":
            return self.order
        return "nearest_last" if self.demonstrations == "nearest" else "shuffled"


@dataclass(frozen=True, kw_only=True)
class ApiConfig:
    """An OpenAI-compatible server that is asked instead of a local model. The key is read from the
    environment and written nowhere."""

    base_url: str | None = None
    """Address of the server, such as http://localhost:8000/v1; None: a local model.
    model.checkpoint is then the model's name there."""
    key_variable: str = changeable("OPENAI_API_KEY")
    """Environment variable that holds the key; a server without keys needs none."""
    scoring: Literal["auto", "logprobs", "answer"] = "auto"
    """Log-probabilities of every answer (the server must echo them for the prompt), or the answer
    it writes, which may be none of the labels; auto: the former where the server offers it."""
    concurrency: int = changeable(8)
    """Requests under way at once."""
    timeout: float = changeable(60.0)
    """Seconds to wait for a whole response."""
    retries: int = changeable(6)
    """Attempts after a failed one, each after twice the wait, for servers that are busy or down."""
    input_price: float | None = None
    """Price of a million input tokens, in any currency; None: not known."""
    output_price: float | None = None
    """Price of a million output tokens."""
    spending_cap: float | None = changeable(None)
    """Stop before the price of a run passes this; what is scored by then is kept, and counts when
    the run goes on."""

    def __post_init__(self) -> None:
        for name, least in (("concurrency", 1), ("retries", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"api.{name}={getattr(self, name)}: must be {least} or more.")
        for name in ("timeout", "input_price", "output_price", "spending_cap"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ConfigError(f"api.{name}={value}: must be 0 or more.")
        if self.timeout == 0:
            raise ConfigError("api.timeout=0: must be above 0.")

    def problems(self) -> list[str]:
        """Combinations of settings that cannot work, one sentence each."""
        problems = []
        if self.base_url is not None and not self.base_url.startswith(("http://", "https://")):
            problems.append(
                f"api.base_url={self.base_url!r}: must begin with http:// or https://, such as "
                "http://localhost:8000/v1."
            )
        elif self.base_url is not None and {"@", "?", "#"} & set(self.base_url):
            # Not shown: it is refused because a key may be in it.
            problems.append(
                "api.base_url holds a user name, a password or a query ('@', '?' or '#'). It is "
                "written to the run folder, so it must hold no key: name the variable that does "
                "with --api.key-variable."
            )
        if self.spending_cap is not None and None in (self.input_price, self.output_price):
            problems.append(
                f"api.spending_cap={self.spending_cap}: needs api.input_price and "
                "api.output_price, the prices of a million tokens."
            )
        return problems
