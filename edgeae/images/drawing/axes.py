"""Axes of charts, linear or logarithmic: from values to pixels, and where the ticks are."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """One axis of a chart.

    Attributes:
        pixels: positions of its two ends in the picture. The first is the larger one if the axis points up.
        values: the values at these ends, positive if the axis is logarithmic.
        logarithmic: whether equal ratios, not equal differences, are equally long.
    """

    pixels: tuple[float, float]
    values: tuple[float, float]
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """Return the position of a value in pixels."""
        start, end = self.pixels
        low, high = self.values
        if self.logarithmic:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return start + (value - low) / (high - low) * (end - start)


def linear_ticks(low: float, high: float, most: int, least_step: float = 0.0) -> list[float]:
    """Return up to `most` + 1 multiples of 1, 2 or 5 times a power of ten, from `low` to `high`."""
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    steps = (multiple * power for multiple in (1, 2, 5, 10))
    step = max(least_step, next(step for step in steps if (high - low) / step <= most * (1 + 1e-9)))
    return [index * step for index in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times powers of ten, from the last one below `low` to the first one above `high`.

    If these are more than 8, only powers of ten stay between the first and the last.
    """
    steps = [multiple * 10.0**power for power in range(-6, 10) for multiple in (1, 2, 5)]
    first = max(step for step in steps if step <= low * 0.999)
    last = min(step for step in steps if step >= high * 1.001)
    inner = [step for step in steps if first < step < last]
    if len(inner) > 6:
        inner = [step for step in inner if math.isclose(math.log10(step) % 1, 0)]
    return [first, *inner, last]


def tick_labels(ticks: list[float]) -> list[str]:
    """Return the labels of linear ticks, with as many decimals as their step needs."""
    largest = max((abs(tick) for tick in ticks), default=0.0)
    step = ticks[1] - ticks[0] if len(ticks) > 1 else largest
    decimals = max(0, -math.floor(math.log10(step) + 1e-9)) if step else 0
    if largest >= 1e6 or decimals > 5:
        return [f"{tick:.3g}" for tick in ticks]
    return [f"{tick:.{decimals}f}" for tick in ticks]
