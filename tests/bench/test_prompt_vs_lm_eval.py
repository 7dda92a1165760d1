"""bench/prompt_vs_lm_eval.py on a tiny model: it runs to the end, its figures hang together, its
gate can close, and its operations are those that torch counts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.tiny import make_byte_llama, write_corpus

pytest.importorskip("lm_eval", reason="only this benchmark needs lm_eval")

REPOSITORY = Path(__file__).resolve().parents[2]
CASES = ("fp32-words", "fp32-letters", "bf16-words", "nearest-words", "growth")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("bench")
    source = write_corpus(folder / "corpus.csv", 120)
    lines = source.read_text().splitlines() + ["Label: A\n", "Label: B\n", "Label: C\n"] * 20
    options = {"source": source, "checkpoint": make_byte_llama(folder / "llama", texts=lines)}
    size = {"shots": 3, "queries": 12, "nearest-queries": 6, "peer-queries": 4, "gate-queries": 3}
    rest = {"repeats": 1, "threads": 1}
    return [f"--{name}={value}" for name, value in (options | size | rest).items()]


def run(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    script = REPOSITORY / "bench" / "prompt_vs_lm_eval.py"
    path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, str(script), *options],
        env=os.environ | {"PYTHONPATH": path} | environment,
        capture_output=True,
        text=True,
        timeout=540,
    )


def test_result(inputs: list[str], tmp_path: Path) -> None:
    """Every case is timed on both sides, and its ratio is that of their seconds."""
    output = tmp_path / "result.json"
    done = run(*inputs, f"--output={output}", "--peer-batch-sizes", "1", "2", "--cases", *CASES)
    assert done.returncode == 0, done.stderr
    result = json.loads(output.read_text())
    assert set(result["cases"]) == set(CASES)
    for name, case in result["cases"].items():
        first, second = case["sides"].values()
        ((mine,), (theirs,)) = (s["seconds_per_query"]["per_repeat"] for s in (first, second))
        assert case["ratio_of_seconds_per_query"]["median"] == pytest.approx(theirs / mine)
        assert case["flop_ratio"] == second["flops_per_query"] / first["flops_per_query"] > 1
        assert first["threads"] == second["threads"] == 1
        if name != "growth":
            assert (first["queries"], second["queries"]) == (6 if "nearest" in name else 12, 4)
            assert second["batch_size"] in ("1", "2")
            assert case["agreement"]["difference"] <= (0.5 if "bf16" in name else 1e-4)
        if "goal" in case:
            above = case["goal"]["ratio"] <= theirs / mine
            assert case["goal"]["met"] == (above == (case["goal"]["kind"] == "at_least"))
    words, letters = (result["cases"][f"fp32-{kind}"]["sides"] for kind in ("words", "letters"))
    # One pass per query is enough for letters; words of several tokens take one each.
    assert words["lm_eval"]["tokens_per_query"] > 1.5 * letters["lm_eval"]["tokens_per_query"]
    gates = {k: v for k, v in result["gate"].items() if k != "tolerance"}
    assert set(gates) == {"fp32-words", "fp32-letters", "nearest-words"}
    assert all(0 < g["difference"] <= 1e-4 and g["same_tokens"] for g in gates.values())
    assert result["environment"]["cpu"] and result["lm_eval"]
    assert str(tmp_path.parent) not in output.read_text()


def test_nothing_is_timed_behind_a_closed_gate(inputs: list[str], tmp_path: Path) -> None:
    """No rounding is as small as this tolerance."""
    output = tmp_path / "result.json"
    done = run(*inputs, f"--output={output}", "--cases", "fp32-words", "--tolerance=0")
    assert done.returncode == 1
    assert "gate failed" in done.stderr
    assert not output.exists()


def test_missing_peer_is_named(tmp_path: Path) -> None:
    """Where lm_eval is not installed, one line says how to get it."""
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as u\n"
        "find = u.find_spec\n"
        "u.find_spec = lambda n, package=None: None if n == 'lm_eval' else find(n, package)\n"
    )
    path = os.pathsep.join([str(tmp_path), str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    done = run(PYTHONPATH=path)
    assert done.returncode == 2
    assert "pip install lm_eval" in done.stderr and "Traceback" not in done.stderr


@pytest.fixture
def bench(inputs: list[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script as a module, with the settings of ``inputs``."""
    monkeypatch.syspath_prepend(str(REPOSITORY / "bench"))
    import prompt_vs_lm_eval
    import tyro

    return prompt_vs_lm_eval, tyro.cli(prompt_vs_lm_eval.Settings, args=inputs)


def test_gate_notices_a_lost_prefix(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scorer whose rows do not see the demonstrations is not let through."""
    script, settings = bench
    splits = script.load_rows(settings)
    tasks = {"fp32-words": script.task_of("fp32-words", splits, settings)}
    found, _ = script.gate(tasks, settings)
    assert script.passes(found, settings.tolerance)
    monkeypatch.setattr("llmclf.prompt.attention._merged", lambda out, *_: out)
    found, _ = script.gate(tasks, settings)
    assert not script.passes(found, settings.tolerance)


def test_gate_notices_other_tokens(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    script, settings = bench
    splits = script.load_rows(settings)
    tasks = {"fp32-words": script.task_of("fp32-words", splits, settings)}
    monkeypatch.setattr("llmclf.prompt.tokens._start_token", lambda tokenizer: [1])
    found, _ = script.gate(tasks, settings)
    assert not found["fp32-words"]["same_tokens"]
    assert not script.passes(found, settings.tolerance)


@pytest.mark.parametrize("name", ["fp32-words", "nearest-letters"])
def test_operations(bench: Any, name: str) -> None:
    """The formulas are within 3 % of what torch counts while both sides score."""
    script, settings = bench
    task = script.task_of(name, script.load_rows(settings), settings)
    model, tokenizer = script.load(settings, "fp32")
    ours = script.Ours(settings, "fp32", model, tokenizer)
    peer = script.Peer(model, tokenizer, "1")
    questions = list(dict.fromkeys(ours.questions(task)))
    shapes = script.shapes_of(model)
    import prompt_flops

    packing = ours.scorer().pack(questions)
    formula = prompt_flops.packing_flops(shapes, packing, questions)
    formula += prompt_flops.padding(packing, questions) * shapes.line(packing.shared, 1)
    assert formula == pytest.approx(counted(lambda: ours.score(task)), rel=0.03)
    formula = prompt_flops.whole_flops(shapes, peer.questions(task))
    assert formula == pytest.approx(counted(lambda: peer.score(task)), rel=0.03)


def counted(work: Any) -> int:
    """Operations as torch counts them; it does not know the CPU's attention."""

    def attention(query: Any, key: Any, *args: Any, out_shape: Any = None, **rest: Any) -> int:
        (batch, heads, tokens, size), seen = query, key[-2]
        causal = len(args) > 2 and args[2]
        pairs = tokens * (tokens + 1) // 2 if causal else tokens * seen
        return 4 * batch * heads * pairs * size

    op = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    with FlopCounterMode(display=False, custom_mapping={op: attention}) as counter:
        work()
    return counter.get_total_flops()
