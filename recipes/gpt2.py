"""Fine-tune GPT-2, a decoder, as a classifier: the last token's state is classified.

On one device, or on every GPU of the machine:

    python recipes/gpt2.py --data.source my.csv
    accelerate launch --config_file launch/accelerate/ddp.yaml \
        --num_processes "$(nvidia-smi -L | wc -l)" recipes/gpt2.py

Without a model hub, by adapters, another decoder that is embedded:

    python recipes/gpt2.py --model.checkpoint smollm2-135m --model.tune lora --data.limit 600
"""

from llmclf import DataConfig, FineTune, ModelConfig, TrainConfig, main


def experiment() -> FineTune:
    return FineTune(
        name="gpt2",
        data=DataConfig(source="opinions"),
        model=ModelConfig(checkpoint="openai-community/gpt2"),
        train=TrainConfig(epochs=3),
    )


if __name__ == "__main__":
    main(experiment)
