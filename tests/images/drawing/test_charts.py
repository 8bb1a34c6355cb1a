"""Charts: where curves and intervals are drawn, and values that must not stop a training run."""

import math

import numpy as np
import pytest
from PIL import ImageColor

from edgeae.errors import UsageError
from edgeae.images.drawing.charts import COLOURS, Interval, Panel, draw_curves, draw_intervals


def places(picture: np.ndarray, colour: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of a series' pixels below the legend."""
    rows, columns = np.nonzero(np.all(picture == ImageColor.getrgb(COLOURS[colour]), axis=2))
    below = rows > 55
    return rows[below], columns[below]


def test_a_line_goes_through_its_values() -> None:
    picture = draw_curves([Panel("loss", {"train": [0, 1, 2, 3], "val": [3, 2, 1, 0]})], x=[10, 20, 30, 40])
    assert picture.shape == (320, 480, 3)
    rows, columns = places(picture, 0)
    slope, start = np.polyfit(columns, rows, 1)
    assert np.abs(slope * columns + start - rows).max() < 1.6  # straight
    assert slope < 0  # upwards
    falling, _ = places(picture, 1)
    assert abs((falling.min() + falling.max()) - (rows.min() + rows.max())) <= 2  # the mirror image


def test_nan_and_infinity_are_gaps() -> None:
    whole = draw_curves([Panel("loss", {"train": [1.0] * 9})])
    gap = draw_curves([Panel("loss", {"train": [1, 1, 1, math.nan, math.inf, 1e35, 1, 1, 1]})])
    _, columns = places(gap, 0)
    assert np.diff(np.unique(columns)).max() > 100
    np.testing.assert_array_equal(np.unique(columns)[[0, -1]], np.unique(places(whole, 0)[1])[[0, -1]])


def test_panels_stand_side_by_side() -> None:
    panel = Panel("PSNR, dB", {"output": [20.0, 25.0]})
    one = draw_curves([panel])
    np.testing.assert_array_equal(draw_curves([panel] * 3), np.concatenate([one] * 3, axis=1))
    assert draw_curves([panel] * 5, panel_size=(300, 200)).shape == (600, 600, 3)


@pytest.mark.parametrize(
    "values",
    [
        [],
        [0.3],
        [0.0, 0.0],
        [math.nan],
        [math.nan, 2.0],
        [1e29, -1e29],
        [1e-320, 0],
        [5.0, 5.0 + 1e-12],
        [1e8, 3e8],
        [1e-7, 2e-7],
    ],
)
def test_any_values_can_be_drawn(values: list[float]) -> None:
    picture = draw_curves([Panel("β·KL", {"épôque": values, "val": values[:1]})])
    assert picture.shape == (320, 480, 3)
    rows, _ = places(picture, 0)
    shown = [value for value in values if math.isfinite(value)]
    assert bool(len(rows) or len(places(picture, 1)[0])) == bool(shown)


def test_axes_without_length() -> None:
    assert draw_curves([Panel("loss", {"train": [1, 2]})], x=[4, 4]).shape == (320, 480, 3)
    assert draw_curves([]).shape == (320, 480, 3)
    with pytest.raises(UsageError, match="3 values"):
        draw_curves([Panel("loss", {"train": [1, 2, 3]})], x=[1, 2])


def test_intervals_stand_at_their_logarithms() -> None:
    intervals = [Interval("a", COLOURS[0], 1, 10, 100, ""), Interval("b", COLOURS[1], 10, 10, 10, "")]
    picture = draw_intervals({"latency": intervals})
    _, bar = places(picture, 0)
    _, dot = places(picture, 1)
    assert abs((bar.min() + bar.max()) / 2 - dot.mean()) <= 1  # 10 is halfway from 1 to 100
    longer = draw_intervals({"latency": intervals, "a chart with a title that is longer than its axis" * 3: intervals})
    assert longer.shape[0] == 2 * picture.shape[0] and longer.shape[1] > picture.shape[1]
    assert draw_intervals({}).min() == 255
