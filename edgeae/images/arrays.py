"""Image files to arrays and back.

Arrays are (H, W, C) with C = 1 (grey) or 3 (RGB), uint8 or floats in [0, 1]. Reading: `read_image`. Writing:
`write_image`, always whole (see `files`). Between them: `to_float`, `to_uint8`, `resize`, `fit`.
"""

import io
import math
import os
import sys
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from edgeae.errors import ImageError, UsageError
from edgeae.files import write_bytes_atomic
from edgeae.images import colours
from edgeae.images.files.decoding import Source
from edgeae.images.files.reader import Photo, upright

Pixels: TypeAlias = npt.NDArray[np.uint8]
AnyImage: TypeAlias = npt.NDArray[np.number[Any]]

WRITE_FORMATS = {
    "png": "PNG",
    "jpg": "JPEG",
    "jpeg": "JPEG",
    "webp": "WEBP",
    "tif": "TIFF",
    "tiff": "TIFF",
    "bmp": "BMP",
    "gif": "GIF",
}
SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95},
    "WEBP": {"quality": 95, "method": 4},
    "TIFF": {"compression": "tiff_adobe_deflate"},
}
_LONGEST_SIDE = {"JPEG": 65_500, "WEBP": 16_383, "GIF": 65_535}


# --- reading ---------------------------------------------------------------------------------------------------------


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


# --- arrays ----------------------------------------------------------------------------------------------------------


def to_float(image: AnyImage) -> npt.NDArray[np.float32]:
    """uint8, or floats in [0, 1], of any shape → float32 in [0, 1].

    Raises ImageError for another type, and for floats that are NaN or further than half a grey level outside [0, 1]:
    they are probably on the scale of 0 to 255.
    """
    if image.dtype == np.uint8:
        return image.astype(np.float32) / np.float32(255)
    _check_float(image)
    if image.size and not (image.min() >= -0.5 / 255 and image.max() <= 1 + 0.5 / 255):
        raise ImageError(f"A float image has values from {image.min():g} to {image.max():g}: scale them to 0 to 1.")
    return np.clip(image, 0, 1).astype(np.float32)


def to_uint8(image: AnyImage) -> Pixels:
    """Floats of any shape → uint8: clipped to [0, 1], times 255, rounded half to even. uint8 is returned as it is.

    Raises ImageError for another type and for NaN.
    """
    if image.dtype == np.uint8:
        return image.astype(np.uint8, copy=False)
    _check_float(image)
    if np.isnan(image).any():
        raise ImageError("An image has NaN pixels: the model that made it has diverged or its weights are damaged.")
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def _check_float(image: AnyImage) -> None:
    if not np.issubdtype(image.dtype, np.floating):
        raise ImageError(f"An image array of type {image.dtype} cannot be used: give uint8, or floats in [0, 1].")


def resize(image: AnyImage, size: tuple[int, int]) -> Pixels:
    """Resample (H, W, C) to `size` = (width, height) with an antialiased Lanczos filter: uint8 (height, width, C)."""
    return _array(to_pil(image).resize(_checked_size(size), Image.Resampling.LANCZOS), image)


def fit(image: AnyImage, size: tuple[int, int]) -> Pixels:
    """Cut (H, W, C) about its centre to the aspect of `size` = (width, height), then `resize` it."""
    return _array(ImageOps.fit(to_pil(image), _checked_size(size), Image.Resampling.LANCZOS), image)


def _checked_size(size: tuple[int, int]) -> tuple[int, int]:
    width, height = size
    if width < 1 or height < 1:
        raise UsageError(f"An image cannot be {width}×{height} pixels: give a width and a height of at least 1.")
    return width, height


def to_pil(image: AnyImage) -> Image.Image:
    """Mode L for (H, W, 1), RGB for (H, W, 3). Raises ImageError for any other shape."""
    if image.ndim != 3 or image.shape[2] not in (1, 3) or 0 in image.shape:
        raise ImageError(f"An array of shape {image.shape} is not an image: give (height, width, 1 or 3).")
    pixels = np.ascontiguousarray(to_uint8(image))
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def _array(picture: Image.Image, like: AnyImage) -> Pixels:
    return np.array(picture).reshape(picture.height, picture.width, like.shape[2])


# --- writing ---------------------------------------------------------------------------------------------------------


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


def format_of(path: str | os.PathLike[str], format: str | None, known: dict[str, str]) -> str:
    """Pillow's name of a file format, from `format` or else the path's extension; UsageError if not in `known`."""
    extension = (Path(path).suffix if format is None else format).lower().removeprefix(".")
    if extension not in known:
        names = ", ".join(f".{name}" for name in known)
        subject = (
            f"{os.fspath(path)} ends in none of the known extensions" if format is None else f"{format} is not known"
        )
        raise UsageError(f"{subject}: use one of {names}.")
    return known[extension]


def check_sides(size: tuple[int, int], kind: str) -> None:
    """Raises ImageError for a (width, height) that is larger than a file of Pillow's format `kind` can hold."""
    if max(size) > _LONGEST_SIDE.get(kind, math.inf):
        raise ImageError(f"An image of {size[0]}×{size[1]} pixels is too large for {kind}: use .png.")


def encode_pil(picture: Image.Image, kind: str, options: dict[str, Any]) -> bytes:
    """The bytes of a file of Pillow's format `kind`, saved with Pillow's `options`."""
    file = io.BytesIO()
    try:
        picture.save(file, kind, **options)
    except (OSError, ValueError) as error:  # an encoder that gives up, or that this Pillow was built without
        raise ImageError(f"An image cannot be written as {kind} ({error}): use .png.") from error
    return file.getvalue()


def to_palette(picture: Image.Image) -> Image.Image:
    """256 colours chosen for this picture alone, and error diffusion.

    On morphing photographs of faces this is the best of Pillow's ways: 51 dB once blurred by σ = 1 px, as the eye does,
    against 44 without diffusion, and 49 with one palette for the film.
    """
    if picture.mode == "L":
        return picture.convert("P")
    palette = picture.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=1)
    return picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
