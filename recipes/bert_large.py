"""Fine-tune BERT-large, every weight of it.

On one device, or on every GPU of the machine:

    python recipes/bert_large.py --data.source my.csv
    accelerate launch --config_file launch/accelerate/ddp.yaml \
        --num_processes "$(nvidia-smi -L | wc -l)" recipes/bert_large.py

Some seeds of a large BERT do not learn at all (Devlin et al. 2019): the longer warm-up makes that
rare, and a second --seed tells.
"""

from llmclf import DataConfig, FineTune, ModelConfig, TrainConfig, main


def experiment() -> FineTune:
    return FineTune(
        name="bert-large",
        data=DataConfig(source="opinions"),
        model=ModelConfig(checkpoint="google-bert/bert-large-uncased"),
        train=TrainConfig(epochs=3, warmup=0.1),
    )


if __name__ == "__main__":
    main(experiment)
