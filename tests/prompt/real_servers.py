"""Servers of others, started on loopback and stopped for certain."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib import util
from pathlib import Path

import pytest

from tests.processes import REPOSITORY, free_port

SECONDS = 120  # until a server is up


@contextlib.contextmanager
def running(command: list[str], port: int, path: str, log: Path) -> Iterator[str]:
    """A server, once ``path`` answers; yields its base URL."""
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + SECONDS
        while not answers(f"http://127.0.0.1:{port}{path}"):
            text = log.read_text(encoding="utf-8")[-3000:]
            assert process.poll() is None and time.monotonic() < deadline, text
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()


def answers(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as response:
            return response.status == 200
    except (OSError, urllib.error.URLError):
        return False


def transformers_serve(checkpoint: Path, log: Path) -> contextlib.AbstractContextManager[str]:
    """``transformers serve`` of one checkpoint: written answers only."""
    port = free_port()
    start = "from transformers.cli.transformers import main; main()"
    options = [str(checkpoint), "--device", "cpu", "--host", "127.0.0.1", "--port", str(port)]
    command = [sys.executable, "-c", start, "serve", *options]
    return running(command, port, "/health", log)


def llama_cpp(gguf: Path, log: Path, *options: str) -> contextlib.AbstractContextManager[str]:
    """llama-cpp-python's server of one file; skips the test where there is none."""
    port = free_port()
    fixed = ["--model", str(gguf), "--model_alias", "smollm2", "--n_ctx", "1024"]
    place = ["--host", "127.0.0.1", "--port", str(port)]
    command = [llama_python(), "-m", "llama_cpp.server", *fixed, *place, *options]
    return running(command, port, "/v1/models", log)


def llama_python() -> str:
    """An interpreter that has llama-cpp-python[server]: the one named in the environment, that of
    ``make llama``, or this one."""
    named = os.environ.get("LLMCLF_LLAMA_CPP_PYTHON")
    beside = REPOSITORY / ".venv-llama" / "bin" / "python"
    for python in (named, str(beside) if beside.exists() else None):
        if python and not subprocess.run([python, "-c", "import llama_cpp.server"]).returncode:
            return python
    if util.find_spec("llama_cpp") is None:
        pytest.skip(
            "no llama-cpp-python[server]: make llama, or name an interpreter that has it "
            "in LLMCLF_LLAMA_CPP_PYTHON"
        )
    return sys.executable
