"""Zero-shot prompting: a language model is told the labels, and shown no example.

    python recipes/zero_shot.py --data.source my.csv
    python recipes/zero_shot.py --prompt.verbaliser "0=no advice" "1=weak advice" "2=strong advice"

Three wordings, since one prompt is one sample: the first is the run's result, and the table shows
how far all of them spread.
"""

from llmclf import DataConfig, LanguageModelConfig, Prompt, PromptConfig, main


def experiment() -> Prompt:
    return Prompt(
        name="zero-shot",
        data=DataConfig(source="opinions"),
        model=LanguageModelConfig(checkpoint="smollm2-135m"),
        prompt=PromptConfig(shots=0, templates=("quoted", "tagged", "question")),
    )


if __name__ == "__main__":
    main(experiment)
