"""Few-shot prompting with the training rows that are most similar to each text.

    python recipes/few_shot_knn.py --data.source my.csv
    python recipes/few_shot_knn.py --prompt.similarity tfidf

Each text has demonstrations of its own, so nothing but the instruction is shared between prompts:
this takes about ten times as long as recipes/few_shot.py.
"""

from llmclf import DataConfig, LanguageModelConfig, Prompt, PromptConfig, main


def experiment() -> Prompt:
    return Prompt(
        name="few-shot-knn",
        data=DataConfig(source="opinions"),
        model=LanguageModelConfig(checkpoint="smollm2-135m"),
        prompt=PromptConfig(shots=8, demonstrations="nearest", similarity="minilm-l6"),
    )


if __name__ == "__main__":
    main(experiment)
