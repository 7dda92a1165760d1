"""Fine-tune every weight of Llama-3-8B as a classifier, ZeRO stage 3: for eight GPUs of 80 GB.

On the GPUs of one machine; several machines: docs/multi_node.md:

    accelerate launch --config_file launch/accelerate/zero3.yaml --num_processes 8 \
        recipes/llama_full_zero3.py

Without a hub, on two CPU ranks, with a small Llama that is embedded:

    accelerate launch --config_file launch/accelerate/zero3.yaml --num_processes 2 \
        recipes/llama_full_zero3.py --model.checkpoint smollm2-135m --train.max-steps 10

What it needs on other devices:

    llmclf plan recipes/llama_full_zero3.py --devices 8 --device-memory 80GB
"""

from llmclf import DataConfig, FineTune, ModelConfig, TrainConfig, main


def experiment() -> FineTune:
    return FineTune(
        name="llama-full-zero3",
        data=DataConfig(source="opinions", max_length=512),
        model=ModelConfig(checkpoint="meta-llama/Meta-Llama-3-8B"),
        train=TrainConfig(
            learning_rate=1e-5,
            epochs=2,
            micro_batch_size=2,
            gradient_checkpointing=True,
        ),
    )


if __name__ == "__main__":
    main(experiment)
