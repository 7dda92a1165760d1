"""A frozen encoder and a linear classifier on its states: minutes where a fine-tune takes hours.

    python recipes/features.py --data.source my.csv
    python recipes/features.py --data.source my.csv --model.checkpoint BAAI/bge-base-en-v1.5
    accelerate launch --config_file launch/accelerate/ddp.yaml \
        --num_processes "$(nvidia-smi -L | wc -l)" recipes/features.py --data.source my.csv

Nothing of the encoder learns, so it also works with few labels, and folds and seeds share what was
computed. Layer and strength are chosen by cross-validation on the training rows. Decoders work, too
(--model.checkpoint smollm2-135m), with the state of the last token.
"""

from llmclf import DataConfig, Features, FeaturesConfig, LanguageModelConfig, main


def experiment() -> Features:
    return Features(
        name="features",
        data=DataConfig(source="opinions"),
        model=LanguageModelConfig(checkpoint="minilm-l6"),
        features=FeaturesConfig(classifier="logistic_regression"),
    )


if __name__ == "__main__":
    main(experiment)
