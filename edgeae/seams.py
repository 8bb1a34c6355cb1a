"""Holes and what surrounds them: what a network is given in them, and its result fitted to their edges.

A network's colours are a little off, and its edges meet those around a hole at another brightness. The difference is
known all around the hole; inside it is continued as smoothly as possible (a membrane: Laplace's equation, as in Pérez,
Gangnet and Blake, Poisson Image Editing, 2003) and added. So the hole has no visible edge, whatever the network's
cast.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from edgeae.corruptions import FILL

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

THIN = 7  # pixels
_SWEEPS = 8  # of Jacobi's method at each scale; more change less than half a grey level


def large(size: int) -> int:
    """Side in pixels of the squares that are large for a network trained on images of `size` pixels a side.

    It has seen holes of up to a third of the area.
    """
    return max(1, size * 5 // 8)


def prepared(known: Floats, hole: Bools, guess: Floats | None = None, side: int = 0) -> Floats:
    """The picture that a network is given: holes in the colour they have in training, others filled.

    A network that has only seen holes of some size leaves thin ones as they are. Where no square of THIN pixels fits
    into the hole, the membrane over it is the better beginning, for every network: on scratches over 64×64 faces,
    11.9 dB in the hole become 25.3 with `faces-residual` (OpenCV's inpainting: 24.5), and 25.7 become 26.1 with
    `faces-conv`. Where a `large` square fits, it is the `guess`.

    Args:
        known: (H, W, C) in [0, 1]; what it holds in the hole does not count.
        hole: (H, W).
        guess: (H, W, C), what `inpainting` made of it at a coarser scale; side: of a `large` square.
    """
    deep = _opened(hole, THIN)
    smooth = fitted(np.zeros_like(known), known, hole) if (hole & ~deep).any() else known
    given: Floats = np.where(deep[..., None], FILL, np.where(hole[..., None], smooth, known))
    return given if guess is None else np.where(_opened(hole, side, rim=side)[..., None], guess, given)


def has_square(hole: Bools, side: int) -> bool:
    """Whether a square of so many pixels, made odd, fits into the hole (H, W)."""
    return bool(_eroded(hole, side).getextrema()[1])


def _eroded(hole: Bools, side: int) -> Image.Image:
    return Image.fromarray(hole).convert("L").filter(ImageFilter.MinFilter(side | 1))


def _opened(hole: Bools, side: int, rim: int = 1) -> Bools:
    """The part of the hole that such squares cover, and what of it is near, within half of `rim`: round edges."""
    squares = _eroded(hole, side).filter(ImageFilter.MaxFilter(side | 1)).filter(ImageFilter.MaxFilter(rim | 1))
    covered: Bools = np.asarray(squares) > 0
    return covered & hole


def fitted(result: Floats, known: Floats, hole: Bools) -> Floats:
    """`result` with the difference to `known` at the hole's edge continued into it.

    Args:
        result: (H, W, C), what the network gave, in [0, 1].
        known: (H, W, C), the picture; only what is outside the hole counts.
        hole: (H, W).
    """
    if not hole.any() or hole.all():
        return result
    rows, columns = (np.flatnonzero(hole.any(axis=axis)) for axis in (1, 0))
    around = tuple(slice(max(0, index[0] - 2), index[-1] + 3) for index in (rows, columns))
    inside = hole[around]
    if inside.all():
        return result
    difference = np.where(inside[..., None], np.float32(0), known[around] - result[around])
    corrected = result.copy()
    filled = np.clip(result[around] + _membrane(difference, inside), 0, 1)
    corrected[around] = np.where(inside[..., None], filled, result[around])
    return corrected


def _membrane(values: Floats, hole: Bools) -> Floats:
    """`values` (H, W, C) with those in the hole made harmonic, from the coarsest scale to the finest."""
    if not hole.any():
        return values
    if min(hole.shape) > 1 and not hole.all():
        coarse_values, coarse_hole = halved(values, hole)
        coarse = _membrane(coarse_values, coarse_hole)
        guess = coarse.repeat(2, axis=0).repeat(2, axis=1)[: hole.shape[0], : hole.shape[1]]
    else:
        guess = np.broadcast_to(values[~hole].mean(axis=0) if not hole.all() else np.float32(0), values.shape)
    filled = np.where(hole[..., None], guess, values).astype(np.float32)
    for _ in range(_SWEEPS):
        padded = np.pad(filled, ((1, 1), (1, 1), (0, 0)), mode="edge")
        mean = (padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]) / 4
        filled = np.where(hole[..., None], mean, filled)
    return filled


def halved(values: Floats, hole: Bools) -> tuple[Floats, Bools]:
    """Means over 2×2 pixels of what is known; a hole where nothing is."""
    height, width = (-(-side // 2) * 2 for side in hole.shape)
    pad = ((0, height - hole.shape[0]), (0, width - hole.shape[1]))
    known = np.pad(~hole, pad).astype(np.float32)[..., None]
    total = np.pad(values, (*pad, (0, 0))) * known

    def blocks(x: Floats) -> Floats:
        sums: Floats = x.reshape(height // 2, 2, width // 2, 2, -1).sum(axis=(1, 3))
        return sums

    count = blocks(known)
    empty: Bools = count[..., 0] == 0
    return (blocks(total) / np.maximum(count, 1)).astype(np.float32), empty
