"""Fine-tune ModernBERT-base: up to 8,192 tokens.

On one device, or on every GPU of the machine:

    python recipes/modernbert.py --data.source my.csv
    accelerate launch --config_file launch/accelerate/ddp.yaml \
        --num_processes "$(nvidia-smi -L | wc -l)" recipes/modernbert.py
"""

from llmclf import DataConfig, FineTune, ModelConfig, TrainConfig, main


def experiment() -> FineTune:
    return FineTune(
        name="modernbert",
        data=DataConfig(source="opinions"),
        model=ModelConfig(checkpoint="answerdotai/ModernBERT-base"),
        train=TrainConfig(epochs=3, weight_decay=1e-5),
    )


if __name__ == "__main__":
    main(experiment)
