"""Requests to an OpenAI-compatible server: several at once, retried, cached, counted and capped."""

from __future__ import annotations

import asyncio
import email.utils
import os
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from llmclf.config import ConfigError, plain
from llmclf.extras import install_hint
from llmclf.prompt.api.budget import ApiUsage, SpendingCap, StoppedError
from llmclf.prompt.api.cache import ResponseCache
from llmclf.prompt.api.request import JunkError, Request, digest, token_bounds
from llmclf.prompt.config import ApiConfig

FIRST_WAIT = 0.5
"""Seconds before the second attempt; each further wait is twice as long."""
LONGEST_WAIT = 60.0
LONGEST_ASKED_WAIT = 300.0
"""Seconds that a server may ask for with Retry-After."""
IMPATIENT_RETRIES = 2
_BUSY = {408, 409, 425, 429}
_KEY_REFUSED = {401, 403}


class RefusedError(Exception):
    """The server does not take this request. The text is fit for a message."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class _RetryError(Exception):
    """An attempt failed in a way that another may not."""

    def __init__(
        self, reason: str, *, wait: float = 0.0, billed: bool = False, status: int = 0
    ) -> None:
        super().__init__(reason)
        self.wait = wait
        self.billed = billed
        self.status = status


def import_openai() -> ModuleType:
    """The client library. Raises ConfigError where it is not installed."""
    try:
        import openai
    except ImportError:
        raise ConfigError(
            "api.base_url is set, but the package openai is not installed. Install it: "
            f"{install_hint('api')}."
        ) from None
    return openai


class Client:
    """One server and one model. Requests are sent inside ``async with``, in one event loop at a
    time. Raises ConfigError for a key that no header can carry."""

    def __init__(self, config: ApiConfig, model: str, cache: Path) -> None:
        assert config.base_url is not None
        self._openai = import_openai()
        self._config, self._model, self._cache_path = config, model, cache
        self.base_url = config.base_url.rstrip("/")
        self.usage = ApiUsage()
        self._key = _key(config.key_variable)
        self._cap = SpendingCap(config, self.usage)
        self._counted: set[str] = set()
        self._quiet_until = 0.0

    async def __aenter__(self) -> Client:
        self._cache = ResponseCache(self._cache_path)
        self._cap.open()
        self._http = self._openai.AsyncOpenAI(
            base_url=self.base_url,
            api_key=self._key or "none",
            timeout=self._config.timeout,
            max_retries=0,
            # A proxy from the environment does not lead back to this machine.
            http_client=self._openai.DefaultAsyncHttpxClient(trust_env=not self._on_loopback()),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self._cache.close()
        await self._http.close()

    async def ask_all(
        self, requests: Sequence[Request], on_answer: Callable[[str], None]
    ) -> dict[str, Any]:
        """What is kept of each response, by the request's digest; the cached ones first, the others
        in their order, so that a server finds the prompts it has just read.

        Raises RefusedError or StoppedError; what was answered by then is in the cache.
        """
        answers: dict[str, Any] = {}
        missing: dict[str, Request] = {}
        for request in requests:
            name = self.digest(request)
            if name in answers or name in missing:
                continue
            cached = self._cached(name, request)
            if cached is None:
                missing[name] = request
                continue
            answers[name] = cached[0]
            on_answer(name)

        async def work(queue: Iterator[tuple[str, Request]]) -> None:
            for name, request in queue:
                answers[name] = await self._send(name, request)
                on_answer(name)

        queue = iter(missing.items())
        await _together([work(queue) for _ in range(min(self._config.concurrency, len(missing)))])
        return answers

    async def ask(self, request: Request, *, patient: bool = True) -> Any:
        """What is kept of one response. Not ``patient``: a server error raises RefusedError at the
        third time, since some servers answer so to what they do not offer."""
        name = self.digest(request)
        cached = self._cached(name, request)
        return cached[0] if cached else await self._send(name, request, patient)

    def digest(self, request: Request) -> str:
        """Key of a request in the cache."""
        return digest(request, self.base_url, self._model)

    def _cached(self, name: str, request: Request) -> tuple[Any] | None:
        stored = self._cache.get(name)
        if stored is None:
            return None
        if name not in self._counted:
            self._counted.add(name)
            self.usage.cached += 1
            self._cap.count(stored["usage"], token_bounds(request.body(self._model)))
        return (stored["kept"],)

    async def _send(self, name: str, request: Request, patient: bool = True) -> Any:
        body, started = request.body(self._model), time.perf_counter()
        for attempt in range(self._config.retries + 1):
            try:
                kept, tokens = await self._within_budget(request, body)
                break
            except _RetryError as error:
                failed = error
            if failed.status >= 500 and attempt == IMPATIENT_RETRIES and not patient:
                raise RefusedError(str(failed), failed.status)
            if attempt == self._config.retries:
                raise StoppedError(self._gave_up(failed, attempt))
            await self._pause(failed, attempt)
            self.usage.retries += 1
        self.usage.seconds.append(time.perf_counter() - started)
        self._cache.put(name, {"kept": kept, "usage": tokens})
        self._counted.add(name)
        return kept

    async def _within_budget(
        self, request: Request, body: dict[str, Any]
    ) -> tuple[Any, list[int] | None]:
        """Send a request once its price is set aside; what is kept of the response, and the tokens
        it took."""
        bounds = token_bounds(body)
        await self._cap.reserve(bounds)
        try:
            payload = await self._attempt(request.path, body)
            kept, tokens = _read(request, payload), _tokens(payload)
            self._cap.count(tokens, bounds)
            return kept, tokens
        except _RetryError as error:
            if error.billed:
                self._cap.count_lost(bounds)
            raise
        finally:
            self._cap.release(bounds)

    async def _attempt(self, path: str, body: dict[str, Any]) -> Any:
        resource: Any = self._http
        for part in path.strip("/").split("/"):
            resource = getattr(resource, part)
        self.usage.requests += 1
        errors = self._openai
        try:
            async with asyncio.timeout(self._config.timeout):
                response = await resource.with_raw_response.create(**body)
                return response.http_response.json()
        except (TimeoutError, errors.APITimeoutError):
            seconds = f"{self._config.timeout:g} s"
            raise _RetryError(f"did not answer within {seconds}", billed=True) from None
        except errors.APIConnectionError as error:
            reason = self._fit(str(error.__cause__ or error))
            # Refused connections reached no one; one that broke off may have been worked on.
            billed = "ConnectError" not in type(error.__cause__).__name__
            raise _RetryError(f"cannot be reached ({reason})", billed=billed) from None
        except errors.APIStatusError as error:
            raise self._status(error) from None
        except ValueError:
            raise _RetryError("sent junk: no JSON", billed=True) from None

    def _status(self, error: Any) -> Exception:
        status, words = error.status_code, self._words(error)
        said = f"answered {status}" + (f" ({words})" if words else "")
        if status in _KEY_REFUSED:
            state = "was refused" if self._key else "is not set"
            return ConfigError(
                f"{self.base_url} {said}. The key in the environment variable "
                f"{self._config.key_variable} {state}. Set it, or name another variable: "
                "--api.key-variable."
            )
        if status not in _BUSY and status < 500:
            return RefusedError(said, status)
        wait = _retry_after(error.response.headers)
        if wait > LONGEST_ASKED_WAIT:
            return StoppedError(
                f"{self.base_url} {said} and asks to wait {wait:.0f} s. Try again then, or with "
                "fewer requests at once: --api.concurrency."
            )
        return _RetryError(said, wait=wait, status=status)

    async def _pause(self, failed: _RetryError, attempt: int) -> None:
        """Wait longer after each attempt, by chance up to half as long again, so that requests
        that failed together do not come back together. A wait that the server asked for holds for
        all requests."""
        wait = min(FIRST_WAIT * 2**attempt, LONGEST_WAIT) * (1 + random.random() / 2)
        now = time.monotonic()
        if failed.wait:
            self._quiet_until = max(self._quiet_until, now + failed.wait)
        await asyncio.sleep(max(wait, self._quiet_until - now))

    def _gave_up(self, failed: _RetryError, attempt: int) -> str:
        advice = {
            0: "Is it running, and is --api.base-url right?",
            429: "Ask less at once: --api.concurrency.",
        }.get(failed.status, "Its log may say why.")
        if "within" in str(failed):
            advice = "Give it more time: --api.timeout, or ask less at once: --api.concurrency."
        times = "once" if attempt == 0 else f"{attempt + 1} times"
        return f"{self.base_url} {failed}, asked {times} (api.retries={attempt}). {advice}"

    def _words(self, error: Any) -> str:
        """What the server said about an error, in a line."""
        said = error.body
        for key in ("error", "message", "detail"):
            if isinstance(said, dict) and key in said:
                said = said[key]
        return self._fit(said if isinstance(said, str) else "")

    def _fit(self, text: str) -> str:
        """A server's text in one line without the key, which some servers repeat."""
        hidden = text.replace(self._key, "***") if self._key else text
        line = " ".join(plain(re.sub(r"\s+", " ", hidden)).split())
        return line if len(line) <= 300 else line[:300] + " ..."

    def _on_loopback(self) -> bool:
        host = urlsplit(self.base_url).hostname or ""
        return host in ("localhost", "::1") or host.startswith("127.")


def _read(request: Request, payload: Any) -> Any:
    try:
        return request.read(payload)
    except JunkError as error:
        raise _RetryError(f"sent junk: {error}", billed=True) from None


async def _together(tasks: Sequence[Any]) -> None:
    """Run until all are done, or until one fails, which stops the others."""
    running = [asyncio.ensure_future(task) for task in tasks]
    try:
        await asyncio.gather(*running)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _key(variable: str) -> str:
    """The key in a variable, or an empty string. Raises ConfigError, without showing it, for one
    that no header can carry."""
    key = os.environ.get(variable, "").strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(
            f"The key in the environment variable {variable} holds a space, a line break or a "
            "character outside ASCII. Set it again, without anything around it."
        )
    return key


def _tokens(payload: Any) -> list[int] | None:
    """Tokens of input and output that a response says it took."""
    usage = payload.get("usage")
    if not isinstance(usage, dict):
        return None
    counts: list[Any] = [usage.get(f"{kind}_tokens") for kind in ("prompt", "completion")]
    return counts if all(isinstance(n, int) and n >= 0 for n in counts) else None


def _retry_after(headers: Any) -> float:
    """Seconds that the server asks to wait, 0 if it does not say: a number or a date."""
    given = headers.get("retry-after", "")
    try:
        return max(0.0, float(given))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(given).timestamp() - time.time())
    except (ValueError, TypeError):
        return 0.0
