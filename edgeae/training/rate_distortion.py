"""Rate and distortion: a model's code, rounded to 8 bits a number, beside WebP and JPEG files of the same size."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from edgeae.images.arrays import to_float, to_uint8
from edgeae.images.files.array_io import read_image
from edgeae.images.metrics import pooled_psnr
from edgeae.inference.session import Session

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

RANGE_BYTES = 8  # smallest and largest number of a code, float32 each
_FORMATS = {"WebP": "WEBP", "JPEG": "JPEG"}


@dataclass(frozen=True)
class RatePoint:
    """The size of encoded images, and their quality when decoded.

    Attributes:
        name: `code`, `WebP` or `JPEG`.
        bytes: mean size of an image.
        bits_per_pixel: the same divided by the number of pixels.
        psnr: of the mean squared error over all pixels of all images, in dB.
    """

    name: str
    bytes: float
    bits_per_pixel: float
    psnr: float


def measure_rate_distortion(session: Session, clean: Floats) -> list[RatePoint]:
    """Measure a model's codes, and WebP and JPEG files of at most the same size.

    Each number of a code is rounded to one of 256 even steps between the code's smallest and largest number, which are
    counted too. Nothing is entropy-coded. Of the files the one of highest quality that is no larger than the code
    counts; where all are larger, the smallest. WebP and JPEG are Pillow's, the JPEG with optimized tables.

    Args:
        session: of a `conv` or `vae` with as many output as input channels.
        clean: float32 (N, H, W, C) in [0, 1], of the model's size.

    Returns:
        Points named `code`, `WebP` and `JPEG`. None for other models: the decoder of a `residual` needs more than its
        code.
    """
    config = session.config
    if config.arch == "residual" or config.in_channels != config.out_channels:
        return []
    codes = session.encode(clean)
    rounded = np.stack([_round_to_8_bits(code) for code in codes])
    decoded = session.decode(rounded, np.float32)[:, : clean.shape[1], : clean.shape[2]]
    limit_bytes = codes[0].size + RANGE_BYTES
    pixels = to_uint8(clean)
    points = [_point("code", [limit_bytes] * len(clean), decoded, clean)]
    for name, kind in _FORMATS.items():
        files = [_best_file(image, kind, limit_bytes) for image in pixels]
        images = np.stack([read_image(file, clean.shape[3]) for file in files])
        points.append(_point(name, [len(file) for file in files], to_float(images), clean))
    return points


def _point(name: str, sizes_bytes: list[int], images: Floats, clean: Floats) -> RatePoint:
    mean = float(np.mean(sizes_bytes))
    return RatePoint(name, mean, 8 * mean / (clean.shape[1] * clean.shape[2]), pooled_psnr(images, clean))


def _round_to_8_bits(code: Floats) -> Floats:
    low, high = float(code.min()), float(code.max())
    step = (high - low) / 255 or 1.0
    levels = np.rint((code - low) / step).astype(np.uint8)
    values: Floats = levels * np.float32(step) + np.float32(low)
    return values


def _best_file(image: Bytes, kind: str, limit_bytes: int) -> bytes:
    """The file of the highest quality within the limit, found by bisection; of quality 1 if there is none."""
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)

    def encode(quality: int) -> bytes:
        file = io.BytesIO()
        picture.save(file, kind, quality=quality, **({"optimize": True} if kind == "JPEG" else {}))
        return file.getvalue()

    low, high = 1, 100
    best = encode(low)
    while low < high:
        middle = (low + high + 1) // 2
        file = encode(middle)
        if len(file) <= limit_bytes:
            low, best = middle, file
        else:
            high = middle - 1
    return best
