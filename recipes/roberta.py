"""Fine-tune RoBERTa-base.

On one device, or on every GPU of the machine:

    python recipes/roberta.py --data.source my.csv
    accelerate launch --config_file launch/accelerate/ddp.yaml \
        --num_processes "$(nvidia-smi -L | wc -l)" recipes/roberta.py
"""

from llmclf import DataConfig, FineTune, ModelConfig, TrainConfig, main


def experiment() -> FineTune:
    return FineTune(
        name="roberta",
        data=DataConfig(source="opinions"),
        model=ModelConfig(checkpoint="FacebookAI/roberta-base"),
        train=TrainConfig(epochs=3, warmup=0.06),
    )


if __name__ == "__main__":
    main(experiment)
