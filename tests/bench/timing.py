"""Engines that take turns in one process, the table of their times, and the machine that they ran on."""

from __future__ import annotations

import gc
import importlib.metadata
import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from edgeae.compilers import find_compiler
from edgeae.cpu import processor_name
from edgeae.kernels.programs import instruction_set

IDLE_S = 0.25  # longer than the threads of any peer spin: Intel's OpenMP, which waits longest, gives up after 0.2 s
_PACKAGES = ("tinygrad", "numpy", "torch", "onnxruntime", "openvino")

Array = npt.NDArray[Any]
Times = dict[str, list[float]]


@dataclass(frozen=True)
class Engine:
    """Something to time.

    Attributes:
        name: of its row.
        call: does the work once. Its argument counts the calls and chooses the input.
        check: raises when the output of a call, given its count, is wrong; never timed.
        rounds: the most that it takes part in, for a slow one; None is all.
    """

    name: str
    call: Callable[[int], Any]
    check: Callable[[int, Any], None]
    rounds: int | None = None


class WrongOutput(Exception):
    """What an engine computed is not what it should be: its time means nothing."""


def must_be_close(found: Array, wanted: Array, tolerance: float, what: str) -> None:
    """Raises WrongOutput unless they are equal within `tolerance` of the largest wanted value."""
    if found.shape != wanted.shape:
        raise WrongOutput(f"{what}: shape {found.shape}, not {wanted.shape}")
    error = np.abs(found - wanted).max() / np.abs(wanted).max()
    if not error <= tolerance:  # true of NaN
        raise WrongOutput(f"{what}: off by {error:.1e} of the largest value; {tolerance:.0e} is allowed")


def take_turns(engines: Sequence[Engine], rounds: int, calls: int, idle_s: float = IDLE_S, warm_up: int = 4) -> Times:
    """Seconds of every timed call, by the engine's name.

    In each round every engine has a turn: an idle gap, in which the threads of the one before fall asleep, a call that
    is not timed, and `calls` that are. The outputs of the first and the last call of a turn are checked. The first
    engine of a round is the second one of the round before.

    Args:
        warm_up: calls of each engine before the first round, all checked; a JIT of tinygrad is compiled in two.
    """
    counts = {engine.name: 0 for engine in engines}
    times: Times = {engine.name: [] for engine in engines}

    def run(engine: Engine, checked: bool) -> float:
        count = counts[engine.name]
        counts[engine.name] += 1
        started = time.perf_counter()
        output = engine.call(count)
        seconds = time.perf_counter() - started
        if checked:
            engine.check(count, output)
        return seconds

    for engine in engines:
        for _ in range(warm_up):
            run(engine, checked=True)
    collects = gc.isenabled()
    gc.disable()
    try:
        for r in range(rounds):
            first = r % len(engines)
            for engine in [*engines[first:], *engines[:first]]:
                if engine.rounds is not None and r >= engine.rounds:
                    continue
                gc.collect()
                time.sleep(idle_s)
                run(engine, checked=True)
                times[engine.name] += [run(engine, checked=i == calls - 1) for i in range(calls)]
    finally:
        if collects:
            gc.enable()
    return times


# ---- what is printed ---------------------------------------------------------------------------------------------


def table(times: Times, ours: str) -> list[str]:
    """Minimum, median and 90th percentile in ms, and the median of `ours` divided by each median."""
    width = max(len(name) for name in times)
    ours_median = np.median(times[ours])
    lines = [f"{'ms':{width}}  {'min':>9}  {'median':>9}  {'p90':>9}  {'calls':>5}  ours ÷ it"]
    for name, seconds in times.items():
        low, median, high = 1e3 * np.percentile(seconds, [0, 50, 90])
        ratio = 1e3 * ours_median / median
        lines.append(f"{name:{width}}  {low:9.3f}  {median:9.3f}  {high:9.3f}  {len(seconds):5}  {ratio:9.2f}")
    return lines


class Report:
    """What a script prints around its tables, and its JSON file.

    Attributes:
        results: whatever is to stand in the file, by name; times in seconds.
    """

    def __init__(self, threads: int, json_path: Path | None = None) -> None:
        self.results: dict[str, Any] = {}
        self._machine, self._json_path = machine(threads), json_path
        self._started, self._cpu_of_others = time.perf_counter(), _cpu_of_others()

    def header(self) -> list[str]:
        """Three lines: the machine, versions, and what is measured."""
        found = self._machine
        return [
            f"{found['processor']}, {found['cores']} cores, {found['threads']} used; {found['time']}",
            ", ".join(f"{name} {version}" for name, version in found["versions"].items()),
            f"commit {found['commit']}; kernels {found['kernels']}, compiler {found['compiler']}; "
            f"load {' '.join(map(str, found['load_average']))}",
        ]

    def finish(self) -> list[str]:
        """Write the file. Returns a line on how far other programs disturbed all this, if the system tells."""
        lines = []
        if (seconds := _cpu_of_others()) is not None and self._cpu_of_others is not None:
            taken = max(0.0, seconds - self._cpu_of_others) / (time.perf_counter() - self._started)
            self._machine["cores_taken_by_others"] = round(taken, 2)
            lines = ["", f"other programs took {taken:.2f} of {self._machine['cores']} cores meanwhile"]
        if self._json_path is not None:
            self._json_path.write_text(json.dumps({"machine": self._machine, "results": self.results}, indent=1) + "\n")
        return lines


def machine(threads: int) -> dict[str, Any]:
    """What a time depends on beside the code: hardware, load, versions, commit."""
    compiler, kernels = find_compiler(), instruction_set()
    return {
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "threads": threads,
        "load_average": [round(load, 2) for load in os.getloadavg()] if hasattr(os, "getloadavg") else ["unknown"],
        "kernels": kernels.name if kernels else "off",
        "compiler": compiler.name if compiler else "none",
        "versions": {"python": platform.python_version(), **{name: v for name in _PACKAGES if (v := _version(name))}},
        "commit": _commit(),
        "time": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _cpu_of_others() -> float | None:
    """Seconds that all cores worked for others than this process and its children; None on systems other than Linux."""
    file = Path("/proc/stat")
    if not file.exists():
        return None
    user, nice, system, _, _, irq, softirq, steal, *_ = map(int, file.read_text().split("\n")[0].split()[1:])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK") - sum(os.times()[:4])


def is_installed(*names: str) -> bool:
    """Whether all these packages are."""
    return all(_version(name) for name in names)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty=, and changes to it", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() or "unknown"


# ---- options that the scripts share ------------------------------------------------------------------------------

threads_option = click.option("--threads", default=2, show_default=True, help="Threads, of every engine.")
rounds_option = click.option("--rounds", default=15, show_default=True, help="Turns of every engine.")
calls_option = click.option("--calls", default=5, show_default=True, help="Timed calls in a turn.")
kernels_option = click.option(
    "--kernels", multiple=True, metavar="NAME",
    help="Also ours with EDGEAE_KERNELS=NAME, such as off or avx2; may be given more than once.")
quick_option = click.option("--quick", is_flag=True, help="Tiny sizes and two rounds, to see that the script works.")
json_option = click.option("--json", "json_path", type=click.Path(path_type=Path), metavar="FILE",
                           help="Write every time, in seconds, to this file.")
