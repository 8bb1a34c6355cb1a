"""Read and write picture files as arrays: (H, W, C) with C = 1 (gray) or 3 (RGB), uint8 or floats in [0, 1]."""

import os
import sys

import numpy as np
from PIL import Image

from edgeae.errors import ImageError, UsageError
from edgeae.files import write_bytes_atomic
from edgeae.images import colours
from edgeae.images.arrays import AnyImage, Pixels, to_pil
from edgeae.images.files.decoding import Source
from edgeae.images.files.formats import SAVE_OPTIONS, WRITE_FORMATS, check_sides, encode_pil, format_of, to_palette
from edgeae.images.files.reader import Photo, upright


def read_image(source: Source, channels: int = 3) -> Pixels:
    """Decode an image to uint8 (H, W, `channels`), 1 (grey) or 3 (RGB), upright as its EXIF says.

    `source` is a path, the file's bytes, a binary file or a PIL image. Of an animation the first frame is read. 16-bit
    grey is scaled to 8 bits, transparency is laid on white, grey is made from colour as in ITU-R BT.601.
    Raises ImageError when there is no such file, or it is not a whole JPEG, PNG, WebP, TIFF, BMP or GIF image, or has
    more pixels than Pillow's limit against decompression bombs (twice `PIL.Image.MAX_IMAGE_PIXELS`, 179 million).
    """
    if channels not in (1, 3):
        raise UsageError(f"An image cannot be read with {channels} channels: choose 1 (grey) or 3 (RGB).")
    with Photo(source) as photo:
        if photo.width * photo.height > (limit := 2 * (Image.MAX_IMAGE_PIXELS or sys.maxsize)):
            raise ImageError(f"{photo.name} has more than {limit // 10**6} million pixels: make it smaller first.")
        rows = colours.to_depth(photo.read(photo.height), np.uint8)
        return np.ascontiguousarray(
            upright(colours.convert(rows, photo.mode, "L" if channels == 1 else "RGB"), photo.turn)
        )


def write_image(image: AnyImage, path: str | os.PathLike[str], *, format: str | None = None) -> None:
    """Write (H, W, C), uint8 or floats in [0, 1], to `path`, whole or not at all; missing parent folders are made.

    `format` is one of WRITE_FORMATS and by default the path's extension. JPEG and WebP are written at quality 95.
    Raises UsageError for an unknown extension, ImageError for an array that is no image or does not fit the format,
    EdgeaeError when the file cannot be written.
    """
    write_bytes_atomic(path, encode_image(image, format_of(path, format, WRITE_FORMATS)))


def encode_image(image: AnyImage, format: str) -> bytes:
    """The bytes of an image file of one of WRITE_FORMATS ("png", "jpg"...); see `write_image`."""
    kind = format_of("", format, WRITE_FORMATS)
    picture = to_pil(image)
    check_sides(picture.size, kind)
    if kind == "GIF":
        picture = to_palette(picture)
    return encode_pil(picture, kind, SAVE_OPTIONS.get(kind, {}))
