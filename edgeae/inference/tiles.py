"""Images of any size: how one is cut into pieces that fit the memory, and how their results are joined without a seam.

A network without normalization layers sees only so far: what lies further than its *reach* from a pixel cannot change
it. Neighbouring pieces overlap by twice the reach where they can, so that each gives exactly what the whole image would
give on its own side of the overlap's middle; there a short ramp blends one into the other. Pieces have sides from a
short ladder, because every new shape costs the compilation of a graph: a folder of many sizes needs few of them.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from edgeae.config import ModelConfig
from edgeae.errors import UsageError

Floats: TypeAlias = npt.NDArray[np.float32]
Rows: TypeAlias = npt.NDArray[Any]

MIN_MEM = 32 << 20  # bytes
LADDER = sorted(base << k for base in (64, 96) for k in range(11))
_RAMP = 8  # pixels over which one piece passes into the next, where both are exact
_NETWORK_SHARE = 0.5  # of the memory, for the network; the rest is for the rows of the image that are being joined

Kind: TypeAlias = Literal["down", "same", "up"]


@dataclass(frozen=True)
class Axis:
    """The cut of one axis: pieces of `side` pixels that begin at `starts`, all multiples of the network's stride.

    weights: float32 (pieces, side), what each piece counts at each of its positions; at every pixel of the image they
    sum to 1. The last piece may reach past the image's end, by less than a stride where there are several.
    """

    side: int
    starts: tuple[int, ...]
    weights: Floats


@dataclass(frozen=True)
class Plan:
    """The cut of an image into len(rows.starts) × len(columns.starts) pieces."""

    rows: Axis
    columns: Axis

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of a piece."""
        return self.rows.side, self.columns.side

    @property
    def pieces(self) -> int:
        """How many there are."""
        return len(self.rows.starts) * len(self.columns.starts)


def default_memory() -> int:
    """Bytes to work in: 512 MB, or a quarter of the machine's memory where that is less."""
    try:
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return 512 << 20
    return max(MIN_MEM, min(512 << 20, machine // 4))


# ---- what a network sees and needs -------------------------------------------------------------------------------


def layers(config: ModelConfig) -> list[tuple[Kind, int]]:
    """The layers that widen what a network sees, in order, with their channels; not a `vae`'s linear ones."""
    *shallow, deepest = config.widths
    context: list[tuple[Kind, int]] = [("same", deepest)] * (2 * config.context)
    down = [layer for width in shallow for layer in _scale("down", width, config)]
    up = [layer for width in shallow[::-1] for layer in _scale("up", width, config)]
    return [*down, ("down", deepest), *context, ("same", deepest), *context, *up, ("up", config.out_channels)]


def _scale(kind: Kind, width: int, config: ModelConfig) -> list[tuple[Kind, int]]:
    """A change of scale, and the residual block after it."""
    block: list[tuple[Kind, int]] = [("same", width)] * (2 * (config.arch == "residual"))
    return [(kind, width), *block]


def reach(config: ModelConfig) -> int:
    """How many pixels away, at most, an input can change an output."""
    furthest = 0
    for phase in range(config.stride):
        low = high = phase
        for kind, _ in reversed(layers(config)):
            if kind == "same":  # 3×3
                low, high = low - 1, high + 1
            elif kind == "up":  # 4×4, transposed, stride 2: the even rows see one before, the odd ones one after
                low, high = (low - 1) // 2, (high + 1) // 2
            else:  # 4×4, stride 2
                low, high = 2 * low - 1, 2 * high + 2
        furthest = max(furthest, phase - low, high - phase)
    return furthest


def bytes_per_pixel(config: ModelConfig) -> float:
    """Memory of a network for each pixel of an image: its layers' outputs in float32, none of them freed.

    What tinygrad takes was 0.9 to 1.2 times as much for images of 0.25 to 1 megapixel.
    """
    channels, scale = 3.0 * (config.in_channels + config.out_channels), 1.0
    for kind, width in layers(config):
        scale *= {"down": 0.25, "same": 1, "up": 4}[kind]
        channels += width * scale
    return 4 * channels


# ---- the cut -----------------------------------------------------------------------------------------------------


def plan(height: int, width: int, config: ModelConfig, max_mem: int, bytes_per_column: int = 32) -> Plan:
    """The cut of an image that needs the fewest pixels to be computed, overlaps included, within `max_mem` bytes.

    Args:
        height, width: of the image in pixels.
        config: a `conv` or `residual` network.
        max_mem: bytes for the network and for the rows that are being joined; at least MIN_MEM.
        bytes_per_column: what one pixel of a row that waits to be joined takes.

    Raises:
        UsageError: not even the smallest pieces fit.
    """
    if max_mem < MIN_MEM:
        raise UsageError(f"{max_mem >> 20} MB of memory are too few: give `max_mem` {MIN_MEM >> 20}M or more.")
    pixels = _NETWORK_SHARE * max_mem / bytes_per_pixel(config)
    rows = (1 - _NETWORK_SHARE) * max_mem / (width * bytes_per_column)
    best: tuple[bool, int, int, int] | None = None
    for high, wide in product(_sides(height, config), _sides(width, config)):
        if high * wide > pixels or min(high, height) > rows:
            continue
        cuts = (height, high), (width, wide)
        seams = any(length > side <= _wanted_overlap(config) for length, side in cuts)
        computed = math.prod(len(_starts(length, side, config)) * side for length, side in cuts)
        best = min(best or (True, sys.maxsize, 0, 0), (seams, computed, high, wide))
    if best is None:
        raise UsageError(
            f"{max_mem >> 20} MB of memory are too few for an image of {width}×{height} pixels and this "
            "model: give a larger `max_mem`."
        )
    return Plan(_axis(height, best[2], config), _axis(width, best[3], config))


def _up_to(multiple: int, value: int) -> int:
    return -(-value // multiple) * multiple


def _sides(length: int, config: ModelConfig) -> list[int]:
    """What the side of a piece may be: the image's own up to the size of training, else a rung of the ladder."""
    if length <= max(LADDER[0], config.size):
        return [_up_to(config.stride, length)]
    enough = next((i for i, rung in enumerate(LADDER) if rung >= length), len(LADDER))
    return sorted({_up_to(config.stride, rung) for rung in LADDER[: enough + 1]})


def _wanted_overlap(config: ModelConfig) -> int:
    return _up_to(config.stride, 2 * reach(config))


def _overlap(side: int, config: ModelConfig) -> int:
    """Pixels that neighbouring pieces of this side share, a multiple of the stride."""
    wanted = _wanted_overlap(config)
    return wanted if wanted < side else side // 2 // config.stride * config.stride


def _starts(length: int, side: int, config: ModelConfig) -> list[int]:
    """Where the pieces begin: evenly, and as few as the overlap allows."""
    if length <= side:
        return [0]
    stride, overlap = config.stride, _overlap(side, config)
    spare = (_up_to(stride, length) - side) // stride
    steps = -(-spare * stride // (side - overlap))
    return [i * spare // steps * stride for i in range(steps + 1)]


def _axis(length: int, side: int, config: ModelConfig) -> Axis:
    starts = _starts(length, side, config)
    positions = np.arange(side) + 0.5
    weights = np.ones((len(starts), side), np.float32)
    for i, (a, b) in enumerate(pairwise(starts)):
        shared = a + side - b
        ramp = min(max(_RAMP, 2 * reach(config) + _RAMP - shared), shared)
        rising = np.clip((positions - (shared - ramp) / 2) / ramp, 0, 1)  # over the next piece's first pixels
        weights[i + 1] *= rising
        weights[i, b - a :] *= 1 - rising[:shared]
    return Axis(side, tuple(starts), weights)


# ---- the pieces joined -------------------------------------------------------------------------------------------


def join(
    read: Callable[[int], Rows], height: int, plan: Plan, run: Callable[[Rows], Floats | None]
) -> Iterator[tuple[Rows, Floats | None]]:
    """Run a function on every piece of an image that comes row by row, and give the joined rows as they are done.

    No more is held than one row of pieces, however high the image is.

    Args:
        read: gives the next n rows, (n, W, K), of any type.
        height: of the image.
        plan: of this height and W.
        run: (h, w, K) → (h, w, C), or None where the result is not needed. Beyond the image's right and lower edge
            a piece is filled with its mirror image.

    Yields:
        rows as they were read, (n, W, K), and the joined results, (n, W, C), or None for a row of pieces that gave
        None all; from the top, each row once.
    """
    held = read(0)
    carried: Floats | None = None
    tops = plan.rows.starts
    for i, top in enumerate(tops):
        bottom = min(top + plan.rows.side, height)
        held = np.concatenate([held, read(bottom - top - len(held))])
        joined = _joined(held, plan, plan.rows.weights[i], run)
        if carried is not None:
            joined = np.zeros((*held.shape[:2], carried.shape[2]), np.float32) if joined is None else joined
            joined[: len(carried)] += carried
        done = tops[i + 1] - top if i + 1 < len(tops) else bottom - top
        yield held[:done], None if joined is None else joined[:done]
        held, carried = held[done:].copy(), None if joined is None else joined[done:].copy()


def _joined(rows: Rows, plan: Plan, weights: Floats, run: Callable[[Rows], Floats | None]) -> Floats | None:
    """One row of pieces, each times its weights."""
    height, width = rows.shape[:2]
    joined: Floats | None = None
    for start, across in zip(plan.columns.starts, plan.columns.weights, strict=True):
        piece = mirrored(rows[:, start : start + plan.columns.side], *plan.shape)
        result = run(piece)
        if result is None:
            continue
        if joined is None:
            joined = np.zeros((height, width, result.shape[2]), np.float32)
        part = result[:height, : width - start] * across[: width - start, None]
        joined[:, start : start + plan.columns.side] += part * weights[:height, None, None]
    return joined


def in_pieces(image: Floats, config: ModelConfig, max_mem: int, run: Callable[[Floats], Floats]) -> Floats:
    """`run`, (h, w, C) → (h, w, C'), on an image of any size that is there already."""
    height, width = image.shape[:2]
    bands = join(reader(image), height, plan(height, width, config, max_mem), run)
    return np.concatenate([band for _, band in bands if band is not None])


def reader(rows: Rows) -> Callable[[int], Rows]:
    """What `join` reads from, for rows that are there already."""
    top = 0

    def read(count: int) -> Rows:
        nonlocal top
        top += count
        return rows[top - count : top]

    return read


def mirrored(rows: Rows, height: int, width: int) -> Rows:
    """(h, w, K) → (height, width, K): the lower and right edges mirrored as often as it takes."""
    lower, right = height - rows.shape[0], width - rows.shape[1]
    return np.pad(rows, ((0, lower), (0, right), (0, 0)), mode="symmetric") if lower or right else rows
