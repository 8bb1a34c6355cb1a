"""Holes filled as smoothly as possible from their edges: a membrane, Laplace's equation.

As in Pérez, Gangnet and Blake, Poisson Image Editing, 2003: what is known all around a hole is continued inside it.
"""

import numpy as np

from edgeae.images.arrays import Bools, Floats

_SWEEPS = 8  # of Jacobi's method at each scale; more change less than half a grey level


def smear_hole(image: Floats, hole: Bools) -> Floats:
    """A picture (H, W, C) in [0, 1] with its hole (H, W) filled from its edge; one that is all hole stays as it is."""
    if hole.all():
        return image
    filled: Floats = np.where(hole[..., None], blend_hole(np.zeros_like(image), image, hole), image)
    return filled


def blend_hole(result: Floats, known: Floats, hole: Bools) -> Floats:
    """`result` with the difference to `known` at the hole's edge continued into it.

    A network's colours are a little off, and its edges meet those around a hole at another brightness: fitted, the hole
    has no visible edge, whatever the network's cast.

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
        coarse_values, coarse_hole = halve(values, hole)
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


def halve(values: Floats, hole: Bools) -> tuple[Floats, Bools]:
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
