"""Which approach suits film reviews? Seven of them on the same rows, on a laptop CPU.

    make demo
    python recipes/demo.py --output-dir runs/demo

No model hub is needed: data and model come from PyPI packages. Sentences of film reviews rated by
people (Hutto & Gilbert 2014), a BERT of six layers (22.7M parameters), for prompts a small Llama
(134.5M).
"""

from pathlib import Path

from llmclf import (
    BaselineConfig,
    Classical,
    DataConfig,
    Experiment,
    FineTune,
    LanguageModelConfig,
    ModelConfig,
    Prompt,
    PromptConfig,
    TrainConfig,
    main,
)

FOLDER = Path("runs/demo")
DATA = DataConfig(source="opinions/film", limit=4000)
CHECKPOINT, LLAMA = "minilm-l6", "smollm2-135m"


def experiments() -> list[Experiment]:
    classical = [
        Classical(
            name=classifier.replace("_", "-"),
            output_dir=FOLDER,
            data=DATA,
            baseline=BaselineConfig(classifier=classifier),
        )
        for classifier in ("majority", "logistic_regression")
    ]
    settings = {
        "head": (
            ModelConfig(checkpoint=CHECKPOINT, tune="head"),
            TrainConfig(learning_rate=2e-3, epochs=3),
        ),
        "last-2": (
            ModelConfig(checkpoint=CHECKPOINT, tune="last_n", last_n=2),
            TrainConfig(learning_rate=3e-4, epochs=3),
        ),
        "lora": (
            ModelConfig(checkpoint=CHECKPOINT, tune="lora", lora_rank=16, lora_alpha=32),
            TrainConfig(learning_rate=1e-3, epochs=3),
        ),
        "full": (
            ModelConfig(checkpoint=CHECKPOINT, tune="full"),
            TrainConfig(learning_rate=1e-4, epochs=3),
        ),
    }
    trained = [
        FineTune(name=name, output_dir=FOLDER, data=DATA, model=model, train=train)
        for name, (model, train) in settings.items()
    ]
    few_shot = Prompt(
        name="few-shot",
        output_dir=FOLDER,
        data=DATA,
        model=LanguageModelConfig(checkpoint=LLAMA),
        prompt=PromptConfig(shots=16),
    )
    return [*classical, *trained, few_shot]


if __name__ == "__main__":
    main(experiments)
