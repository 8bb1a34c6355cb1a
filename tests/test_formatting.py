"""Tables and durations as text."""

import math

import pytest

from edgeae import formatting


@pytest.mark.parametrize(
    ("seconds", "wanted"),
    [
        (0, "0:00"),
        (0.4, "0:00"),
        (59.6, "1:00"),
        (75, "1:15"),
        (3599, "59:59"),
        (3600, "1:00:00"),
        (90061, "25:01:01"),
        (-3, "0:00"),
        (math.nan, "-"),
        (math.inf, "-"),
    ],
)
def test_duration(seconds: float, wanted: str) -> None:
    assert formatting.duration(seconds) == wanted


def test_table() -> None:
    lines = formatting.table(["name", "bytes"], [["a", "1,000"], ["longer", "7"]], right=[1])
    assert lines == ["name    bytes", "a       1,000", "longer      7"]
    assert formatting.table(["device", ""], [["CPU", ""]]) == ["device", "CPU"]
