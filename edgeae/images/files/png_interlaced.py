"""Read interlaced PNG files of 16 bits a channel, of which Pillow drops 8: pass by pass, each as a PNG of its own."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from edgeae.errors import ImageError
from edgeae.images.arrays import Rows
from edgeae.images.files.png_format import HEADER, SIGNATURE, pack_chunk
from edgeae.images.files.png_reader import PngReader

# (first column, first row, step across, step down) of Adam7's passes (PNG specification, section 8.2).
_PASSES = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}  # by colour type
_DAMAGED = "is damaged or cut short: copy or save it again."


def read_interlaced(file: BinaryIO) -> Rows:
    """Return the pixels of an interlaced PNG of 16 bits that `PngReader` has opened: (H, W, channels), uint16.

    Raises:
        ImageError: its pixels are damaged. The text continues after the file's name.
    """
    chunks = list(_chunks(file))
    width, height, depth, colour, *_ = struct.unpack(HEADER, chunks[0][1])
    before = b"".join(pack_chunk(kind, data) for kind, data in chunks if kind == b"tRNS")
    pixel_bytes = _CHANNELS[colour] * depth // 8
    sizes = [(-(-(width - x) // dx), -(-(height - y) // dy)) for x, y, dx, dy in _PASSES]
    total = sum(rows * (1 + columns * pixel_bytes) for columns, rows in sizes if rows > 0 and columns > 0)
    try:
        stream = b"".join(data for kind, data in chunks if kind == b"IDAT")
        filtered = zlib.decompressobj().decompress(stream, total)
    except zlib.error as error:
        raise ImageError(_DAMAGED) from error
    if len(filtered) < total:
        raise ImageError(_DAMAGED)
    picture: Rows | None = None
    position = 0
    for (x, y, dx, dy), (columns, rows) in zip(_PASSES, sizes, strict=True):
        if rows <= 0 or columns <= 0:
            continue
        end = position + rows * (1 + columns * pixel_bytes)
        header = struct.pack(HEADER, columns, rows, depth, colour, 0, 0, 0)
        data = zlib.compress(filtered[position:end], 0)
        parts = (SIGNATURE, pack_chunk(b"IHDR", header), before, pack_chunk(b"IDAT", data), pack_chunk(b"IEND", b""))
        part = PngReader(io.BytesIO(b"".join(parts))).read(rows)
        if picture is None:
            picture = np.empty((height, width, part.shape[2]), part.dtype)
        picture[y::dy, x::dx] = part
        position = end
    assert picture is not None
    return picture


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    file.seek(len(SIGNATURE))
    kind = b""
    while kind != b"IEND" and len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind in (b"IHDR", b"IDAT", b"tRNS"):
            yield kind, file.read(length)
            file.seek(4, io.SEEK_CUR)
        else:
            file.seek(length + 4, io.SEEK_CUR)
