"""What ``accelerate launch`` leaves when a rank dies, the launcher dies, or memory runs out."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from llmclf.evaluate.predictions import Predictions
from llmclf.run_folder.metrics import read_metrics
from tests.processes import Launched, free_port, run

RECIPE = "recipes/bert_base.py"
DDP = ("--config_file", "launch/accelerate/ddp.yaml", "--num_processes", "2")
ZERO3 = ("--config_file", "launch/accelerate/zero3.yaml", "--num_processes", "2")
PAIR = (*DDP, "--main_process_port", "0")
SINGLE = ("--config_file", "launch/accelerate/single.yaml")
WITHIN_SECONDS = 15  # 2 or 3 on an idle machine; minutes by the timeouts of the libraries
SLOW = pytest.mark.slow
Start = Callable[..., Launched]

FULL_MEMORY = """
import os, runpy, sys, torch
from transformers import BertForSequenceClassification as Bert

original = Bert.forward
rank, where, most = sys.argv[1], sys.argv[2], int(sys.argv[3])


def fail(gradient=None):
    raise torch.OutOfMemoryError("injected")


def forward(self, input_ids, **kwargs):
    output = original(self, input_ids, **kwargs)
    if os.environ.get("RANK", "0") == rank and len(input_ids) > most:
        training = torch.is_grad_enabled()
        if (where, training) in (("forward", True), ("prediction", False)):
            fail()
        if where == "backward" and training:
            output.logits.register_hook(fail)
    return output


Bert.forward = forward
sys.argv = sys.argv[4:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


COMPARISON = """
from llmclf import DataConfig, FineTune, TrainConfig, main


def experiments():
    return [
        FineTune(
            name=name, data=DataConfig(source="opinions"), train=TrainConfig(micro_batch_size=size)
        )
        for name, size in (("tiny", 2), ("one", None), ("two", None))
    ]


if __name__ == "__main__":
    main(experiments)
"""


@pytest.fixture
def start(tmp_path: Path, bert: Path, corpus: Path) -> Iterator[Start]:
    """Launch a run that would take minutes, into tmp_path/run."""
    started = []

    def launch(*launch: str, log: str = "log", **environment: str) -> Launched:
        started.append(
            Launched(
                tmp_path / log,
                *launch,
                *(RECIPE, "--model.checkpoint", str(bert), "--data.source", str(corpus)),
                *(
                    "--train.min-steps",
                    "0",
                    "--train.epochs",
                    "1000",
                    "--output-dir",
                    str(tmp_path / "run"),
                ),
                *("--train.log-every", "1", "--train.checkpoint-every", "2"),
                **environment,
            )
        )
        return started[-1]

    yield launch
    for each in started:
        each.kill()


def in_the_loop(launched: Launched, count: int, tmp_path: Path) -> None:
    launched.find_ranks(count)
    launched.wait_for(tmp_path / "run" / "metrics.jsonl", '{"step": 3, "split": "train"')


@pytest.mark.parametrize(
    ("launch", "victim"),
    [pytest.param(DDP, 0, marks=SLOW), (DDP, 1), pytest.param(ZERO3, 1, marks=SLOW)],
    ids=["ddp-0", "ddp-1", "zero3-1"],
)
def test_a_killed_rank_ends_all_within_seconds(
    start: Start, tmp_path: Path, launch: tuple[str, ...], victim: int
) -> None:
    launched = start(*launch, "--main_process_port", str(free_port()))
    in_the_loop(launched, 2, tmp_path)
    launched.ranks[victim].kill()
    seconds = launched.seconds_until_gone()
    assert launched.wait() == 1
    print(f"all ranks gone after {seconds:.1f} s")
    assert seconds <= WITHIN_SECONDS
    assert launched.text().count(f"rank {victim} on ") == 1


def two_machines(start: Start, tmp_path: Path) -> list[Launched]:
    """Two launchers on loopback, as on two machines, in the training loop."""
    place = ("--num_machines", "2", "--same_network", "--main_process_ip", "127.0.0.1")
    port = ("--main_process_port", str(free_port()))
    both = [start(*DDP, *place, *port, "--machine_rank", str(i), log=f"log-{i}") for i in (0, 1)]
    for each in both:
        each.find_ranks(1)
    in_the_loop(both[0], 1, tmp_path)
    return both


def test_a_rank_killed_on_another_machine_ends_all(start: Start, tmp_path: Path) -> None:
    here, there = two_machines(start, tmp_path)
    there.ranks[0].kill()
    assert here.seconds_until_gone() <= WITHIN_SECONDS
    assert [here.wait(), there.wait()] == [1, 1]


@pytest.mark.slow
def test_a_machine_that_falls_silent_ends_all(start: Start, tmp_path: Path) -> None:
    here, there = two_machines(start, tmp_path)
    for process in (psutil.Process(there.launcher.pid), *there.ranks):
        process.suspend()
    assert 40 < here.seconds_until_gone() < 90
    assert here.wait() == 1
    assert here.text().count("machine 1 of 2 is silent") == 1


@pytest.mark.slow
def test_a_frozen_rank_is_given_the_grace_time_after_a_signal(start: Start, tmp_path: Path) -> None:
    """No step boundary comes: the others end all the same, though they sit in a collective."""
    launched = start(*DDP, "--main_process_port", str(free_port()), LLMCLF_GRACE_SECONDS="3")
    in_the_loop(launched, 2, tmp_path)
    launched.ranks[1].suspend()
    time.sleep(1)
    launched.ranks[0].send_signal(signal.SIGTERM)
    begun = time.monotonic()
    launched.ranks[0].wait(20)
    assert 2 <= time.monotonic() - begun <= 3 + WITHIN_SECONDS
    launched.ranks[1].resume()
    assert launched.seconds_until_gone() <= WITHIN_SECONDS
    assert launched.wait() == 1


@pytest.mark.parametrize(
    ("launch", "count", "number"),
    [
        (SINGLE, 1, signal.SIGTERM),
        (PAIR, 2, signal.SIGKILL),
        pytest.param(SINGLE, 1, signal.SIGKILL, marks=SLOW),
        pytest.param(PAIR, 2, signal.SIGTERM, marks=SLOW),
    ],
)
def test_the_end_of_the_launcher_stops_the_run(
    start: Start, tmp_path: Path, launch: tuple[str, ...], count: int, number: int
) -> None:
    launched = start(*launch)
    in_the_loop(launched, count, tmp_path)
    launched.launcher.send_signal(number)
    assert launched.seconds_until_gone() <= WITHIN_SECONDS
    assert launched.wait() != 0
    assert launched.text().count("stopped by ") == 1
    (newest,) = (tmp_path / "run" / "checkpoints").glob("step-*")
    assert f"after step {int(newest.name[5:])} of" in launched.text()


@pytest.mark.parametrize(("launch", "count"), [(SINGLE, 1), (PAIR, 2)], ids=["single", "ddp"])
def test_ctrl_c_saves_the_step(
    start: Start, tmp_path: Path, launch: tuple[str, ...], count: int
) -> None:
    """The terminal tells the launcher, too; torchrun's ranks hear of it from there alone."""
    launched = start(*launch)
    in_the_loop(launched, count, tmp_path)
    launched.ctrl_c()
    assert launched.seconds_until_gone() <= WITHIN_SECONDS
    assert launched.wait() != 0
    assert launched.text().count("stopped by SIGINT after step ") == 1
    (newest,) = (tmp_path / "run" / "checkpoints").glob("step-*")
    assert f"stopped by SIGINT after step {int(newest.name[5:])} of" in launched.text()


@pytest.fixture(scope="module")
def short(bert: Path, corpus: Path) -> tuple[str, ...]:
    return (
        "--model.checkpoint", str(bert), "--model.dropout", "0", "--data.source", str(corpus),
        "--train.global-batch-size", "16", "--train.log-every", "1",
        "--train.min-steps", "0", "--train.epochs", "1",
        "--train.evaluate-every", "5", "--train.precision", "fp32",
    )  # fmt: skip


@pytest.fixture(scope="module")
def small(short: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that was started with micro-batches of 4 rows."""
    folder = tmp_path_factory.mktemp("small") / "run"
    options = (*short, "--train.micro-batch-size", "4", "--output-dir", str(folder))
    run(folder.with_name("log"), RECIPE, *options, ranks=2)
    return folder


@pytest.mark.parametrize(
    ("launch", "where"),
    [
        (DDP, "forward"),
        pytest.param(DDP, "backward", marks=SLOW),
        pytest.param(DDP, "prediction", marks=SLOW),
        (ZERO3, "backward"),
        pytest.param(ZERO3, "forward", marks=SLOW),
    ],
    ids=["ddp-forward", "ddp-backward", "ddp-prediction", "zero3-backward", "zero3-forward"],
)
def test_out_of_memory_on_one_rank_halves_the_micro_batch_of_all(
    launch: tuple[str, ...], where: str, short: tuple[str, ...], small: Path, tmp_path: Path
) -> None:
    """The failing rank is the second; the first sits in a collective meanwhile."""
    launched = launch_short_of_memory(tmp_path, "1", where, 4, launch, short)
    assert launched.wait() == 0, launched.text()
    assert launched.text().count("out of memory on rank 1 with micro-batches of 8 rows") == 1
    assert "Traceback" not in launched.text()
    ours, theirs = (read_metrics(f / "metrics.jsonl") for f in (tmp_path / "run", small))
    assert [r["step"] for r in ours] == [r["step"] for r in theirs]
    for a, b in zip(ours, theirs, strict=True):
        for key in ("loss", "nll"):
            assert a.get(key) == pytest.approx(b.get(key), abs=1e-5)
    for split in ("validation", "test"):
        one, two = (
            Predictions.read(folder / "predictions" / f"{split}.parquet")
            for folder in (tmp_path / "run", small)
        )
        assert one.probabilities == pytest.approx(two.probabilities, abs=1e-5)


@pytest.mark.slow
def test_each_run_of_a_comparison_has_its_own_micro_batch(
    short: tuple[str, ...], tmp_path: Path
) -> None:
    """Three runs in one process: the second and the third run out of memory, the first is kept."""
    recipe = tmp_path / "recipe.py"
    recipe.write_text(COMPARISON)
    launched = launch_short_of_memory(tmp_path, "1", "forward", 4, DDP, short, str(recipe))
    assert launched.wait() == 0, launched.text()
    assert launched.text().count("out of memory on rank 1 with micro-batches of 8 rows") == 2
    assert launched.text().count("finished earlier") == 3
    for name, size in {"tiny": 2, "one": 4, "two": 4}.items():
        environment = json.loads((tmp_path / "run" / name / "environment.json").read_text())
        assert environment["micro_batch_size"] == size
    first = read_metrics(tmp_path / "run" / "one" / "metrics.jsonl")
    assert [r["step"] for r in first if r["split"] == "train"] == list(range(1, 15))


def test_out_of_memory_with_one_row_says_what_to_set(
    short: tuple[str, ...], tmp_path: Path
) -> None:
    options = (*short, "--train.micro-batch-size", "1")
    launched = launch_short_of_memory(tmp_path, "0", "forward", 0, SINGLE, options)
    assert launched.wait() == 1
    assert "error: out of memory on rank 0 with micro-batches of 1 row. Set " in launched.text()
    assert "starting again" not in launched.text()


def launch_short_of_memory(
    folder: Path,
    rank: str,
    where: str,
    most: int,
    launch: tuple[str, ...],
    options: tuple[str, ...],
    recipe: str = RECIPE,
) -> Launched:
    """Launch a run in which one rank has memory for so many rows."""
    script = folder / "full_memory.py"
    script.write_text(FULL_MEMORY)
    port = ("--main_process_port", str(free_port())) if launch != SINGLE else ()
    arguments = (str(script), rank, where, str(most), recipe, *options)
    return Launched(folder / "log", *launch, *port, *arguments, "--output-dir", str(folder / "run"))
