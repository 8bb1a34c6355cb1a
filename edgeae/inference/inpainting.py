"""Fill holes with a network, those larger than it has seen in training from coarse to fine.

Made small enough, every hole is of a size that the network has learned to fill. What it makes of it there is enlarged
and takes the place of the hole at the next finer scale, where the network goes over it once more: on 256×256 faces with
a fifth of the area lost, 17.9 dB in the holes become 18.9 with `faces-residual` (OpenCV's inpainting: 15.2).

`fill_holes` does this with a picture in memory. A photo that comes row by row is reduced once, by `coarse_factor`
(`Reducer`), filled there, and enlarged row by row (`enlarge`) as a guess for the network at full size.
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

Network = Callable[[Floats], Floats]  # (h, w, C) → (h, w, C), any size

COARSE_PIXELS = 1 << 18  # most pixels of a photo that `coarse_factor` has made smaller
THIN = 7  # pixels: side of the squares that do not fit into a thin hole


@dataclass(frozen=True)
class HoleTraining:
    """The holes that a network has met in training.

    Attributes:
        size: height and width of the images in pixels.
        smeared: whether holes were filled smoothly from their edges (`smear` in a damage specification).
    """

    size: int
    smeared: bool = False

    @classmethod
    def of(cls, config: ModelConfig, task: str) -> Self:
        """Return that of a network whose weight file names this task."""
        try:
            return cls(config.size, any(step.name == "smear" for step in parse(task).steps))
        except UsageError:  # a task that is no damage, such as "image-to-image"
            return cls(config.size)

    @property
    def large(self) -> int:
        """Side in pixels of the squares that are too large for the network: holes were up to a third of the area.

        With smeared holes it keeps what it does not know better, and loses by a guess from a coarser scale: on photos
        of 128×128 with a quarter lost, 13.66 dB in the hole in one go, 13.50 from coarse to fine.
        """
        return max(1, self.size * 2 if self.smeared else self.size * 5 // 8)


# ---- a picture in memory -----------------------------------------------------------------------------------------


def fill_holes(known: Floats, hole: Bools, network: Network, training: HoleTraining) -> Floats:
    """Run a network on a picture with holes, from coarse to fine where they are large for it.

    Args:
        known: (H, W, C) in [0, 1]; its values in the hole are ignored.
        hole: (H, W), True where a pixel is lost.
        network: fills holes of the size that it has learned.
        training: what it was trained on.

    Returns:
        (H, W, C) in [0, 1], the network's result outside the hole too.
    """
    guess = None
    if min(hole.shape) >= training.size and has_square(hole, training.large):
        coarse, coarse_hole = halve(known, hole)
        filled = fill_holes(coarse, coarse_hole, network, training)
        coarse = np.where(coarse_hole[..., None], filled, coarse)
        guess = enlarge(coarse, 2, 0, len(hole), hole.shape[1])
    return blend_hole(network(prepare_holes(known, hole, training, guess)), known, hole)


def prepare_holes(known: Floats, hole: Bools, training: HoleTraining, guess: Floats | None = None) -> Floats:
    """Return a picture as its network takes it, with values in the holes such as they had in training.

    A network that was trained on smeared holes gets all of them smeared. Any other gets the color FILL; but it has seen
    holes of some width only and leaves thin ones as they are: where no square of THIN pixels fits into the hole, a
    smear is the better beginning. Where a square of `training.large` fits, the guess takes its place.

    Args:
        known: (H, W, C) in [0, 1]; its values in the hole are ignored.
        hole: (H, W), True where a pixel is lost.
        training: what the network was trained on.
        guess: (H, W, C), the picture filled at a coarser scale.
    """
    colored = np.zeros_like(hole) if training.smeared else _open(hole, THIN)
    smooth = smear_hole(known, hole) if (hole & ~colored).any() else known
    prepared: Floats = np.where(colored[..., None], FILL, np.where(hole[..., None], smooth, known))
    if guess is None:
        return prepared
    return np.where(_open(hole, training.large, rim=training.large)[..., None], guess, prepared)


# ---- a photo row by row ------------------------------------------------------------------------------------------


def coarse_factor(width: int, height: int) -> int:
    """Return by how much to reduce a photo for a first guess: a power of two, at least 2."""
    factor = 2
    while width * height > COARSE_PIXELS * factor**2:
        factor *= 2
    return factor


class Reducer:
    """Reduces a picture with a hole by a whole factor while its rows pass: means over blocks of what is known.

    Args:
        factor: side of a block in pixels.
        width: of the picture in pixels.
    """

    def __init__(self, factor: int, width: int) -> None:
        self._factor, self._columns = factor, np.arange(0, width, factor)
        self._sums: list[Floats] = []
        self._counts: list[Floats] = []
        self._row = 0

    def add(self, rows: Floats, hole: Bools) -> None:
        """Add the next rows, (n, width, C) and (n, width)."""
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
        """Return the small picture, and its hole: the blocks of which no pixel is known."""
        counts = np.stack(self._counts)
        hole: Bools = counts[..., 0] == 0
        return (np.stack(self._sums) / np.maximum(counts, 1)).astype(np.float32), hole


def enlarge(coarse: Floats, factor: int, top: int, bottom: int, width: int) -> Floats:
    """Return some rows of an enlarged picture, by cubic interpolation, in [0, 1].

    Args:
        coarse: (h, w, C), the small picture.
        factor: by how much to enlarge it.
        top, bottom: the first of the rows, and the one after the last.
        width: of the enlarged picture, at most `factor` · w.
    """
    if top == bottom:
        return np.empty((0, width, coarse.shape[2]), np.float32)
    # Of the small picture, the rows that these come from, and two more on each side, which the filter sees.
    first, last = max(0, top // factor - 2), min(len(coarse), -(-bottom // factor) + 2)
    box = (0, first, min(width / factor, coarse.shape[1]), last)
    size = width, (last - first) * factor

    def resize(plane: npt.NDArray[Any]) -> npt.NDArray[Any]:
        wide = np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BICUBIC, box))
        return wide[top - first * factor : bottom - first * factor]

    planes = [resize(np.ascontiguousarray(coarse[..., i], np.float32)) for i in range(coarse.shape[2])]
    rows: Floats = np.clip(np.stack(planes, axis=-1), 0, 1)
    return rows


# ---- the sizes of holes: binary morphology with squares of an odd side -------------------------------------------


def has_square(hole: Bools, side: int) -> bool:
    """Return whether a square of `side` pixels, made odd, fits into the hole (H, W), which goes on past the edges."""
    return bool(_erode(hole, side).any())


def _open(hole: Bools, side: int, rim: int = 1) -> Bools:
    """Return the part of the hole that squares of `side` cover, and what of it lies within half of `rim` of these.

    The rim takes in round edges and corners, into which no square reaches.
    """
    return _dilate(_dilate(_erode(hole, side), side), rim) & hole


def _erode(hole: Bools, side: int) -> Bools:
    eroded: Bools = _count_around(hole, side | 1) == (side | 1) ** 2
    return eroded


def _dilate(hole: Bools, side: int) -> Bools:
    dilated: Bools = _count_around(hole, side | 1) > 0
    return dilated


def _count_around(hole: Bools, side: int) -> npt.NDArray[np.int32]:
    """Count for each pixel those of the hole in the square around it, by an integral image: as fast for any side."""
    total = np.pad(hole, side // 2, mode="edge").cumsum(axis=0, dtype=np.int32).cumsum(axis=1, dtype=np.int32)
    total = np.pad(total, ((1, 0), (1, 0)))
    below = total[side:] - total[:-side]
    counts: npt.NDArray[np.int32] = below[:, side:] - below[:, :-side]
    return counts
