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
IPTC = 33723  # a tag
BYTE, ASCII, SHORT, LONG, UNDEFINED = 1, 2, 3, 4, 7  # types
_LONG8 = {16: 4, 17: 9, 18: 13}  # BigTIFF's types of 8 bytes, and the ones of 4 bytes with the same meaning
_IPTC_START = b"\x1c"
_BYTES = {  # of one value, by type
    1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8,
}  # fmt: skip
_FRACTIONS = (5, 10)  # types of two numbers of 4 bytes
_SUBDIRECTORIES = {EXIF: (INTEROP,), GPS: (), INTEROP: ()}  # tags that hold a directory, and those allowed inside it
_MAX_DIRECTORY_BYTES = 1 << 24  # of the values of one directory; the rest is left out
_MAX_PAGES, _MAX_PAGES_BYTES = 10_000, 1 << 26  # and of the values of all pages


class Layout(NamedTuple):
    """How a file writes its directories.

    Attributes:
        order: of bytes, as `struct` writes it.
        big: whether it is a BigTIFF, with positions and numbers of 8 bytes.
        start: position of the first directory.
    """

    order: str
    big: bool
    start: int


def parse_layout(read: Read) -> Layout:
    """Return how a TIFF file or an EXIF block is laid out.

    Raises:
        struct.error: it is neither.
    """
    order = byte_order(read(0, 2))
    version, start = struct.unpack(order + "HI", read(2, 6))
    if version == 43:
        return Layout(order, True, struct.unpack(order + "Q", read(8, 8))[0])
    if version != 42:
        raise struct.error("not a TIFF directory")
    return Layout(order, False, start)


def parse_tags(read: Read) -> Tags:
    """Return the first directory of a TIFF file (BigTIFF too) or of an EXIF block.

    Entries that point outside the file, or have an unknown type, are left out. Of a tag that is there twice the first
    one counts, as for libtiff and Pillow.

    Raises:
        struct.error: the directory itself is outside the file.
    """
    layout = parse_layout(read)
    return _read_directory(read, layout, layout.start, (EXIF, GPS))[0]


def parse_pages(read: Read) -> list[Tags]:
    """Return all directories of a TIFF file that follow one another: its pages; at most 10,000 of them.

    Raises:
        struct.error: the first directory is outside the file, or all have more than 64 MiB of values.
    """
    layout = parse_layout(read)
    position, pages, seen, left = layout.start, list[Tags](), set[int](), _MAX_PAGES_BYTES
    while position and position not in seen and len(pages) < _MAX_PAGES:
        seen.add(position)
        try:
            tags, position, entries = _read_directory(read, layout, position, (EXIF, GPS))
        except struct.error:
            if not pages:
                raise
            break
        pages.append(tags)
        left -= sum(len(value.data) for value in tags.values() if isinstance(value, Field)) + 128 * entries
        if left < 0:
            raise struct.error("too many tags")
    return pages


def parse_directory(read: Read, position: int) -> Tags:
    """Return the directory at a position of a TIFF file: that of a picture that lies beside its pages (SubIFDs).

    Raises:
        struct.error: it is outside the file.
    """
    return _read_directory(read, parse_layout(read), position, ())[0]


def numbers(tags: Tags, tag: int) -> tuple[int, ...]:
    """Return the whole numbers of a tag, empty where there is none."""
    value = tags.get(tag)
    letter = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}.get(value.kind if isinstance(value, Field) else 0)
    if not isinstance(value, Field) or letter is None:
        return ()
    return struct.unpack(f"<{value.number}{letter}", value.data)


def number(tags: Tags, tag: int, default: int = 0) -> int:
    """Return the first whole number of a tag."""
    return next(iter(numbers(tags, tag)), default)


def pack_tags(tags: Tags, start: int) -> bytes:
    """Return a little-endian directory and all that it points to, for the (even) position `start` of a file."""
    end = start + 2 + 12 * len(tags) + 4  # of the directory; values of more than 4 bytes come after it
    entries, data = [], bytearray()
    for tag, value in sorted(tags.items()):
        if isinstance(value, bytes):
            entries.append(value)
            continue
        if is_field := isinstance(value, Field):
            kind, count, content = _shorten(value)
        else:
            kind, count, content = LONG, 1, pack_tags(value, end + len(data))
        if len(content) > 4 or not is_field:
            position = struct.pack("<I", end + len(data))
            data += content + bytes(len(content) % 2)
        else:
            position = content.ljust(4, b"\0")
        entries.append(struct.pack("<HHI", tag, kind, count) + position)
    return b"".join([struct.pack("<H", len(tags)), *entries, bytes(4), data])


def add_tags(file: bytes, tags: Tags) -> bytes:
    """Return a little-endian TIFF file with more tags in its (first and only) directory, which moves to the end."""
    return _append_directory(file, {**tags, **own_entries(file)})


def replace_tags(file: bytes, tags: Tags) -> bytes:
    """Return what `add_tags` returns, with tags that count before the file's own."""
    return _append_directory(file, {**own_entries(file), **tags})


def own_entries(file: bytes) -> dict[int, bytes]:
    """Return the entries of a little-endian TIFF file's first directory, as they are in it."""
    (start,) = struct.unpack_from("<I", file, 4)
    (count,) = struct.unpack_from("<H", file, start)
    entries = (file[at : at + 12] for at in range(start + 2, start + 2 + 12 * count, 12))
    return {int.from_bytes(entry[:2], "little"): entry for entry in entries}


def _append_directory(file: bytes, tags: Tags) -> bytes:
    file += bytes(len(file) % 2)
    return b"".join([file[:4], struct.pack("<I", len(file)), file[8:], pack_tags(tags, len(file))])


def byte_order(head: bytes) -> str:
    """Return the byte order that a file's first two bytes name, as `struct` writes it."""
    return ">" if head == b"MM" else "<"


def type_bytes(kind: int) -> int:
    """Return the bytes of one value of a type, 0 for an unknown one."""
    return _BYTES.get(kind, 0)


def _read_directory(
    read: Read, layout: Layout, start: int, subdirectories: tuple[int, ...]
) -> tuple[dict[int, Field | Tags | bytes], int, int]:
    """Return a directory, the position of the next one, and the number of this one's entries, unknown ones too."""
    order, big, _ = layout
    head, entry, width = ("Q", "HHQ8s", 8) if big else ("H", "HHI4s", 4)
    word = order + ("Q" if big else "I")
    head_bytes, entry_bytes = struct.calcsize(order + head), struct.calcsize(order + entry)
    (length,) = struct.unpack(order + head, read(start, head_bytes))
    length = min(length, 0xFFFF)
    entries = read(start + head_bytes, entry_bytes * length)
    tags: dict[int, Field | Tags | bytes] = {}
    left = _MAX_DIRECTORY_BYTES
    for tag, kind, count, value in struct.iter_unpack(
        order + entry, entries[: len(entries) // entry_bytes * entry_bytes]
    ):
        (position,) = struct.unpack(word, value)
        size = count * _BYTES.get(kind, 0)
        if tag in tags:
            continue
        if tag in subdirectories:
            tags[tag] = _read_directory(read, layout, position, _SUBDIRECTORIES[tag])[0]
        elif tag not in _SUBDIRECTORIES and 0 < size <= left:
            left -= size
            data = value[:size] if size <= width else read(position, size)
            if len(data) == size:
                tags[tag] = _field(tag, kind, count, data, order)
    after = read(start + head_bytes + entry_bytes * length, width)
    return tags, struct.unpack(word, after)[0] if len(after) == width else 0, length


def _field(tag: int, kind: int, count: int, data: bytes, order: str) -> Field:
    swapped = data if order == "<" else _swap_bytes(data, kind)
    if tag == IPTC and kind == LONG:  # bytes that some programs store as numbers: they have no byte order
        return Field(UNDEFINED, len(data), data if data.startswith(_IPTC_START) else swapped)
    return Field(kind, count, swapped)


def _shorten(field: Field) -> Field:
    """Return a field of BigTIFF's types as one that any TIFF can hold."""
    if field.kind not in _LONG8:
        return field
    values = np.frombuffer(field.data, "<i8" if field.kind == 17 else "<u8")
    return Field(_LONG8[field.kind], field.number, values.astype("<i4" if field.kind == 17 else "<u4").tobytes())


def _swap_bytes(data: bytes, kind: int) -> bytes:
    unit = 4 if kind in _FRACTIONS else _BYTES[kind]
    return np.frombuffer(data, np.uint8).reshape(-1, unit)[:, ::-1].tobytes()
