"""Few-shot prompts: our scorer against lm-eval's HFLM, in seconds per query.

    python -m pip install lm_eval==0.4.13     # no dependency of ours
    python bench/prompt_vs_lm_eval.py --source my.csv [--cases fp32-words bf16-words]

Both sides get the same strings, weights, precision and number of threads, and give the
log-probability of every label. Ours counts from the rows: wording, tokens, plan, the prefix and all
queries, with a prefix computed once per repeat. lm-eval's counts from prompt and answer strings, on
fewer rows, evenly spaced by length, with the batch size that is best for it here. Choosing the
demonstrations is part of neither, nor is Scorer.check, which a run of ours makes once
(check_seconds).

Cases: words asks for the names of the labels, letters for a letter each, which lm-eval computes in
one pass per query; nearest gives each row demonstrations of its own; growth compares us with us, at
4 and 32 demonstrations. Beside each ratio stands its floor, by operations alone, counted from the
real lengths; and how much of the rate at which this machine multiplies matrices each side reaches.

Each side is a process of its own. Memory is what it takes above its loaded weights.

First comes a gate: in fp32, with one model for both, the tokens must be the same, the
log-probabilities equal to --tolerance, and the likeliest label too. Else nothing is timed, and the
exit code is 1. In bf16, where lm-eval rounds log-probabilities, differences are reported.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from typing import Any, Literal, get_args

import numpy as np
import torch
import tyro
from common import Side, Timed, public, spread, take_turns, write_result
from prompt_flops import Shapes, shapes_of
from prompt_sides import Ours, Peer, load, matmul, ours, peer, require_peer
from prompt_tasks import GROWTH, CaseName, Precision, Settings, Task, make_task
from rich.console import Console
from rich.table import Table

from llmclf.config import ConfigError, exit_on_user_error
from llmclf.data.config import DataConfig
from llmclf.data.corpus import Splits, load_splits
from llmclf.terminal import quieten


@dataclass(frozen=True)
class Goal:
    """For SmolLM2-135M with 16 demonstrations on the health-advice corpus."""

    kind: Literal["at_least", "at_most"]
    ratio: float

    def met(self, ratio: float) -> bool:
        return ratio >= self.ratio if self.kind == "at_least" else ratio <= self.ratio


GOALS: dict[str, Goal] = {
    "fp32-words": Goal("at_least", 70),
    "bf16-words": Goal("at_least", 60),
    "fp32-letters": Goal("at_least", 25),
    "nearest-words": Goal("at_least", 3.2),
    "nearest-letters": Goal("at_least", 1.15),
    "growth": Goal("at_most", 1.5),
}
GPU_GOALS: dict[str, Goal] = {name: Goal("at_least", 40) for name in ("fp32-words", "bf16-words")}


def load_rows(settings: Settings) -> Splits:
    """Fold 0 of 5, its test rows in random order, without validation rows."""
    splits = load_splits(DataConfig(source=settings.source, fold=0, folds=5), settings.seed)
    if splits.multilabel:
        raise ConfigError(f"source={settings.source!r}: needs one label per row.")
    order = np.random.default_rng(settings.seed).permutation(len(splits.test))
    nothing = splits.validation.take([])
    return replace(splits, test=splits.test.take(order), validation=nothing)


def precision_of(name: CaseName) -> Precision:
    return "bf16" if name.startswith("bf16") else "fp32"


def kind_of(name: CaseName) -> CaseName:
    """The case in fp32 with the same prompts, or nearly: what the gate compares."""
    kinds: dict[CaseName, CaseName] = {
        "bf16-words": "fp32-words",
        "bf16-letters": "fp32-letters",
        "growth": "fp32-words",
    }
    return kinds.get(name, name)


def task_of(name: CaseName, splits: Splits, settings: Settings) -> Task:
    """The prompts of a case; not of growth, which has two kinds."""
    kind, _, answers = name.partition("-")
    return make_task(
        splits,
        settings,
        answers="letters" if answers == "letters" else "words",
        nearest=kind == "nearest",
    )


def compare(ours_NC: np.ndarray, theirs_NC: np.ndarray) -> dict[str, float]:
    """Largest difference in nats, and the share of rows with the same likeliest label."""
    same = ours_NC.argmax(1) == theirs_NC.argmax(1)
    difference = float(np.abs(ours_NC - theirs_NC).max())
    return {"difference": difference, "same_argmax": float(same.mean())}


def gate(tasks: dict[str, Task], settings: Settings) -> tuple[dict[str, Any], Shapes]:
    """Each kind of prompt by both sides, with one fp32 model; and that model's shapes."""
    model, tokenizer = load(settings, "fp32")
    mine = Ours(settings, "fp32", model, tokenizer)
    theirs = Peer(model, tokenizer, "1")
    found: dict[str, Any] = {}
    for name, whole in tasks.items():
        task = whole.take(whole.spaced(settings.gate_queries))
        questions = mine.questions(task)
        found[name] = {
            "rows": len(questions),
            "same_tokens": questions == theirs.questions(task),
            **compare(mine.score(task), theirs.score(task)),
        }
        started = time.perf_counter()
        found[name]["refused"] = mine.scorer().check(questions)
        found[name]["check_seconds"] = time.perf_counter() - started
    return found, shapes_of(model)


def passes(found: dict[str, Any], tolerance: float) -> bool:
    """Whether both sides computed the same everywhere, ours with shared prefixes."""
    return all(
        case["same_tokens"]
        and not case["refused"]
        and case["same_argmax"] == 1
        and case["difference"] <= tolerance
        for case in found.values()
    )


def best_batch_size(splits: Splits, precision: Precision, settings: Settings) -> str:
    """The peer's fastest, on prompts of which each is one row."""
    sizes = settings.peer_batch_sizes
    if len(sizes) == 1:
        return sizes[0]
    few = max(8, *(int(size) for size in sizes if size.isdecimal()))
    task = make_task(splits, replace(settings, queries=few), answers="letters")
    once = replace(settings, repeats=1)
    sides: dict[str, Side] = {s: partial(peer, task, precision, s, once) for s in sizes}
    timed = take_turns(sides, num_blocks=2, threads=settings.threads)
    return min(sizes, key=lambda size: timed[size].blocks[1].seconds)


def sides_of(
    name: CaseName, splits: Splits, settings: Settings, batch_size: Callable[[Precision], str]
) -> dict[str, Side]:
    """Both sides of a case, ours first; the ratio is the second one's seconds over the first's."""
    precision = precision_of(name)
    if name == "growth":
        tasks = {
            f"{n}_shots": make_task(splits, settings, answers="words", shots=n) for n in GROWTH
        }
        return {side: partial(ours, task, precision, settings) for side, task in tasks.items()}
    task = task_of(name, splits, settings)
    some = task.take(task.spaced(settings.peer_queries))
    return {
        "llmclf": partial(ours, task, precision, settings),
        "lm_eval": partial(peer, some, precision, batch_size(precision), settings),
    }


def case_result(name: CaseName, timed: dict[str, Timed]) -> dict[str, Any]:
    """Figures of a case, per repeat; the warm-up is left out."""
    rates = timed.pop("matmul").facts["rates"][1:]
    sides, logprobs = {}, []
    for side, its in timed.items():
        facts, blocks = dict(its.facts), its.blocks[1:]
        logprobs.append(facts.pop("logprobs"))
        seconds = [b.seconds / facts["queries"] for b in blocks]
        flops = facts["flops_per_query"]
        shares = [flops / s / rate for s, rate in zip(seconds, rates, strict=True)]
        sides[side] = facts | {
            "seconds_per_query": spread(seconds),
            "cpu_seconds_per_query": spread([b.cpu_seconds / facts["queries"] for b in blocks]),
            "share_of_matmul_rate": spread(shares),
            "memory_before_bytes": its.memory_before_bytes,
            "peak_memory_bytes": its.blocks[-1].peak_bytes,
        }
    first, second = sides.values()
    result: dict[str, Any] = {"sides": sides, "matmul_flops_per_second": spread(rates)}
    for unit in ("seconds_per_query", "cpu_seconds_per_query"):
        pairs = zip(second[unit]["per_repeat"], first[unit]["per_repeat"], strict=True)
        result[f"ratio_of_{unit}"] = spread([b / a for b, a in pairs])
    result["flop_ratio"] = second["flops_per_query"] / first["flops_per_query"]
    if name != "growth":
        mine, theirs = logprobs
        result["agreement"] = compare(
            np.array([mine[row] for row in theirs]), np.array(list(theirs.values()))
        )
    goal = (GPU_GOALS if torch.cuda.is_available() else GOALS).get(name)
    if goal:
        median = result["ratio_of_seconds_per_query"]["median"]
        result["goal"] = asdict(goal) | {"met": goal.met(median)}
    return result


def show(console: Console, results: dict[str, Any]) -> None:
    """Print a line per case: theirs over ours; of growth, more demonstrations over fewer."""
    speed = Table("case", "s/query", "lm_eval", "ratio (min-max)", "CPU", "floor", "goal", box=None)
    signs = {"at_least": ">=", "at_most": "<="}
    for name, case in results.items():
        ratio, cpu = (case[f"ratio_of_{u}seconds_per_query"] for u in ("", "cpu_"))
        goal = case.get("goal")
        speed.add_row(
            name,
            *(f"{s['seconds_per_query']['median']:.4g}" for s in case["sides"].values()),
            f"{ratio['median']:.2f} ({ratio['min']:.2f}-{ratio['max']:.2f})",
            f"{cpu['median']:.2f}",
            f"{case['flop_ratio']:.2f}",
            f"{signs[goal['kind']]} {goal['ratio']} {'met' if goal['met'] else 'missed'}"
            if goal
            else "",
        )
    console.print(speed)
    console.print(details(results))


def details(results: dict[str, Any]) -> Table:
    """What stands behind the ratios: ours and theirs, or fewer and more demonstrations."""
    table = Table("case", "of matmul rate", "memory", "difference", "same", "batch", box=None)
    for name, case in results.items():
        sides = list(case["sides"].values())
        shares = [f"{s['share_of_matmul_rate']['median']:.0%}" for s in sides]
        memory = [f"{(s['peak_memory_bytes'] - s['memory_before_bytes']) / 1e9:.2f}" for s in sides]
        agreement = case.get("agreement")
        table.add_row(
            name,
            ", ".join(shares),
            f"{', '.join(memory)} GB",
            f"{agreement['difference']:.2g}" if agreement else "",
            f"{agreement['same_argmax']:.0%}" if agreement else "",
            sides[1].get("batch_size", ""),
        )
    return table


def chosen(settings: Settings) -> tuple[CaseName, ...]:
    if settings.cases:
        return settings.cases
    return ("fp32-words", "bf16-words") if torch.cuda.is_available() else get_args(CaseName)


def main() -> None:
    load_average, console = os.getloadavg()[0], Console()
    with exit_on_user_error():
        settings = tyro.cli(Settings, description=__doc__)
        require_peer()
        quieten()
        torch.set_num_threads(settings.threads)
        splits, names = load_rows(settings), chosen(settings)
        tasks = {
            kind: task_of(kind, splits, settings) for kind in dict.fromkeys(map(kind_of, names))
        }
        differences, shapes = gate(tasks, settings)
        for name, case in differences.items():
            console.print(f"gate: {name} {case}", highlight=False, soft_wrap=True)
        if not passes(differences, settings.tolerance):
            sys.exit(f"error: the gate failed (tolerance {settings.tolerance}); nothing was timed.")
        batch_size = cache(partial(best_batch_size, splits, settings=settings))
        results: dict[str, Any] = {}
        blocks = 1 + settings.repeats
        for name in names:
            console.print(f"timing {name} ...")
            sides = sides_of(name, splits, settings, batch_size)
            sides["matmul"] = partial(matmul, shapes, precision_of(name), blocks)
            timed = take_turns(sides, num_blocks=blocks, threads=settings.threads)
            results[name] = case_result(name, timed)
    show(console, results)
    result = {
        "settings": public(settings),
        "device": "cuda" if torch.cuda.is_available() else "cpu",
        "lm_eval": importlib.metadata.version("lm_eval"),
        "gate": differences | {"tolerance": settings.tolerance},
        "cases": results,
    }
    write_result(settings.output, result, load_average=load_average)
    console.print(f"written: {settings.output}", soft_wrap=True)


if __name__ == "__main__":
    main()
