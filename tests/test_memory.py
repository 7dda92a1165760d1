"""What a run leaves in memory: nothing, whether it ended well or not."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from llmclf import comparison
from llmclf.comparison import run_all
from llmclf.data.config import DataConfig
from llmclf.experiment import run
from llmclf.methods.fine_tune import FineTune
from llmclf.methods.method import Experiment
from llmclf.methods.prompt import Prompt
from llmclf.model.config import LanguageModelConfig, ModelConfig
from llmclf.prompt.config import PromptConfig
from llmclf.train.config import TrainConfig
from tests.tiny import POISON, make_bert, make_byte_llama, make_poisoned_bert, write_corpus

QUIET = Console(quiet=True)
Make = Callable[..., Experiment]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Experiments on a corpus of their own; ``checkpoint``: what makes one."""
    source = write_corpus(tmp_path / "corpus.csv", 90)
    lines = source.read_text().splitlines()
    source.write_text("\n".join([*lines, f"balan {POISON},good"]))

    def make(name: str, checkpoint: Callable[[Path], Path], **model: Any) -> Experiment:
        where = {"output_dir": tmp_path / name, "data": DataConfig(source=str(source))}
        folder = str(checkpoint(tmp_path / checkpoint.__name__))
        if checkpoint is make_byte_llama:
            language_model = LanguageModelConfig(checkpoint=folder)
            return Prompt(name=name, model=language_model, prompt=PromptConfig(shots=2), **where)
        config = ModelConfig(checkpoint=folder, **model)
        # In bf16 accelerate wraps the model's forward in itself.
        train = TrainConfig(max_steps=2, precision="bf16", epochs=2)
        return FineTune(name=name, model=config, train=train, **where)

    return make


@pytest.fixture
def parameters() -> Iterator[Callable[[], int]]:
    """Counts the parameters that are alive, while Python does not look for cycles by itself."""
    gc.collect()
    gc.disable()

    def count() -> int:
        return sum(isinstance(o, torch.nn.Parameter) for o in gc.get_objects())

    yield count
    gc.enable()


@pytest.mark.parametrize(
    ("checkpoint", "tune"), [(make_bert, "full"), (make_bert, "lora"), (make_byte_llama, "")]
)
def test_a_run_that_is_over_holds_no_weights(
    make: Make, parameters: Callable[[], int], checkpoint: Callable[[Path], Path], tune: str
) -> None:
    experiment = make("one", checkpoint, **({"tune": tune} if tune else {}))
    before = parameters()
    run(experiment, console=QUIET)
    assert parameters() == before


def test_each_of_a_comparison_begins_with_free_memory(
    make: Make, parameters: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first comes to no end: its logits are not numbers."""
    experiments = [
        make("broken", make_poisoned_bert),
        make("good", make_bert),
        make("x", make_bert),
    ]
    seen = []

    def counted(*args: Any, **kwargs: Any) -> Path:
        seen.append(parameters())
        return run(*args, **kwargs)

    monkeypatch.setattr(comparison, "run", counted)
    before = parameters()
    (failure,) = run_all(experiments, resume=False, console=QUIET)
    assert failure.startswith("broken failed: ")
    assert seen == [before] * 3
    assert parameters() == before
