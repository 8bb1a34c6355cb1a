"""What an image costs as a code of 8-bit numbers, beside WebP and JPEG files of no more bytes."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from edgeae.images import arrays as imaging
from edgeae.images import metrics
from edgeae.images.files.array_io import read_image
from edgeae.inference.session import Session

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

RANGE_BYTES = 8  # smallest and largest number of a code, float32 each
_FORMATS = {"WebP": "WEBP", "JPEG": "JPEG"}


@dataclass(frozen=True)
class Rate:
    """A set of images in so many bytes.

    Attributes:
        name: `code`, `WebP` or `JPEG`.
        bytes: of one image, the mean.
        bits_per_pixel: the same divided by the pixels.
        psnr: of the mean squared error over all pixels of all images, in dB.
    """

    name: str
    bytes: float
    bits_per_pixel: float
    psnr: float


def rates(session: Session, clean: Floats) -> list[Rate]:
    """The images' codes rounded to 8 bits and decoded, then WebP and JPEG at the same bytes.

    Each code is rounded evenly between its own smallest and largest number; both are counted. Nothing is entropy-coded.
    A file is the one of the highest quality that takes no more bytes than the code; where none is so small, the
    smallest, whose larger size is what `bytes` says. WebP and JPEG are Pillow's, the JPEG with optimized tables.

    Args:
        session: of a `conv` or `vae` that gives as many channels as it takes. A `residual`'s code is not all that its
            decoder needs: it has no rate, and the list is empty.
        clean: (N, H, W, C) float32 in [0, 1], of the model's size.
    """
    config = session.config
    if config.arch == "residual" or config.in_channels != config.out_channels:
        return []
    codes = session.encode(clean)
    rounded = np.stack([_rounded(code) for code in codes])
    decoded = session.decode(rounded, np.float32)[:, : clean.shape[1], : clean.shape[2]]
    size = codes[0].size + RANGE_BYTES
    pixels = imaging.to_uint8(clean)
    found = [_rate("code", [size] * len(clean), decoded, clean)]
    for name, kind in _FORMATS.items():
        files = [_file_within(size, image, kind) for image in pixels]
        shown = np.stack([read_image(file, clean.shape[3]) for file in files])
        found.append(_rate(name, [len(file) for file in files], imaging.to_float(shown), clean))
    return found


def _rate(name: str, sizes: list[int], images: Floats, clean: Floats) -> Rate:
    mean = float(np.mean(sizes))
    return Rate(name, mean, 8 * mean / (clean.shape[1] * clean.shape[2]), metrics.pooled_psnr(images, clean))


def _rounded(code: Floats) -> Floats:
    """A code as 8 bits a number would give it back."""
    low, high = float(code.min()), float(code.max())
    step = (high - low) / 255 or 1.0
    levels = np.rint((code - low) / step).astype(np.uint8)
    values: Floats = levels * np.float32(step) + np.float32(low)
    return values


def _file_within(size: int, image: Bytes, kind: str) -> bytes:
    """The file of the highest quality that takes at most `size` bytes, or else of the lowest."""
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)

    def encoded(quality: int) -> bytes:
        file = io.BytesIO()
        picture.save(file, kind, quality=quality, **({"optimize": True} if kind == "JPEG" else {}))
        return file.getvalue()

    return _last(encoded, 1, 100, lambda file: len(file) <= size)


def _last(make: Callable[[int], bytes], low: int, high: int, fits: Callable[[bytes], bool]) -> bytes:
    """`make` of the largest number that fits, found by halving; of `low` where none does."""
    best = make(low)
    while low < high:
        middle = (low + high + 1) // 2
        if fits(file := make(middle)):
            low, best = middle, file
        else:
            high = middle - 1
    return best
