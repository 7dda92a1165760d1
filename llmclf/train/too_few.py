"""What a run is told when its rows or steps are too few to learn or to choose from."""

from __future__ import annotations

from llmclf.evaluate.calibration import FEWEST_ROWS
from llmclf.train.config import TrainConfig
from llmclf.train.loop import num_steps, steps_per_epoch

FEW_STEPS = 100
"""Optimizer steps below which a network may not have learnt what it could."""


def few_steps(config: TrainConfig, num_rows: int) -> list[str]:
    """A line where ``min_steps`` makes the epochs more, and one where the steps are few."""
    lines, steps = [], num_steps(config, num_rows)
    epochs = steps / steps_per_epoch(config, num_rows)
    if steps == config.min_steps and epochs > config.epochs:
        lines.append(f"train.min_steps={steps}: {epochs:.0f} epochs instead of {config.epochs:g}")
    if steps < FEW_STEPS:
        lines.append(
            f"{steps} optimizer steps are few: a network may not learn from them what it could "
            f"(train.min_steps={config.min_steps}, train.max_steps={config.max_steps})"
        )
    return lines


def few_rows(validation: int) -> list[str]:
    """A line where too few rows, or none, choose and calibrate."""
    if not validation:
        return ["no validation rows: the last weights are kept, and not calibrated"]
    if validation < FEWEST_ROWS:
        return [
            f"{validation} validation rows choose the best weights almost by chance, and are too "
            "few to calibrate by; with --data.validation-fraction 0 all labels are learnt from"
        ]
    return []
