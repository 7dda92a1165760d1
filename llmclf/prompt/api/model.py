"""Classification by a model behind an OpenAI-compatible server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, TypeVar

from llmclf.config import ConfigError
from llmclf.prompt.api.budget import ApiUsage, StoppedError
from llmclf.prompt.api.client import Client, RefusedError
from llmclf.prompt.api.probe import Way
from llmclf.prompt.api.request import ApiPrompt, JunkError, NotOfferedError
from llmclf.prompt.api.score import ApiScores, choose_way, score
from llmclf.prompt.config import ApiConfig

__all__ = ["ApiModel", "ApiPrompt", "ApiScores", "ApiUsage"]
T = TypeVar("T")


class ApiModel:
    """A model behind a server. Its key is read from the environment and written nowhere.

    Log-probabilities come from servers that echo those of a prompt: vLLM's and llama-cpp-python's.
    Where they are found to be off by one place (llama-cpp-python 0.3.36, for models whose prompts
    get no beginning-of-text token), the answers are looked up among the likeliest next tokens.

    Raises ConfigError: the package openai missing, a key that no header can carry.
    """

    def __init__(self, config: ApiConfig, model: str, *, cache: Path) -> None:
        self.config, self.model = config, model
        self._client = Client(config, model, cache)
        self._way: Way | None = None

    @property
    def usage(self) -> ApiUsage:
        """What was asked so far."""
        return self._client.usage

    @property
    def constrained(self) -> bool:
        """Whether the server lets the model write nothing but an answer; known after probing."""
        return self._way is not None and self._way.constraint is not None

    def probe(self, prompt: ApiPrompt) -> Literal["logprobs", "answer"]:
        """Find out by a few requests what the server offers, as far as api.scoring leaves it open.

        Raises ConfigError: server down, model unknown, key refused, log-probabilities asked for
        and not offered, or the spending cap reached.
        """
        work = choose_way(self._client, self.config.scoring, prompt)
        self._way = self._run(work, lambda: "Nothing is scored yet.")
        return "answer" if self._way.kind == "chat" else "logprobs"

    def score(self, prompts: Sequence[ApiPrompt], on_done: Callable[[int], None]) -> ApiScores:
        """Score all rows; ``on_done`` is told how many are done.

        Raises ConfigError when the server fails for good or the cap is reached. What was answered
        by then, or by an interruption, is in the cache, and another call does not ask for it again.
        """
        if self._way is None:
            self.probe(prompts[0])
        assert self._way is not None
        done = 0

        def count(rows: int) -> None:
            nonlocal done
            done = rows
            on_done(rows)

        def state() -> str:
            return (
                f"{done:,} of {len(prompts):,} rows are scored and kept; the same command with "
                "--resume goes on from there."
            )

        return self._run(score(self._client, self._way, prompts, count), state)

    def _run(self, work: Coroutine[Any, Any, T], state: Callable[[], str]) -> T:
        async def main() -> T:
            async with self._client:
                return await work

        try:
            return _outside_any_loop(main())
        except (NotOfferedError, RefusedError, StoppedError, JunkError) as error:
            raise ConfigError(f"{self._problem(error)} {state()}") from None
        finally:
            work.close()

    def _problem(self, error: Exception) -> str:
        where = f"{self._client.base_url}, model {self.model!r}"
        if isinstance(error, NotOfferedError):
            said = f" (it {error})" if str(error) else ""
            return (
                f"api.scoring={self.config.scoring!r}: {where}: the server does not give the "
                f"log-probabilities of a prompt{said}. Use --api.scoring answer, or a server that "
                "does: vLLM's, or llama-cpp-python's with --logits_all true."
            )
        if isinstance(error, RefusedError):
            return (
                f"{where}: the server {error}. Check --model.checkpoint (the model's name there), "
                "--api.base-url, and the length of the prompts (--prompt.shots)."
            )
        return (
            f"{where}: the server sent junk: {error}."
            if isinstance(error, JunkError)
            else str(error)
        )


def _outside_any_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, in a thread where a notebook's loop is running already."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()
