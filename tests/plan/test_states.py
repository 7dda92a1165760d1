"""Estimated bytes against those of real engines and real quantised layers, to the byte."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
import torch

from llmclf.model.config import ModelConfig
from llmclf.model.family import FAMILIES
from llmclf.model.tune import tune
from llmclf.plan.states import Weight, inventory, model_states, quantized_bytes
from llmclf.train.config import TrainConfig
from tests import processes
from tests.plan.engine_bytes import odd_bert

STAGES = ("1", "2", "3", "3_offload")
CASES = [
    "-".join(case)
    for case in itertools.product(STAGES, ("bf16", "fp32"), ("full", "last_n", "lora"))
]
CASES += ["3-bf16-int8", "3_offload-bf16-int8"]


@pytest.fixture(scope="module", params=[1, 2], ids=["1-rank", "2-ranks"])
def measured(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """World size, and what its engines held in each case."""
    pytest.importorskip("deepspeed")
    pytest.importorskip("bitsandbytes")
    folder = tmp_path_factory.mktemp("engines")
    # Started by hand, so a single process joins a group of its own, too.
    names = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    alone = names | {"MASTER_PORT": str(processes.free_port())} if request.param == 1 else {}
    ranks = processes.start(
        folder / "log",
        "tests/plan/engine_bytes.py",
        str(folder / "bytes.json"),
        *CASES,
        ranks=request.param,
        environment={"DS_ACCELERATOR": "cpu", **alone},
    )
    assert ranks.wait() == 0, ranks.text()[-3000:]
    return request.param, json.loads((folder / "bytes.json").read_text())


def weights_of(method: Any) -> list[Weight]:
    with torch.device("meta"):
        model = odd_bert()
    method = "head" if method == "int8" else method
    return inventory(
        tune(model, ModelConfig(tune=method, last_n=1)), FAMILIES["bert"], TrainConfig()
    )


def test_zero_states_are_those_of_real_engines(measured: Any) -> None:
    world_size, cases = measured
    assert set(cases) == set(CASES)
    differing = {}
    for name, real in cases.items():
        stage, precision, method = name.split("-")
        states = model_states(
            weights_of(method),
            strategy=f"zero{stage}",  # type: ignore[arg-type]
            world_size=world_size,
            precision=precision,  # type: ignore[arg-type]
            quantize="int8" if method == "int8" else "none",
        )
        estimate = {key: states.to_json()[key] for key in real}
        if estimate != real:
            differing[name] = (estimate, real)
    assert not differing


@pytest.mark.parametrize(("outputs", "inputs"), [(96, 64), (130, 70), (512, 300)])
@pytest.mark.parametrize("quantize", ["int8", "nf4"])
def test_quantized_matrix_is_that_of_bitsandbytes(quantize: Any, outputs: int, inputs: int) -> None:
    bnb = pytest.importorskip("bitsandbytes")
    values = torch.randn(outputs, inputs)
    if quantize == "nf4":
        matrix = bnb.nn.Params4bit(values, quant_type="nf4", compress_statistics=True)
        state = matrix.to("cpu").quant_state
        held = [matrix, state.absmax, state.code, state.offset]
        held += [state.state2.absmax, state.state2.code]
    else:
        matrix = bnb.nn.Int8Params(values, requires_grad=False, has_fp16_weights=False).to("cpu")
        held = [matrix, matrix.SCB]
    weight = Weight(
        numel=values.numel(),
        rows=outputs,
        group=None,
        matrix=True,
        outputs=outputs,
        block=0,
        quantizable=True,
    )
    assert quantized_bytes(weight, quantize) == sum(t.nbytes for t in held)


def plain(numel: int, world_size: int, strategy: Any) -> float:
    """Bytes per parameter of a single large matrix that learns, in bf16."""
    weight = Weight(
        numel=numel, rows=64, group=0, matrix=True, outputs=64, block=0, quantizable=False
    )
    states = model_states([weight], strategy=strategy, world_size=world_size, precision="bf16")
    return states.model_states / numel


@pytest.mark.parametrize("world_size", [1, 2, 8, 64])
def test_agrees_with_the_formulas_of_the_zero_paper(world_size: int) -> None:
    """Rajbhandari et al. 2020, figure 1, with K = 12: fp32 master copy and two moments."""
    n, numel = world_size, 64 * 10**6
    close = pytest.approx
    assert plain(numel, n, "zero1") == close(2 + 2 + 12 / n, rel=1e-6)
    # One tensor straddles every partition, so each rank keeps its whole gradient: see docs.
    assert plain(numel, n, "zero2") == close(2 + 2 + 12 / n, rel=1e-6)
    assert plain(numel, n, "zero3") == close(16 / n, rel=1e-6)
    assert plain(numel, n, "fsdp2") == close(16 / n, rel=1e-6)
    # Autocast keeps one fp32 weight where the paper has bf16 and a master copy: also 16.
    assert plain(numel, n, "ddp") == close(2 + 2 + 12, rel=1e-6)


def test_zero_2_cuts_gradients_where_tensors_are_smaller_than_partitions() -> None:
    """2 + 14/N up to one straddling tensor on each side."""
    weights = [
        Weight(
            numel=10**6, rows=1000, group=0, matrix=True, outputs=1000, block=0, quantizable=False
        )
        for _ in range(100)
    ]
    states = model_states(weights, strategy="zero2", world_size=8, precision="bf16")
    paper = (2 + 14 / 8) * 100 * 10**6
    assert paper <= states.model_states <= paper + 2 * 2 * 10**6


def test_rejects_nothing_but_counts_shared_weights_once() -> None:
    weights = weights_of("full")
    assert sum(w.numel for w in weights) == odd_bert().num_parameters()
