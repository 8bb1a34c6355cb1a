"""Curves of a training run as a picture, drawn with Pillow: one panel a quantity, one line a series."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from edgeae.errors import UsageError
from edgeae.images.arrays import Pixels
from edgeae.images.drawing.text import printable, text_font, text_size

# Okabe and Ito, "Color Universal Design", 2008: told apart with any kind of colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_TEXT, _FAINT_TEXT, _AXIS, _GRID = "#222222", "#666666", "#999999", "#E6E6E6"
_SMOOTH = 3  # lines are drawn this many times larger and reduced, as Pillow draws them with hard edges
_LIMIT = 1e30  # a diverged loss beyond this is left out like NaN: it would leave nothing to see of the rest


@dataclass(frozen=True)
class Panel:
    """One pair of axes: a title, with the unit, and the series by name. NaN is a gap in a line."""

    title: str
    series: Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class _Axes:
    """Where a panel's data lie in the picture (pixels), and the values at its borders."""

    box: tuple[int, int, int, int]  # left, top, right, bottom
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def at(self, x: float, y: float) -> tuple[float, float]:
        (left, top, right, bottom), (x0, x1), (y0, y1) = self.box, self.x_range, self.y_range
        return left + (x - x0) / (x1 - x0) * (right - left), bottom - (y - y0) / (y1 - y0) * (bottom - top)


def draw_curves(
    panels: Sequence[Panel],
    x: Sequence[float] | None = None,
    x_label: str = "epoch",
    *,
    panel_size: tuple[int, int] = (480, 320),
) -> Pixels:
    """Draw the panels, up to three in a row: RGB (H, W, 3) uint8. The legend gives each series' last value.

    `x` holds the places of the values, by default 1, 2, 3...; a series may be shorter than it. NaN and infinity are
    left out. Raises UsageError for a series longer than `x`.
    """
    longest = max((len(values) for panel in panels for values in panel.series.values()), default=0)
    places = np.arange(1, longest + 1, dtype=np.float64) if x is None else np.asarray(x, np.float64)
    if longest > len(places):
        raise UsageError(
            f"A curve of {longest} values does not fit on an axis of {len(places)}: give x for each value."
        )
    columns = max(1, len(panels) if len(panels) <= 3 else 2)
    width, height = panel_size
    canvas = Image.new("RGB", (columns * width, max(1, math.ceil(len(panels) / columns)) * height), "white")
    for index, panel in enumerate(panels):
        picture = _draw_panel(panel, places, printable(x_label), panel_size)
        canvas.paste(picture, (index % columns * width, index // columns * height))
    return np.array(canvas)


def _draw_panel(panel: Panel, places: np.ndarray, x_label: str, size: tuple[int, int]) -> Image.Image:
    series = {printable(name): _clean(values) for name, values in panel.series.items()}
    y_range = _padded_range(np.concatenate([np.empty(0), *series.values()]))
    y_ticks = _ticks(*y_range, most=6)
    if len(places) > 1 and places.max() > places.min():
        x_range = float(places.min()), float(places.max())
        x_ticks = _ticks(*x_range, most=7, least_step=1.0 if np.all(places == np.rint(places)) else 0.0)
    else:
        x_ticks = [float(place) for place in places[:1]]
        x_range = (x_ticks[0] - 1, x_ticks[0] + 1) if x_ticks else (0.0, 1.0)
    y_labels, x_labels = _tick_labels(y_ticks), _tick_labels(x_ticks)

    font = text_font(13)
    left = 24 + max(text_size(label, font)[0] for label in y_labels)
    axes = _Axes((left, 62, size[0] - 24, size[1] - 46), x_range, y_range)
    canvas = _lines(axes, y_ticks, series, places, size)

    draw = ImageDraw.Draw(canvas)
    draw.text((left, 24), printable(panel.title), _TEXT, text_font(17), anchor="ls")
    for tick, label in zip(y_ticks, y_labels, strict=True):
        draw.text((left - 8, axes.at(x_range[0], tick)[1]), label, _FAINT_TEXT, font, anchor="rm")
    for tick, label in zip(x_ticks, x_labels, strict=True):
        draw.text((axes.at(tick, y_range[0])[0], axes.box[3] + 8), label, _FAINT_TEXT, font, anchor="mt")
    draw.text(((left + axes.box[2]) / 2, size[1] - 8), x_label, _FAINT_TEXT, font, anchor="ms")
    _draw_legend(draw, left, 46, series)
    return canvas


def _lines(
    axes: _Axes, y_ticks: list[float], series: Mapping[str, np.ndarray], places: np.ndarray, size: tuple[int, int]
) -> Image.Image:
    """Grid, axis and curves, without text."""
    canvas = Image.new("RGB", (size[0] * _SMOOTH, size[1] * _SMOOTH), "white")
    draw = ImageDraw.Draw(canvas)
    left, _, right, bottom = (value * _SMOOTH for value in axes.box)
    for tick in y_ticks:
        y = axes.at(axes.x_range[0], tick)[1] * _SMOOTH
        draw.line((left, y, right, y), _GRID, _SMOOTH)
    draw.line((left, bottom, right, bottom), _AXIS, _SMOOTH)
    for index, values in enumerate(series.values()):
        colour = COLOURS[index % len(COLOURS)]
        for run in _runs(values):
            points = [axes.at(float(places[i]), float(values[i])) for i in run]
            scaled = [(x * _SMOOTH, y * _SMOOTH) for x, y in points]
            draw.line(scaled, colour, 2 * _SMOOTH, joint="curve")
            if len(scaled) == 1:
                x, y = scaled[0]
                draw.ellipse((x - 4 * _SMOOTH, y - 4 * _SMOOTH, x + 4 * _SMOOTH, y + 4 * _SMOOTH), colour)
    return canvas.reduce(_SMOOTH)


def _draw_legend(draw: ImageDraw.ImageDraw, left: int, middle: int, series: Mapping[str, np.ndarray]) -> None:
    font = text_font(13)
    for index, (name, values) in enumerate(series.items()):
        shown = values[np.isfinite(values)]
        text = f"{name} {shown[-1]:.4g}" if len(shown) else f"{name} -"
        draw.rounded_rectangle((left, middle - 2, left + 16, middle + 1), 2, COLOURS[index % len(COLOURS)])
        draw.text((left + 22, middle), text, _TEXT, font, anchor="lm")
        left += 22 + text_size(text, font)[0] + 18


def _clean(values: Sequence[float]) -> np.ndarray:
    array = np.asarray(values, np.float64)
    return np.where(np.abs(array) < _LIMIT, array, np.nan)


def _runs(values: np.ndarray) -> list[np.ndarray]:
    """Indices of the values between gaps, one array a stretch."""
    present = np.flatnonzero(np.isfinite(values))
    return [run for run in np.split(present, np.flatnonzero(np.diff(present) > 1) + 1) if len(run)]


def _padded_range(values: np.ndarray) -> tuple[float, float]:
    """Range of a y axis: the finite values, and a margin above and below."""
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    largest = max(abs(low), abs(high))
    margin = 0.06 * (high - low)
    if margin <= 1e-7 * largest or margin < 1e-30:  # a constant
        margin = 0.05 * largest if largest > 1e-30 else 0.5
    return low - margin, high + margin


def _ticks(low: float, high: float, most: int, least_step: float = 0.0) -> list[float]:
    """Up to `most` + 1 multiples of 1, 2 or 5 times a power of ten, from low to high."""
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    steps = (multiple * power for multiple in (1, 2, 5, 10))
    step = max(least_step, next(step for step in steps if (high - low) / step <= most * (1 + 1e-9)))
    return [index * step for index in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _tick_labels(ticks: list[float]) -> list[str]:
    largest = max((abs(tick) for tick in ticks), default=0.0)
    step = ticks[1] - ticks[0] if len(ticks) > 1 else largest
    decimals = max(0, -math.floor(math.log10(step) + 1e-9)) if step else 0
    if largest >= 1e6 or decimals > 5:
        return [f"{tick:.3g}" for tick in ticks]
    return [f"{tick:.{decimals}f}" for tick in ticks]
