"""Holes and what surrounds them: what a network is given in them."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from edgeae.config import ModelConfig
from edgeae.errors import UsageError
from edgeae.images.damage.harmonic import Bools, Floats, smeared
from edgeae.images.damage.kinds import FILL
from edgeae.images.damage.spec import parse

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
    smooth = smeared(known, hole) if (hole & ~deep).any() else known
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
