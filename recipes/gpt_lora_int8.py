"""Fine-tune GPT-2 XL as a classifier by LoRA on weights held in 8 bits (LLM.int8).

On one GPU, or on every GPU of the machine:

    python recipes/gpt_lora_int8.py --data.source my.csv
    accelerate launch --config_file launch/accelerate/ddp.yaml \
        --num_processes "$(nvidia-smi -L | wc -l)" recipes/gpt_lora_int8.py

Without a hub, on two CPU ranks, with another decoder that is embedded:

    accelerate launch --config_file launch/accelerate/zero2.yaml --num_processes 2 \
        recipes/gpt_lora_int8.py --model.checkpoint smollm2-135m --data.limit 600

Weights in 8 bits stay whole on every device, under zero3.yaml too; those in 4 bits are divided
(recipes/llama_qlora.py).
"""

from llmclf import DataConfig, FineTune, ModelConfig, TrainConfig, main


def experiment() -> FineTune:
    return FineTune(
        name="gpt-lora-int8",
        data=DataConfig(source="opinions", max_length=512),
        model=ModelConfig(
            checkpoint="openai-community/gpt2-xl",
            tune="lora",
            lora_rank=16,
            quantize="int8",
            save="adapter",
        ),
        train=TrainConfig(
            epochs=2,
            micro_batch_size=8,
            gradient_checkpointing=True,
        ),
    )


if __name__ == "__main__":
    main(experiment)
