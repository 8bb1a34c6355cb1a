"""EXIF data and TIFF tags, read and written byte for byte."""

import struct

import pytest
from helpers.exif import long_exif
from PIL import ExifTags, Image

from edgeae.images.files import exif


def reader(data: bytes) -> exif.Read:
    return lambda place, count: data[place : place + count]


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders_give_the_same_tags(order: str) -> None:
    """Every type survives packing and parsing, and Pillow reads the packed block."""
    tags = long_exif(7, 3, 6)
    tags.endian = order
    tags[ExifTags.Base.XPTitle] = (1, 2, 3)
    parsed = exif.parse_tags(reader(tags.tobytes()[6:]))
    assert parsed[exif.ORIENTATION] == (exif.SHORT, 1, b"\6\0")
    values = {kind: exif.Field(kind, 2, bytes(range(2 * size))) for kind, size in exif._BYTES.items() if kind < 16}
    block = exif.HEADER + exif.pack_tags({**parsed, **values}, 8)
    assert exif.parse_tags(reader(block)) == {**parsed, **values}
    again = Image.Exif()
    again.load(b"Exif\0\0" + block)
    assert again[ExifTags.Base.Make] == "Edge"
    assert again.get_ifd(ExifTags.IFD.Exif) == long_exif(7, 3, 6).get_ifd(ExifTags.IFD.Exif)
    swapped = exif._swap_bytes(bytes(range(16)), 5)
    assert swapped == bytes([3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12])


def test_broken_entries_are_left_out_and_loops_end() -> None:
    entries = [
        struct.pack("<HHII", *entry)
        for entry in (
            (270, 2, 9, 10**6),
            (271, 99, 1, 0),
            (272, 2, 2**32 - 1, 8),
            (305, 2, 0, 0),
            (exif.EXIF, 4, 1, 8),
            (exif.GPS, 4, 1, 8),
            (exif.INTEROP, 4, 1, 8),
            (315, 2, 3, 0x6261),
        )
    ]
    block = exif.HEADER + struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    tags = exif.parse_tags(reader(block))
    assert tags.keys() == {315, exif.EXIF, exif.GPS}
    assert tags[exif.GPS] == {315: (2, 3, b"ab\0")}
    assert exif.parse_tags(reader(b"II+\0" + bytes(20))) == {}  # a BigTIFF
    for broken in (b"", b"II*\0", exif.HEADER):
        with pytest.raises(struct.error):
            exif.parse_tags(reader(broken))
