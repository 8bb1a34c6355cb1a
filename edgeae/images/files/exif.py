"""EXIF data and TIFF tags from one file into another, byte for byte: types and numbers stay as they are.

A directory is a list of tags, each with a type, a count and its bytes, or with another directory (TIFF 6.0, section 2;
EXIF 2.32, section 4.6). Pillow reads the values and guesses the types when it writes them; here they are not read.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import TypeAlias, Union

import numpy as np

Read: TypeAlias = Callable[[int, int], bytes]  # (position, count) → so many bytes, or fewer at the end
# By number: a type, a count and the bytes, little-endian; a directory; or an entry of 12 bytes for the file it is in.
Tags: TypeAlias = Mapping[int, Union[tuple[int, int, bytes], "Tags", bytes]]

ORIENTATION, XMP, EXIF, GPS, MAKER_NOTE, INTEROP = 274, 700, 34665, 34853, 37500, 40965
BYTE, SHORT, _LONG = 1, 3, 4
_TABLES = {EXIF: (INTEROP,), GPS: (), INTEROP: ()}  # what is a directory, and which it may hold
_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}  # by type
_FRACTIONS = (5, 10)  # of two numbers of 4 bytes
_LARGEST = 1 << 24  # bytes of the values of a directory
HEADER = b"II*\0\x08\0\0\0"  # with the directory right after it


def parsed(read: Read) -> Tags:
    """The first directory of a TIFF file or an EXIF block. What does not fit its size is left out.

    Raises struct.error when even the directory does not; a BigTIFF's is empty.
    """
    order = _order(read(0, 2))
    version, start = struct.unpack(order + "HI", read(2, 6))
    return _directory(read, order, start, (EXIF, GPS)) if version == 42 else {}


def _order(head: bytes) -> str:
    return ">" if head == b"MM" else "<"


def _directory(read: Read, order: str, start: int, tables: tuple[int, ...]) -> Tags:
    (count,) = struct.unpack(order + "H", read(start, 2))
    entries = read(start + 2, 12 * count)
    tags: dict[int, tuple[int, int, bytes] | Tags | bytes] = {}
    left = _LARGEST
    for tag, kind, number, value in struct.iter_unpack(order + "HHI4s", entries[: len(entries) // 12 * 12]):
        (place,) = struct.unpack(order + "I", value)
        size = number * _BYTES.get(kind, 0)
        if tag in tables:
            tags[tag] = _directory(read, order, place, _TABLES[tag])
        elif tag not in _TABLES and 0 < size <= left:
            left -= size
            data = value[:size] if size <= 4 else read(place, size)
            if len(data) == size:
                tags[tag] = kind, number, data if order == "<" else _swapped(data, kind)
    return tags


def _swapped(data: bytes, kind: int) -> bytes:
    unit = 4 if kind in _FRACTIONS else _BYTES[kind]
    return np.frombuffer(data, np.uint8).reshape(-1, unit)[:, ::-1].tobytes()


def packed(tags: Tags, place: int) -> bytes:
    """A little-endian directory, and all it points to, for the (even) position `place` of a file."""
    end = place + 2 + 12 * len(tags) + 4
    entries, data = [], b""
    for tag, value in sorted(tags.items()):
        if isinstance(value, bytes):
            entries.append(value)
            continue
        kind, number, content = value if isinstance(value, tuple) else (_LONG, 1, packed(value, end + len(data)))
        if len(content) > 4 or not isinstance(value, tuple):
            position = struct.pack("<I", end + len(data))
            data += content + bytes(len(content) % 2)
        else:
            position = content.ljust(4, b"\0")
        entries.append(struct.pack("<HHI", tag, kind, number) + position)
    return b"".join([struct.pack("<H", len(tags)), *entries, bytes(4), data])


def with_tags(file: bytes, tags: Tags) -> bytes:
    """A little-endian TIFF file with more tags in its (first and only) directory."""
    (start,) = struct.unpack_from("<I", file, 4)
    (count,) = struct.unpack_from("<H", file, start)
    entries = (file[at : at + 12] for at in range(start + 2, start + 2 + 12 * count, 12))
    own: dict[int, bytes] = {int.from_bytes(entry[:2], "little"): entry for entry in entries}
    file += bytes(len(file) % 2)
    return b"".join([file[:4], struct.pack("<I", len(file)), file[8:], packed({**tags, **own}, len(file))])


def upright(block: bytes) -> bytes:
    """An EXIF block that says of a picture that it is upright, and that holds no thumbnail, which may not be.

    Nothing changes its place, which the notes of some cameras count on. Raises struct.error for what is no block.
    """
    order, changed = _order(block[:2]), bytearray(block)
    (start,) = struct.unpack_from(order + "I", block, 4)
    (count,) = struct.unpack_from(order + "H", block, start)
    end = start + 2 + 12 * count
    for place in range(start + 2, end, 12):
        if struct.unpack_from(order + "H", block, place)[0] == ORIENTATION:
            struct.pack_into(order + "HIHH", changed, place + 2, SHORT, 1, 1, 0)
    struct.pack_into(order + "I", changed, end, 0)  # where the next directory is
    return bytes(changed)
