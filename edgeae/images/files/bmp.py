"""What Pillow does not do for BMP files: alpha that is not declared, colour profiles, and writing either."""

from __future__ import annotations

import struct
from typing import BinaryIO

import numpy as np
from PIL import Image

from edgeae.images.arrays import Pixels

_V5_BYTES = 124
_EMBEDDED, _SRGB, _BITFIELDS, _PLAIN = b"DEBM", b"BGRs", 3, 0
_PICTURE_INTENT, _ALPHA_BITFIELDS = 4, 6
# Masks of red, green, blue and perhaps alpha that Pillow reads.
_KNOWN_MASKS = (
    (0xFF0000, 0xFF00, 0xFF), (0xFF0000, 0xFF00, 0xFF, 0), (0xFF0000, 0xFF00, 0xFF, 0xFF000000),
    (0xF800, 0x7E0, 0x1F), (0xF800, 0x7E0, 0x1F, 0), (0x7C00, 0x3E0, 0x1F), (0x7C00, 0x3E0, 0x1F, 0),
)  # fmt: skip
_METRES = 39.37007874  # inches in one
_MOST_PROFILE = 1 << 24


def read_profile(file: BinaryIO) -> bytes | None:
    """Return the colour profile in a BMP file of version 5; its position is kept."""
    start = file.tell()
    file.seek(0)
    head = file.read(14 + _V5_BYTES)
    profile = None
    if len(head) == 14 + _V5_BYTES and head[14:18] == struct.pack("<I", _V5_BYTES) and head[70:74] == _EMBEDDED:
        position, count = struct.unpack_from("<II", head, 14 + 112)
        file.seek(14 + position)
        data = file.read(min(count, _MOST_PROFILE))
        profile = data if data and len(data) == count else None
    file.seek(start)
    return profile


def read_fields(file: BinaryIO) -> tuple[Pixels, tuple[float, float] | None, int] | None:
    """Read a BMP file whose channels are told by masks that Pillow does not know, such as 4 or 10 bits each.

    Returns:
        The pixels, (height, width, 3 or 4); pixels per inch; the most bits that a channel has. None for other files,
        and for damaged ones, of which Pillow tells why. The file's position is kept.
    """
    start = file.tell()
    file.seek(0)
    head = file.read(14 + _V5_BYTES)
    try:
        return _read_fields(file, head)
    except struct.error:
        return None
    finally:
        file.seek(start)


def _read_fields(file: BinaryIO, head: bytes) -> tuple[Pixels, tuple[float, float] | None, int] | None:
    offset, header_bytes, width, height, _, bits, compression = struct.unpack_from("<IIiiHHI", head, 10)
    across, down = struct.unpack_from("<ii", head, 38)
    if header_bytes < 40 or bits not in (16, 32) or compression not in (_BITFIELDS, _ALPHA_BITFIELDS):
        return None
    alpha_too = header_bytes >= 56 or compression == _ALPHA_BITFIELDS
    masks = struct.unpack_from("<4I" if alpha_too else "<3I", head, 14 + 40)
    if masks in _KNOWN_MASKS or not all(masks[:3]) or any(mask >> bits for mask in masks):
        return None
    row_bytes, rows = (width * bits // 8 + 3) // 4 * 4, abs(height)
    if width < 1 or not rows or width * rows > 2 * (Image.MAX_IMAGE_PIXELS or 1 << 31):
        return None
    file.seek(offset)
    data = file.read(row_bytes * rows)
    if len(data) < row_bytes * rows:
        return None
    words = np.frombuffer(data, f"<u{bits // 8}").reshape(rows, -1)[:, :width][:: 1 if height < 0 else -1]
    channels, most = [], 0
    for mask in masks if masks[-1] else masks[:3]:
        shift = (mask & -mask).bit_length() - 1
        white = mask >> shift
        most = max(most, white.bit_length())
        values = (words & words.dtype.type(mask)) >> words.dtype.type(shift)
        channels.append(np.rint(values * (255 / white)).astype(np.uint8))
    dpi = (across / _METRES, down / _METRES) if across > 0 and down > 0 else None
    return np.ascontiguousarray(np.stack(channels, axis=-1)), dpi, most


def read_alpha(file: BinaryIO, width: int, height: int) -> Pixels | None:
    """Return the alpha that a file of 32 bits keeps in the bytes that its header calls unused: (height, width).

    Programs that write alpha there write some opaque pixels, and some others. Nothing but zeros or 255, or no opaque
    pixel at all, means nothing: then None is returned. The file's position is kept.
    """
    start = file.tell()
    file.seek(0)
    head = file.read(54)
    alpha = None
    if len(head) == 54 and head[:2] == b"BM":
        (offset,) = struct.unpack_from("<I", head, 10)
        rows, (bits, compression) = struct.unpack_from("<i", head, 22)[0], struct.unpack_from("<HI", head, 28)
        if struct.unpack_from("<I", head, 14)[0] >= 40 and bits == 32 and compression == _PLAIN:
            file.seek(offset)
            data = file.read(width * height * 4)
            if len(data) == width * height * 4:
                last = np.frombuffer(data, np.uint8)[3::4].reshape(height, width)
                last = last if rows < 0 else last[::-1]
                alpha = last if last.max() == 255 and last.min() < 255 else None
    file.seek(start)
    return alpha


def encode_bmp(pixels: Pixels, dpi: tuple[float, float] | None, icc: bytes | None) -> bytes:
    """Return a BMP file of version 5.

    Args:
        pixels: (H, W, 3 or 4), RGB with or without alpha.
        dpi: pixels per inch.
        icc: a colour profile.
    """
    height, width, channels = pixels.shape
    order = [2, 1, 0, 3][:channels]
    row_bytes = (width * channels + 3) // 4 * 4
    rows = np.zeros((height, row_bytes), np.uint8)
    rows[:, : width * channels] = pixels[::-1, :, order].reshape(height, -1)
    data = rows.tobytes()
    across, down = (round(value * _METRES) for value in dpi or (0, 0))
    masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000) if channels == 4 else (0, 0, 0, 0)
    profile = icc or b""
    header = struct.pack(
        "<IiiHHIIiiII4I4s48xIII4x", _V5_BYTES, width, height, 1, 8 * channels,
        _BITFIELDS if channels == 4 else _PLAIN, len(data), across, down, 0, 0, *masks,
        _EMBEDDED if profile else _SRGB, _PICTURE_INTENT, _V5_BYTES + len(data) if profile else 0, len(profile),
    )  # fmt: skip
    start = 14 + _V5_BYTES
    return struct.pack("<2sIHHI", b"BM", start + len(data) + len(profile), 0, 0, start) + header + data + profile
