"""Read and write picture files as arrays: (H, W, C) with C = 1 (gray) or 3 (RGB), uint8 or floats in [0, 1]."""

import os
import sys

import numpy as np
from PIL import Image

from edgeae.errors import ImageError, UsageError
from edgeae.files import Inputs, write_bytes_atomic
from edgeae.images import colours
from edgeae.images.arrays import AnyImage, Pixels, to_pil
from edgeae.images.files.formats import SAVE_OPTIONS, WRITE_FORMATS, check_sides, encode_pil, format_of, to_palette
from edgeae.images.files.heif import FORMAT as HEIF
from edgeae.images.files.heif import encode_heif
from edgeae.images.files.pillow_guard import ImageSource
from edgeae.images.files.reader import Photo
from edgeae.images.files.turns import to_upright


def read_image(source: ImageSource, channels: int = 3) -> Pixels:
    """Read an image as uint8 (H, W, `channels`), upright as its EXIF orientation says.

    Of an animation the first frame is read. 16-bit gray is scaled to 8 bits, transparency is laid on white, and colour
    becomes gray as in ITU-R BT.601.

    Args:
        source: a path, the bytes of a file, an open binary file, or a PIL image.
        channels: 1 (gray) or 3 (RGB).

    Raises:
        ImageError: there is no such file; it is not a whole JPEG, PNG, WebP, TIFF, BMP or GIF image; or it has more
            pixels than Pillow's limit against decompression bombs (twice `PIL.Image.MAX_IMAGE_PIXELS`, 179 million).
        UsageError: another number of channels.
    """
    if channels not in (1, 3):
        raise UsageError(f"An image cannot be read with {channels} channels: choose 1 (grey) or 3 (RGB).")
    with Photo(source) as photo:
        if photo.width * photo.height > (limit := 2 * (Image.MAX_IMAGE_PIXELS or sys.maxsize)):
            raise ImageError(f"{photo.name} has more than {limit // 10**6} million pixels: make it smaller first.")
        rows = colours.to_depth(photo.read(photo.height), np.uint8)
        rows = colours.convert(rows, photo.mode, "L" if channels == 1 else "RGB")
        return np.ascontiguousarray(to_upright(rows, photo.orientation))


def write_image(
    image: AnyImage, path: str | os.PathLike[str], *, format: str | None = None, like: Inputs = None
) -> None:
    """Write an image to a file, whole or not at all. Missing parent folders are made.

    JPEG and WebP files get quality 95.

    Args:
        image: (H, W, C), uint8 or floats in [0, 1].
        path: the file.
        format: one of WRITE_FORMATS ("png", "jpg"...); None takes the path's extension.
        like: the files it is made from, as for `files.atomic_write`.

    Raises:
        UsageError: an unknown extension or format.
        ImageError: the array is no image, or does not fit the format.
        EdgeaeError: the file cannot be written.
    """
    write_bytes_atomic(path, encode_image(image, format_of(path, format, WRITE_FORMATS)), like)


def encode_image(image: AnyImage, format: str) -> bytes:
    """Return the bytes of the file that `write_image` writes in one of WRITE_FORMATS ("png", "jpg"...)."""
    kind = format_of("", format, WRITE_FORMATS)
    picture = to_pil(image)
    check_sides(picture.size, kind)
    if kind == HEIF:
        return encode_heif(np.asarray(picture).reshape(*picture.size[::-1], -1), picture.mode, SAVE_OPTIONS[HEIF])
    if kind == "GIF":
        picture = to_palette(picture)
    return encode_pil(picture, kind, SAVE_OPTIONS.get(kind, {}))
