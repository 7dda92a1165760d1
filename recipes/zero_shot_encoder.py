"""Zero-shot by an encoder: texts compared with what the labels mean; no example, no training.

    python recipes/zero_shot_encoder.py --data.source my.csv
    python recipes/zero_shot_encoder.py --data.descriptions "bad=It is a failure." "good=It is fun."
    python recipes/zero_shot_encoder.py --model.checkpoint facebook/bart-large-mnli
    accelerate launch --config_file launch/accelerate/ddp.yaml \
        --num_processes "$(nvidia-smi -L | wc -l)" recipes/zero_shot_encoder.py --data.source my.csv

Sentence encoders compare states, so a text is read once; NLI checkpoints are asked for each label
whether the text entails its hypothesis, as transformers' zero-shot pipeline does. Labelled rows
serve to calibrate the probabilities, and to test. minilm-l6 on opinions/film: macro-F1 .341 by the
labels' names, .305 by sentences on them, .215 majority (docs/log.md).
"""

from llmclf import DataConfig, LanguageModelConfig, ZeroShot, ZeroShotConfig, main


def experiment() -> ZeroShot:
    return ZeroShot(
        name="zero-shot-encoder",
        data=DataConfig(source="opinions"),
        model=LanguageModelConfig(checkpoint="minilm-l6"),
        zero_shot=ZeroShotConfig(kind="auto"),
    )


if __name__ == "__main__":
    main(experiment)
