"""Costs in the units of a report, and prices where they were stated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmclf.report.config import ReportConfig
from llmclf.report.costs import mean_cost, of_run
from llmclf.run_folder.read import Finished, read
from tests.report.made import predicted, write_run

PRICED = ReportConfig(device_price=3.6, energy_price=0.5)


def made(folder: Path, cost: dict[str, Any], **options: Any) -> Finished:
    return read(write_run(folder, predicted(9), cost=cost, **options))


def test_costs_are_per_thousand_texts(tmp_path: Path) -> None:
    run = made(
        tmp_path / "a",
        {"train_energy_joules": 7200.0, "predict_energy_joules": 36.0, "devices": 2}
        | {"latency_p50_seconds": 0.012},
    )
    cost = of_run(run, ReportConfig())
    assert cost.predict_seconds_per_1000 == 200
    assert cost.train_watt_hours == 2
    assert cost.predict_watt_hours_per_1000 == pytest.approx(1)
    assert (cost.p50_milliseconds, cost.p99_milliseconds) == (pytest.approx(12), None)
    assert cost.train_price is None and cost.price_per_1000 is None


def test_prices_of_devices_and_energy(tmp_path: Path) -> None:
    run = made(
        tmp_path / "a",
        {"train_energy_joules": 7.2e6, "predict_energy_joules": 36e3, "devices": 2},
    )
    cost = of_run(run, PRICED)
    assert cost.train_price == pytest.approx(0.343 * 3.6 + 2 * 0.5)
    # 200 seconds on two devices are 1/9 device-hour; 36 kJ for 10 rows are 1 kWh for 1,000.
    assert cost.price_per_1000 == pytest.approx(3.6 / 9 + 0.5)


def test_energy_that_was_not_measured_adds_nothing(tmp_path: Path) -> None:
    assert of_run(made(tmp_path / "a", {}), PRICED).train_price == pytest.approx(0.343 * 3.6)


def api(folder: Path, cost: dict[str, Any]) -> Finished:
    return made(
        folder,
        {"train_seconds": None, "device_hours": None, **cost},
        method="prompt",
        settings={"method": "prompt", "api": {"base_url": "http://localhost"}},
    )


def test_price_of_an_api_is_its_own(tmp_path: Path) -> None:
    cost = of_run(api(tmp_path / "a", {"price": 0.02}), PRICED)
    assert cost.price_per_1000 == pytest.approx(0.02 / 10 * 1000)
    assert cost.train_price == 0


@pytest.mark.parametrize("method", ["prompt", "zero_shot"])
def test_what_trains_nothing_costs_nothing_to_train(tmp_path: Path, method: str) -> None:
    run = made(
        tmp_path / "a",
        {"train_seconds": None, "device_hours": None},
        method=method,
        settings={"method": method},
    )
    assert of_run(run, PRICED).train_price == 0


def test_price_of_an_api_is_shared_by_all_prompts(tmp_path: Path) -> None:
    run = api(tmp_path / "a", {"price": 0.02})
    run.environment["prompts"] = 40
    assert of_run(run, PRICED).price_per_1000 == pytest.approx(0.02 / 40 * 1000)


def test_api_without_prices_has_none(tmp_path: Path) -> None:
    cost = of_run(api(tmp_path / "a", {}), PRICED)
    assert cost.price_per_1000 is cost.train_price is None


def test_means_are_over_runs_and_unknown_where_one_is(tmp_path: Path) -> None:
    runs = [
        made(tmp_path / str(i), {"train_seconds": seconds, "peak_memory_bytes": peak})
        for i, (seconds, peak) in enumerate([(10.0, 5), (20.0, None)])
    ]
    cost = mean_cost(runs, ReportConfig())
    assert (cost.train_seconds, cost.peak_memory_bytes) == (15, None)
