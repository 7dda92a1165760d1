"""Launches that accelerate would turn into something else without a word."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.processes import Launched, accelerate_launch, start

RECIPE = "recipes/bert_base.py"
LAUNCHES = {
    "a single process of two": (
        ("--cpu", "--num_processes", "2"),
        "accelerate launch --num_processes 2: it started a single process, which would train alone",
        "launch/accelerate/ddp.yaml --num_processes 2",
    ),
    "FSDP on a CPU": (
        ("--config_file", "launch/accelerate/fsdp2.yaml", "--main_process_port", "0"),
        "fsdp2: accelerate shards by FSDP on accelerators only, and there is none here",
        "launch/accelerate/zero3.yaml",
    ),
    "a precision of its own": (
        ("--config_file", "launch/accelerate/single.yaml", "--mixed_precision", "fp16"),
        "accelerate launch --mixed_precision fp16: the recipe decides",
        "--train.precision",
    ),
    "accumulation of its own": (
        ("--config_file", "launch/accelerate/ddp.yaml", "--num_processes", "2",
         "--main_process_port", "0", "--gradient_accumulation_steps", "4"),
        "accelerate launch --gradient_accumulation_steps 4: accumulation follows from",
        "--train.micro-batch-size or --train.global-batch-size",
    ),
}  # fmt: skip
ENVIRONMENTS = {
    "the plugin dropped": (
        {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "2", "ACCELERATE_USE_CPU": "true"},
        "launched for strategy zero2, but accelerate runs ddp: it dropped the plugin",
    ),
    "a DeepSpeed file of one's own": (
        {"ACCELERATE_DEEPSPEED_CONFIG_FILE": "ds.json"},
        "deepspeed_config_file: a DeepSpeed file of your own would decide batch sizes",
    ),
    "an unknown stage": (
        {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "0"},
        "DeepSpeed stage 0 with offload to none: supported are the stages 1, 2 and 3",
    ),
}


@pytest.fixture
def options(bert: Path, corpus: Path, tmp_path: Path) -> tuple[str, ...]:
    return (
        "--model.checkpoint", str(bert), "--data.source", str(corpus),
        "--output-dir", str(tmp_path / "run"),
    )  # fmt: skip


def assert_refused(text: str, *messages: str, folder: Path) -> None:
    assert sum(line.startswith("error: ") for line in text.splitlines()) == 1
    text = " ".join(text.split())
    for message in messages:
        assert message in text
    assert not folder.exists()


@pytest.mark.parametrize("case", LAUNCHES)
def test_a_launch_that_would_not_be_what_it_says(
    case: str, options: tuple[str, ...], tmp_path: Path
) -> None:
    launch, message, way_out = LAUNCHES[case]
    launched = Launched(tmp_path / "log", *launch, RECIPE, *options)
    assert launched.wait() != 0
    assert_refused(launched.text(), message, way_out, folder=tmp_path / "run")


@pytest.mark.parametrize("launcher", ["one quiet process", "two ranks"])
def test_a_mistake_under_a_launcher_is_told_first_and_last(launcher: str, tmp_path: Path) -> None:
    """accelerate alone can be told to be quiet; torchrun ends in what each rank left for it."""
    launch = {
        "one quiet process": ("-q", "--config_file", "launch/accelerate/single.yaml"),
        "two ranks": ("--config_file", "launch/accelerate/ddp.yaml", "--num_processes", "2",
                      "--main_process_port", "0"),
    }[launcher]  # fmt: skip
    source = tmp_path / "nowhere.csv"
    launched = Launched(tmp_path / "log", *launch, RECIPE, "--data.source", str(source))
    assert launched.wait() == 1
    lines = launched.text().splitlines()
    message = f"error: {source}: no such file."
    assert lines[0] == message
    if launcher == "two ranks":
        assert lines[-2] == f"  traceback : {message}"
    else:
        assert len(lines) == 1


@pytest.mark.parametrize("file", ["ddp", "zero2"])
def test_a_launcher_may_start_a_single_process(file: str, options: tuple[str, ...]) -> None:
    """As on a machine with one GPU; accelerate calls even that data parallel."""
    config = ("--config_file", f"launch/accelerate/{file}.yaml", "--main_process_port", "0")
    said = accelerate_launch(*config, "--num_processes", "1", RECIPE, *options, "--dry-run")
    strategy = "single" if file == "ddp" else file
    assert f"world size 1, strategy {strategy}," in said


@pytest.mark.parametrize("case", ENVIRONMENTS)
def test_an_environment_that_would_not_be_what_it_says(
    case: str, options: tuple[str, ...], tmp_path: Path
) -> None:
    environment, message = ENVIRONMENTS[case]
    environment = {"ACCELERATE_USE_DEEPSPEED": "true"} | environment
    ranks = start(tmp_path / "log", RECIPE, *options, ranks=2, environment=environment)
    assert ranks.wait() == 2
    assert [process.exitcode for process in ranks.processes] == [2, 2]
    assert_refused(ranks.text(), message, folder=tmp_path / "run")


PROMPTING = {
    "a strategy that divides": (
        {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"},
        (),
        "strategy zero2: prompting trains nothing, so there is nothing to divide but rows",
    ),
    "two that ask one server": (
        {},
        ("--api.base-url", "http://127.0.0.1:9/v1"),
        "api.base_url with 2 processes: one is enough to ask a server",
    ),
}


@pytest.mark.parametrize("case", PROMPTING)
def test_prompting_in_a_launch_for_something_else(
    case: str, byte_llama: Path, corpus: Path, tmp_path: Path
) -> None:
    environment, more, message = PROMPTING[case]
    ranks = start(
        tmp_path / "log",
        "recipes/few_shot.py",
        *("--model.checkpoint", str(byte_llama), "--data.source", str(corpus)),
        *("--output-dir", str(tmp_path / "run"), *more),
        ranks=2,
        environment=environment,
    )
    assert ranks.wait() == 2
    assert_refused(ranks.text(), message, folder=tmp_path / "run")
