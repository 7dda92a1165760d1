"""Fine-tune Llama-3-8B as a classifier by LoRA, ZeRO stage 2 on several GPUs.

On one GPU, or on eight:

    python recipes/llama_lora.py --data.source my.csv
    accelerate launch --config_file launch/accelerate/zero2.yaml --num_processes 8 \
        recipes/llama_lora.py

Without a hub, on two CPU ranks, with a small Llama that is embedded:

    accelerate launch --config_file launch/accelerate/zero2.yaml --num_processes 2 \
        recipes/llama_lora.py --model.checkpoint smollm2-135m --data.limit 600
"""

from llmclf import DataConfig, FineTune, ModelConfig, TrainConfig, main


def experiment() -> FineTune:
    return FineTune(
        name="llama-lora",
        data=DataConfig(source="opinions", max_length=512),
        model=ModelConfig(checkpoint="meta-llama/Meta-Llama-3-8B", tune="lora", lora_rank=16),
        train=TrainConfig(
            epochs=2,
            micro_batch_size=4,
            gradient_checkpointing=True,
        ),
    )


if __name__ == "__main__":
    main(experiment)
