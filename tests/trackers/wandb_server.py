"""As much of a W&B server as a run needs: it keeps the history of one run, and tells it again."""

from __future__ import annotations

import contextlib
import gzip
import http.server
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

OWNER = {"id": "1", "name": "p", "entity": {"id": "1", "name": "me"}}
VIEWER = {
    "id": "1", "name": "me", "username": "me", "entity": "me", "flags": "{}", "admin": False,
    "email": "", "deletedAt": None, "teams": {"edges": []}, "apiKeys": {"edges": []},
}  # fmt: skip


class Server(http.server.ThreadingHTTPServer):
    """``lines``: wandb-history.jsonl as it was sent, line by line."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lines: list[str] = []
        self.runs: set[tuple[str, str]] = set()
        """Ids and groups."""
        self.finished: list[int] = []
        """Exit codes."""
        self.stuck = threading.Event()
        """Set: what a run logs is taken and never answered."""

    def file_stream(self, body: dict[str, Any]) -> dict[str, Any]:
        if history := body.get("files", {}).get("wandb-history.jsonl"):
            assert history["offset"] <= len(self.lines)
            self.lines[history["offset"] :] = history["content"]
        if body.get("complete"):
            self.finished.append(body["exitcode"])
        return {}

    def graphql(self, body: dict[str, Any]) -> dict[str, Any]:
        name, given = body.get("operationName"), body.get("variables", {})
        if name == "Viewer":
            return {"data": {"viewer": VIEWER}}
        if name == "RunResumeStatus":
            return {"data": {"model": {**OWNER, "bucket": self.bucket(given["name"])}}}
        if name == "UpsertBucket":
            if given.get("groupName"):
                self.runs.add((given["name"], given["groupName"]))
            bucket = {"id": "b", "name": given["name"], "project": OWNER, "config": "{}"}
            made = not self.lines
            return {"data": {"upsertBucket": {"bucket": bucket, "inserted": made}}}
        if name == "CreateRunFiles":
            url = f"http://127.0.0.1:{self.server_port}/upload"
            files = [{"name": file, "uploadUrl": url} for file in given["files"]]
            return {"data": {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}}
        return {"errors": [{"message": "unknown here"}]}

    def bucket(self, name: str) -> dict[str, Any] | None:
        if not self.lines:
            return None
        return {
            "id": "b", "name": name, "displayName": name, "summaryMetrics": "{}", "config": "{}",
            "logLineCount": 0, "eventsLineCount": 0, "historyLineCount": len(self.lines),
            "historyTail": json.dumps(self.lines[-1:]), "eventsTail": "[]", "tags": [],
            "notes": None, "wandbConfig": json.dumps({"t": 1}),
        }  # fmt: skip


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def answer(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            data = gzip.decompress(data)
        found: dict[str, Any] = {}
        while self.path.endswith("/file_stream") and self.server.stuck.wait(0):
            time.sleep(0.1)
        if self.path.endswith("/file_stream"):
            found = self.server.file_stream(json.loads(data))
        elif self.path == "/graphql":
            found = self.server.graphql(json.loads(data))
        text = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_PUT = answer

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # of a client that was killed
            super().handle()

    def log_message(self, *arguments: object) -> None:
        pass


@contextlib.contextmanager
def wandb_server() -> Iterator[tuple[str, Server]]:
    """Its address, and what it keeps."""
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", server
        server.stuck.clear()
        server.shutdown()
