"""Fine-tune Llama-3-8B as a classifier by QLoRA: LoRA on weights held in 4 bits (nf4).

On one GPU of 16 GB, or divided over several by ZeRO stage 3:

    python recipes/llama_qlora.py --data.source my.csv
    accelerate launch --config_file launch/accelerate/zero3.yaml --num_processes 8 \
        recipes/llama_qlora.py

Without a hub, on two CPU ranks, with a small Llama that is embedded:

    accelerate launch --config_file launch/accelerate/zero3.yaml --num_processes 2 \
        recipes/llama_qlora.py --model.checkpoint smollm2-135m --train.max-steps 20

The result is saved as the 4-bit weights with the adapter beside them; --model.save merged makes
plain float weights of it.
"""

from llmclf import DataConfig, FineTune, ModelConfig, TrainConfig, main


def experiment() -> FineTune:
    return FineTune(
        name="llama-qlora",
        data=DataConfig(source="opinions", max_length=512),
        model=ModelConfig(
            checkpoint="meta-llama/Meta-Llama-3-8B",
            tune="lora",
            lora_rank=16,
            quantize="nf4",
            save="adapter",
        ),
        train=TrainConfig(
            learning_rate=2e-4,
            epochs=2,
            micro_batch_size=4,
            gradient_checkpointing=True,
        ),
    )


if __name__ == "__main__":
    main(experiment)
