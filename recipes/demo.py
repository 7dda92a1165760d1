"""Which approach suits film reviews? Eight of them on the same rows, on a laptop CPU.

    make demo
    python recipes/demo.py --output-dir runs/demo

No model hub is needed: data and model come from PyPI packages. Sentences of film reviews rated by
people (Hutto & Gilbert 2014), a BERT of six layers (22.7M parameters), for prompts a small Llama
(134.5M). Measured with seed 0 on 2 cores of a server CPU: 7 min 47 s in all; macro-F1 .548 of the
full fine-tune, .515 of a classifier on its frozen states, .483 of TF-IDF with logistic regression
(docs/measured.md).
"""

from pathlib import Path

from llmclf import (
    BaselineConfig,
    Classical,
    DataConfig,
    Experiment,
    Features,
    FineTune,
    LanguageModelConfig,
    ModelConfig,
    Prompt,
    PromptConfig,
    TrainConfig,
    main,
)

SHARED = {
    "output_dir": Path("runs/demo"),
    "data": DataConfig(source="opinions/film", limit=4000),
}
BERT, LLAMA = "minilm-l6", "smollm2-135m"


def experiments() -> list[Experiment]:
    return [
        Classical(name="majority", baseline=BaselineConfig(classifier="majority"), **SHARED),
        Classical(
            name="logistic-regression",
            baseline=BaselineConfig(classifier="logistic_regression"),
            **SHARED,
        ),
        Features(name="features", model=LanguageModelConfig(checkpoint=BERT), **SHARED),
        FineTune(
            name="head",
            model=ModelConfig(checkpoint=BERT, tune="head"),
            train=TrainConfig(epochs=3),
            **SHARED,
        ),
        FineTune(
            name="last-2",
            model=ModelConfig(checkpoint=BERT, tune="last_n", last_n=2),
            train=TrainConfig(epochs=3),
            **SHARED,
        ),
        FineTune(
            name="lora",
            model=ModelConfig(checkpoint=BERT, tune="lora", lora_rank=16, lora_alpha=32),
            train=TrainConfig(epochs=3),
            **SHARED,
        ),
        FineTune(
            name="full",
            model=ModelConfig(checkpoint=BERT, tune="full"),
            train=TrainConfig(epochs=3),
            **SHARED,
        ),
        Prompt(
            name="few-shot",
            model=LanguageModelConfig(checkpoint=LLAMA),
            prompt=PromptConfig(shots=16),
            **SHARED,
        ),
    ]


if __name__ == "__main__":
    main(experiments)
