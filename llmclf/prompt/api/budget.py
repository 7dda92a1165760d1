"""What requests cost, and the cap on what is spent."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from llmclf.prompt.api.request import Bounds
from llmclf.prompt.config import ApiConfig


@dataclass(kw_only=True)
class ApiUsage:
    """What was asked so far. Tokens and price count every response that was used, those from the
    cache included: what the answers cost when they were given."""

    input_tokens: int | None = 0
    """Tokens of all prompts; None once a server has not said how many."""
    output_tokens: int | None = 0
    price: float | None = 0.0
    """Price of all tokens in the currency of the prices; None without them or without tokens."""
    requests: int = 0
    """Requests sent, each attempt counted."""
    retries: int = 0
    """Attempts after a failed one."""
    cached: int = 0
    """Responses that were in the cache already."""
    seconds: list[float] = field(default_factory=list)
    """Seconds of each request from the first attempt to the response, waits included."""


class StoppedError(Exception):
    """No further request can or may be sent. The text is fit for a message."""


class SpendingCap:
    """Keeps the price of a run below its cap.

    Before a request the most it can cost is set aside. A request that may not fit waits for those
    under way, which cost less than was set aside for them; only alone is it refused.
    """

    def __init__(self, config: ApiConfig, usage: ApiUsage) -> None:
        self._config, self._usage = config, usage
        self._spent = 0.0
        """The most that may have been charged: responses that did not come are in it, too."""
        if config.input_price is None or config.output_price is None:
            usage.price = None

    def open(self) -> None:
        """Prepare for requests; to be called in the event loop that they are sent from."""
        self._changed = asyncio.Event()
        self._reserved, self._under_way = 0.0, 0

    def price(self, tokens: Sequence[int]) -> float:
        """Price of these tokens of input and output."""
        prices = (self._config.input_price or 0.0, self._config.output_price or 0.0)
        return sum(n * price for n, price in zip(tokens, prices, strict=True)) / 1e6

    async def reserve(self, bounds: Bounds) -> None:
        """Set aside what a request can cost at most. Raises StoppedError if that passes the cap."""
        cap, most = self._config.spending_cap, self.price(bounds)
        while cap is not None and self._spent + self._reserved + most > cap:
            if not self._under_way:
                raise StoppedError(
                    f"api.spending_cap={cap:g} would be passed: {self._spent:.6g} is spent and "
                    f"the next request may cost up to {most:.3g}. Raise --api.spending-cap to go "
                    "on."
                )
            self._changed.clear()
            await self._changed.wait()
        self._reserved += most
        self._under_way += 1

    def release(self, bounds: Bounds) -> None:
        """Free what was set aside for a request that is over."""
        self._under_way -= 1
        self._reserved = self._reserved - self.price(bounds) if self._under_way else 0.0
        self._changed.set()

    def count(self, tokens: list[int] | None, bounds: Bounds) -> None:
        """Add what a response says it took, or what that is at most if it does not say."""
        usage = self._usage
        if tokens is None:
            usage.input_tokens = usage.output_tokens = usage.price = None
            self.count_lost(bounds)
            return
        if usage.input_tokens is not None and usage.output_tokens is not None:
            usage.input_tokens += tokens[0]
            usage.output_tokens += tokens[1]
        if usage.price is not None:
            usage.price += self.price(tokens)
        self._spent += self.price(tokens)

    def count_lost(self, bounds: Bounds) -> None:
        """Add the most that a response can have cost which did not come."""
        self._spent += self.price(bounds)
