"""Which approach should I ship? Seven of them on my text, with one verdict and its cost.

    python recipes/compare.py --data.source my.csv
    python recipes/compare.py --data.source my.csv --folds 5 --only tfidf-svm bert-full
    accelerate launch --config_file launch/accelerate/ddp.yaml recipes/compare.py \
        --data.source my.csv --seeds 0 1 2 --report.device-price 2.5 --report.currency USD

For a machine with a GPU and a model hub; recipes/demo.py compares what a laptop can run. Finished
runs are used as they are, so a comparison that was stopped goes on with --resume, and a method is
added by adding it here.
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

FOLDER = Path("runs/compare")
DATA = DataConfig(source="opinions")
BERT, LLAMA = "google-bert/bert-base-uncased", "meta-llama/Llama-3.1-8B"


def experiments() -> list[Experiment]:
    return [
        Classical(
            name="majority",
            output_dir=FOLDER,
            data=DATA,
            baseline=BaselineConfig(classifier="majority"),
        ),
        Classical(
            name="tfidf-svm",
            output_dir=FOLDER,
            data=DATA,
            baseline=BaselineConfig(classifier="linear_svm"),
        ),
        FineTune(
            name="bert-head",
            output_dir=FOLDER,
            data=DATA,
            model=ModelConfig(checkpoint=BERT, tune="head"),
            train=TrainConfig(learning_rate=2e-3, epochs=5),
        ),
        FineTune(
            name="bert-lora",
            output_dir=FOLDER,
            data=DATA,
            model=ModelConfig(checkpoint=BERT, tune="lora"),
            train=TrainConfig(learning_rate=5e-4, epochs=5, warmup=0.1),
        ),
        FineTune(
            name="bert-full",
            output_dir=FOLDER,
            data=DATA,
            model=ModelConfig(checkpoint=BERT),
            train=TrainConfig(learning_rate=1e-4, layer_decay=0.9, epochs=4, global_batch_size=16),
        ),
        FineTune(
            name="llama-lora",
            output_dir=FOLDER,
            data=DATA,
            model=ModelConfig(checkpoint=LLAMA, tune="lora", lora_rank=16),
            train=TrainConfig(learning_rate=1e-4, epochs=2, micro_batch_size=8),
        ),
        Prompt(
            name="llama-16-shot",
            output_dir=FOLDER,
            data=DATA,
            model=LanguageModelConfig(checkpoint=LLAMA),
            prompt=PromptConfig(shots=16, seeds=3),
        ),
    ]


if __name__ == "__main__":
    main(experiments)
