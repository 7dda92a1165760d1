"""A model behind a server, against real sockets: what it gives, what goes wrong, what it costs."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmclf.config import ConfigError
from llmclf.prompt.api import client as api_client
from llmclf.prompt.api.model import ApiModel, ApiScores
from llmclf.prompt.config import ApiConfig
from tests.processes import REPOSITORY, free_port
from tests.prompt.api_rows import rows
from tests.prompt.completions_server import (
    CompletionsServer,
    Misbehaviour,
    cut_off,
    junk,
    logprob,
    slow,
    status,
    tokens_of,
    trickling,
)

Serve = Callable[..., CompletionsServer]
KEY = "sk-planted-0123456789"
WORDS = ("positive", "negative", "no advice")


def model(server: CompletionsServer, folder: Path, **options: Any) -> ApiModel:
    config = ApiConfig(**{"base_url": server.base_url, "retries": 3, **options})
    return ApiModel(config, "m", cache=folder / "api.sqlite")


def score(found: ApiModel, count: int = 5, words: tuple[str, ...] = WORDS) -> ApiScores:
    return found.score(rows(count, words), lambda _: None)


def expected(count: int) -> np.ndarray:
    """Sums of log-probabilities by the server's own rule."""
    values = np.zeros((count, len(WORDS)))
    for i, row in enumerate(rows(count, WORDS)):
        for j, answer in enumerate(row.answers):
            before = tokens_of(row.text)
            for token in tokens_of(answer):
                values[i, j] += logprob(before, token)
                before = [*before, token]
    return values


@pytest.mark.parametrize("echo", ["right", "shifted"])
def test_log_probabilities_are_those_of_the_answers(
    echo: str, serve: Serve, tmp_path: Path
) -> None:
    found = model(serve(echo=echo), tmp_path)
    assert found.probe(rows(1, WORDS)[0]) == "logprobs"
    scores = score(found)
    assert scores.logprobs_NC is not None and scores.tokens_NC is not None
    np.testing.assert_allclose(scores.logprobs_NC, expected(5), atol=1e-9)
    assert scores.tokens_NC.tolist() == [[1, 1, 2]] * 5
    np.testing.assert_array_equal(scores.choice_N, expected(5).argmax(axis=1))


@pytest.mark.parametrize("echo", ["ignored", "refused"])
def test_answers_are_read_where_there_are_no_log_probabilities(
    echo: str, serve: Serve, tmp_path: Path
) -> None:
    server = serve(echo=echo, chat=lambda body: says(body, ["Positive.", "who knows", None]))
    found = model(server, tmp_path)
    assert found.probe(rows(1, WORDS)[0]) == "answer"
    assert not found.constrained
    scores = score(found, 3)
    assert scores.logprobs_NC is None and scores.choice_N.tolist() == [0, -1, -1]
    with pytest.raises(ConfigError, match=r"api\.scoring='logprobs'.*--api\.scoring answer"):
        model(server, tmp_path, scoring="logprobs").probe(rows(1, WORDS)[0])


def says(body: dict[str, Any], answers: list[str | None]) -> str | None:
    """The answer of the row that the last turn is about."""
    text = body["messages"][-1]["content"]
    return answers[int(text.split("sentence ")[1].split('"')[0])]


@pytest.mark.parametrize("kind", ["json_schema", "json_object"])
def test_a_constraint_is_used_where_it_is_obeyed(kind: str, serve: Serve, tmp_path: Path) -> None:
    def chat(body: dict[str, Any]) -> str:
        form = body.get("response_format", {})
        return '{"label": "no advice"}' if form.get("type") == kind else "well, positive"

    server = serve(echo="ignored", chat=chat)
    found = model(server, tmp_path)
    found.probe(rows(1, WORDS)[0])
    assert found.constrained
    assert score(found, 3).choice_N.tolist() == [2, 2, 2]
    form = json.dumps(server.bodies[-1]["response_format"])
    assert json.dumps(WORDS)[1:-1] in form


def test_models_that_refuse_max_tokens_are_asked_in_their_way(serve: Serve, tmp_path: Path) -> None:
    server = serve(echo="refused")

    def strict(handler: Any, body: dict[str, Any]) -> None:
        if "max_tokens" in body:
            status(400, "Unsupported parameter: use 'max_completion_tokens' instead.")(
                handler, body
            )
        else:
            handler.reply(200, json.dumps(server.write(body)))

    server.always = strict
    assert score(model(server, tmp_path), 2).choice_N.tolist() == [0, 0]
    assert "temperature" not in server.bodies[-1]


@pytest.mark.parametrize("scoring", ["answer", "logprobs"])
def test_a_second_run_sends_nothing(scoring: Any, serve: Serve, tmp_path: Path) -> None:
    server = serve()
    first, second = (model(server, tmp_path, scoring=scoring) for _ in range(2))
    before = score(first)
    sent = len(server.bodies)
    server.close()
    after = score(second)
    assert sent > 5 and len(server.bodies) == sent == first.usage.requests
    assert second.usage.requests == 0 and second.usage.cached == sent
    assert first.usage.cached == 0
    np.testing.assert_array_equal(before.choice_N, after.choice_N)
    assert second.usage.input_tokens == first.usage.input_tokens


def test_equal_rows_are_asked_once_and_progress_counts_rows(serve: Serve, tmp_path: Path) -> None:
    server, told = serve(), list[int]()
    found = model(server, tmp_path)
    found.probe(rows(1)[0])
    before = len(server.bodies)
    found.score(rows(3) * 2, told.append)
    # Two answers each; those of the first row are known from probing, or not.
    assert len(server.bodies) - before <= 6
    assert told == sorted(told) and told[-1] == 6


@pytest.mark.parametrize("concurrency", [1, 3])
def test_so_many_requests_are_under_way(concurrency: int, serve: Serve, tmp_path: Path) -> None:
    server = serve()
    server.always = slow(0.02)
    score(model(server, tmp_path, concurrency=concurrency, scoring="answer"), 12)
    assert server.most_under_way == concurrency


def test_answers_of_one_row_are_asked_in_succession(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    found = model(server, tmp_path, concurrency=1)
    found.probe(rows(9)[8])
    server.bodies.clear()
    score(found, 3, ("positive", "negative"))
    prompts = [body["prompt"] for body in server.bodies]
    assert prompts == [row.text + answer for row in rows(3) for answer in row.answers]


BAD: dict[str, Misbehaviour] = {
    "busy": status(429, retry_after="0.05"),
    "broken": status(500),
    "overloaded": status(503),
    "no JSON": junk("<html>hello</html>"),
    "empty": junk(""),
    "no object": junk("[]"),
    "no choices": junk('{"choices": []}'),
    "no message": junk('{"choices": [{"message": "hm"}]}'),
    "another type": junk('{"choices": [{"message": {"content": 3}}]}'),
    "no UTF-8": lambda handler, _: handler.reply(200, "\udcff".encode(errors="replace").decode()),
    "cut off": cut_off,
}


@pytest.mark.parametrize("name", BAD)
def test_a_passing_failure_is_a_counted_retry(name: str, serve: Serve, tmp_path: Path) -> None:
    server = serve()
    found = model(server, tmp_path, scoring="answer", concurrency=1)
    found.probe(rows(1)[0])
    before = len(server.bodies)
    server.plan = [BAD[name], BAD[name]]
    assert score(found, 4, ("positive", "negative")).choice_N.tolist() == [0] * 4
    assert found.usage.retries == 2
    asked = {json.dumps(body) for body in server.bodies[before:]}
    assert len(server.bodies) - before == len(asked) + 2


@pytest.mark.parametrize(
    "text",
    [
        '{"choices": [{"text": null}]}',
        '{"choices": [{"text": "x", "logprobs": {"tokens": ["x"], "token_logprobs": []}}]}',
        '{"choices": [{"text": "x", "logprobs": {"tokens": ["x"], "token_logprobs": [7]}}]}',
        '{"choices": [{"text": "x", "logprobs": {"tokens": ["x"], "token_logprobs": [NaN]}}]}',
    ],
)
def test_log_probabilities_that_are_none_are_junk(text: str, serve: Serve, tmp_path: Path) -> None:
    server = serve()
    found = model(server, tmp_path, concurrency=1)
    found.probe(rows(2, WORDS)[1])
    prompt = json.dumps(rows(1, WORDS)[0].text + " positive")[1:-1]
    server.plan = [junk(text.replace('"text": "x"', f'"text": "{prompt}"'))]
    scores = score(found)
    assert found.usage.retries == 1
    np.testing.assert_allclose(scores.logprobs_NC, expected(5), atol=1e-9)  # type: ignore[arg-type]


@pytest.mark.parametrize("late", [slow(1.5), trickling])
def test_a_slow_server_is_given_up_with_advice(
    late: Misbehaviour, serve: Serve, tmp_path: Path
) -> None:
    server = serve()
    server.always = late
    found = model(server, tmp_path, timeout=0.2, retries=1, scoring="answer")
    with pytest.raises(ConfigError, match=r"within 0\.2 s, asked 2 times.*--api\.timeout"):
        found.probe(rows(1)[0])
    assert found.usage.retries == 1


def test_a_server_that_is_down_is_named(serve: Serve, tmp_path: Path) -> None:
    config = ApiConfig(base_url=f"http://127.0.0.1:{free_port()}/v1", retries=1)
    with pytest.raises(ConfigError, match=r"/v1 cannot be reached.*Is it running"):
        ApiModel(config, "m", cache=tmp_path / "c").probe(rows(1)[0])


def test_scored_rows_are_kept_when_the_server_dies(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    found = model(server, tmp_path, scoring="answer", concurrency=1, retries=1)
    found.probe(rows(1)[0])
    sent = len(server.bodies)
    server.plan = [slow(0)] * 2
    server.always = cut_off
    with pytest.raises(ConfigError, match=r"3 of 6 rows are scored and kept.*--resume"):
        score(found, 6, ("positive", "negative"))
    server.always = None
    server.bodies.clear()
    again = model(server, tmp_path, scoring="answer")
    assert score(again, 6, ("positive", "negative")).choice_N.tolist() == [0] * 6
    assert len(server.bodies) == 3 and again.usage.cached == sent + 2


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (status(401, f"bad key {KEY}"), r"401 \(bad key \*\*\*\).*LLM_KEY was refused"),
        (status(403), "LLM_KEY was refused"),
        (status(404, "no such model"), r"404 \(no such model\).*'m'|'m'.*404 \(no such model\)"),
        (status(400, "too long"), r"400 \(too long\)"),
        (status(429, retry_after="3600"), "asks to wait 3600 s"),
    ],
)
def test_what_no_retry_mends_is_said_at_once(
    act: Misbehaviour,
    said: str,
    serve: Serve,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LLM_KEY", KEY)
    server = serve()
    server.always = act
    found = model(server, tmp_path, key_variable="LLM_KEY", scoring="answer")
    with pytest.raises(ConfigError, match=said) as caught:
        score(found)
    assert server.base_url in str(caught.value)
    assert found.usage.retries == 0 and len(server.bodies) == 1


def test_a_key_that_is_not_set_is_said_so(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    server.always = status(401)
    found = model(server, tmp_path, key_variable="LLM_NO_KEY")
    with pytest.raises(ConfigError, match="LLM_NO_KEY is not set"):
        found.probe(rows(1)[0])


def test_retry_after_is_waited_for(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    found = model(server, tmp_path, scoring="answer", concurrency=1)
    found.probe(rows(1)[0])
    server.plan = [status(429, retry_after="0.5")]
    started = time.monotonic()
    score(found, 3, ("positive", "negative"))
    assert time.monotonic() - started >= 0.5
    date = "Wed, 21 Oct 2015 07:28:00 GMT"
    assert api_client._retry_after({"retry-after": date}) == 0
    assert api_client._retry_after({"retry-after": "soon"}) == 0


@pytest.mark.parametrize("concurrency", [1, 8])
def test_price_stays_below_the_cap(concurrency: int, serve: Serve, tmp_path: Path) -> None:
    prices = {"input_price": 1e6, "output_price": 2e6, "scoring": "answer"}
    server = serve()
    whole = model(server, tmp_path / "whole", **prices)
    score(whole, 100)
    usage = whole.usage
    assert usage.input_tokens is not None and usage.output_tokens is not None
    assert usage.price == pytest.approx(usage.input_tokens + 2 * usage.output_tokens)

    cap = usage.price / 2
    capped = model(server, tmp_path, spending_cap=cap, concurrency=concurrency, **prices)
    with pytest.raises(ConfigError, match=r"spending_cap=.*of 100 rows are scored and kept"):
        score(capped, 100)
    assert capped.usage.price is not None
    most = 500  # what one request is taken to cost at most, by its bytes
    assert cap - most < capped.usage.price <= cap

    # What the cache holds counts as spent: the same cap lets nothing more through.
    sent = len(server.bodies)
    with pytest.raises(ConfigError, match="spending_cap"):
        score(model(server, tmp_path, spending_cap=cap, **prices), 100)
    assert len(server.bodies) == sent
    assert score(model(server, tmp_path, spending_cap=2 * cap + most, **prices), 100)


def test_lost_responses_count_against_the_cap(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    server.always = cut_off
    prices = {"input_price": 1e6, "output_price": 1e6, "scoring": "answer"}
    found = model(server, tmp_path, spending_cap=500, retries=50, **prices)
    with pytest.raises(ConfigError, match="spending_cap"):
        found.probe(rows(1)[0])
    assert 1 <= len(server.bodies) <= 500 // 80


def test_tokens_that_a_server_does_not_tell_are_not_guessed(serve: Serve, tmp_path: Path) -> None:
    prices = {"input_price": 1.0, "output_price": 1.0}
    found = model(serve(usage=False), tmp_path, **prices)
    score(found)
    usage = found.usage
    assert (usage.input_tokens, usage.output_tokens, usage.price) == (None, None, None)


def test_price_is_unknown_without_prices(serve: Serve, tmp_path: Path) -> None:
    found = model(serve(), tmp_path)
    score(found)
    assert found.usage.price is None and found.usage.input_tokens


def test_the_key_is_sent_and_written_nowhere(
    serve: Serve,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("LLM_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    for act in (None, status(500, f"{KEY}!"), status(401, f"{KEY}!"), status(400, f"{KEY}!")):
        server = serve(echo="ignored", chat=lambda body: f"I was told {KEY}")
        server.always = act
        found = model(server, tmp_path, key_variable="LLM_KEY", retries=1)
        try:
            score(found)
        except ConfigError as error:
            written = f"{error!r} {error.__cause__!r} {vars(found)} {found.usage}"
            assert KEY not in written
        assert server.keys == {f"Bearer {KEY}"}
    captured = capfd.readouterr()
    assert KEY not in captured.out + captured.err + caplog.text
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files and all(KEY.encode() not in path.read_bytes() for path in files)


@pytest.mark.parametrize("bad", ["sk-planted 1", "sk-planted\n1", "sk-planted\u00e9"])
def test_a_key_that_no_header_carries_is_not_shown(
    bad: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_KEY", bad)
    config = ApiConfig(base_url="http://localhost:1/v1", key_variable="LLM_KEY")
    with pytest.raises(ConfigError, match="LLM_KEY holds") as caught:
        ApiModel(config, "m", cache=tmp_path / "c")
    assert "planted" not in str(caught.value)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_asks_only_for_what_is_missing(
    number: int, serve: Serve, tmp_path: Path
) -> None:
    server = serve()
    server.always = slow(0.05)
    cache = tmp_path / "api.sqlite"
    command = [sys.executable, "-m", "tests.prompt.api_rows", server.base_url, str(cache), "40"]
    run = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while len(server.bodies) < 15 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(run.pid, number)
    _, said = run.communicate(timeout=30)
    assert run.returncode in (-signal.SIGKILL, 130), said
    assert number == signal.SIGKILL or "--resume" in said
    time.sleep(0.2)
    before = len(server.bodies)
    server.always = None
    config = ApiConfig(base_url=server.base_url, scoring="answer")
    found = ApiModel(config, "m", cache=cache)
    assert score(found, 40, ("positive", "negative")).choice_N.tolist() == [0] * 40
    # 40 rows and two attempts at a constraint; two requests were under way when the run died.
    assert 42 <= len(server.bodies) <= 44
    assert found.usage.cached >= before - 2


def test_works_inside_a_running_loop(serve: Serve, tmp_path: Path) -> None:
    import asyncio

    async def notebook() -> ApiScores:
        return score(model(serve(), tmp_path))

    assert asyncio.run(notebook()).logprobs_NC is not None


def test_missing_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ConfigError, match=r"pip install -e '\.\[api\]'"):
        ApiModel(ApiConfig(base_url="http://localhost:1/v1"), "m", cache=tmp_path / "c")


def test_openai_is_imported_only_when_used() -> None:
    code = "import llmclf.prompt.api.model, sys; assert not {'openai', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)
