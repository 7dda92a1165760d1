"""Fine-tune DistilBERT: 40% smaller and 60% faster than BERT-base (Sanh et al. 2019).

On one device, or on every GPU of the machine:

    python recipes/distilbert.py --data.source my.csv
    accelerate launch --config_file launch/accelerate/ddp.yaml \
        --num_processes "$(nvidia-smi -L | wc -l)" recipes/distilbert.py
"""

from llmclf import DataConfig, FineTune, ModelConfig, TrainConfig, main


def experiment() -> FineTune:
    return FineTune(
        name="distilbert",
        data=DataConfig(source="opinions"),
        model=ModelConfig(checkpoint="distilbert/distilbert-base-uncased"),
        train=TrainConfig(epochs=3),
    )


if __name__ == "__main__":
    main(experiment)
