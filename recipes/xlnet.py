"""Fine-tune XLNet-base. It has no gradient checkpointing in transformers, and pads on the left.

On one device, or on every GPU of the machine:

    python recipes/xlnet.py --data.source my.csv
    accelerate launch --config_file launch/accelerate/ddp.yaml \
        --num_processes "$(nvidia-smi -L | wc -l)" recipes/xlnet.py
"""

from llmclf import DataConfig, FineTune, ModelConfig, TrainConfig, main


def experiment() -> FineTune:
    return FineTune(
        name="xlnet",
        data=DataConfig(source="opinions"),
        model=ModelConfig(checkpoint="xlnet/xlnet-base-cased"),
        train=TrainConfig(epochs=3),
    )


if __name__ == "__main__":
    main(experiment)
