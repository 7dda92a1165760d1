"""Advice in conclusions of medical papers: eight approaches beside published scores.

    python recipes/health_advice.py --data.source health_advice.csv --folds 5
    python recipes/health_advice.py --data.source health-advice --folds 5

The corpus of Yu, Wang and Li (EMNLP 2021): no, weak or strong advice. The models
are those that need no hub: a BERT of 22.7M parameters, a Llama of 134.5M for adapters and prompts.
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
    ReportConfig,
    TrainConfig,
    main,
)

FOLDER = Path("runs/health-advice")
DATA = DataConfig(source="health-advice", seed=0)
BERT, LLAMA = "minilm-l6", "smollm2-135m"
PUBLISHED = ("SVM, published=0.833", "BERT-base, published=0.918", "BioBERT, published=0.933")


def experiments() -> list[Experiment]:
    classical = {
        "majority": BaselineConfig(classifier="majority"),
        "linear-svm": BaselineConfig(classifier="linear_svm"),
    }
    trained = {
        "head": (
            ModelConfig(checkpoint=BERT, tune="head"),
            TrainConfig(learning_rate=2e-3, epochs=5),
        ),
        "last-2": (
            ModelConfig(checkpoint=BERT, tune="last_n", last_n=2),
            TrainConfig(learning_rate=3e-4, epochs=5, global_batch_size=16),
        ),
        "lora": (
            ModelConfig(checkpoint=BERT, tune="lora"),
            TrainConfig(learning_rate=1e-3, epochs=5, warmup=0.1),
        ),
        "full": (
            ModelConfig(checkpoint=BERT),
            TrainConfig(learning_rate=1e-4, layer_decay=0.9, epochs=4, global_batch_size=16),
        ),
        "llama-lora": (
            ModelConfig(checkpoint=LLAMA, tune="lora", lora_rank=16),
            TrainConfig(learning_rate=5e-4, epochs=1, micro_batch_size=16),
        ),
    }
    few_shot = Prompt(
        name="llama-16-shot",
        output_dir=FOLDER,
        data=DATA,
        model=LanguageModelConfig(checkpoint=LLAMA),
        prompt=PromptConfig(shots=16),
    )
    return [
        *(
            Classical(
                name=name,
                output_dir=FOLDER,
                data=DATA,
                baseline=baseline,
            )
            for name, baseline in classical.items()
        ),
        *(
            FineTune(name=name, output_dir=FOLDER, data=DATA, model=model, train=train)
            for name, (model, train) in trained.items()
        ),
        few_shot,
    ]


if __name__ == "__main__":
    main(experiments, report=ReportConfig(published=PUBLISHED))
