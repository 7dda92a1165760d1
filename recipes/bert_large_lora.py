"""Fine-tune BERT-large by LoRA: adapters on every linear layer, and the head.

On one device, or on every GPU of the machine:

    python recipes/bert_large_lora.py --data.source my.csv
    accelerate launch --config_file launch/accelerate/ddp.yaml \
        --num_processes "$(nvidia-smi -L | wc -l)" recipes/bert_large_lora.py

About 1% of the weights learn, at ten times the learning rate of a full fine-tune.
"""

from llmclf import DataConfig, FineTune, ModelConfig, TrainConfig, main


def experiment() -> FineTune:
    return FineTune(
        name="bert-large-lora",
        data=DataConfig(source="opinions"),
        model=ModelConfig(checkpoint="google-bert/bert-large-uncased", tune="lora", lora_rank=8),
        train=TrainConfig(epochs=5, warmup=0.1),
    )


if __name__ == "__main__":
    main(experiment)
