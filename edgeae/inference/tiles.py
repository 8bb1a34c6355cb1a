"""Cut an image into pieces that fit the memory, and join their results without a seam.

A fully convolutional network without normalization layers has a bounded receptive field: what lies further than its
*reach* from a pixel cannot change it. Neighboring pieces overlap by twice the reach where they can, so that up to the
middle of the overlap each has the values that the whole image would have; there a short ramp blends one into the other.
The sides of pieces are taken from a short ladder, because every new shape costs the compilation of a graph: a folder of
photos of many sizes needs few shapes.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise, product
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from edgeae.config import ModelConfig
from edgeae.errors import UsageError
from edgeae.network.models import build
from edgeae.network.tracing import Trace, trace
from edgeae.runtime.tinygrad_lock import tinygrad_on
from edgeae.runtime.turns import TINYGRAD

Floats: TypeAlias = npt.NDArray[np.float32]
Rows: TypeAlias = npt.NDArray[Any]

MIN_MEM = 32 << 20  # bytes
LADDER = sorted(base << k for base in (64, 96) for k in range(11))
_RAMP = 8  # pixels over which one piece is blended into the next, where both are exact
_NETWORK_SHARE = 0.5  # of the memory, for the network; the rest is for the rows of the image that are being joined


@dataclass(frozen=True)
class Axis:
    """The cut of one axis of an image.

    The last piece may reach past the image's end, by less than a stride where there are several.

    Attributes:
        side: length of a piece in pixels, a multiple of the network's stride.
        starts: where the pieces begin, multiples of the stride too.
        weights: (pieces, side), how much each piece counts at each of its positions; at every pixel of the image they
            sum to 1.
    """

    side: int
    starts: tuple[int, ...]
    weights: Floats


@dataclass(frozen=True)
class Tiling:
    """The cut of an image into pieces, a grid of len(rows.starts) × len(columns.starts).

    Attributes:
        rows, columns: the cuts from top to bottom and from left to right.
    """

    rows: Axis
    columns: Axis

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of a piece."""
        return self.rows.side, self.columns.side

    @property
    def pieces(self) -> int:
        """Number of pieces."""
        return len(self.rows.starts) * len(self.columns.starts)


def default_memory() -> int:
    """Return the bytes to work in: 512 MB, or a quarter of the machine's memory where that is less."""
    try:
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return 512 << 20
    return max(MIN_MEM, min(512 << 20, machine // 4))


# ---- what a network sees and needs -------------------------------------------------------------------------------


@lru_cache(maxsize=32)
def _trace(config: ModelConfig) -> tuple[Trace, int]:
    """Return what `reconstruct` does with an image, and the number of the value that is the code."""
    with TINYGRAD.turn, tinygrad_on("CPU"):
        model = build(config, "CPU")  # its weights are neither allocated nor loaded
    image = (1, config.size, config.size, config.in_channels)
    return trace(model.reconstruct, image), trace(model.features, image).outputs[0]


@lru_cache(maxsize=32)
def reach(config: ModelConfig) -> int:
    """Return how many pixels away, at most, an input can change an output of a `conv` or `residual` network."""
    steps = _trace(config)[0].steps
    furthest = 0
    for phase in range(config.stride):  # of an output pixel, beside the network's stride
        # For each value, numbered as in the trace, the lowest and highest row that the output pixel depends on.
        rows = {len(steps): (phase, phase)}
        for number in range(len(steps), 0, -1):
            step, (low, high) = steps[number - 1], rows[number]
            shape = step.shape
            if shape.up:  # the even rows see the input row before theirs too, the odd ones the row after
                needed = (low - 1) // 2, (high + 1) // 2
            else:
                first = low * shape.stride - shape.padding, high * shape.stride - shape.padding
                needed = first[0], first[1] + shape.window - 1
            for value, (top, bottom) in ((step.x, needed), (step.add, (low, high))):
                if value is not None:
                    before = rows.get(value, (top, bottom))
                    rows[value] = min(top, before[0]), max(bottom, before[1])
        low, high = rows[0]
        furthest = max(furthest, phase - low, high - phase)
    return furthest


@lru_cache(maxsize=32)
def bytes_per_pixel(config: ModelConfig) -> float:
    """Return the memory of a network for each pixel of an image: the outputs of its layers in float32, none freed.

    What tinygrad takes was 0.9 to 1.2 times as much for images of 0.25 to 1 megapixel.
    """
    traced, code = _trace(config)
    # The code is left out, below a hundredth of the sum: it would move the cuts, and so the rounding of results.
    values = sum(math.prod(step.shape.output) for number, step in enumerate(traced.steps, 1) if number != code)
    return 4 * (3.0 * (config.in_channels + config.out_channels) + values / config.size**2)


# ---- the cut -----------------------------------------------------------------------------------------------------


def plan(height: int, width: int, config: ModelConfig, max_mem: int, bytes_per_column: int = 32) -> Tiling:
    """Return the tiling with the fewest pixels to compute, overlaps included, that fits into `max_mem` bytes.

    Args:
        height, width: of the image in pixels.
        config: of a `conv` or `residual` network.
        max_mem: bytes for the network and for the rows that are being joined; at least MIN_MEM.
        bytes_per_column: bytes for one pixel of a row that waits to be joined.

    Raises:
        UsageError: not even the smallest pieces fit.
    """
    if max_mem < MIN_MEM:
        raise UsageError(f"{max_mem >> 20} MB of memory are too few: give `max_mem` {MIN_MEM >> 20}M or more.")
    pixels = _NETWORK_SHARE * max_mem / bytes_per_pixel(config)
    rows = (1 - _NETWORK_SHARE) * max_mem / (width * bytes_per_column)
    # First of all without seams, that is with overlaps of twice the reach; then the fewest pixels.
    best: tuple[bool, int, int, int] | None = None
    for high, wide in product(_list_sides(height, config), _list_sides(width, config)):
        if high * wide > pixels or min(high, height) > rows:
            continue
        cuts = (height, high), (width, wide)
        seams = any(length > side <= _exact_overlap(config) for length, side in cuts)
        computed = math.prod(len(_place_pieces(length, side, config)) * side for length, side in cuts)
        best = min(best or (True, sys.maxsize, 0, 0), (seams, computed, high, wide))
    if best is None:
        raise UsageError(
            f"{max_mem >> 20} MB of memory are too few for an image of {width}×{height} pixels and this "
            "model: give a larger `max_mem`."
        )
    return Tiling(_cut_axis(height, best[2], config), _cut_axis(width, best[3], config))


def _up_to(multiple: int, value: int) -> int:
    return -(-value // multiple) * multiple


def _list_sides(length: int, config: ModelConfig) -> list[int]:
    """Return the sides that a piece may have: the image's own up to the size of training, else rungs of LADDER."""
    if length <= max(LADDER[0], config.size):
        return [_up_to(config.stride, length)]
    enough = next((i for i, rung in enumerate(LADDER) if rung >= length), len(LADDER))
    return sorted({_up_to(config.stride, rung) for rung in LADDER[: enough + 1]})


def _exact_overlap(config: ModelConfig) -> int:
    """Return the overlap from which on neighboring pieces agree in its middle, a multiple of the stride."""
    return _up_to(config.stride, 2 * reach(config))


def _overlap(side: int, config: ModelConfig) -> int:
    """Return the pixels that neighboring pieces of this side share, a multiple of the stride."""
    wanted = _exact_overlap(config)
    return wanted if wanted < side else side // 2 // config.stride * config.stride


def _place_pieces(length: int, side: int, config: ModelConfig) -> list[int]:
    """Return where the pieces begin: evenly spaced, and as few as the overlap allows."""
    if length <= side:
        return [0]
    stride, overlap = config.stride, _overlap(side, config)
    spare = (_up_to(stride, length) - side) // stride
    steps = -(-spare * stride // (side - overlap))
    return [i * spare // steps * stride for i in range(steps + 1)]


def _cut_axis(length: int, side: int, config: ModelConfig) -> Axis:
    starts = _place_pieces(length, side, config)
    positions = np.arange(side) + 0.5
    weights = np.ones((len(starts), side), np.float32)
    for i, (a, b) in enumerate(pairwise(starts)):
        shared = a + side - b
        ramp = min(max(_RAMP, 2 * reach(config) + _RAMP - shared), shared)
        # From 0 to 1 over `ramp` pixels in the middle of those that this piece shares with the next one.
        rising = np.clip((positions - (shared - ramp) / 2) / ramp, 0, 1)
        weights[i + 1] *= rising
        weights[i, b - a :] *= 1 - rising[:shared]
    return Axis(side, tuple(starts), weights)


# ---- the pieces joined -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Strip:
    """Rows of an image, or a piece of them, with what belongs to each of their pixels.

    Attributes:
        pixels: (n, w, K), of any type.
        mask: (n, w, 1), 0 where a pixel is to stay as it is; None without a mask.
        guess: (n, w, C), what may fill a hole; None without a guess.
    """

    pixels: Rows
    mask: Rows | None = None
    guess: Rows | None = None

    def __len__(self) -> int:
        return len(self.pixels)

    def cut(self, rows: slice, columns: slice = slice(None)) -> Strip:
        """Return some rows and columns, as views."""
        return self._map(lambda x: x[rows, columns])

    def copy(self) -> Strip:
        """Return a strip that does not hold on to what it was cut from."""
        return self._map(np.copy)

    def mirror(self, height: int, width: int) -> Strip:
        """Extend the strip to this size, as the function `mirror` does."""
        return self._map(lambda x: mirror(x, height, width))

    def append(self, below: Strip) -> Strip:
        """Return this strip and another one, which has the same arrays, as one."""
        pixels = np.concatenate([self.pixels, below.pixels])
        mask = None if self.mask is None or below.mask is None else np.concatenate([self.mask, below.mask])
        guess = None if self.guess is None or below.guess is None else np.concatenate([self.guess, below.guess])
        return Strip(pixels, mask, guess)

    def _map(self, change: Callable[[Rows], Rows]) -> Strip:
        mask = None if self.mask is None else change(self.mask)
        guess = None if self.guess is None else change(self.guess)
        return Strip(change(self.pixels), mask, guess)


def join(
    read: Callable[[int], Strip], height: int, tiling: Tiling, run: Callable[[Strip], Floats | None]
) -> Iterator[tuple[Strip, Floats | None]]:
    """Run a function on every piece of an image that comes row by row, and yield the joined rows as they are done.

    No more is held than one row of pieces, however high the image is.

    Args:
        read: returns the next n rows of the image.
        height: of the image in pixels.
        tiling: of this height and the image's width W.
        run: turns a piece of h × w pixels into (h, w, C), or into None where the result is not needed. Beyond the
            image's right and lower edge a piece is filled with its mirror image.

    Yields:
        rows as they were read, and the joined results, (n, W, C), or None for a row of pieces without any result; from
        the top, each row once.
    """
    held = read(0)
    carried: Floats | None = None
    tops = tiling.rows.starts
    for i, top in enumerate(tops):
        bottom = min(top + tiling.rows.side, height)
        held = held.append(read(bottom - top - len(held)))
        joined = _join_row(held, tiling, tiling.rows.weights[i], run)
        if carried is not None:
            if joined is None:
                joined = np.zeros((*held.pixels.shape[:2], carried.shape[2]), np.float32)
            joined[: len(carried)] += carried
        done = tops[i + 1] - top if i + 1 < len(tops) else bottom - top
        yield held.cut(slice(done)), None if joined is None else joined[:done]
        held = held.cut(slice(done, None)).copy()
        carried = None if joined is None else joined[done:].copy()


def _join_row(strip: Strip, tiling: Tiling, weights: Floats, run: Callable[[Strip], Floats | None]) -> Floats | None:
    """Run one row of pieces; return its results, each times its weights."""
    height, width = strip.pixels.shape[:2]
    joined: Floats | None = None
    for start, across in zip(tiling.columns.starts, tiling.columns.weights, strict=True):
        columns = slice(start, start + tiling.columns.side)
        result = run(strip.cut(slice(None), columns).mirror(*tiling.shape))
        if result is None:
            continue
        if joined is None:
            joined = np.zeros((height, width, result.shape[2]), np.float32)
        part = result[:height, : width - start] * across[: width - start, None]
        joined[:, columns] += part * weights[:height, None, None]
    return joined


def in_pieces(image: Floats, config: ModelConfig, max_mem: int, run: Callable[[Floats], Floats]) -> Floats:
    """Run a function, (h, w, C) → (h, w, C'), on the pieces of an image (H, W, C), and return (H, W, C')."""
    height, width = image.shape[:2]
    read = row_reader(image)
    bands = join(
        lambda count: Strip(read(count)),
        height,
        plan(height, width, config, max_mem),
        lambda piece: run(piece.pixels),
    )
    return np.concatenate([band for _, band in bands if band is not None])


def row_reader(rows: Rows) -> Callable[[int], Rows]:
    """Return a function that returns the next n of these rows at each call."""
    top = 0

    def read(count: int) -> Rows:
        nonlocal top
        top += count
        return rows[top - count : top]

    return read


def mirror(rows: Rows, height: int, width: int) -> Rows:
    """Mirror the lower and right edges as often as it takes: (h, w, K) → (height, width, K)."""
    lower, right = height - rows.shape[0], width - rows.shape[1]
    return np.pad(rows, ((0, lower), (0, right), (0, 0)), mode="symmetric") if lower or right else rows
