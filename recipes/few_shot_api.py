"""Few-shot prompting of a model behind an OpenAI-compatible server (vLLM, llama.cpp, OpenAI, ...).

    python recipes/few_shot_api.py --model.checkpoint gpt-4o-mini --data.source my.csv
    python recipes/few_shot_api.py --model.checkpoint served --api.base-url http://localhost:8000/v1
    python recipes/few_shot_api.py --api.scoring answer --prompt.shots 16

Labels are chosen by log-probabilities where the server gives those of a prompt, else by the answer
that the model writes; one that is none of the labels counts as wrong. Answers are kept in a cache,
so that a run that ended early goes on with --resume and asks only for what is missing. The key is
read from the environment variable OPENAI_API_KEY.
"""

from llmclf import ApiConfig, DataConfig, LanguageModelConfig, Prompt, PromptConfig, main


def experiment() -> Prompt:
    return Prompt(
        name="few-shot-api",
        data=DataConfig(source="opinions"),
        model=LanguageModelConfig(checkpoint="gpt-4o-mini"),
        prompt=PromptConfig(shots=8),
        api=ApiConfig(base_url="https://api.openai.com/v1"),
    )


if __name__ == "__main__":
    main(experiment)
