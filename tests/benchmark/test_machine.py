"""The description of the machine, and of what disturbs it."""

from pathlib import Path

import pytest

from edgeae.benchmark import machine
from edgeae.benchmark.machine import Strain, Watch


def test_the_machine_is_told(device: str) -> None:
    found = machine.describe_machine(2)
    assert found["processor"] and found["versions"]["tinygrad"] and found["commit"]
    assert max(map(len, machine.headline(found))) <= 100


def test_strain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Raspberry Pi that gets hot."""
    monkeypatch.setattr(machine, "_SYSTEM", tmp_path)
    flags = tmp_path / "devices/platform/soc/soc:firmware/get_throttled"
    zone = tmp_path / "class/thermal/thermal_zone0/temp"
    energy = tmp_path / "class/powercap/intel-rapl:0/energy_uj"
    for path, text in ((flags, "0"), (zone, "61200"), (energy, "1000000")):
        path.parent.mkdir(parents=True)
        path.write_text(text)
    watch = Watch()
    strain = watch.strain()
    assert (strain.hottest_c, strain.throttled, strain.joules) == (61.2, False, 0.0)
    flags.write_text("40004")
    energy.write_text("3500000")
    strain = watch.strain()
    assert strain.throttled and strain.joules == 2.5 and any("heat" in line for line in strain.warnings)


def test_a_loaded_machine_is_told() -> None:
    assert "0.50 cores" in Strain(cores_taken=0.5).warnings[0] and not Strain(cores_taken=0.05).warnings
