"""Parameter counts of the known shapes against the published ones."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM

from llmclf.config import ConfigError
from llmclf.plan.known import KNOWN, config_for_planning, known_config

BILLION = 10**9
# Encoders: trunk with pooler, as the hub's safetensors metadata and the papers count them.
ENCODERS = {
    "google-bert/bert-base-uncased": 109_482_240,  # Devlin et al. 2019: 110M
    "google-bert/bert-large-uncased": 335_141_888,  # 340M in the paper, 335M counted
    "FacebookAI/roberta-base": 124_645_632,  # Liu et al. 2019: 125M
    "FacebookAI/roberta-large": 355_359_744,  # 355M
    "distilbert/distilbert-base-uncased": 66_362_880,  # Sanh et al. 2019: 66M
    "allenai/longformer-base-4096": 148_659_456,  # Beltagy et al. 2020: 149M
    "answerdotai/ModernBERT-base": 149_014_272,  # Warner et al. 2024: 149M
    "answerdotai/ModernBERT-large": 394_781_696,  # 395M
    "openai-community/gpt2": 124_439_808,  # Radford et al. 2019: 124M
    "openai-community/gpt2-large": 774_030_080,  # 774M
    "openai-community/gpt2-xl": 1_557_611_200,  # 1.56B
}
# Decoders with their language-model head: model cards and safetensors metadata.
DECODERS = {
    "meta-llama/Llama-3.2-1B": 1_235_814_400,
    "meta-llama/Meta-Llama-3-8B": 8_030_261_248,
    "meta-llama/Llama-3.1-8B": 8_030_261_248,
    "meta-llama/Meta-Llama-3-70B": 70_553_706_496,
    "meta-llama/Llama-3.1-70B": 70_553_706_496,
    "mistralai/Mistral-7B-v0.3": 7_248_023_552,
    "Qwen/Qwen2.5-0.5B": 494_032_768,
    "Qwen/Qwen2.5-7B": 7_615_616_512,
}


def test_every_known_checkpoint_has_a_published_count() -> None:
    assert set(KNOWN) == set(ENCODERS) | set(DECODERS)


@pytest.mark.parametrize("name", ENCODERS)
def test_encoder(name: str) -> None:
    with torch.device("meta"):
        model = AutoModel.from_config(known_config(name))
    assert model.num_parameters() == pytest.approx(ENCODERS[name], rel=2e-4)


@pytest.mark.parametrize("name", DECODERS)
def test_decoder(name: str) -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(known_config(name))
    assert model.num_parameters() == DECODERS[name]


def test_an_8b_classifier_lacks_the_language_model_head() -> None:
    with torch.device("meta"):
        model = AutoModel.from_config(known_config("meta-llama/Meta-Llama-3-8B"))
    assert model.num_parameters() / BILLION == pytest.approx(7.505, abs=1e-3)


def test_a_real_config_wins_and_an_unknown_name_is_refused() -> None:
    config, real = config_for_planning("minilm-l6")
    assert real
    assert config.num_hidden_layers == 6
    assert config_for_planning("google-bert/bert-large-uncased")[1] is False
    with pytest.raises(ConfigError, match="Known to the planner"):
        config_for_planning("nobody/nothing")
