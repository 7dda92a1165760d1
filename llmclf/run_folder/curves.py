"""curves.png: training and validation loss, and validation macro-F1, over the steps of one run."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from llmclf.run_folder.metrics import read_metrics


def plot_curves(metrics: Path, target: Path) -> None:
    """Draw ``metrics.jsonl`` into a PNG file. Nothing of matplotlib's global state is touched."""
    records = read_metrics(metrics)
    training = [r for r in records if r["split"] == "train"]
    validation = [r for r in records if r["split"] == "validation"]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    losses, scores = figure.subplots(1, 2)
    losses.plot([r["step"] for r in training], [r["loss"] for r in training], lw=1, label="train")
    steps = [r["step"] for r in validation]
    losses.plot(steps, [r["nll"] for r in validation], "o-", label="validation")
    losses.set(xlabel="optimizer step", ylabel="loss", title="Loss")
    scores.plot(steps, [r["macro_f1"] for r in validation], "o-", label="macro-F1")
    scores.plot(steps, [r["accuracy"] for r in validation], "s--", label="accuracy")
    scores.set(xlabel="optimizer step", ylim=(0, 1), title="Validation scores")
    for axes in (losses, scores):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(target, dpi=120, format="png")
