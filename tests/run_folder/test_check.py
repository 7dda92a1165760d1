"""Which settings a resumed run may change: those that decide no result, by name."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from llmclf import Classical, Features, FineTune, Prompt, ZeroShot
from llmclf.config import ConfigError, changeable_keys, dump_json
from llmclf.data.config import DataConfig
from llmclf.methods.method import Experiment
from llmclf.prompt.config import ApiConfig, PromptConfig
from llmclf.run_folder.check import check, differences, finished
from llmclf.trackers.config import TrackConfig
from llmclf.train.config import TrainConfig

DATA = DataConfig(source="opinions")
FREE = {"output_dir", *(f"track.{f.name}" for f in dataclasses.fields(TrackConfig))}


def stored(folder: Path, experiment: Experiment) -> Path:
    folder.mkdir()
    (folder / "experiment.json").write_text(dump_json(experiment.to_json()))
    return folder


def resume(folder: Path, experiment: Experiment) -> None:
    check(folder, experiment.to_json(), changeable_keys(experiment), resume=True)


def test_what_decides_no_result_is_marked_where_it_is_declared() -> None:
    assert changeable_keys(Classical(name="x", data=DATA)) == FREE
    assert changeable_keys(Features(name="x", data=DATA)) - FREE == {"features.batch_size"}
    assert changeable_keys(ZeroShot(name="x", data=DATA)) - FREE == {"zero_shot.batch_size"}
    assert changeable_keys(FineTune(name="x", data=DATA)) - FREE == {
        "train.micro_batch_size", "train.gradient_checkpointing", "train.log_every",
        "train.checkpoint_every", "train.checkpoint_minutes",
    }  # fmt: skip
    assert changeable_keys(Prompt(name="x", data=DATA)) - FREE == {
        "prompt.token_budget", "api.key_variable", "api.concurrency", "api.timeout", "api.retries",
        "api.spending_cap",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("before", "changes"),
    [
        (
            FineTune(name="x", data=DATA),
            {
                "train": TrainConfig(micro_batch_size=2, gradient_checkpointing=True, log_every=1),
                "track": TrackConfig(to=("tensorboard",)),
                "output_dir": Path("elsewhere"),
            },
        ),
        (
            Prompt(name="x", data=DATA),
            {
                "prompt": PromptConfig(token_budget=64),
                "api": ApiConfig(concurrency=2, timeout=5.0, retries=1),
            },
        ),
    ],
    ids=["fine_tune", "prompt"],
)
def test_what_decides_no_result_may_change(
    tmp_path: Path, before: Experiment, changes: dict[str, Any]
) -> None:
    folder = stored(tmp_path / "run", before)
    after = dataclasses.replace(before, **changes)
    resume(folder, after)
    (folder / "results.json").write_text("{}")
    assert finished(folder, after.to_json(), changeable_keys(after))


def test_all_that_decides_is_refused_by_name(tmp_path: Path) -> None:
    before = FineTune(name="x", data=DATA)
    folder = stored(tmp_path / "run", before)
    train = TrainConfig(log_every=1, precision="fp32", learning_rate=1e-3)
    after = dataclasses.replace(before, train=train)
    with pytest.raises(ConfigError) as refused:
        resume(folder, after)
    told = "train.learning_rate: None -> 0.001; train.precision: 'auto' -> 'fp32'"
    assert str(refused.value).endswith(f"{told}.")
    assert "; ".join(differences(folder, after.to_json(), changeable_keys(after))) == told
