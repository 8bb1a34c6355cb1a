"""Small files that make a reader work without end: each is read, or refused, within seconds."""

import io
import struct
import time
import zlib
from collections.abc import Callable

import pytest
from PIL import Image

from edgeae.errors import ImageError
from edgeae.images.files.reader import Photo

MOST_S = 30  # each takes well under one on an idle machine; before it had a bound, minutes or for ever


def picture(kind: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (32, 24), (9, 99, 200)).save(file, kind)
    return file.getvalue()


def png(kind: bytes, data: bytes) -> bytes:
    file = picture("PNG")
    chunk = struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return file[:33] + chunk + file[33:]


def xmp(document: bytes) -> bytes:
    return png(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + document)


def jpeg(segment: bytes, count: int) -> bytes:
    file = picture("JPEG")
    return file[:2] + segment * count + file[2:]


def overlapping_pages() -> bytes:
    """Directories of 65,535 unknown entries, each 4 bytes behind the one before."""
    pages, length = 10_000, 2 + 12 * 65_535
    file = bytearray(b"II*\0\x08\0\0\0".ljust(8 + length + 4 * pages + 100, b"\xff"))
    for page in range(pages):
        struct.pack_into("<I", file, 8 + 4 * page + length, 8 + 4 * (page + 1))
    return bytes(file)


HOSTILE: dict[str, Callable[[], bytes]] = {
    "a profile of spaces": lambda: png(b"tEXt", b"Raw profile type exif\0" + b" " * 300_000),
    "a profile of empty lines": lambda: png(b"tEXt", b"Raw profile type iptc\0" + b"\n" * 300_000),
    "XMP, spaces before an attribute": lambda: xmp(b"<a" + b" " * 500_000 + b"b='c'/>"),
    "XMP, namespaces again and again": lambda: xmp(
        b"<a " + b" ".join(b"xmlns:x%d='y'" % i for i in range(50_000)) + b">" + b"<b xmlns:q='r'/>" * 20_000 + b"</a>"
    ),
    "XMP, many attributes": lambda: xmp(b"<a " + b" ".join(b"x%d='y'" % i for i in range(200_000)) + b"/>"),
    "HTML of comments alone": lambda: b"<!---->" * 500,
    "TIFF, overlapping pages": overlapping_pages,
    "JPEG, markers without data": lambda: picture("JPEG")[:-2] + b"\xff\xe5\0\2\0" * 200_000 + b"\xff\xd9",
    "JPEG, Photoshop resources": lambda: jpeg(
        b"\xff\xed" + struct.pack(">H", 2 + 14 + 48_000) + b"Photoshop 3.0\0" + b"8BIM\x0b\xb7\0\0\0\0\0\0" * 4_000, 20
    ),
}


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_work_is_bounded(hostile: Callable[[], bytes]) -> None:
    file, started = hostile(), time.perf_counter()
    try:
        with Photo(file) as photo:
            photo.load()
    except ImageError as error:
        assert "again" in str(error) or "text" in str(error)
    assert time.perf_counter() - started < MOST_S
