"""Describe the machine that runs a benchmark, and watch what disturbs it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeae._version import __version__
from edgeae.runtime.compilers import find_compiler
from edgeae.runtime.cpu import processor_name
from edgeae.runtime.kernels.programs import instruction_set

PACKAGES = ("tinygrad", "numpy", "torch", "onnx", "onnxruntime", "openvino")
BUSY = 0.2  # cores that other programs may use without a warning
_SYSTEM = Path("/sys")


def describe_machine(threads: int) -> dict[str, Any]:
    """Return hardware, load, versions and commit, by the names in docs/benchmark.md."""
    compiler, kernels = find_compiler(), instruction_set()
    versions = {"edgeae": __version__, "python": platform.python_version()}
    return {
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "threads": threads,
        "system": platform.platform(),
        "load_average": [round(load, 2) for load in os.getloadavg()] if hasattr(os, "getloadavg") else ["unknown"],
        "governor": _read(_SYSTEM / "devices/system/cpu/cpu0/cpufreq/scaling_governor") or "unknown",
        "kernels": kernels.name if kernels else "off",
        "compiler": compiler.name if compiler else "none",
        "versions": versions | {name: v for name in PACKAGES if (v := version(name))},
        "commit": _commit(),
        "time": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def headline(machine: dict[str, Any]) -> list[str]:
    """Return what `describe_machine` gave as a few lines of at most 100 columns."""
    text = [
        f"{machine['processor']}, {machine['cores']} cores, {machine['threads']} used; {machine['time']}",
        ", ".join(f"{name} {number}" for name, number in machine["versions"].items()),
        f"commit {machine['commit']}; kernels {machine['kernels']}, compiler {machine['compiler']}; "
        f"governor {machine['governor']}; load {' '.join(map(str, machine['load_average']))}",
    ]
    return [line for paragraph in text for line in textwrap.wrap(paragraph, 100, subsequent_indent="  ")]


@dataclass(frozen=True)
class Strain:
    """What disturbed a measurement; None where the system does not tell.

    Attributes:
        cores_taken: cores that other programs kept busy, on average.
        hottest_c: temperature of the hottest thermal zone in °C.
        throttled: whether the processor was slowed down for heat or lack of power (Raspberry Pi, Intel).
        joules: energy of the processor's package (Intel and AMD, where readable).
    """

    cores_taken: float | None = None
    hottest_c: float | None = None
    throttled: bool | None = None
    joules: float | None = None

    @property
    def warnings(self) -> list[str]:
        warnings = []
        if self.cores_taken is not None and self.cores_taken > BUSY:
            warnings.append(f"other programs took {self.cores_taken:.2f} cores meanwhile: times are too long")
        if self.throttled:
            warnings.append("the processor was slowed down for heat or for want of power meanwhile")
        return warnings


class Watch:
    """Watches the machine from its creation to `strain`, or from one call of `strain` to the next."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._started, self._others = time.perf_counter(), _cpu_of_others()
        self._events, self._energy = _throttle_events(), _energy_uj()

    def strain(self) -> Strain:
        """Return what disturbed the machine since the creation or the last call."""
        others, events, energy = _cpu_of_others(), _throttle_events(), _energy_uj()
        taken = throttled = joules = None
        if others is not None and self._others is not None:
            taken = round(max(0.0, others - self._others) / max(1e-3, time.perf_counter() - self._started), 2)
        if events is not None and self._events is not None:
            throttled = events > self._events or _is_throttled_now()
        if energy is not None and self._energy is not None and energy >= self._energy:  # the counter may wrap
            joules = round((energy - self._energy) / 1e6, 2)
        strain = Strain(taken, _hottest(), throttled, joules)
        self._begin()
        return strain


def is_installed(*names: str) -> bool:
    """Return whether all these packages are installed."""
    return all(version(name) for name in names)


def version(package: str) -> str | None:
    """Return the version of a package, None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


# ---- what the system tells ---------------------------------------------------------------------------------------


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _number(path: Path) -> float | None:
    try:
        return float(_read(path))
    except ValueError:
        return None


def _cpu_of_others() -> float | None:
    """Return the CPU seconds of all other processes than this one and its children; None where it is not Linux."""
    lines = _read(Path("/proc/stat")).split("\n")
    if not lines[0].startswith("cpu "):
        return None
    user, nice, system, _, _, irq, softirq, steal, *_ = map(int, lines[0].split()[1:])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK") - sum(os.times()[:4])


def _hottest() -> float | None:
    zones = [_number(path) for path in _SYSTEM.glob("class/thermal/thermal_zone*/temp")]
    known = [zone / 1000 for zone in zones if zone is not None and zone > 0]
    return max(known) if known else None


def _pi_flags() -> int | None:
    """Return a Raspberry Pi's flags: bits 0 to 3 are now (voltage, frequency, throttled, hot), 16 to 19 since boot."""
    for path in _SYSTEM.glob("devices/platform/soc/soc:firmware/get_throttled"):
        try:
            return int(_read(path), 16)
        except ValueError:
            pass
    return None


def _throttle_events() -> int | None:
    """Return a number that grows whenever the processor is slowed down."""
    if (flags := _pi_flags()) is not None:
        return flags >> 16
    counts = [_number(path) for path in _SYSTEM.glob("devices/system/cpu/cpu*/thermal_throttle/*_throttle_count")]
    known = [count for count in counts if count is not None]
    return int(sum(known)) if known else None


def _is_throttled_now() -> bool:
    return bool((_pi_flags() or 0) & 0xF)


def _energy_uj() -> float | None:
    """Return a counter of the processor's packages, in microjoules."""
    zones = [_number(path) for path in _SYSTEM.glob("class/powercap/intel-rapl:?/energy_uj")]
    known = [one for one in zones if one is not None]
    return sum(known) if known else None


def _commit() -> str:
    """Return the commit of the source tree that holds the package."""
    command = ["git", "describe", "--always", "--dirty=, and changes to it", "--exclude=*"]
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return "none, installed"
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() or "unknown"
