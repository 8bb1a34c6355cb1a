"""What reading and writing PNG files share: signature, header, chunks, limits.

Format: the PNG specification, third edition (W3C, 2025).
"""

import struct
import zlib
from collections.abc import Sequence
from typing import TypeAlias

from edgeae.images.arrays import Pixels

Bytes: TypeAlias = Pixels  # rows as a file holds them, not pixels
Chunks: TypeAlias = Sequence[tuple[bytes, bytes]]  # (type, data)

SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEADER = ">IIBBBBB"  # width, height, depth, colour type, compression, filter method, interlace
LARGEST_SIDE = 2**31 - 1
ROW_BYTES = 2**24  # of the longest row of pixels that is read or written
STRIP_BYTES = 2**20  # filters three times as fast as 4 MiB: the temporary arrays stay in the processor's cache
PIECE_BYTES = 2**15  # of a file at a time, and of the sample that zlib is tried on: the size of its window


def pack_chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk: length, type, data and CRC."""
    return b"".join((struct.pack(">I", len(data)), kind, data, struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))))
