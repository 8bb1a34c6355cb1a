"""What the scripts here share: engines that take turns, a table of their times, and options."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from edgeae.benchmark.machine import Watch, headline, is_installed, this_machine
from edgeae.benchmark.turns import Engine, Turns, WrongOutput

__all__ = [
    "Array",
    "Engine",
    "Report",
    "Times",
    "WrongOutput",
    "calls_option",
    "is_installed",
    "json_option",
    "kernels_option",
    "must_be_close",
    "quick_option",
    "rounds_option",
    "table",
    "take_turns",
    "threads_option",
]

Array = npt.NDArray[Any]
Times = dict[str, list[float]]


def must_be_close(found: Array, wanted: Array, tolerance: float, what: str) -> None:
    """Raises WrongOutput unless they are equal within `tolerance` of the largest wanted value."""
    if found.shape != wanted.shape:
        raise WrongOutput(f"{what}: shape {found.shape}, not {wanted.shape}")
    error = np.abs(found - wanted).max() / np.abs(wanted).max()
    if not error <= tolerance:  # true of NaN
        raise WrongOutput(f"{what}: off by {error:.1e} of the largest value; {tolerance:.0e} is allowed")


def take_turns(
    engines: Sequence[Engine], rounds: int, calls: int, idle_s: float | None = None, warm_up: int = 20
) -> Times:
    """Seconds of every timed call, by the engine's name, after at most `warm_up` calls of each. Raises WrongOutput for
    the first output that is wrong."""
    turns = Turns([replace(engine, calls=calls) for engine in engines], idle_s)
    turns.warm_up(warm_up)
    turns.run(rounds)
    for timing in turns.timings.values():
        if timing.wrong:
            raise WrongOutput(timing.wrong)
    return {name: timing.seconds for name, timing in turns.timings.items()}


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
        self._machine, self._json_path = this_machine(threads), json_path
        self._watch = Watch()

    def header(self) -> list[str]:
        """Three lines: the machine, versions, and what is measured."""
        return headline(self._machine)

    def finish(self) -> list[str]:
        """Write the file. Returns a line on how far other programs disturbed all this, if the system tells."""
        taken = self._watch.strain().cores_taken
        self._machine["cores_taken_by_others"] = taken
        if self._json_path is not None:
            self._json_path.write_text(json.dumps({"machine": self._machine, "results": self.results}, indent=1) + "\n")
        return (
            []
            if taken is None
            else ["", f"other programs took {taken:.2f} of {self._machine['cores']} cores meanwhile"]
        )


# ---- options that the scripts share ------------------------------------------------------------------------------

threads_option = click.option("--threads", default=2, show_default=True, help="Threads, of every engine.")
rounds_option = click.option("--rounds", default=15, show_default=True, help="Turns of every engine.")
calls_option = click.option("--calls", default=5, show_default=True, help="Timed calls in a turn.")
kernels_option = click.option(
    "--kernels",
    multiple=True,
    metavar="NAME",
    help="Also ours with EDGEAE_KERNELS=NAME, such as off or avx2; may be given more than once.",
)
quick_option = click.option("--quick", is_flag=True, help="Tiny sizes and two rounds, to see that the script works.")
json_option = click.option(
    "--json",
    "json_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write every time, in seconds, to this file.",
)
