"""Draw the results of a benchmark: an interval for each row, on logarithmic axes."""

from __future__ import annotations

from collections.abc import Sequence

from edgeae.benchmark.results import Row, runtime
from edgeae.images.arrays import Pixels
from edgeae.images.drawing.charts import COLOURS, Interval, draw_intervals


def picture(rows: Sequence[Row]) -> Pixels:
    """Draw the latency of rows of one image, and the throughput of rows of more, by runtime and device.

    A dot is the median. The bar of a latency goes from the minimum to the 90th percentile, that of a throughput over
    its spread from turn to turn. Rows with a wrong output are left out.

    Returns:
        RGB, uint8 (H, W, 3).
    """
    good = [row for row in rows if not row.wrong]
    runtimes = dict.fromkeys(runtime(row.case) for row in good)
    colours = {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(runtimes)}
    charts: dict[str, list[Interval]] = {}
    for row in good:
        charts.setdefault(_title(row), []).append(_interval(row, colours[runtime(row.case)]))
    return draw_intervals(charts)


def _title(row: Row) -> str:
    """Return the title of a row's chart; rows with the same title are compared in one chart."""
    case = row.case
    what = f"{case.model}, {case.task}, {case.threads} thread{'s' * (case.threads > 1)}{', paced' * case.paced}"
    if case.batch == 1:
        return f"{what}: ms an image (less is better)"
    return f"{what}: images/s, {case.batch} at a time (more is better)"


def _interval(row: Row, colour: str) -> Interval:
    label = f"{runtime(row.case)}, {row.case.weights}"
    if row.case.batch == 1:
        return Interval(label, colour, row.min_ms, row.p50_ms, row.p90_ms, f"{row.p50_ms:.3g} ms")
    low, high = row.images_per_s / (1 + row.spread), row.images_per_s * (1 + row.spread)
    return Interval(label, colour, low, row.images_per_s, high, f"{row.images_per_s:,.0f} images/s")
