"""Read the mask of a photo, and guess what its large holes hide from the photo at a fraction of its size."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from edgeae.errors import ImageError
from edgeae.images import colours
from edgeae.images.files.metadata import UPRIGHT
from edgeae.images.files.pillow_guard import ImageSource
from edgeae.images.files.reader import Photo, to_stored, to_upright
from edgeae.inference import inpainting, tiles
from edgeae.inference.inpainting import HoleTraining, has_square
from edgeae.inference.picture import Picture

Floats = npt.NDArray[np.float32]
MaskSource: TypeAlias = ImageSource | npt.NDArray[Any]
RowReader = Callable[[int], npt.NDArray[Any]]  # returns the next n rows, fewer at the end


def open_mask(mask: MaskSource, photo: Picture, stack: ExitStack) -> RowReader:
    """Return a function that reads the mask's next n rows, (n, W, 1), in the photo's type and orientation.

    Args:
        mask: an image that has the photo's size when both are upright.
        photo: the photo.
        stack: closes the mask.

    Raises:
        ImageError: the mask cannot be read or has another size.
    """
    image = stack.enter_context(Photo(mask))
    if image.shown_size != photo.shown_size:
        mask_size, photo_size = (f"{width}×{height}" for width, height in (image.shown_size, photo.shown_size))
        raise ImageError(
            f"{mask} has {mask_size} pixels and {photo.name} {photo_size}: make the mask as large as the photo."
        )
    read: RowReader = image.read
    if photo.orientation != UPRIGHT or image.orientation != UPRIGHT:
        read = tiles.row_reader(to_stored(to_upright(image.read(image.height), image.orientation), photo.orientation))
    return lambda count: colours.to_depth(colours.convert(read(count), image.mode, "L"), photo.dtype)


def guess_large_holes(
    photo: Picture,
    read: RowReader,
    read_mask: RowReader,
    factor: int,
    channels: int,
    network: inpainting.Network,
    training: HoleTraining,
) -> Floats | None:
    """Restore a photo at a fraction of its size, where even its large holes are small enough for the network.

    Args:
        photo: what the rows belong to.
        read, read_mask: return the next n rows of the photo, or of its damaged copy, and of its mask, from the top.
        factor: by how much the photo is made smaller.
        channels: C, 1 or 3, of the network.
        network: (h, w, C) → (h, w, C), any size.
        training: what the network was trained on.

    Returns:
        (H / factor, W / factor, C) in [0, 1], as stored; None if no hole is too large for the network.
    """
    small = inpainting.Reducer(factor, photo.width)
    while len(rows := read(8 * factor)):
        small.add(colours.to_floats(rows, photo.mode, channels), read_mask(len(rows))[..., 0] > 0)
    known, hole = small.result()
    if not has_square(hole, max(1, training.large // factor)):
        return None
    filled = inpainting.fill_holes(
        np.ascontiguousarray(to_upright(known, photo.orientation)),
        np.ascontiguousarray(to_upright(hole[..., None], photo.orientation)[..., 0]),
        network,
        training,
    )
    return np.where(hole[..., None], to_stored(filled, photo.orientation), known)
