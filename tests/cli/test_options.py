"""The types of the values of options, and that their choices are those of the library."""

import click
import pytest

from edgeae.benchmark import cases
from edgeae.cli import bench
from edgeae.cli.options import SCHEME, Memory, Size
from edgeae.network.quantize import SCHEMES


@pytest.mark.parametrize(("text", "size"), [("1000", 1000), ("64k", 65536), ("512M", 512 << 20), ("2GiB", 2 << 30)])
def test_memory(text: str, size: int) -> None:
    assert Memory().convert(text, None, None) == size


@pytest.mark.parametrize(("text", "size"), [("640x480", (640, 480)), (" 1X1 ", (1, 1)), ("3×16384", (3, 16384))])
def test_size(text: str, size: tuple[int, int]) -> None:
    assert Size(1, 16384).convert(text, None, None) == size


@pytest.mark.parametrize("text", ["", "640", "640x", "x480", "0x5", "5x0", "-1x5", "1e3x5", "99999x9", "640x480x3"])
def test_size_refuses(text: str) -> None:
    with pytest.raises(click.BadParameter, match="640x480"):
        Size(1, 16384).convert(text, None, None)


def test_size_has_limits() -> None:
    for text in ("7x64", "64x8193"):
        with pytest.raises(click.BadParameter, match="from 8 to 8192"):
            Size().convert(text, None, None)


def test_choices_are_those_of_the_library() -> None:
    assert set(SCHEME.choices) == set(SCHEMES)
    assert bench.TASKS == cases.TASKS
