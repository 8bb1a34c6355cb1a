"""Fill holes as smoothly as possible from their edges, like a membrane: by Laplace's equation.

As in Pérez, Gangnet and Blake, "Poisson Image Editing", 2003: the values all around a hole are continued inside it.
"""

import numpy as np

from edgeae.images.arrays import Bools, Floats

_SWEEPS = 8  # of Jacobi's method at each scale; more of them change less than half a gray level


def smear_hole(image: Floats, hole: Bools) -> Floats:
    """Fill the hole (H, W) of a picture (H, W, C) in [0, 1] from its edge; return the picture as it is if all is hole.

    What the picture holds in the hole does not count.
    """
    if hole.all():
        return image
    filled: Floats = np.where(hole[..., None], blend_hole(np.zeros_like(image), image, hole), image)
    return filled


def blend_hole(result: Floats, known: Floats, hole: Bools) -> Floats:
    """Blend what a network made of a hole into the picture around it, so that no edge shows.

    A network's colours are a little off. Their difference from the picture's at the hole's edge is continued smoothly
    into the hole and added there.

    Args:
        result: (H, W, C), the network's output, in [0, 1].
        known: (H, W, C), the picture; only what is outside the hole counts.
        hole: (H, W).

    Returns:
        `result`, changed in the hole only; as it is if nothing or all is hole.
    """
    if not hole.any() or hole.all():
        return result
    rows, columns = (np.flatnonzero(hole.any(axis=axis)) for axis in (1, 0))
    around = tuple(slice(max(0, index[0] - 2), index[-1] + 3) for index in (rows, columns))  # the hole and its edge
    inside = hole[around]
    if inside.all():
        return result
    difference = np.where(inside[..., None], np.float32(0), known[around] - result[around])
    corrected = result.copy()
    filled = np.clip(result[around] + _membrane(difference, inside), 0, 1)
    corrected[around] = np.where(inside[..., None], filled, result[around])
    return corrected


def _membrane(values: Floats, hole: Bools) -> Floats:
    """Replace the values (H, W, C) in the hole by a solution of Laplace's equation, from coarse to fine.

    Each scale begins with the solution of the one half its size, so that a few sweeps are enough.
    """
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
    """Halve a picture (H, W, C) with a hole (H, W): means over the known ones of 2×2 pixels; a hole where none is."""
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
