"""Fine-tune Longformer on documents of up to 4,096 tokens.

On one device, or on every GPU of the machine:

    python recipes/longformer.py --data.source my.csv
    accelerate launch --config_file launch/accelerate/ddp.yaml \
        --num_processes "$(nvidia-smi -L | wc -l)" recipes/longformer.py

A window of local attention slides over the document; the first token attends to all of it, and
all of it to the first token.
"""

from llmclf import DataConfig, FineTune, ModelConfig, TrainConfig, main


def experiment() -> FineTune:
    return FineTune(
        name="longformer",
        data=DataConfig(source="opinions", max_length=4096),
        model=ModelConfig(checkpoint="allenai/longformer-base-4096"),
        train=TrainConfig(epochs=3, micro_batch_size=2, gradient_checkpointing=True),
    )


if __name__ == "__main__":
    main(experiment)
