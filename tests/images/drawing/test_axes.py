"""Axes: positions against NumPy's interpolation, and ticks written out."""

import numpy as np
import pytest

from edgeae.images.drawing.axes import Axis, linear_ticks, log_ticks, tick_labels


@pytest.mark.parametrize("pixels", [(40, 460), (274, 62)])
def test_positions(pixels: tuple[float, float]) -> None:
    for value in (0.5, 2.0, 7.0, 50.0):
        expected = np.interp(value, (0.5, 50), pixels)
        assert Axis(pixels, (0.5, 50)).at(value) == pytest.approx(expected)
        expected = np.interp(np.log10(value), np.log10((0.5, 50)), pixels)
        assert Axis(pixels, (0.5, 50), logarithmic=True).at(value) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0, 1, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (-3, 27, ["0", "5", "10", "15", "20", "25"]),
        (0.011, 0.019, ["0.012", "0.014", "0.016", "0.018"]),
        (1e6, 3e6, ["1e+06", "1.5e+06", "2e+06", "2.5e+06", "3e+06"]),
    ],
)
def test_linear_ticks_and_their_labels(low: float, high: float, labels: list[str]) -> None:
    assert tick_labels(linear_ticks(low, high, most=6)) == labels


def test_the_step_of_whole_numbers() -> None:
    assert linear_ticks(1, 3, most=7, least_step=1) == [1, 2, 3]


def test_logarithmic_ticks() -> None:
    assert log_ticks(1.5, 30) == [1, 2, 5, 10, 20, 50]
    assert log_ticks(1, 30)[0] == 0.5  # no value stands on the border
    assert log_ticks(1.5, 30_000) == [1, 10, 100, 1000, 10_000, 50_000]
