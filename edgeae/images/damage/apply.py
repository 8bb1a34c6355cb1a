"""Damage image files as training damages images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from edgeae.errors import ImageError, UsageError
from edgeae.files import atomic_write, is_same_file
from edgeae.images import colours
from edgeae.images.arrays import Rows
from edgeae.images.damage.spec import Corruption, parse
from edgeae.images.files.formats import WRITE_FORMATS, format_of
from edgeae.images.files.reader import Photo
from edgeae.images.files.turns import to_stored, to_upright
from edgeae.images.files.writer import Writer


def corrupt_file(source: Path, output: Path, corrupt: str, seed: int = 0) -> float:
    """Damage an image file; its metadata and alpha are kept as when a photo is restored.

    Args:
        source: the image.
        output: where to write it; the extension says the format.
        corrupt: SPEC of the damage (see `spec`).
        seed: of the damage; the same file and seed give the same result.

    Returns:
        The share of pixels that are damaged: those in holes, or all of them if the damage makes no holes.

    Raises:
        UsageError: an unknown damage or format, or `output` is the image itself.
        ImageError: the image cannot be read, is too large, or does not fit the format.
    """
    damage = parse(corrupt)
    kind = format_of(output, None, WRITE_FORMATS)
    if is_same_file(source, output):
        raise UsageError(f"{source} would be overwritten by its damaged copy; name another file with `output`.")
    with Photo(source) as photo:
        rows, share = damage_rows(photo, damage, seed)
        with atomic_write(output, like=source) as file:
            writer = Writer(file, kind, photo, photo.mode)
            writer.write(rows)
            writer.close()
    return share


def damage_rows(photo: Photo, damage: Corruption, seed: int) -> tuple[Rows, float]:
    """Return all rows of a photo as they are stored, damaged, and the share of pixels that are damaged.

    Raises:
        ImageError: the photo cannot be read, or has too many pixels to be held in one piece.
    """
    if photo.width * photo.height > 2 * (Image.MAX_IMAGE_PIXELS or 0):
        raise ImageError(f"{photo.name} has too many pixels to be damaged in one piece: make it smaller first.")
    rows = photo.read(photo.height)
    clean = to_upright(colours.to_floats(rows, photo.mode, colours.CHANNELS[photo.mode]), photo.orientation)
    damaged, mask = damage(np.ascontiguousarray(clean), np.random.default_rng(seed))
    return colours.from_floats(to_stored(damaged, photo.orientation), rows, photo.mode, photo.mode), float(mask.mean())
