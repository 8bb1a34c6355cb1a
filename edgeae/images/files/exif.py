"""Copy EXIF data and TIFF tags between files byte for byte, so that types and numbers stay as they are.

Both are directories: lists of entries, each with a tag, a type, a number of values and their data, or with the position
of another directory (TIFF 6.0, section 2; EXIF 2.32, section 4.6). Pillow converts values when it reads them, and
guesses their types when it writes them. Here values are never converted; only their byte order becomes little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias, Union

import numpy as np


class Field(NamedTuple):
    """The value of a tag.

    Attributes:
        kind: TIFF's number of the type.
        number: how many values of that type.
        data: their bytes, little-endian.
    """

    kind: int
    number: int
    data: bytes


# A directory by tag number. `bytes` are a whole entry of 12 bytes, whose positions hold only in the file it is from.
Tags: TypeAlias = Mapping[int, Union[Field, "Tags", bytes]]
Read: TypeAlias = Callable[[int, int], bytes]  # (position, count) → that many bytes, or fewer at the file's end

HEADER = b"II*\0\x08\0\0\0"  # of a little-endian file whose directory comes right after it
ORIENTATION, XMP, EXIF, GPS, MAKER_NOTE, INTEROP = 274, 700, 34665, 34853, 37500, 40965  # tags
BYTE, SHORT, _LONG = 1, 3, 4  # types
_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}  # of one value, by type
_FRACTIONS = (5, 10)  # types of two numbers of 4 bytes
_SUBDIRECTORIES = {EXIF: (INTEROP,), GPS: (), INTEROP: ()}  # tags that hold a directory, and those allowed inside it
_MAX_DIRECTORY_BYTES = 1 << 24  # of the values of one directory; the rest is left out


def parse_tags(read: Read) -> Tags:
    """Return the first directory of a TIFF file or an EXIF block, empty for a BigTIFF.

    Entries that point outside the file, or have an unknown type, are left out.

    Raises:
        struct.error: the directory itself is outside the file.
    """
    order = _byte_order(read(0, 2))
    version, start = struct.unpack(order + "HI", read(2, 6))
    return _read_directory(read, order, start, (EXIF, GPS)) if version == 42 else {}


def pack_tags(tags: Tags, start: int) -> bytes:
    """Return a little-endian directory and all that it points to, for the (even) position `start` of a file."""
    end = start + 2 + 12 * len(tags) + 4  # of the directory; values of more than 4 bytes come after it
    entries, data = [], b""
    for tag, value in sorted(tags.items()):
        if isinstance(value, bytes):
            entries.append(value)
            continue
        if is_field := isinstance(value, Field):
            kind, count, content = value
        else:
            kind, count, content = _LONG, 1, pack_tags(value, end + len(data))
        if len(content) > 4 or not is_field:
            position = struct.pack("<I", end + len(data))
            data += content + bytes(len(content) % 2)
        else:
            position = content.ljust(4, b"\0")
        entries.append(struct.pack("<HHI", tag, kind, count) + position)
    return b"".join([struct.pack("<H", len(tags)), *entries, bytes(4), data])


def add_tags(file: bytes, tags: Tags) -> bytes:
    """Return a little-endian TIFF file with more tags in its (first and only) directory, which moves to the end."""
    (start,) = struct.unpack_from("<I", file, 4)
    (count,) = struct.unpack_from("<H", file, start)
    entries = (file[at : at + 12] for at in range(start + 2, start + 2 + 12 * count, 12))
    own: dict[int, bytes] = {int.from_bytes(entry[:2], "little"): entry for entry in entries}
    file += bytes(len(file) % 2)
    return b"".join([file[:4], struct.pack("<I", len(file)), file[8:], pack_tags({**tags, **own}, len(file))])


def reset_orientation(block: bytes) -> bytes:
    """Return an EXIF block with its orientation set to upright, and without its thumbnail, which is still turned.

    Nothing else moves: the notes of some cameras hold positions within the block.

    Raises:
        struct.error: this is not an EXIF block.
    """
    order, changed = _byte_order(block[:2]), bytearray(block)
    (start,) = struct.unpack_from(order + "I", block, 4)
    (count,) = struct.unpack_from(order + "H", block, start)
    end = start + 2 + 12 * count
    for entry in range(start + 2, end, 12):
        if struct.unpack_from(order + "H", block, entry)[0] == ORIENTATION:
            struct.pack_into(order + "HIHH", changed, entry + 2, SHORT, 1, 1, 0)
    struct.pack_into(order + "I", changed, end, 0)  # the position of the next directory, the thumbnail's: none
    return bytes(changed)


def _byte_order(head: bytes) -> str:
    """Return the byte order that a file's first two bytes name, as `struct` writes it."""
    return ">" if head == b"MM" else "<"


def _read_directory(read: Read, order: str, start: int, subdirectories: tuple[int, ...]) -> Tags:
    (length,) = struct.unpack(order + "H", read(start, 2))
    entries = read(start + 2, 12 * length)
    tags: dict[int, Field | Tags | bytes] = {}
    left = _MAX_DIRECTORY_BYTES
    for tag, kind, count, value in struct.iter_unpack(order + "HHI4s", entries[: len(entries) // 12 * 12]):
        (position,) = struct.unpack(order + "I", value)
        size = count * _BYTES.get(kind, 0)
        if tag in subdirectories:
            tags[tag] = _read_directory(read, order, position, _SUBDIRECTORIES[tag])
        elif tag not in _SUBDIRECTORIES and 0 < size <= left:
            left -= size
            data = value[:size] if size <= 4 else read(position, size)
            if len(data) == size:
                tags[tag] = Field(kind, count, data if order == "<" else _swap_bytes(data, kind))
    return tags


def _swap_bytes(data: bytes, kind: int) -> bytes:
    unit = 4 if kind in _FRACTIONS else _BYTES[kind]
    return np.frombuffer(data, np.uint8).reshape(-1, unit)[:, ::-1].tobytes()
