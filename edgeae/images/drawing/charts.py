"""Charts, drawn with Pillow: curves over a linear axis, and intervals on a logarithmic one."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from edgeae.errors import UsageError
from edgeae.images.arrays import Doubles, Pixels
from edgeae.images.drawing.axes import Axis, linear_ticks, log_ticks, tick_labels
from edgeae.images.drawing.text import printable, text_font, text_size

# Okabe and Ito, "Color Universal Design", 2008: told apart with any kind of colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_TEXT, _FAINT_TEXT, _AXIS, _GRID = "#222222", "#666666", "#999999", "#E6E6E6"
# Pillow draws lines with hard edges, so they are drawn this many times larger and reduced; text is drawn after.
_CURVE_SCALE, _INTERVAL_SCALE = 3, 2
_LIMIT = 1e30  # a diverged loss beyond this is left out like NaN: it would leave nothing to see of the rest
_ROW, _AXIS_WIDTH, _MARGIN = 26, 420, 14  # of a chart of intervals, in pixels


@dataclass(frozen=True)
class Panel:
    """A chart of curves.

    Attributes:
        title: with the unit.
        series: values of each curve by its name; NaN is a gap.
    """

    title: str
    series: Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Interval:
    """One row of a chart of intervals: a dot at `middle`, a bar from `low` to `high`, all positive.

    Attributes:
        label: text on the left.
        text: text on the right, such as the value with its unit.
    """

    label: str
    colour: str
    low: float
    middle: float
    high: float
    text: str


def draw_curves(
    panels: Sequence[Panel],
    x: Sequence[float] | None = None,
    x_label: str = "epoch",
    *,
    panel_size: tuple[int, int] = (480, 320),
) -> Pixels:
    """Draw charts of curves, up to three side by side; the legend gives each curve's last value.

    Args:
        panels: the charts.
        x: places of the values on the axis, 1, 2, 3... by default. A series may be shorter.
        x_label: text under the axis.
        panel_size: width and height of each chart in pixels.

    Returns:
        RGB, uint8 (H, W, 3). NaN and infinite values are left out.

    Raises:
        UsageError: a series is longer than `x`.
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


def draw_intervals(charts: Mapping[str, Sequence[Interval]]) -> Pixels:
    """Draw charts of intervals below each other, each with its own logarithmic axis.

    Args:
        charts: the rows of each chart, from top to bottom, by its title.

    Returns:
        RGB, uint8 (H, W, 3).
    """
    pictures = [_draw_interval_chart(title, intervals) for title, intervals in charts.items()]
    if not pictures:
        return np.full((_ROW, _AXIS_WIDTH, 3), 255, np.uint8)
    width = max(picture.width for picture in pictures)
    canvas = Image.new("RGB", (width, sum(picture.height for picture in pictures)), "white")
    top = 0
    for picture in pictures:
        canvas.paste(picture, (0, top))
        top += picture.height
    return np.asarray(canvas)


def _draw_panel(panel: Panel, places: Doubles, x_label: str, size: tuple[int, int]) -> Image.Image:
    series = {printable(name): _blank_outliers(values) for name, values in panel.series.items()}
    y_range = _padded_range(np.concatenate([np.empty(0), *series.values()]))
    y_ticks = linear_ticks(*y_range, most=6)
    if len(places) > 1 and places.max() > places.min():
        x_range = float(places.min()), float(places.max())
        x_ticks = linear_ticks(*x_range, most=7, least_step=1.0 if np.all(places == np.rint(places)) else 0.0)
    else:
        x_ticks = [float(place) for place in places[:1]]
        x_range = (x_ticks[0] - 1, x_ticks[0] + 1) if x_ticks else (0.0, 1.0)
    y_labels, x_labels = tick_labels(y_ticks), tick_labels(x_ticks)

    font = text_font(13)
    left = 24 + max(text_size(label, font)[0] for label in y_labels)
    right, top, bottom = size[0] - 24, 62, size[1] - 46
    x, y = Axis((left, right), x_range), Axis((bottom, top), y_range)
    canvas = _draw_lines(x, y, y_ticks, series, places, size)

    draw = ImageDraw.Draw(canvas)
    draw.text((left, 24), printable(panel.title), _TEXT, text_font(17), anchor="ls")
    for tick, label in zip(y_ticks, y_labels, strict=True):
        draw.text((left - 8, y.at(tick)), label, _FAINT_TEXT, font, anchor="rm")
    for tick, label in zip(x_ticks, x_labels, strict=True):
        draw.text((x.at(tick), bottom + 8), label, _FAINT_TEXT, font, anchor="mt")
    draw.text(((left + right) / 2, size[1] - 8), x_label, _FAINT_TEXT, font, anchor="ms")
    _draw_legend(draw, left, 46, series)
    return canvas


def _draw_lines(
    x: Axis, y: Axis, y_ticks: list[float], series: Mapping[str, Doubles], places: Doubles, size: tuple[int, int]
) -> Image.Image:
    """Draw grid, axis and curves, without text."""
    scale = _CURVE_SCALE
    canvas = Image.new("RGB", (size[0] * scale, size[1] * scale), "white")
    draw = ImageDraw.Draw(canvas)
    left, right, bottom = (position * scale for position in (*x.pixels, y.pixels[0]))
    for tick in y_ticks:
        height = y.at(tick) * scale
        draw.line((left, height, right, height), _GRID, scale)
    draw.line((left, bottom, right, bottom), _AXIS, scale)
    for index, values in enumerate(series.values()):
        colour = COLOURS[index % len(COLOURS)]
        for run in _split_at_gaps(values):
            points = [(x.at(float(places[i])) * scale, y.at(float(values[i])) * scale) for i in run]
            draw.line(points, colour, 2 * scale, joint="curve")
            if len(points) == 1:
                _draw_dot(draw, *points[0], 4 * scale, colour)
    return canvas.reduce(scale)


def _draw_legend(draw: ImageDraw.ImageDraw, left: int, middle: int, series: Mapping[str, Doubles]) -> None:
    font = text_font(13)
    for index, (name, values) in enumerate(series.items()):
        finite = values[np.isfinite(values)]
        text = f"{name} {finite[-1]:.4g}" if len(finite) else f"{name} -"
        draw.rounded_rectangle((left, middle - 2, left + 16, middle + 1), 2, COLOURS[index % len(COLOURS)])
        draw.text((left + 22, middle), text, _TEXT, font, anchor="lm")
        left += 22 + text_size(text, font)[0] + 18


def _draw_interval_chart(title: str, intervals: Sequence[Interval]) -> Image.Image:
    font = text_font(14)
    title, labels = printable(title), [printable(interval.label) for interval in intervals]
    label_width = max(text_size(label, font)[0] for label in labels)
    text_width = max(text_size(interval.text, font)[0] for interval in intervals)
    left = _MARGIN + label_width + 10
    right = left + _AXIS_WIDTH
    width = max(right + 10 + text_width + _MARGIN, text_size(title, font)[0] + 2 * _MARGIN)
    top = _MARGIN + _ROW
    bottom = top + _ROW * len(intervals)
    height = bottom + _ROW + _MARGIN
    ticks = log_ticks(min(interval.low for interval in intervals), max(interval.high for interval in intervals))
    x = Axis((left, right), (ticks[0], ticks[-1]), logarithmic=True)
    middles = [top + _ROW * (index + 0.5) for index in range(len(intervals))]

    scale = _INTERVAL_SCALE
    large = Image.new("RGB", (width * scale, height * scale), "white")
    draw = ImageDraw.Draw(large)
    for tick in ticks:
        draw.line((x.at(tick) * scale, top * scale, x.at(tick) * scale, (bottom + 4) * scale), _GRID, scale)
    for interval, middle in zip(intervals, middles, strict=True):
        y = middle * scale
        draw.line((x.at(interval.low) * scale, y, x.at(interval.high) * scale, y), interval.colour, 4 * scale)
        _draw_dot(draw, x.at(interval.middle) * scale, y, 6 * scale, interval.colour)

    canvas = large.reduce(scale)
    draw = ImageDraw.Draw(canvas)
    draw.text((_MARGIN, _MARGIN + _ROW / 2), title, _TEXT, font, anchor="lm")
    for tick in ticks:
        draw.text((x.at(tick), bottom + 6), f"{tick:g}", _FAINT_TEXT, font, anchor="ma")
    for interval, label, middle in zip(intervals, labels, middles, strict=True):
        draw.text((left - 10, middle), label, _TEXT, font, anchor="rm")
        draw.text((right + 10, middle), interval.text, _TEXT, font, anchor="lm")
    return canvas


def _draw_dot(draw: ImageDraw.ImageDraw, x: float, y: float, radius: int, colour: str) -> None:
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), colour)


def _blank_outliers(values: Sequence[float]) -> Doubles:
    array = np.asarray(values, np.float64)
    return np.where(np.abs(array) < _LIMIT, array, np.nan)


def _split_at_gaps(values: Doubles) -> list[npt.NDArray[np.intp]]:
    """Return the indices of the finite values, one array for each stretch without a gap."""
    present = np.flatnonzero(np.isfinite(values))
    return [run for run in np.split(present, np.flatnonzero(np.diff(present) > 1) + 1) if len(run)]


def _padded_range(values: Doubles) -> tuple[float, float]:
    """Return the range of a y axis: that of the finite values, and a margin above and below."""
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    largest = max(abs(low), abs(high))
    margin = 0.06 * (high - low)
    if margin <= 1e-7 * largest or margin < 1e-30:  # a constant
        margin = 0.05 * largest if largest > 1e-30 else 0.5
    return low - margin, high + margin
