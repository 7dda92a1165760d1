"""What a method cost, mean over its runs, and its price where prices were stated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from statistics import fmean

from llmclf.report.analysis import MethodCost
from llmclf.report.config import ReportConfig
from llmclf.run_folder.read import Finished

_JOULES_PER_WATT_HOUR = 3600
_SECONDS_PER_HOUR = 3600


def mean_cost(runs: Sequence[Finished], config: ReportConfig) -> MethodCost:
    """Mean over the runs of each figure; None unless every run measured it."""
    costs = [of_run(run, config) for run in runs]
    means = {}
    for field in fields(MethodCost):
        values = [getattr(cost, field.name) for cost in costs]
        means[field.name] = None if None in values else fmean(values)
    return MethodCost(**means)


def of_run(run: Finished, config: ReportConfig) -> MethodCost:
    """Figures of one run's cost, in the units of a report."""
    rows = len(run.test.ids)
    seconds = run.cost("predict_seconds")
    train_watt_hours = _scaled(run.cost("train_energy_joules"), 1 / _JOULES_PER_WATT_HOUR)
    watt_hours = _scaled(run.cost("predict_energy_joules"), 1000 / rows / _JOULES_PER_WATT_HOUR)
    device_hours = _scaled(seconds, (run.cost("devices") or 1) / _SECONDS_PER_HOUR * 1000 / rows)
    price = price_of(device_hours, watt_hours, config)
    if run.cost("price") is not None:
        price = _scaled(run.cost("price"), 1000 / _prompts(run))
    elif calls_api(run):
        price = None  # this machine's time is not what the answers cost
    return MethodCost(
        train_seconds=run.cost("train_seconds"),
        device_hours=run.cost("device_hours"),
        predict_seconds_per_1000=_scaled(seconds, 1000 / rows),
        rows_per_second=run.cost("predict_examples_per_second"),
        p50_milliseconds=_scaled(run.cost("latency_p50_seconds"), 1000),
        p99_milliseconds=_scaled(run.cost("latency_p99_seconds"), 1000),
        peak_memory_bytes=run.cost("peak_memory_bytes"),
        total_parameters=run.cost("total_parameters"),
        trainable_parameters=run.cost("trainable_parameters"),
        train_watt_hours=train_watt_hours,
        predict_watt_hours_per_1000=watt_hours,
        train_price=0.0
        if untrained(run) and price is not None
        else price_of(run.cost("device_hours"), train_watt_hours, config),
        price_per_1000=price,
    )


def untrained(run: Finished) -> bool:
    """Whether the method trains nothing, so that training costs nothing rather than an unknown
    amount."""
    return run.method in ("prompt", "zero_shot")


def calls_api(run: Finished) -> bool:
    """Whether another machine classified the rows."""
    return run.method == "prompt" and run.experiment.get("api.base_url") is not None


def price_of(
    device_hours: float | None, watt_hours: float | None, config: ReportConfig
) -> float | None:
    """Price of device time, and of energy at its own price, where both are known."""
    price = _scaled(device_hours, config.device_price)
    if price is not None and watt_hours is not None and config.energy_price is not None:
        price += watt_hours / 1000 * config.energy_price
    return price


def _prompts(run: Finished) -> int:
    """Prompts that the run's price paid for: validation rows and other wordings were asked too."""
    asked = run.environment.get("prompts")
    return asked if isinstance(asked, int) and asked > 0 else len(run.test.ids)


def _scaled(value: float | None, factor: float | None) -> float | None:
    return None if value is None or factor is None else value * factor
