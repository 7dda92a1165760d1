"""How many labels until training pays? On 8 to 128 labels of each class, and on all.

    python recipes/break_even.py --data.source my.csv
    python recipes/break_even.py --data.source my.csv --budgets 10 100 --seeds 0 1 2 3 4

Three seeds draw the labels, each budget a part of the next, on the same test rows. A fifth of the
labels chooses the best weights, so nothing is used that a user with so few labels would not have.
An interrupted grid goes on with --resume; finished runs are used as they are.
"""

import dataclasses
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

FOLDER = Path("runs/break-even")
BUDGETS = (8, 16, 32, 64, 128)
DATA = DataConfig(source="opinions", seed=0, validation_fraction=0.2)
FEWEST = dataclasses.replace(DATA, labels_per_class=BUDGETS[0])  # more would change nothing
BERT, LLAMA = "minilm-l6", "smollm2-135m"
# Up to 30 passes over few rows, three over all: a few dozen steps would leave the head untrained.
STEPS = TrainConfig(
    epochs=30, max_steps=540, global_batch_size=16, evaluate_every=30, best_by="nll", warmup=0.1
)


def experiments() -> list[Experiment]:
    return [
        Classical(
            name="majority",
            output_dir=FOLDER,
            data=FEWEST,
            baseline=BaselineConfig(classifier="majority"),
        ),
        Classical(
            name="linear-svm",
            output_dir=FOLDER,
            data=DATA,
            baseline=BaselineConfig(classifier="linear_svm"),
        ),
        FineTune(
            name="lora",
            output_dir=FOLDER,
            data=DATA,
            model=ModelConfig(checkpoint=BERT, tune="lora"),
            train=dataclasses.replace(STEPS, learning_rate=1e-3),
        ),
        FineTune(
            name="full",
            output_dir=FOLDER,
            data=DATA,
            model=ModelConfig(checkpoint=BERT),
            train=dataclasses.replace(STEPS, learning_rate=1e-4, layer_decay=0.9),
        ),
        Prompt(
            name="few-shot",
            output_dir=FOLDER,
            data=FEWEST,
            model=LanguageModelConfig(checkpoint=LLAMA),
            prompt=PromptConfig(shots=16),
        ),
    ]


if __name__ == "__main__":
    main(experiments, seeds=(0, 1, 2), budgets=BUDGETS)
