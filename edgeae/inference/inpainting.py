"""Holes larger than a network has seen, filled from coarse to fine.

Made small enough, every hole is of the size that a network has learned to fill. What it makes of it there is enlarged
and takes the place of the hole at the next finer scale, where the network goes over it once more: on 256×256 faces with
a fifth of the area lost, 17.9 dB in the holes become 18.9 with `faces-residual` (OpenCV's inpainting: 15.2).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from PIL import Image

from edgeae.config import ModelConfig
from edgeae.errors import UsageError
from edgeae.images.arrays import Bools, Floats
from edgeae.images.damage.harmonic import blend_hole, halve, smear_hole
from edgeae.images.damage.kinds import FILL
from edgeae.images.damage.spec import parse

Network = Callable[[Floats], Floats]

COARSE_PIXELS = 1 << 18  # of the picture that `coarse_factor` asks for


def filled(known: Floats, hole: Bools, network: Network, learned: Learned) -> Floats:
    """A picture with its hole filled by a network; what is not hole is the network's too.

    Args:
        known: (H, W, C) in [0, 1]; what it holds in the hole does not count.
        hole: (H, W).
        network: (h, w, C) → (h, w, C), any size.
        learned: what it was trained on.
    """
    guess = None
    if min(hole.shape) >= learned.size and has_square(hole, learned.large):
        coarse, still = halve(known, hole)
        coarse = np.where(still[..., None], filled(coarse, still, network, learned), coarse)
        guess = enlarged(coarse, 2, 0, len(hole), hole.shape[1])
    return blend_hole(network(prepared(known, hole, learned, guess)), known, hole)


def coarse_factor(width: int, height: int) -> int:
    """By how much a photo is made smaller for the first guess: a power of two, at least 2."""
    factor = 2
    while width * height > COARSE_PIXELS * factor**2:
        factor *= 2
    return factor


class Reducer:
    """A picture with a hole made smaller by a whole factor while its rows pass: means of what is known."""

    def __init__(self, factor: int, width: int) -> None:
        self._factor, self._columns = factor, np.arange(0, width, factor)
        self._sums: list[Floats] = []
        self._counts: list[Floats] = []
        self._row = 0

    def add(self, rows: Floats, hole: Bools) -> None:
        """The next rows, (n, width, C) and (n, width)."""
        known = (~hole).astype(np.float32)[..., None]
        for row, count in zip(
            np.add.reduceat(rows * known, self._columns, axis=1),
            np.add.reduceat(known, self._columns, axis=1),
            strict=True,
        ):
            if self._row % self._factor == 0:
                self._sums.append(np.zeros_like(row))
                self._counts.append(np.zeros_like(count))
            self._sums[-1] += row
            self._counts[-1] += count
            self._row += 1

    def result(self) -> tuple[Floats, Bools]:
        """The small picture, and its hole: where nothing is known."""
        counts = np.stack(self._counts)
        hole: Bools = counts[..., 0] == 0
        return (np.stack(self._sums) / np.maximum(counts, 1)).astype(np.float32), hole


def enlarged(coarse: Floats, factor: int, top: int, bottom: int, width: int) -> Floats:
    """Rows `top` to `bottom` of a picture that is so many times as large, by cubic interpolation, in [0, 1]."""
    if top == bottom:
        return np.empty((0, width, coarse.shape[2]), np.float32)
    # Rows of the small picture, with those beside them that the filter sees.
    first, last = max(0, top // factor - 2), min(len(coarse), -(-bottom // factor) + 2)
    box = (0, first, min(width / factor, coarse.shape[1]), last)
    size = width, (last - first) * factor

    def plane(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        wide = np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BICUBIC, box))
        return wide[top - first * factor : bottom - first * factor]

    planes = [plane(np.ascontiguousarray(coarse[..., i], np.float32)) for i in range(coarse.shape[2])]
    rows: Floats = np.clip(np.stack(planes, axis=-1), 0, 1)
    return rows


THIN = 7  # pixels


@dataclass(frozen=True)
class Learned:
    """What a network was trained on, as far as holes go.

    Attributes:
        size: height and width of the images in pixels.
        smeared: whether it has seen holes that were filled smoothly from their edges (`smear` in corruptions.py).
    """

    size: int
    smeared: bool = False

    @classmethod
    def of(cls, config: ModelConfig, task: str) -> Self:
        """Of a network whose weight file names this task."""
        try:
            return cls(config.size, any(step.name == "smear" for step in parse(task).steps))
        except UsageError:  # another task than undoing damage
            return cls(config.size)

    @property
    def large(self) -> int:
        """Side in pixels of the squares that are too large for it: it has seen holes of up to a third of the area.

        One that is given smears keeps what it does not know better, and loses by a guess from a coarser scale: on
        photos of 128×128 with a quarter lost, 13.66 dB in the hole in one go, 13.50 from coarse to fine.
        """
        return max(1, self.size * 2 if self.smeared else self.size * 5 // 8)


def prepared(known: Floats, hole: Bools, learned: Learned, guess: Floats | None = None) -> Floats:
    """The picture that a network is given: holes as they were in training, or filled otherwise.

    A network that has seen smeared holes gets all of them so. Any other gets the colour that holes had; but it has only
    seen holes of some size and leaves thin ones as they are: where no square of THIN pixels fits into the hole, the
    membrane over it is the better beginning. Where a `large` square fits, it is the `guess`.

    Args:
        known: (H, W, C) in [0, 1]; what it holds in the hole does not count.
        hole: (H, W).
        learned: what the network was trained on.
        guess: (H, W, C), what `inpainting` made of it at a coarser scale.
    """
    deep = np.zeros_like(hole) if learned.smeared else _opened(hole, THIN)
    smooth = smear_hole(known, hole) if (hole & ~deep).any() else known
    given: Floats = np.where(deep[..., None], FILL, np.where(hole[..., None], smooth, known))
    if guess is None:
        return given
    return np.where(_opened(hole, learned.large, rim=learned.large)[..., None], guess, given)


def has_square(hole: Bools, side: int) -> bool:
    """Whether a square of so many pixels, made odd, fits into the hole (H, W); beyond the picture it goes on."""
    return bool(_eroded(hole, side).any())


def _eroded(hole: Bools, side: int) -> Bools:
    eroded: Bools = _counted(hole, side | 1) == (side | 1) ** 2
    return eroded


def _dilated(hole: Bools, side: int) -> Bools:
    dilated: Bools = _counted(hole, side | 1) > 0
    return dilated


def _counted(hole: Bools, side: int) -> npt.NDArray[np.int32]:
    """For each pixel, those of the hole in the square around it; large squares take no longer than small ones."""
    total = np.pad(hole, side // 2, mode="edge").cumsum(axis=0, dtype=np.int32).cumsum(axis=1, dtype=np.int32)
    total = np.pad(total, ((1, 0), (1, 0)))
    below = total[side:] - total[:-side]
    counts: npt.NDArray[np.int32] = below[:, side:] - below[:, :-side]
    return counts


def _opened(hole: Bools, side: int, rim: int = 1) -> Bools:
    """The part of the hole that such squares cover, and what of it is near, within half of `rim`: round edges."""
    covered = _dilated(_dilated(_eroded(hole, side), side), rim)
    return covered & hole
