"""``llmclf plan`` as a user calls it, and what it recommends."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from llmclf import experiment
from llmclf.cli import app as cli
from llmclf.cli import plan
from llmclf.config import ConfigError
from llmclf.model.config import ModelConfig
from llmclf.plan import search
from llmclf.plan.footprint import Bytes, impossible, parse_bytes
from llmclf.plan.show import Report, launch_line, show
from tests.tiny import make_bert, write_corpus


def llmclf_plan(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str, str]:
    kept, sys.argv = sys.argv, ["llmclf", "plan", *map(str, arguments)]
    try:
        cli.main()
        code = 0
    except SystemExit as error:
        code = int(error.code or 0)
    finally:
        sys.argv = kept
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Overrides that put a recipe on a tiny model and corpus."""
    folder = tmp_path_factory.mktemp("tiny")
    corpus = write_corpus(folder / "corpus.csv", 60)
    return ["--model.checkpoint", str(make_bert(folder / "bert")), "--data.source", str(corpus)]


def test_plans_a_recipe_and_prints_lines_that_work(
    capsys: pytest.CaptureFixture[str], tiny: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "plan.json"
    given = ["recipes/bert_large.py", "--devices", 2, "--device-memory", "80GB", "--json", path]
    code, out, err = llmclf_plan(capsys, *given, "--tokens-per-second", 100, *tiny)
    assert code == 0, err
    found = json.loads(path.read_text())
    assert found["corpus"]["rows"] == 43
    assert found["corpus"]["num_labels"] == 3
    assert found["time"]["hours"] == pytest.approx(found["time"]["train_tokens"] / 100 / 3600)
    assert {(o["tune"], o["quantize"]) for o in found["methods"]} == set(search.METHODS)
    line = found["cheapest_of_the_recipe"]["launch"]
    assert line in out.replace("\n", "")
    words = shlex.split(line)
    assert words[:4] == ["accelerate", "launch", "--config_file", "launch/accelerate/ddp.yaml"]
    assert Path(words[3]).is_file()
    recipe = words.index("recipes/bert_large.py")
    again = plan.load_recipe(Path(words[recipe]), words[recipe + 1 :])
    assert again.train.micro_batch_size == 16
    assert again.model.tune == "full"


def test_known_checkpoint_needs_no_hub(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "METHODS", (("full", "none"),))  # the others take as long again
    code, out, err = llmclf_plan(
        capsys, "recipes/bert_large.py", "--length", 64, "--rows", 1000, "--device-memory", "24GB"
    )
    assert code == 0, err
    assert "no hub here" in out
    assert "full by single" in out
    assert "none is made up" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["recipes/absent.py"], "no such recipe"),
        (["recipes/demo.py"], "a comparison of several runs"),
        (["recipes/baselines.py"], "comparison"),
        (["recipes/bert_base.py", "--devices", "0"], "--devices 0: must be a number above 0"),
        (["recipes/bert_base.py", "--device-memory", "80"], "--device-memory '80'"),
        (["recipes/bert_base.py", "--device-memory", "lots"], "nvidia-smi"),
        (["recipes/bert_base.py", "--measured", "absent"], "no results of a run"),
        (["recipes/bert_base.py", "--model.checkpoint", "no/such"], "Known to the planner"),
        (["tests/tiny.py"], "no experiment()"),
        (["recipes/bert_base.py", "--model.tunee", "x"], "--model.tune"),
    ],
)
def test_mistakes_are_one_message_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    code, _, err = llmclf_plan(capsys, *arguments)
    assert code == 2
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("80GB", 80 * 10**9),
        ("80 GiB", 80 * 2**30),
        ("81559MiB", 81559 * 2**20),
        ("0.5tb", 5 * 10**11),
    ],
)
def test_amounts_of_memory(text: str, value: int) -> None:
    assert parse_bytes(text) == value


@pytest.mark.parametrize("text", ["", "80", "GB", "-1GB", "nanGB", "1e999GB", "80GBs", "0GB"])
def test_no_amount_of_memory(text: str) -> None:
    with pytest.raises(ConfigError, match="not an amount of memory"):
        parse_bytes(text)


def test_quantised_weights_learn_nothing() -> None:
    assert impossible("full", "nf4", "ddp")
    assert impossible("last_n", "int8", "zero3")
    assert impossible("lora", "int8", "fsdp2")
    assert impossible("lora", "nf4", "fsdp2") is None
    assert impossible("full", "none", "zero3") is None


def made(tune: Any, strategy: Any, *, checkpointing: bool = False, fits: bool = True) -> Any:
    return search.Option(
        tune=tune,
        quantize="none",
        strategy=strategy,
        devices=1 if strategy == "single" else 8,
        bytes=Bytes(1, 1, 1, 1, 1, load=1, train=5, evaluate=4, save=2, total=5, idle=0),
        fits=fits,
        micro_batch_size=4,
        gradient_checkpointing=checkpointing,
    )


def test_cheapest_is_the_least_work_that_fits() -> None:
    options = [
        made("full", "single"),
        made("full", "ddp", fits=False),
        made("full", "zero1", checkpointing=True),
        made("full", "zero3"),
        made("lora", "zero3_offload"),
    ]
    assert search.cheapest(options).strategy == "zero3_offload"  # type: ignore[union-attr]
    own = search.cheapest(options, ModelConfig(tune="full"))
    assert own is not None
    assert own.strategy == "zero3"
    assert search.cheapest(options[1:2]) is None


def test_launch_line_replaces_what_the_plan_decides() -> None:
    rest = ["--model.tune=head", "--train.micro_batch_size", "9", "--seed", "3"]
    line = launch_line(made("lora", "zero2", checkpointing=True), Path("r.py"), rest)
    assert line == (
        "accelerate launch --config_file launch/accelerate/zero2.yaml --num_processes 8 r.py "
        "--seed 3 --model.tune lora --model.quantize none --train.micro-batch-size 4 "
        "--train.gradient-checkpointing"
    )


LLAMA_RECIPES = {
    "llama_lora": ("lora", "none"),
    "llama_qlora": ("lora", "nf4"),
    "gpt_lora_int8": ("lora", "int8"),
    "llama_full_zero3": ("full", "none"),
}


HOST_MEMORY = {
    "llama_lora": "31GB",
    "llama_qlora": "8GB",
    "gpt_lora_int8": "2.5GB",
    "llama_full_zero3": "100GB",
}
"""Enough to load and to save, not for what is offloaded beside that."""


@pytest.mark.parametrize("name", LLAMA_RECIPES)
def test_llama_recipes_get_lines_that_their_parser_takes(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(search, "METHODS", (LLAMA_RECIPES[name],))
    path = tmp_path / "plan.json"
    code, _, err = llmclf_plan(
        capsys, f"recipes/{name}.py", "--devices", 8, "--length", 64, "--rows", 1000,
        "--host-memory", HOST_MEMORY[name], "--json", path,
    )  # fmt: skip
    assert code == 0, err
    found = json.loads(path.read_text())
    chosen = found["cheapest_of_the_recipe"]
    words = shlex.split(chosen["launch"])
    recipe = words.index(f"recipes/{name}.py")
    again = plan.load_recipe(Path(words[recipe]), words[recipe + 1 :])
    experiment.validate(again)
    assert (again.model.tune, again.model.quantize) == LLAMA_RECIPES[name]
    assert again.train.gradient_checkpointing == chosen["gradient_checkpointing"]
    by_strategy = {o["strategy"]: o for o in found["methods"]}
    assert by_strategy["zero3_offload"]["exceeds_host"]
    assert not by_strategy["zero3_offload"]["fits"]
    if name == "gpt_lora_int8":
        assert "outside of the parameters" in by_strategy["fsdp2"]["problem"]
        assert by_strategy["zero3"]["bytes"]["weights"] > 1.4e9


LONG = "zero3_offload_to_a_disk_of_the_next_machine"
IMPOSSIBLE = "bitsandbytes keeps 8-bit weights outside of the parameters that FSDP divides"


def printed(width: int, strategy: Any = LONG) -> str:
    """A plan of large numbers, of a strategy with a long name, and of all that can be wrong."""
    parts = (int(gigabytes * 1e9) for gigabytes in (1111.1, 222.2, 333.3, 44.4, 5.5))
    most = 6_666_600_000_000
    sizes = Bytes(
        *parts, load=most // 5, train=most, evaluate=0, save=most // 4, idle=0, total=most
    )
    fine = dataclasses.replace(
        made("full", strategy), bytes=sizes, micro_batch_size=4096, largest_micro_batch=3987
    )
    full = dataclasses.replace(fine, strategy="ddp", fits=False, micro_batch_size=0,
                               largest_micro_batch=0)  # fmt: skip
    found = [
        fine,
        full,
        dataclasses.replace(full, strategy="zero1"),
        dataclasses.replace(fine, strategy="zero3_offload", fits=False, exceeds_host=True,
                            host_bytes=8888 * 10**9),
        dataclasses.replace(made("lora", "fsdp2"), quantize="int8", bytes=None, fits=False,
                            problem=IMPOSSIBLE, micro_batch_size=0),
    ]  # fmt: skip
    devices = search.Devices(number=8, per_machine=8, capacity=73_600_000_000, host_memory=10**12)
    report = Report(
        recipe=Path("recipes/bert_large.py"),
        rest=[],
        saves_adapter=False,
        devices=devices,
        device_memory="80GB",
        options=found,
        own=None,
        overall=fine,
        time={"hours": None},
    )
    file = io.StringIO()
    show(Console(file=file, width=width), report)
    return file.getvalue()


@pytest.mark.parametrize("width", [80, 100, 139, 140, 200])
def test_every_number_is_whole_in_a_terminal_of(width: int) -> None:
    text = printed(width)
    assert "…" not in text
    launch = next(line for line in text.splitlines() if "accelerate launch" in line)
    assert all(len(line) <= width for line in text.splitlines() if line != launch)
    rows = [re.split(r"\s*│\s*", line)[1:-1] for line in text.splitlines() if line.startswith("│")]
    assert "".join(row[1] for row in rows[: len(rows) - 4]) == LONG  # folded where it must be
    first, *_, offload, last = [row for row in rows if row[0]]
    parts = ["1,111.1", "222.2", "333.3", "44.4", "5.5"]
    if "1,111.1" in first:
        assert first[2:] == [*parts, "6,666.6", "", "yes", "4096", "3987", "no"]
        assert offload[2:] == [*parts, "6,666.6", "8,888.0", "no", "4096", "3987", "no"]
    else:
        assert first[2:] == ["6,666.6", "yes", "4096"]
        assert offload[2:] == ["6,666.6", "no", "4096"]
    assert ("1,111.1" in first) == (width == 200)
    assert set(last[2:]) == {"", "no"}


@pytest.mark.parametrize("width", [80, 200])
def test_reasons_stand_under_the_table(width: int) -> None:
    below = " ".join(printed(width).rpartition("┘")[2].split())
    assert f"lora+int8 by fsdp2: {IMPOSSIBLE}" in below
    against = "loading, one row, the saved model: more than the 73.6 GB of a device"
    assert f"full by ddp, zero1: {against}" in below
    assert "GB to load 1,333.3, to train 6,666.6, to save and predict 1,666.7" in below
    assert "full by zero3_offload: 8,888.0 GB of host memory for the 8 process(es)" in below


@pytest.mark.parametrize(("width", "whole"), [(120, False), (141, True)])
def test_parts_of_the_total_need_about_140_columns(width: int, whole: bool) -> None:
    assert ("activations" in printed(width, "fsdp2")) == whole
