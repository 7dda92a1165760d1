"""Which approach should I ship? Eight of them on my text, with one verdict and its cost.

    python recipes/compare.py --data.source my.csv
    python recipes/compare.py --data.source my.csv --folds 5 --only tfidf-svm full
    accelerate launch --config_file launch/accelerate/ddp.yaml \
        --num_processes "$(nvidia-smi -L | wc -l)" recipes/compare.py \
        --data.source my.csv --seeds 0 1 2 --report.device-price 2.5 --report.currency USD

Without a hub, on a laptop, with the models that are embedded:

    python recipes/compare.py --encoder minilm-l6 --decoder smollm2-135m --data.source my.csv

Finished runs are used as they are, so a comparison that was stopped goes on with --resume, and a
method is added by adding it here.
"""

from pathlib import Path
from typing import Annotated

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

SHARED = {"output_dir": Path("runs/compare"), "data": DataConfig(source="opinions")}


def experiments(
    encoder: Annotated[
        str, "Checkpoint of features, head, lora and full."
    ] = "google-bert/bert-base-uncased",
    decoder: Annotated[
        str, "Checkpoint of decoder-lora and decoder-16-shot."
    ] = "meta-llama/Llama-3.1-8B",
) -> list[Experiment]:
    return [
        Classical(name="majority", baseline=BaselineConfig(classifier="majority"), **SHARED),
        Classical(name="tfidf-svm", baseline=BaselineConfig(classifier="linear_svm"), **SHARED),
        Features(name="features", model=LanguageModelConfig(checkpoint=encoder), **SHARED),
        FineTune(
            name="head",
            model=ModelConfig(checkpoint=encoder, tune="head"),
            train=TrainConfig(epochs=5),
            **SHARED,
        ),
        FineTune(
            name="lora",
            model=ModelConfig(checkpoint=encoder, tune="lora"),
            train=TrainConfig(epochs=5, warmup=0.1),
            **SHARED,
        ),
        FineTune(
            name="full",
            model=ModelConfig(checkpoint=encoder),
            train=TrainConfig(layer_decay=0.9, epochs=4, global_batch_size=16),
            **SHARED,
        ),
        FineTune(
            name="decoder-lora",
            model=ModelConfig(checkpoint=decoder, tune="lora", lora_rank=16),
            train=TrainConfig(epochs=2, micro_batch_size=8),
            **SHARED,
        ),
        Prompt(
            name="decoder-16-shot",
            model=LanguageModelConfig(checkpoint=decoder),
            prompt=PromptConfig(shots=16, seeds=3),
            **SHARED,
        ),
    ]


if __name__ == "__main__":
    main(experiments)
