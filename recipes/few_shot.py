"""Few-shot prompting: a language model reads 16 labelled texts, then the one in question.

    python recipes/few_shot.py --data.source my.csv
    accelerate launch --config_file launch/accelerate/ddp.yaml recipes/few_shot.py
    python recipes/few_shot.py --model.checkpoint smollm2-135m --prompt.shots 8

Three draws of demonstrations, since one prompt is one sample: the first is the run's result, and
the table shows how far all of them spread.
"""

from llmclf import DataConfig, LanguageModelConfig, Prompt, PromptConfig, main


def experiment() -> Prompt:
    return Prompt(
        name="few-shot",
        data=DataConfig(source="opinions"),
        model=LanguageModelConfig(checkpoint="smollm2-135m"),
        prompt=PromptConfig(shots=16, seeds=3),
    )


if __name__ == "__main__":
    main(experiment)
