"""Prompting as a user starts it: each mistake is one message, exit code 2, and nothing written."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from llmclf import Prompt, main
from llmclf.data.config import DataConfig
from llmclf.model.config import LanguageModelConfig
from llmclf.prompt.config import PromptConfig

Launch = Callable[..., int]


def experiment() -> Prompt:
    return Prompt(
        name="asked",
        data=DataConfig(source="given by the test"),
        model=LanguageModelConfig(checkpoint="given by the test"),
        prompt=PromptConfig(shots=4),
    )


@pytest.fixture
def launch(byte_llama: Path, corpus: Path, tmp_path: Path) -> Launch:
    """Start the experiment above with options; returns the exit code."""

    def launch(*options: str) -> int:
        given = {
            "--data.source": str(corpus),
            "--model.checkpoint": str(byte_llama),
            "--output-dir": str(tmp_path / "run"),
        }
        always = [part for pair in given.items() if pair[0] not in options for part in pair]
        try:
            main(experiment, argv=[*always, *options])
        except SystemExit as stop:
            return int(stop.code or 0)
        return 0

    return launch


MISTAKES = {
    "--prompt.shots -1": "prompt.shots=-1: must be 0 or more",
    "--prompt.shots some": "invalid",
    "--prompt.shost 4": "--prompt.shots",
    "--prompt.shots 1000": "prompt.shots=1000: 333 to 334 demonstrations of each label, but the",
    "--prompt.shots 1000 --prompt.demonstrations random": "there are 217 training rows",
    "--prompt.shots 1000 --prompt.demonstrations nearest": "Set --prompt.shots 217 or less",
    "--prompt.shots 0 --prompt.seeds 2": "there is nothing to draw or to order",
    "--prompt.order nearest_last": "needs prompt.demonstrations='nearest' (got 'balanced')",
    "--prompt.order by_label --prompt.orders 2": "Set --prompt.order shuffled",
    "--prompt.demonstrations best": "invalid choice 'best'",
    "--prompt.templates quoted quoted": "each once",
    "--prompt.templates letter": "quoted",
    "--prompt.verbaliser goud=a bad=b meh=c": "no label 'goud'. Did you mean 'good'?",
    "--prompt.verbaliser good=a bad=b": "no words for 'meh'",
    "--prompt.verbaliser good=a bad=a meh=c": "both have the words 'a'",
    "--prompt.verbaliser good=a bad= meh=c": "label 'bad' has no words",
    "--prompt.verbaliser good=a good=b": "is given twice",
    "--prompt.verbaliser good=a bad=b meh=c --prompt.answers letters": "Give one of them",
    "--prompt.verbaliser good=a bad=a:b meh=c --prompt.end-mark never": "--prompt.end-mark auto",
    "--prompt.chat always": "has no chat template. Set --prompt.chat auto or never",
    "--prompt.calibration platt": "contextual",
    "--prompt.demonstrations nearest --prompt.similarity ./none": "there is no such folder",
    "--data.max-length 9999": "data.max_length=9999: the model takes at most 2048 tokens",
    "--data.max-length 30 --prompt.shots 0": "a prompt cannot fit",
    "--data.max-length 40": "demonstrations may take half of the 40 tokens",
    "--model.checkpoint minilm-l6": "reads text in both directions",
    "--model.checkpoint ./none": "there is no such folder",
    "--model.tune lora": "--model.tune",
    "--train.epochs 2": "--train.epochs",
    "--baseline.classifier majority": "--baseline.classifier",
    "--api.base-url localhost:8000": "must begin with http:// or https://",
    "--api.retries -1": "api.retries=-1: must be 0 or more",
    "--data.source none.csv": "none.csv",
}


@pytest.mark.parametrize("options", MISTAKES)
def test_a_mistake_is_one_message_and_nothing_is_written(
    launch: Launch, options: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert launch(*options.split()) == 2
    told = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert MISTAKES[options] in told
    assert "Traceback" not in told
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "options", ["--model.checkpoint minilm-l6", "--prompt.shots 1000", "--data.max-length 40"]
)
def test_a_dry_run_finds_what_a_run_would(
    launch: Launch, options: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert launch(*options.split(), "--dry-run") == 2
    assert MISTAKES[options] in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())


def test_all_mistakes_at_once(launch: Launch, capsys: pytest.CaptureFixture[str]) -> None:
    assert launch(
        *("--prompt.order", "nearest_last", "--data.fold", "1", "--api.base-url", "x")
    ) == 2  # fmt: skip
    told = capsys.readouterr().err
    assert all(part in told for part in ("prompt.order", "data.fold", "api.base_url"))


def test_rows_with_several_labels_are_refused(
    launch: Launch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "many.csv"
    rows = [f"text number {i},{i % 2},{i % 3 % 2}" for i in range(60)]
    path.write_text("\n".join(["text,a,b", *rows]))
    assert launch("--data.source", str(path), "--data.label", "a,b") == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "prompting gives a row one label" in told and "recipes/bert_base.py" in told
    assert not (tmp_path / "run").exists()


def test_labels_that_are_numbers_are_remarked(
    launch: Launch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tweets.csv"
    path.write_text("\n".join(["text,target", *(f"text number {i},{i % 2}" for i in range(60))]))
    words = ("--prompt.verbaliser", "0=no", "1=yes")
    sentences = ("--data.descriptions", "0=It is not so.", "1=It is so.")
    for options, remarked in (((), 1), (words, 0), (sentences, 0)):
        assert launch("--data.source", str(path), *options, "--dry-run") == 0
        told = " ".join(capsys.readouterr().out.split())
        remark = "say what they mean: --prompt.verbaliser 0=... 1=..., or --data.descriptions 0=..."
        assert told.count(remark) == remarked


def test_help_shows_the_options_of_prompting(launch, capsys: pytest.CaptureFixture[str]) -> None:
    assert launch("--help") == 0
    text = capsys.readouterr().out
    for name in PromptConfig.__dataclass_fields__:
        assert f"--prompt.{name.replace('_', '-')}" in text


def test_a_dry_run_writes_nothing(
    launch: Launch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert launch("--prompt.seeds", "2", "--prompt.injection-rows", "3", "--dry-run") == 0
    shown = capsys.readouterr().out
    assert (
        re.search(r"^prompt.shots +4 *$", shown, re.MULTILINE) and "longest prompt tokens" in shown
    )
    assert not list(tmp_path.iterdir())


def test_settings_that_are_lists(launch: Launch) -> None:
    words = ("good=fine", "bad=poor", "meh=so so")
    assert launch("--prompt.templates", "quoted", "tagged", "--dry-run") == 0
    assert launch("--prompt.verbaliser", *words, "--dry-run") == 0


def test_a_token_without_an_embedding(
    launch: Launch, byte_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is refused where a prompt has it; what no prompt has is no harm."""
    folder = Path(shutil.copytree(byte_llama, tmp_path / "more-tokens"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    size = json.loads((folder / "config.json").read_text())["vocab_size"]
    for word, code in (("neverseen", 0), ("balan", 2)):
        tokenizer.add_tokens([word])
        tokenizer.save_pretrained(folder)
        assert launch("--model.checkpoint", str(folder), "--dry-run") == code
    said = " ".join(capsys.readouterr().err.split())
    assert f"has embeddings for {size}, and a prompt has the token 'balan'" in said
    assert not (tmp_path / "run").exists()
