"""PNG files for tests: an encoder that filters byte by byte as the specification says, and readers to compare with."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgeae.images.files.png_reader import PngReader
from edgeae.images.files.png_writer import PngWriter

SIGNATURE = b"\x89PNG\r\n\x1a\n"


CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a colour type, as the file stores them


KINDS = [(0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (2, 8), (2, 16), (3, 1), (3, 2), (3, 4), (3, 8)]
KINDS += [(4, 8), (4, 16), (6, 8), (6, 16)]


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def header(width: int, height: int, depth: int = 8, colour: int = 0, *methods: int) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, *(methods or (0, 0, 0))))


def packed(samples: np.ndarray, depth: int) -> list[bytes]:
    """Pack samples, (H, W, C), into the bytes of each row."""
    if depth == 16:
        return [row.astype(">u2").tobytes() for row in samples]
    bits = (samples.reshape(len(samples), -1, 1) >> np.arange(depth - 1, -1, -1)) & 1
    return [row.tobytes() for row in np.packbits(bits.reshape(len(samples), -1).astype(np.uint8), axis=1)]


def predicted(kind: int, left: int, up: int, corner: int) -> int:
    p = left + up - corner
    paeth = min((left, up, corner), key=lambda value: abs(p - value))  # min takes the first of equals
    return (0, left, up, (left + up) // 2, paeth)[kind]


def filtered(rows: list[bytes], distance: int, kinds: list[int]) -> bytes:
    out, above = bytearray(), bytes(len(rows[0]))
    for row, kind in zip(rows, kinds, strict=True):
        out.append(kind)
        for i, value in enumerate(row):
            left, corner = (row[i - distance], above[i - distance]) if i >= distance else (0, 0)
            out.append((value - predicted(kind, left, above[i], corner)) % 256)
        above = row
    return bytes(out)


def png(
    samples: np.ndarray,
    colour: int,
    depth: int,
    *,
    kinds: list[int] | None = None,
    before: bytes = b"",
    after: bytes = b"",
    idat_bytes: int = 100,
) -> bytes:
    height, width, channels = samples.shape
    distance = max(1, channels * depth // 8)
    kinds = [y % 5 for y in range(height)] if kinds is None else kinds
    data = zlib.compress(filtered(packed(samples, depth), distance, kinds))
    parts = [chunk(b"IDAT", data[i : i + idat_bytes]) for i in range(0, len(data), idat_bytes)]
    return b"".join((SIGNATURE, header(width, height, depth, colour), before, *parts, after, chunk(b"IEND")))


def random_samples(height: int, width: int, colour: int, depth: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**depth, (height, width, CHANNELS[colour]))


def read(data: bytes, rows: int = 10**9) -> np.ndarray:
    reader = PngReader(io.BytesIO(data))
    strips = []
    while len(strip := reader.read(rows)):
        strips.append(strip)
    assert strip.shape == (0, reader.width, len(reader.mode))
    image = np.concatenate(strips)
    assert image.shape == (reader.height, reader.width, len(reader.mode))
    assert image.dtype == reader.dtype
    return image


def write(image: np.ndarray, mode: str, rows: int = 10**9, **options: Any) -> bytes:
    file = io.BytesIO()
    writer = PngWriter(file, image.shape[1], image.shape[0], mode, image.dtype, **options)
    for start in range(0, len(image), rows):
        writer.write(image[start : start + rows])
    writer.close()
    return file.getvalue()


def pillow(data: bytes, mode: str) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert(mode)).reshape(image.height, image.width, len(mode))


def opencv(data: bytes) -> np.ndarray:
    """Decode by OpenCV: (H, W, C), with the channels in the file's order."""
    cv2 = pytest.importorskip("cv2")
    decoded = np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED))
    image = decoded.reshape(*decoded.shape[:2], -1)
    return image[..., [2, 1, 0, 3][: image.shape[2]]] if image.shape[2] > 2 else image


def chunks_of(data: bytes) -> list[tuple[bytes, bytes]]:
    found, position = [], len(SIGNATURE)
    while position < len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        found.append((data[position + 4 : position + 8], data[position + 8 : position + 8 + length]))
        position += length + 12
    return found
