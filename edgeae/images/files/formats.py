"""The formats that pictures are written in: their extensions, Pillow options, largest sides, and palettes."""

import io
import math
import os
from pathlib import Path
from typing import Any

from PIL import Image

from edgeae.errors import ImageError, UsageError

# Pillow's name of a format, by extension.
WRITE_FORMATS = {
    "png": "PNG",
    "jpg": "JPEG",
    "jpeg": "JPEG",
    "jpe": "JPEG",
    "jfif": "JPEG",
    "webp": "WEBP",
    "tif": "TIFF",
    "tiff": "TIFF",
    "bmp": "BMP",
    "dib": "BMP",
    "gif": "GIF",
    "avif": "AVIF",
    "heic": "HEIF",
    "heif": "HEIF",
    "hif": "HEIF",
}
SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95},
    "WEBP": {"quality": 95, "method": 4},
    "TIFF": {"compression": "tiff_adobe_deflate"},
    "AVIF": {"quality": 90},
    "HEIF": {"quality": 90},
}
_LONGEST_SIDE = {"JPEG": 65_500, "WEBP": 16_383, "GIF": 65_535}

_PALETTE_PIXELS = 1 << 15  # of a picture from which a palette is chosen


def format_of(path: str | os.PathLike[str], format: str | None, known: dict[str, str]) -> str:
    """Return Pillow's name of the format to write a file in.

    Args:
        path: the file; its extension counts if `format` is None.
        format: an extension, with or without its dot, in any case.
        known: Pillow's names by extension, such as WRITE_FORMATS.

    Raises:
        UsageError: the extension is not in `known`.
    """
    extension = (Path(path).suffix if format is None else format).lower().removeprefix(".")
    if extension not in known:
        names = ", ".join(f".{name}" for name in known)
        subject = (
            f"{os.fspath(path)} ends in none of the known extensions" if format is None else f"{format} is not known"
        )
        raise UsageError(f"{subject}: use one of {names}.")
    return known[extension]


def check_sides(size: tuple[int, int], kind: str) -> None:
    """Raise ImageError if a file of Pillow's format `kind` cannot hold an image of `size` = (width, height)."""
    if max(size) > _LONGEST_SIDE.get(kind, math.inf):
        raise ImageError(f"An image of {size[0]}×{size[1]} pixels is too large for {kind}: use .png.")


def encode_pil(picture: Image.Image, kind: str, options: dict[str, Any]) -> bytes:
    """Return the bytes of a file of Pillow's format `kind`, saved with Pillow's `options`.

    Raises:
        ImageError: the encoder fails, or Pillow was built without it.
    """
    file = io.BytesIO()
    try:
        picture.save(file, kind, **options)
    except KeyError as error:  # a format that this Pillow was built without
        raise ImageError(f"An image cannot be written as {kind} by this Pillow: use .png.") from error
    except (OSError, ValueError) as error:  # an encoder that gives up, or that this Pillow was built without
        raise ImageError(f"An image cannot be written as {kind} ({error}): use .png.") from error
    return file.getvalue()


def to_palette(picture: Image.Image) -> Image.Image:
    """Reduce a picture of mode L or RGB to 256 colours chosen for it alone, with error diffusion.

    On frames of morphing faces this is the best that Pillow offers: 51 dB after a blur of σ = 1 px, which stands for
    the eye; 44 dB without diffusion, and 49 dB with one palette for all frames.
    """
    if picture.mode == "L":
        return picture.convert("P")
    return picture.quantize(palette=choose_palette(picture, 256), dither=Image.Dither.FLOYDSTEINBERG)


def choose_palette(picture: Image.Image, count: int) -> Image.Image:
    """Return an image with a palette of `count` colours chosen for a picture of mode RGB.

    The time grows with the number of different colours, to minutes for a large photo, so those of a small copy are
    chosen from: of its own pixels, not of means, which would lose the brightest colours.
    """
    scale = min(1.0, (_PALETTE_PIXELS / (picture.width * picture.height)) ** 0.5)
    if scale < 1:
        size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
        picture = picture.resize(size, Image.Resampling.NEAREST)
    return picture.quantize(count, Image.Quantize.MAXCOVERAGE, kmeans=1)
