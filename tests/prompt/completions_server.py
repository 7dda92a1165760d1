"""A real HTTP server on loopback that speaks the completions API, and misbehaves when told to."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

Misbehaviour = Callable[["Handler", dict[str, Any]], None]


def tokens_of(text: str) -> list[str]:
    return re.findall(r" ?\w+|\s|[^\w\s]", text)


def logprob(before: list[str], token: str) -> float:
    """Of a made-up language model: fixed for a context and a token, between -6 and -1."""
    seed = hashlib.sha256("\x00".join([*before, token]).encode()).digest()
    return -1 - 5 * seed[0] / 255


class CompletionsServer:
    """Answers at ``base_url`` until it is closed."""

    def __init__(
        self,
        *,
        echo: Literal["right", "shifted", "ignored", "refused"] = "right",
        chat: Callable[[dict[str, Any]], str | None] = lambda body: "positive",
        usage: bool = True,
    ) -> None:
        self.echo, self.chat, self.usage = echo, chat, usage
        self.plan: list[Misbehaviour] = []
        """What happens to the next requests, one each."""
        self.always: Misbehaviour | None = None
        self.bodies: list[dict[str, Any]] = []
        self.keys: set[str] = set()
        self.under_way = self.most_under_way = 0
        self.lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._http.owner = self  # type: ignore[attr-defined]
        self.base_url = f"http://127.0.0.1:{self._http.server_port}/v1"
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        prompt = tokens_of(body["prompt"])
        generated = " the"
        top = {token: logprob(prompt, token) for token in self.vocabulary(prompt)}
        top[generated] = max(top.values(), default=-2.0) / 2
        logprobs: dict[str, Any] | None = {
            "tokens": [generated],
            "token_logprobs": [top[generated]],
            "top_logprobs": [dict(sorted(top.items(), key=lambda x: -x[1])[: body["logprobs"]])],
            "text_offset": [len(body["prompt"])],
        }
        text = generated
        if self.echo == "ignored":
            logprobs = None
        elif body.get("echo"):
            values = [self.value(prompt[:i], token) for i, token in enumerate(prompt)]
            if self.echo == "shifted":
                values = [value - 2 for value in values]
            logprobs = {
                "tokens": [*prompt, generated],
                "token_logprobs": [None, *values[1:], top[generated]],
            }
            text = body["prompt"] + generated
        choice = {"index": 0, "text": text, "logprobs": logprobs, "finish_reason": "length"}
        return {"choices": [choice]} | self.spent(len(prompt), 1)

    def value(self, before: list[str], token: str) -> float:
        if token == " the":
            return max(logprob(before, word) for word in self.vocabulary(before)) / 2
        return logprob(before, token)

    def vocabulary(self, before: list[str]) -> list[str]:
        return [" positive", " negative", " no", " advice"]

    def write(self, body: dict[str, Any]) -> dict[str, Any]:
        content = self.chat(body)
        message = {"role": "assistant", "content": content}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        length = sum(len(tokens_of(turn["content"])) for turn in body["messages"])
        return {"choices": [choice]} | self.spent(length, len(tokens_of(content or "")))

    def spent(self, given: int, written: int) -> dict[str, Any]:
        if not self.usage:
            return {}
        return {"usage": {"prompt_tokens": given, "completion_tokens": written}}


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        owner: CompletionsServer = self.server.owner  # type: ignore[attr-defined]
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with owner.lock:
            owner.bodies.append(body)
            owner.keys.add(self.headers["authorization"])
            owner.under_way += 1
            owner.most_under_way = max(owner.most_under_way, owner.under_way)
            act = owner.plan.pop(0) if owner.plan else owner.always
        try:
            (act or well)(self, body)
        finally:
            with owner.lock:
                owner.under_way -= 1

    def reply(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        data = text.encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


def well(handler: Handler, body: dict[str, Any]) -> None:
    owner: CompletionsServer = handler.server.owner  # type: ignore[attr-defined]
    if "messages" in body:
        handler.reply(200, json.dumps(owner.write(body)))
    elif owner.echo == "refused" and body.get("logprobs"):
        handler.reply(400, json.dumps({"error": {"message": "no logprobs here"}}))
    else:
        handler.reply(200, json.dumps(owner.complete(body)))


def status(code: int, message: str = "so it is", **headers: str) -> Misbehaviour:
    """An error in OpenAI's form."""

    def act(handler: Handler, _: dict[str, Any]) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        handler.reply(code, json.dumps({"error": {"message": message}}), named)

    return act


def junk(text: str) -> Misbehaviour:
    """A good status with something else in it."""
    return lambda handler, _: handler.reply(200, text)


def cut_off(handler: Handler, _: dict[str, Any]) -> None:
    """Half of what was announced, and the end of the connection."""
    handler.send_response(200)
    handler.send_header("content-length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [{"text": "')
    handler.wfile.flush()
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True


def slow(seconds: float) -> Misbehaviour:
    """A response that is right and late."""

    def act(handler: Handler, body: dict[str, Any]) -> None:
        threading.Event().wait(seconds)
        try:
            well(handler, body)
        except OSError:
            handler.close_connection = True

    return act


def trickling(handler: Handler, _: dict[str, Any]) -> None:
    """A byte every now and then, for ever."""
    handler.send_response(200)
    handler.send_header("content-length", "1000")
    handler.end_headers()
    try:
        for _ in range(100):
            handler.wfile.write(b" ")
            threading.Event().wait(0.1)
    except OSError:
        pass
    handler.close_connection = True
