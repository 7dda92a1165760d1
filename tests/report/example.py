"""Analyses of made-up runs, for tests of how they are shown. Their numbers mean nothing."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from llmclf.evaluate.calibration import Coverage, ReliabilityBin
from llmclf.evaluate.errors import ConfidentError, LengthBucket, SeenRows, SuspectLabel
from llmclf.evaluate.paired import Difference, Estimate, McNemar, Statistics
from llmclf.report.analysis import (
    Analysis,
    BreakEven,
    BudgetPoint,
    CalibrationReport,
    Crossing,
    Curve,
    LabelScore,
    MethodCost,
    MethodReport,
    Verdict,
)
from llmclf.report.config import ReportConfig

NAMES = (
    "full fine-tune",
    "LoRA, rank 16",
    "head only",
    "TF-IDF + linear",
    "few-shot prompt",
    "majority class",
)
KINDS = ("full", "lora", "head", "classical", "prompt", "majority")
PRECISIONS = {"prompt": "bf16", "classical": None, "majority": None}
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{7*7}}{% raw %}",
    "\u202egnp.exe\u202c abc",
    "nul\x00 and \x1b[31m bell\x07 lone \ud800",
    "W" * 10_000,
    "$\\frac{a}{b}$ ]]> <!-- &amp; --> </svg></style>",
    "שלום עולם and 日本語 and 👩\u200d💻",
)


def example(
    *, methods: int = 6, labels: int = 3, seeds: int = 3, folds: int = 1, **changes: Any
) -> Analysis:
    """An analysis of ``methods`` methods with everything in it; ``changes`` replace fields."""
    rng = np.random.default_rng(7)
    classes = ("negative", "neutral", "positive")
    if labels != 3:
        classes = tuple(f"intent {i:02d} of cards" for i in range(labels))
    names = tuple(
        NAMES[i] if i < len(NAMES) else f"method {i} at 1e-{i % 5}" for i in range(methods)
    )
    values = [0.872 - 0.012 * i - 0.02 * max(i - 1, 0) for i in range(methods)]
    reports = tuple(
        method(i, name, value, classes, rng, seeds * folds)
        for i, (name, value) in enumerate(zip(names, values, strict=True))
    )
    config = ReportConfig(
        device_price=2.5, currency="USD", published=("BERT-base (Li et al. 2021)=0.861",)
    )
    whole = Analysis(
        title="Sentiment of short texts",
        config=config,
        labels=classes,
        multilabel=False,
        verdict=verdict(names, values),
        statistics=statistics(names, values, rng, seeds, folds),
        methods=reports,
        audit=AUDIT
        | {"classes": {c: {"train": 900, "validation": 90, "test": 80} for c in classes}},
        source="opinions",
        left_out=("runs/bert-3: failed with out of memory; its seed is not in any number.",),
        break_even=budgets(names),
        created="2026-11-25, commit 90e001f",
        published={"BERT-base (Li et al. 2021)": 0.861},
        prior={"accuracy": 0.42, "macro_f1": 0.197, "nll": 1.08},
    )
    return replace(whole, **changes)


AUDIT = {
    "rows": {"train": 8000, "validation": 1000, "test": 1000},
    "within": {"train": {"exact": 0, "normalised": 5, "near": 40}},
    "across": {
        "train/test": {
            "exact": {"rows": 0, "examples": []},
            "normalised": {"rows": 14, "examples": [["row 1", "row 9"]]},
            "near": {"rows": 61, "examples": [["row 5", "row 6"]]},
        }
    },
    "conflicts": {"texts": 3, "rows": 7, "examples": [["a", "b"]]},
    "duplicates": "drop",
    "dropped": {"train": 20, "validation": 2, "test": 0},
    "leaked": {"train": 0, "validation": 0, "test": 0},
    "truncated": {"rows": 12},
}


def verdict(names: tuple[str, ...], values: list[float]) -> Verdict:
    second = names[min(1, len(names) - 1)]
    return Verdict(
        sentence=f"Ship {second}: macro-F1 {values[min(1, len(names) - 1)]:.3f}, as good as the "
        f"best within 0.02, for 0.42 USD of training.",
        best=names[0],
        recommended=second,
        reasons=tuple(
            f"{name} is significantly worse than {names[0]} ({value - values[0]:+.3f})."
            if i > 1
            else f"{name} is equivalent to {names[0]} within the margin."
            for i, (name, value) in enumerate(zip(names, values, strict=True))
            if i
        ),
    )


def statistics(
    names: tuple[str, ...], values: list[float], rng: np.random.Generator, seeds: int, folds: int
) -> Statistics:
    def estimate(value: float) -> Estimate:
        return Estimate(
            value=value,
            low=value - 0.021,
            high=value + 0.019,
            sampling_low=value - 0.013,
            sampling_high=value + 0.012,
            seed_sd=0.004 if seeds > 1 else None,
            fold_sd=0.009 if folds > 1 else None,
        )

    metrics = ("macro_f1", "accuracy", "weighted_f1", "mcc", "nll", "brier", "ece")
    differences = [
        Difference(
            a=a,
            b=b,
            value=values[i] - values[j],
            low=values[i] - values[j] - 0.015,
            high=values[i] - values[j] + 0.015,
            holm_low=values[i] - values[j] - 0.02,
            holm_high=values[i] - values[j] + 0.02,
            p_value=0.4 if j - i == 1 and i == 0 else 0.0004,
            p_holm=0.4 if j - i == 1 and i == 0 else 0.004 if j < 3 else 0.03,
            p_equivalent=0.03 if j == 1 else 0.6,
            equivalent=j == 1,
            mcnemar=McNemar(only_a=40 + j, only_b=30, p_value=0.02),
        )
        for i, a in enumerate(names)
        for j, b in enumerate(names)
        if i < j
    ]
    return Statistics(
        metric="macro_f1",
        margin=0.02,
        resamples=10_000,
        rows=1000 * folds,
        folds=folds,
        seeds=dict.fromkeys(names, seeds),
        estimates={
            name: {metric: estimate(value + 0.004 * k) for k, metric in enumerate(metrics)}
            for name, value in zip(names, values, strict=True)
        },
        differences=tuple(differences),
    )


def method(
    i: int, name: str, value: float, labels: tuple[str, ...], rng: np.random.Generator, runs: int
) -> MethodReport:
    learns = KINDS[i % 6] in ("full", "lora", "head")
    size = len(labels)
    confusion = rng.integers(0, max(60 // size, 3), (size, size))
    confusion[np.diag_indices(size)] += rng.integers(150, 300, size)
    return MethodReport(
        name=name,
        method=KINDS[i % 6],
        model="answerdotai/ModernBERT-base" if i < 3 else "smollm2-135m" if i == 4 else "",
        folders=tuple(Path(f"runs/{KINDS[i % 6]}-{r}") for r in range(runs)),
        predict_precision=PRECISIONS.get(KINDS[i % 6], "fp32"),
        cost=cost(i),
        labels=tuple(
            LabelScore(
                label=label,
                precision=value,
                recall=value,
                f1=float(np.clip(value + 0.1 * rng.normal(), 0.05, 0.99)),
                support=200 + 10 * k,
            )
            for k, label in enumerate(labels)
        ),
        confusion=confusion,
        calibration=calibration(rng),
        coverage=coverage(value, rng),
        lengths=tuple(
            LengthBucket(low=low, high=high, rows=rows, accuracy=value, macro_f1=value - drop)
            for low, high, rows, drop in (
                (1, 8, 210, 0.05),
                (9, 15, 340, 0.01),
                (16, 27, 300, 0.0),
                (28, 114, 150, 0.02 * i),
            )
        ),
        errors=tuple(
            ConfidentError(
                id=f"row {k}",
                text="I expected worse of it, frankly, and got what I expected." * (1 + k % 2),
                label=labels[0],
                predicted=labels[-1],
                confidence=0.999 - 0.004 * k,
            )
            for k in range(5)
        ),
        suspects=tuple(
            SuspectLabel(
                id=f"row {90 + k}",
                text="Great, another Monday." if k else None,
                label=labels[-1],
                suggested=labels[0],
                confidence=0.98,
                given=0.01,
            )
            for k in range(3)
        ),
        seen=SeenRows(
            rows=75,
            kinds={"exact": 0, "normalised": 14, "near": 61},
            score=value,
            score_without=value - 0.004,
        ),
        curves=curves(i, value, rng, runs) if learns else (),
        settings={"seed": 1, "data.source": "opinions", "train.learning_rate": 3e-5},
        environment={
            "python": "3.11.2",
            "packages": {"torch": "2.13.0", "transformers": "5.23.0"},
            "git_commit": "90e001f",
            "gpus": ["NVIDIA H100"],
        },
        command=f"python recipes/{KINDS[i % 6]}.py \\\n  --data.source opinions \\\n  --seed 1",
    )


def cost(i: int) -> MethodCost:
    factor = (1.0, 0.6, 0.2, 0.002, None, 0.0001)[i % 6]
    if factor is None:
        return MethodCost(
            predict_seconds_per_1000=48.0,
            rows_per_second=20.8,
            p50_milliseconds=310,
            p99_milliseconds=1240,
            peak_memory_bytes=3 * 2**30,
            total_parameters=134.5e6,
            trainable_parameters=0,
            train_price=0,
            price_per_1000=0.033,
        )
    return MethodCost(
        train_seconds=2520 * factor,
        device_hours=0.7 * factor,
        predict_seconds_per_1000=1.3 * (1 if i % 6 < 3 else 0.02),
        rows_per_second=770 * (1 if i % 6 < 3 else 50),
        p50_milliseconds=7.4 * (1 if i % 6 < 3 else 0.05),
        p99_milliseconds=11.3 * (1 if i % 6 < 3 else 0.08),
        peak_memory_bytes=14e9 * (0.2 + factor),
        total_parameters=149e6,
        trainable_parameters=149e6 * factor,
        train_watt_hours=310 * factor,
        predict_watt_hours_per_1000=0.2,
        train_price=1.75 * factor,
        price_per_1000=0.0009 * (1 if i % 6 < 3 else 0.02),
    )


def calibration(rng: np.random.Generator) -> CalibrationReport:
    edges = np.linspace(0, 1, 16)
    places = [
        (float(low), float(high), float((low + high) / 2), int(8 * k**2.2) + 3)
        for k, (low, high) in enumerate(pairwise(edges[5:]))
    ]

    def bins(shift: float) -> tuple[ReliabilityBin, ...]:
        return tuple(
            ReliabilityBin(
                low=low,
                high=high,
                count=n,
                confidence=mid,
                accuracy=float(np.clip(mid - shift * mid + 0.03 * rng.normal(), 0, 1)),
            )
            for low, high, mid, n in places
        )

    return CalibrationReport(
        temperature=1.62,
        smoothing=0.0,
        scores={"nll": (0.61, 0.48), "brier": (0.25, 0.23), "ece": (0.091, 0.021)},
        before=bins(0.18),
        after=bins(0.01),
    )


def coverage(value: float, rng: np.random.Generator) -> Coverage:
    share = np.arange(1, 1001) / 1000
    return Coverage(
        share=share,
        accuracy=1 - (1 - value) * share**1.5,
        confidence=np.linspace(0.99, 0.34, 1000),
        area=(1 - value) / 2.5,
    )


def curves(i: int, value: float, rng: np.random.Generator, runs: int) -> tuple[Curve, ...]:
    seen = np.linspace(800, 24_000, 12)
    return tuple(
        Curve(
            examples=tuple(map(float, seen)),
            device_hours=tuple(map(float, seen / 24_000 * (0.7, 0.42, 0.14)[i % 3])),
            score=tuple(
                map(float, value * (1 - np.exp(-seen / 4000)) + 0.006 * rng.normal(size=12))
            ),
        )
        for _ in range(runs)
    )


def budgets(names: tuple[str, ...]) -> BreakEven:
    rows = (24, 48, 96, 192, 384, 768, 1536)

    def point(k: int, value: float) -> BudgetPoint:
        per_class = None if k == len(rows) - 1 else rows[k] // 3
        return BudgetPoint(
            budget=rows[k], per_class=per_class, value=value, low=value - 0.03,
            high=value + 0.03, seeds=3,
        )  # fmt: skip

    shown = {
        name: tuple(point(k, 0.35 + 0.075 * k - 0.03 * i) for k in range(len(rows)))
        for i, name in enumerate(names[:3])
    }
    shown["prompt"] = (point(0, 0.64),)
    return BreakEven(
        curves=shown,
        crossings=(
            Crossing(method=names[0], reference="prompt", budget=384, low=192.0, high=520.0),
            Crossing(method=names[-1], reference="prompt", budget=None, low=None, high=None),
        ),
    )


def hostile() -> Analysis:
    """The example with hostile names, labels, texts, paths and settings everywhere."""
    whole = example(labels=3, methods=6)
    names = dict(zip(NAMES, HOSTILE, strict=False))
    classes = dict(zip(whole.labels, (HOSTILE[0], HOSTILE[1], HOSTILE[5]), strict=True))
    texts = iter(HOSTILE * 99)
    return replace(
        whole,
        title=HOSTILE[0] + HOSTILE[5],
        labels=tuple(classes.values()),
        verdict=Verdict(
            sentence=" ".join(HOSTILE), best=HOSTILE[0], recommended=HOSTILE[1], reasons=HOSTILE
        ),
        statistics=replace(
            whole.statistics,
            seeds={names[k]: v for k, v in whole.statistics.seeds.items()},
            estimates={names[k]: v for k, v in whole.statistics.estimates.items()},
            differences=tuple(
                replace(d, a=names[d.a], b=names[d.b]) for d in whole.statistics.differences
            ),
        ),
        methods=tuple(_hostile_method(m, names, classes, texts) for m in whole.methods),
        left_out=HOSTILE,
        created=HOSTILE[3],
        published={HOSTILE[1]: 0.8, HOSTILE[5]: 0.7},
        config=replace(whole.config, currency="$</text><script>alert(1)</script>$"),
    )


def _hostile_method(
    m: MethodReport, names: dict[str, str], classes: dict[str, str], texts: Any
) -> MethodReport:
    return replace(
        m,
        name=names[m.name],
        method=next(texts),
        model=next(texts),
        folders=(Path(HOSTILE[1]),),
        labels=tuple(replace(row, label=classes[row.label]) for row in m.labels),
        errors=tuple(replace(e, id=next(texts), text=next(texts)) for e in m.errors * 2),
        suspects=tuple(replace(s, id=next(texts), suggested=next(texts)) for s in m.suspects),
        settings={next(texts): next(texts) for _ in range(6)},
        environment={next(texts): {next(texts): next(texts)}},
        command=HOSTILE[1] + HOSTILE[5],
    )
