"""Fine-tune BigBird on documents of up to 4,096 tokens.

On one device, or on every GPU of the machine:

    python recipes/bigbird.py --data.source my.csv
    accelerate launch --config_file launch/accelerate/ddp.yaml \
        --num_processes "$(nvidia-smi -L | wc -l)" recipes/bigbird.py

Its block-sparse attention needs batches of more than 704 tokens, so short texts are padded to
that. With --data.max-length 704 or less it uses full attention, without that padding, and only
then does transformers.pipeline give the same probabilities: at its first short text it leaves
block-sparse attention for good.
"""

from llmclf import DataConfig, FineTune, ModelConfig, TrainConfig, main


def experiment() -> FineTune:
    return FineTune(
        name="bigbird",
        data=DataConfig(source="opinions", max_length=4096),
        model=ModelConfig(checkpoint="google/bigbird-roberta-base"),
        train=TrainConfig(epochs=3, micro_batch_size=2, gradient_checkpointing=True),
    )


if __name__ == "__main__":
    main(experiment)
