"""JPEG files of many kinds, made with Pillow and by changing bytes, and what a restoration leaves of them."""

import io
import struct
from typing import Any

import numpy as np
from PIL import Image

from edgeae.images.files.reader import Photo
from edgeae.images.files.writer import Writer
from helpers import photo

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels as stored


def encode(mode: str = "RGB", size: tuple[int, int] = (96, 64), **options: Any) -> bytes:
    """Encode a picture with details in all of its channels."""
    width, height = size
    pixels = photo(height, width, len(mode) if mode != "L" else 1).astype(int)
    pixels += np.random.default_rng(1).integers(-25, 26, pixels.shape)
    picture = Image.frombytes(mode, size, np.clip(pixels, 0, 255).astype(np.uint8).tobytes())
    return save(picture, **{"quality": 85, **options})


def save(picture: Image.Image, format: str = "JPEG", **options: Any) -> bytes:
    """Return the file that Pillow writes."""
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


def segment(marker: int, data: bytes) -> bytes:
    """Return a segment of a JPEG file."""
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def insert(data: bytes, *segments: bytes) -> bytes:
    """Put segments behind the start of a JPEG file."""
    return data[:2] + b"".join(segments) + data[2:]


def resampled(data: bytes, factors: bytes) -> bytes:
    """Give the components other sampling factors; those of the first have to have the same product as before."""
    at = next(at for at in (data.find(bytes((0xFF, marker, 0))) for marker in (0xC0, 0xC1, 0xC2)) if at > 0)
    changed = bytearray(data)
    changed[at + 11 : at + 11 + 3 * len(factors) : 3] = factors
    return bytes(changed)


def paint(data: bytes, box: Box | None, **options: Any) -> tuple[bytes, str]:
    """Write a JPEG again with a box of its pixels inverted; return the file and the writer's note."""
    file = io.BytesIO()
    with Photo(data, "photo.jpg") as opened:
        rows = opened.read(opened.height)
        if box is not None:
            left, top, right, bottom = box
            rows[top:bottom, left:right] = 255 - rows[top:bottom, left:right]
        writer = Writer(file, "JPEG", opened, opened.mode, **{"keep": True, **options})
        for start in range(0, len(rows), 13):
            writer.write(rows[start : start + 13])
        writer.close()
    return file.getvalue(), writer.note


def pixels(data: bytes) -> np.ndarray:
    """Decode a file as it is stored: (H, W, C) or (H, W)."""
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image)
