"""Fine-tune XLNet-base. It has no gradient checkpointing in transformers, and pads on the left.

On one device, or on every GPU of the machine:

    python recipes/xlnet.py --data.source my.csv
    accelerate launch --config_file launch/accelerate/ddp.yaml recipes/xlnet.py
"""

from llmclf.data.corpus import DataConfig
from llmclf.experiment import Experiment, main
from llmclf.model.build import ModelConfig
from llmclf.train.config import TrainConfig


def experiment() -> Experiment:
    return Experiment(
        name="xlnet",
        data=DataConfig(source="opinions"),
        model=ModelConfig(checkpoint="xlnet/xlnet-base-cased"),
        train=TrainConfig(learning_rate=2e-5, epochs=3),
    )


if __name__ == "__main__":
    main(experiment)
