"""Energy counters: files as the kernel shows them, in a real folder, and the hardware there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmclf.evaluate import energy
from llmclf.evaluate.energy import RAPL, EnergyMeter, rapl_counters, total


@pytest.fixture
def rapl(tmp_path: Path) -> Path:
    """Two packages, a part of the first, and psys, which holds them all."""
    names = {
        "intel-rapl:0": "package-0",
        "intel-rapl:0:0": "core",
        "intel-rapl:1": "package-1",
        "intel-rapl:2": "psys",
    }
    for folder, name in names.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "name").write_text(name + "\n")
        (tmp_path / folder / "max_energy_range_uj").write_text("262143328850\n")
        (tmp_path / folder / "energy_uj").write_text("1000000\n")
    return tmp_path


def use(rapl: Path, package: str, microjoules: int) -> None:
    (rapl / package / "energy_uj").write_text(f"{microjoules}\n")


def test_packages_are_added_and_their_parts_are_not(rapl: Path) -> None:
    with EnergyMeter(rapl=rapl) as meter:
        use(rapl, "intel-rapl:0", 4_000_000)
        use(rapl, "intel-rapl:0:0", 3_000_000)
        use(rapl, "intel-rapl:1", 1_500_000)
        use(rapl, "intel-rapl:2", 9_000_000)
    assert meter.joules == pytest.approx(3.5) and meter.meters == ["rapl"]


def test_a_counter_that_starts_again_is_followed(
    rapl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(rapl, "intel-rapl:0", 262_143_000_000)
    with EnergyMeter(rapl=rapl) as meter:
        use(rapl, "intel-rapl:0", 671_150)  # 328 850 to the end, and as much again
    assert meter.joules == pytest.approx(1.0)


def test_the_meter_reads_again_and_again(rapl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rounds of the counter within one context, which its two ends alone would not show."""
    monkeypatch.setattr(energy, "SAMPLING_SECONDS", 0.01)
    meter = EnergyMeter(rapl=rapl)
    with meter:
        for _ in range(2):
            for microjoules in (200_000_000_000, 1_000_000):
                before = meter.joules
                use(rapl, "intel-rapl:0", microjoules)
                while meter.joules == before:
                    pass
    assert meter.joules == pytest.approx(2 * 262_143.32885, rel=1e-6)


def test_what_cannot_be_read_is_not_guessed(tmp_path: Path, rapl: Path) -> None:
    for missing in (tmp_path / "nowhere", RAPL if not rapl_counters(RAPL) else tmp_path / "no"):
        with EnergyMeter(rapl=missing) as meter:
            pass
        assert meter.joules is None and meter.meters == []
    with EnergyMeter(rapl=rapl) as meter:
        (rapl / "intel-rapl:1" / "energy_uj").unlink()
    assert meter.joules is None
    with EnergyMeter(rapl=rapl, cpus=False) as meter:
        pass
    assert meter.joules is None


def test_an_unknown_gpu_has_no_meter() -> None:
    with EnergyMeter(gpus=["GPU-00000000-0000-0000-0000-000000000000"], cpus=False) as meter:
        pass
    assert meter.joules is None and meter.meters == []


def test_a_package_without_its_range_is_left_out(rapl: Path) -> None:
    (rapl / "intel-rapl:1" / "max_energy_range_uj").unlink()
    assert len(rapl_counters(rapl)) == 1


def test_total_adds_the_ranks_that_have_a_meter(rapl: Path) -> None:
    assert total([(["rapl", "nvml"], 1.0), ([], None), (["nvml"], 2.5)]) == 3.5
    assert total([([], None), ([], None)]) is None


def test_total_of_ranks_is_not_known_where_one_of_them_failed(rapl: Path) -> None:
    with EnergyMeter(rapl=rapl) as whole:
        use(rapl, "intel-rapl:0", 4_000_000)
    with EnergyMeter(rapl=rapl) as failed:
        (rapl / "intel-rapl:0" / "energy_uj").unlink()
    assert total([whole.reading]) == pytest.approx(3)
    assert total([whole.reading, failed.reading]) is None


@pytest.mark.gpu
def test_a_gpu_uses_energy() -> None:
    import torch

    pytest.importorskip("pynvml")
    uuid = f"GPU-{torch.cuda.get_device_properties(0).uuid}"
    a = torch.randn(4096, 4096, device="cuda")
    with EnergyMeter(gpus=[uuid], cpus=False) as meter:
        for _ in range(200):
            a = (a @ a).tanh()
        torch.cuda.synchronize()
    assert meter.meters == ["nvml"] and meter.joules is not None and meter.joules > 1
