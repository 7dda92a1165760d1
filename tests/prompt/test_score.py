"""The fast scheme against whole prompts, architecture by architecture, and against lm-eval's way of
adding up a continuation's log-probabilities."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM, PreTrainedModel

from llmclf.model.causal import load_causal
from llmclf.prompt.attention import SharedPrefix, attend
from llmclf.prompt.score import Scorer
from llmclf.prompt.tokens import TokenizedPrompt

SIZE = {
    "vocab_size": 211,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position_embeddings": 512,
}
GROUPED = {**SIZE, "num_key_value_heads": 2}
GPT = {"vocab_size": 211, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 512}
SHARES = {
    "Llama": GROUPED,
    "GPT2": GPT,
    "Mistral": {**GROUPED, "sliding_window": 512},
    "Gemma3Text": {**GROUPED, "head_dim": 16, "sliding_window": 512},
    "Qwen2": GROUPED,
    "Qwen3": {**GROUPED, "head_dim": 16},
    "GPTNeoX": SIZE,
    "OPT": {k: SIZE[k] for k in SIZE if k != "intermediate_size"}
    | {"ffn_dim": 128, "word_embed_proj_dim": 64},
    "Phi3": {**GROUPED, "pad_token_id": 0},
    "Mixtral": {**GROUPED, "num_local_experts": 4},
    "Granite": {**SIZE, "logits_scaling": 3.0},
}
"""Architecture -> settings of a tiny model whose prompts share their beginning."""
PLAIN = {
    "Bloom": {"vocab_size": 211, "hidden_size": 64, "n_layer": 2, "n_head": 4},
    "GPTJ": {**GPT, "rotary_dim": 8},
    "Mistral": {**GROUPED, "sliding_window": 16},
    "Gemma2": {**GROUPED, "head_dim": 16, "sliding_window": 8},
    "Mamba": {"vocab_size": 211, "hidden_size": 64, "num_hidden_layers": 2},
}
"""Whose attention is something else: each prompt in full."""
ANSWERS = ((7, 8), (7, 9, 10), (11,), (12, 13))


def make(name: str, settings: dict) -> PreTrainedModel:
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**settings)
    config.initializer_range = 0.3  # as sharp as a trained model
    return AutoModelForCausalLM.from_config(config).eval()


def questions(shared: int = 40, rows: int = 9, answers: tuple = ANSWERS) -> list[TokenizedPrompt]:
    generator = random.Random(0)
    tokens = range(20, 200)
    start = tuple(generator.choices(tokens, k=shared))
    return [
        TokenizedPrompt(
            start + tuple(generator.choices(tokens, k=generator.randint(1, 30))), answers
        )
        for _ in range(rows)
    ]


@torch.inference_mode()
def one_by_one(model: PreTrainedModel, asked: list[TokenizedPrompt]) -> np.ndarray:
    """Each whole string alone, no padding, all logits: log-likelihoods (N, C)."""
    found = []
    for question in asked:
        for answer in question.answers:
            ids = torch.tensor([question.prompt + answer])
            logprobs_TV = model(input_ids=ids, use_cache=False).logits[0].log_softmax(-1)
            first = len(question.prompt) - 1
            steps = [logprobs_TV[first + i, token] for i, token in enumerate(answer)]
            found.append(float(torch.stack(steps).sum()))
    return np.array(found).reshape(len(asked), -1)


@pytest.fixture(scope="module", params=SHARES)
def sharing(request: pytest.FixtureRequest) -> PreTrainedModel:
    return make(request.param, SHARES[request.param])


@pytest.fixture(scope="module")
def llama_model() -> PreTrainedModel:
    return make("Llama", GROUPED)


def test_shared_prefixes_change_nothing(sharing: PreTrainedModel) -> None:
    asked = questions()
    scorer = Scorer(sharing, pad_token_id=0, token_budget=100)
    assert scorer.check(asked) is None
    assert scorer.shares
    np.testing.assert_allclose(scorer.score(asked), one_by_one(sharing, asked), atol=1e-4)


@pytest.mark.parametrize("name", PLAIN)
def test_other_attention_goes_the_plain_way_and_says_so(name: str) -> None:
    model, asked = make(name, PLAIN[name]), questions()
    scorer = Scorer(model, pad_token_id=0, token_budget=100)
    assert scorer.check(asked)
    assert not scorer.shares
    np.testing.assert_allclose(scorer.score(asked), one_by_one(model, asked), atol=1e-4)


@pytest.mark.parametrize("budget", [1, 64, 512, 100_000])
def test_results_do_not_depend_on_batch_size_order_or_padding(
    llama_model: PreTrainedModel, budget: int
) -> None:
    asked = questions(rows=64)
    expected = one_by_one(llama_model, asked)
    order = random.Random(budget).sample(range(len(asked)), len(asked))
    for pad in (0, 17):
        scorer = Scorer(llama_model, pad_token_id=pad, token_budget=budget)
        found = scorer.score([asked[i] for i in order])
        np.testing.assert_allclose(found, expected[order], atol=1e-4)


@pytest.mark.parametrize("shared", [0, 1, 300])
@pytest.mark.parametrize("rows", [1, 5])
def test_lengths_at_the_edge(llama_model: PreTrainedModel, shared: int, rows: int) -> None:
    """No prefix, one token of it, one longer than the budget; a question alone shares all but its
    last token with itself."""
    asked = questions(shared, rows)
    scorer = Scorer(llama_model, pad_token_id=0, token_budget=64)
    np.testing.assert_allclose(scorer.score(asked), one_by_one(llama_model, asked), atol=1e-4)


def test_neighbours_with_prefixes_of_their_own(llama_model: PreTrainedModel) -> None:
    """Nearest demonstrations: several groups, some of which share more than all do."""
    generator = random.Random(1)
    start = tuple(generator.choices(range(20, 200), k=10))
    groups = [start + tuple(generator.choices(range(20, 200), k=90)) for _ in range(4)]
    asked = [
        TokenizedPrompt(
            group + tuple(generator.choices(range(20, 200), k=generator.randint(1, 9))), a
        )
        for group, a in zip(groups * 3, [ANSWERS, ((5,), (6, 7, 8), (9,), (1, 2))] * 6, strict=True)
    ]
    generator.shuffle(asked)
    scorer = Scorer(llama_model, pad_token_id=0, token_budget=200)
    packing = scorer.pack(asked)
    assert packing.shared == 10
    assert {batch.shared for batch in packing.batches} == {100}
    np.testing.assert_allclose(scorer.score(asked), one_by_one(llama_model, asked), atol=1e-4)


def test_a_prompt_that_begins_another(llama_model: PreTrainedModel) -> None:
    long = questions(rows=1)[0]
    asked = [TokenizedPrompt(long.prompt[:k], ANSWERS) for k in (1, 2, len(long.prompt))]
    scorer = Scorer(llama_model, pad_token_id=0, token_budget=64)
    np.testing.assert_allclose(scorer.score(asked), one_by_one(llama_model, asked), atol=1e-4)


def test_many_answers_stay_within_the_memory_for_logits(
    llama_model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = tuple((a, b, 5) for a in range(20, 30) for b in range(30, 37))
    asked = questions(rows=6, answers=answers)
    monkeypatch.setattr("llmclf.prompt.score.LOGITS", 1)
    scorer = Scorer(llama_model, pad_token_id=0, token_budget=100_000)
    assert len(scorer.pack(asked).batches) == len(asked)
    np.testing.assert_allclose(scorer.score(asked), one_by_one(llama_model, asked), atol=1e-4)


def test_a_batch_that_does_not_fit_is_scored_in_parts(
    llama_model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, packed, sizes = questions(rows=9), Scorer._packed, []

    def short_of_memory(self: Scorer, some: list[TokenizedPrompt], shared: int) -> np.ndarray:
        if len(some) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        sizes.append(len(some))
        return packed(self, some, shared)

    monkeypatch.setattr(Scorer, "_packed", short_of_memory)
    found = Scorer(llama_model, pad_token_id=0, token_budget=100_000).score(asked)
    assert sum(sizes) == 9 and len(sizes) > 4
    np.testing.assert_allclose(found, one_by_one(llama_model, asked), atol=1e-4)


def test_a_scheme_that_is_wrong_is_found_out(
    llama_model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were the prefix left out of the attention, the check would refuse to share it."""
    monkeypatch.setattr("llmclf.prompt.attention._merged", lambda out, *_: out)
    scorer = Scorer(llama_model, pad_token_id=0)
    reason = scorer.check(questions())
    assert reason is not None and "differ by" in reason
    assert not scorer.shares


@pytest.mark.parametrize(
    ("quantize", "precision"), [("none", "bf16"), ("int8", "bf16"), ("nf4", "fp32")]
)
def test_fewer_bits_take_part(quantize: str, precision: str, byte_llama: Path) -> None:
    model = load_causal(
        str(byte_llama), quantize=quantize, precision=precision, device=torch.device("cpu")
    )
    kind = precision if quantize == "none" else "quantised"
    scorer = Scorer(model, pad_token_id=0, token_budget=100, precision=kind)
    asked = questions()
    assert scorer.check(asked) is None
    difference = np.abs(scorer.score(asked) - one_by_one(model, asked))
    assert difference.max() < (1e-3 if quantize == "nf4" else 1.0)


def test_log_sum_exp_by_hand() -> None:
    """Grouped heads and a mask, as the nodes of a tree see their row."""
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(2, 4, 5, 8, generator=generator)
    k = torch.randn(2, 2, 7, 8, generator=generator)
    v = torch.randn(2, 2, 7, 8, generator=generator)
    mask = torch.rand(2, 1, 5, 7, generator=generator) < 0.5
    mask[..., 0] = True
    out, lse = attend(q, k, v, 0.3, mask=mask)
    scores = (q @ k.repeat_interleave(2, 1).mT * 0.3).masked_fill(~mask, -torch.inf)
    torch.testing.assert_close(lse, scores.logsumexp(-1))
    torch.testing.assert_close(out, scores.softmax(-1) @ v.repeat_interleave(2, 1))


def test_an_emptied_prefix_is_none(llama_model: PreTrainedModel) -> None:
    prefix = SharedPrefix({0: (torch.zeros(1, 2, 5, 8), torch.zeros(1, 2, 5, 8))})
    prefix.crop(3)
    assert prefix.length == 3
    prefix.crop(0)
    assert prefix.layers == {} and prefix.length == 0


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_on_a_gpu(byte_llama: Path, precision: str) -> None:
    device = torch.device("cuda")
    model = load_causal(str(byte_llama), quantize="none", precision=precision, device=device)
    scorer = Scorer(model, pad_token_id=0, token_budget=200, precision=precision)
    asked = questions(rows=64)
    assert scorer.check(asked) is None, "prefixes are not shared"
    on_cpu = load_causal(
        str(byte_llama), quantize="none", precision="fp32", device=torch.device("cpu")
    )
    atol = 1e-3 if precision == "fp32" else 1.0
    np.testing.assert_allclose(scorer.score(asked), one_by_one(on_cpu, asked), atol=atol)
