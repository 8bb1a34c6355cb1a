"""A benchmark as a picture: one line a row, on logarithmic axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from edgeae.benchmark.results import Row, runtime
from edgeae.images.arrays import Pixels
from edgeae.images.drawing.charts import COLOURS
from edgeae.images.drawing.text import printable, text_font, text_size

_TEXT, _FAINT, _GRID = "#222222", "#666666", "#E6E6E6"
_LINE, _AXIS_WIDTH, _MARGIN = 26, 420, 14
_SMOOTH = 2


@dataclass(frozen=True)
class _Mark:
    """One line: its label, the middle, and how far it reaches on both sides."""

    label: str
    colour: str
    low: float
    middle: float
    high: float
    text: str


def picture(rows: Sequence[Row]) -> Pixels:
    """Latency, and for every batch of more than one image throughput, by runtime and device: RGB (H, W, 3) uint8.

    A dot is the median; of latency its bar goes from the minimum to the 90th percentile, of throughput over the spread
    from turn to turn.
    """
    good = [row for row in rows if not row.wrong]
    runtimes = list(dict.fromkeys(runtime(row.case) for row in good))
    colour = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(runtimes)}
    panels = []
    groups = dict.fromkeys(
        (row.case.model, row.case.task, row.case.batch, row.case.threads, row.case.paced) for row in good
    )
    for group in groups:
        model, task, batch, threads, paced = group
        found = [
            row
            for row in good
            if (row.case.model, row.case.task, row.case.batch, row.case.threads, row.case.paced) == group
        ]
        what = f"{model}, {task}, {threads} thread{'s' * (threads > 1)}{', paced' * paced}"
        if batch == 1:
            marks = [
                _Mark(
                    _label(row), colour[runtime(row.case)], row.min_ms, row.p50_ms, row.p90_ms, f"{row.p50_ms:.3g} ms"
                )
                for row in found
            ]
            panels.append(_panel(f"{what}: ms an image (less is better)", marks))
        else:
            marks = [
                _Mark(
                    _label(row),
                    colour[runtime(row.case)],
                    row.images_per_s / (1 + row.spread),
                    row.images_per_s,
                    row.images_per_s * (1 + row.spread),
                    f"{row.images_per_s:,.0f} images/s",
                )
                for row in found
            ]
            panels.append(_panel(f"{what}: images/s, {batch} at a time (more is better)", marks))
    if not panels:
        return np.full((_LINE, _AXIS_WIDTH, 3), 255, np.uint8)
    width = max(panel.width for panel in panels)
    canvas = Image.new("RGB", (width, sum(panel.height for panel in panels)), "white")
    top = 0
    for panel in panels:
        canvas.paste(panel, (0, top))
        top += panel.height
    return np.asarray(canvas)


def _label(row: Row) -> str:
    return f"{runtime(row.case)}, {row.case.weights}"


def _panel(title: str, marks: Sequence[_Mark]) -> Image.Image:
    font = text_font(14)
    labels = max(text_size(printable(mark.label), font)[0] for mark in marks)
    values = max(text_size(mark.text, font)[0] for mark in marks)
    left = _MARGIN + labels + 10
    width = max(left + _AXIS_WIDTH + 10 + values + _MARGIN, text_size(printable(title), font)[0] + 2 * _MARGIN)
    top = _MARGIN + _LINE
    height = top + _LINE * len(marks) + _LINE + _MARGIN
    ticks = _ticks(min(mark.low for mark in marks), max(mark.high for mark in marks))
    first, last = math.log(ticks[0]), math.log(ticks[-1])

    def x(value: float) -> float:
        return left + _AXIS_WIDTH * (math.log(value) - first) / (last - first)

    # Lines and dots are drawn larger and reduced, as Pillow draws them with hard edges; text is drawn after.
    large = Image.new("RGB", (width * _SMOOTH, height * _SMOOTH), "white")
    draw = ImageDraw.Draw(large)
    for tick in ticks:
        draw.line(
            [(x(tick) * _SMOOTH, top * _SMOOTH), (x(tick) * _SMOOTH, (height - _LINE - _MARGIN + 4) * _SMOOTH)],
            fill=_GRID,
            width=_SMOOTH,
        )
    for i, mark in enumerate(marks):
        y = (top + _LINE * (i + 0.5)) * _SMOOTH
        draw.line([(x(mark.low) * _SMOOTH, y), (x(mark.high) * _SMOOTH, y)], fill=mark.colour, width=4 * _SMOOTH)
        radius, centre = 6 * _SMOOTH, x(mark.middle) * _SMOOTH
        draw.ellipse([centre - radius, y - radius, centre + radius, y + radius], fill=mark.colour)
    image = large.reduce(_SMOOTH)
    draw = ImageDraw.Draw(image)
    draw.text((_MARGIN, _MARGIN + _LINE / 2), printable(title), _TEXT, font, anchor="lm")
    for tick in ticks:
        draw.text((x(tick), height - _LINE - _MARGIN + 6), f"{tick:g}", _FAINT, font, anchor="ma")
    for i, mark in enumerate(marks):
        y = top + _LINE * (i + 0.5)
        draw.text((left - 10, y), printable(mark.label), _TEXT, font, anchor="rm")
        draw.text((left + _AXIS_WIDTH + 10, y), mark.text, _TEXT, font, anchor="lm")
    return image


def _ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten, from the last one below to the first one above; fewer where they would crowd."""
    steps = [base * 10.0**power for power in range(-6, 10) for base in (1, 2, 5)]
    first = max(step for step in steps if step <= low * 0.999)
    last = min(step for step in steps if step >= high * 1.001)
    found = [step for step in steps if first <= step <= last]
    inner = found[1:-1] if len(found) <= 8 else [step for step in found[1:-1] if math.isclose(math.log10(step) % 1, 0)]
    return [found[0], *inner, found[-1]]
