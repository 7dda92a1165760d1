"""Few-shot prompting: a language model reads 16 labelled texts, then the one in question.

    python recipes/few_shot.py --data.source my.csv
    accelerate launch --config_file launch/accelerate/ddp.yaml \
        --num_processes "$(nvidia-smi -L | wc -l)" recipes/few_shot.py
    python recipes/few_shot.py --model.checkpoint smollm2-135m --prompt.shots 8

Three draws of demonstrations, since one prompt is one sample: the first is the run's result, and
the table shows how far all of them spread.

Measured with the embedded Llama on fold 0 of five of the corpus of recipes/health_advice.py, on 2
cores of a server CPU: macro-F1 .326 at best, in 3 min 44 s, where the majority has .249
(docs/measured.md). 135M parameters are no few-shot classifier: bring a larger model.
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
