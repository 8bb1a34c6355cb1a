"""Photoshop's image resources: captions (IPTC), paths, guides... in JPEG, TIFF and PNG files; without thumbnails.

A block of resources (Adobe's "Photoshop File Formats Specification", Image Resources Section) is a row of: 4 bytes of
signature, 2 of number, a name with its length, padded to even, 4 bytes of length, and the data, padded to even.
"""

from __future__ import annotations

import binascii
import struct
from collections.abc import Iterator

from edgeae.images.files import exif
from edgeae.images.files.embedded import has_picture, has_pixels
from edgeae.images.files.exif_block import drop_pictures
from edgeae.images.files.xmp import clean_xmp

START = b"Photoshop 3.0\0"  # of such a segment in a JPEG file
_SIGNATURES = (b"8BIM", b"MeSa", b"PHUT", b"AgHg", b"DCSR")
_MOST_RESOURCES = 10_000  # Photoshop writes about 30
_THUMBNAILS = (1033, 1036)
IPTC_RESOURCE, _EXIF_RESOURCES, _XMP_RESOURCE = 1028, (1058, 1059), 1060
_PLUG_INS = range(4000, 5000)
_IPTC_PREVIEWS = ((2, 200), (2, 201), (2, 202))  # (record, dataset): format, its version, data
_IPTC_OBJECT = (7, 8, 9)  # records of a whole picture
_SEGMENT_BYTES = 65_533


def clean_resources(block: bytes) -> tuple[bytes, list[str]]:
    """Return a block without the resources that hold a picture, and the names of what is left out."""
    parts, lost = [], []
    for index, (head, number, data) in enumerate(_resources(block)):
        if index == _MOST_RESOURCES:
            lost.append("most of Photoshop's data")
            break
        cleaned, removed = data, list[str]()
        if number in _THUMBNAILS:
            cleaned, removed = b"", ["Photoshop thumbnail"]
        elif number in _EXIF_RESOURCES:
            cleaned, removed = drop_pictures(data)
        elif number == _XMP_RESOURCE:
            cleaned, removed = clean_xmp(data)
        elif number == IPTC_RESOURCE:
            cleaned, removed = _clean_iptc(data)
        elif has_picture(data) or (number in _PLUG_INS and has_pixels(data)):
            cleaned, removed = b"", ["picture in Photoshop's data"]
        lost += [name for name in removed if name not in lost]
        if cleaned or not data:
            parts.append(head + struct.pack(">I", len(cleaned)) + cleaned + bytes(len(cleaned) % 2))
    return b"".join(parts), lost


def _clean_iptc(data: bytes) -> tuple[bytes, list[str]]:
    """Return captions (IPTC IIM 4.2, chapter 1) without those that hold a picture, and what is left out."""
    parts, position, lost = [], 0, False
    while data[position : position + 1] == b"\x1c" and position + 5 <= len(data):
        record, dataset, length = struct.unpack_from(">BBH", data, position + 1)
        start = position + 5
        if length & 0x8000:  # so many bytes give the length
            start += length & 0x7FFF
            length = int.from_bytes(data[position + 5 : start], "big")
        whole, position = data[position : start + length], start + length
        if (record, dataset) in _IPTC_PREVIEWS or record in _IPTC_OBJECT or has_picture(whole):
            lost = True
        else:
            parts.append(whole)
    if not lost and not has_picture(data):  # nor in what follows them
        return data, []
    return b"".join(parts), ["preview among the captions (IPTC)"]


def _resources(block: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    """Yield (signature, number and name as they are; number; data) of each whole resource."""
    position = 0
    while block[position : position + 4] in _SIGNATURES:
        (number,) = struct.unpack(">H", block[position + 4 : position + 6].ljust(2, b"\0"))
        name_bytes = block[position + 6] + 1 if position + 6 < len(block) else 1
        at = position + 6 + name_bytes + name_bytes % 2
        length = int.from_bytes(block[at : at + 4], "big")
        if at + 4 + length > len(block):
            return
        yield block[position:at], number, block[at + 4 : at + 4 + length]
        position = at + 4 + length + length % 2


def from_iptc(iptc: bytes) -> bytes:
    """Return a block that holds captions (IPTC) alone."""
    return b"8BIM" + struct.pack(">HHI", IPTC_RESOURCE, 0, len(iptc)) + iptc + bytes(len(iptc) % 2)


def iptc_of(block: bytes) -> bytes:
    """Return the captions (IPTC) in a block, empty if it has none."""
    return next((data for _, number, data in _resources(block) if number == IPTC_RESOURCE), b"")


def to_segments(block: bytes) -> bytes:
    """Return a block as segments of a JPEG file."""
    room = _SEGMENT_BYTES - len(START)
    pieces = [START + block[start : start + room] for start in range(0, len(block), room)]
    return b"".join(b"\xff\xed" + struct.pack(">H", len(piece) + 2) + piece for piece in pieces)


def to_profile(kind: str, data: bytes) -> bytes:
    """Return data as the text that PNG files have for it: `Raw profile type KIND`, in ImageMagick's form."""
    digits = data.hex()
    lines = "\n".join(digits[start : start + 72] for start in range(0, len(digits), 72))
    return f"\n{kind}\n{len(data):8d}\n{lines}\n".encode()


def from_profile(text: bytes) -> bytes | None:
    """Return the data of such a text, None if it is not of that form."""
    _, _, rest = text.lstrip().partition(b"\n")  # after its name; not a regular expression, for the time of which
    length, _, digits = rest.lstrip().partition(b"\n")  # no bound holds where text is white space
    if not length.strip().isdigit():
        return None
    try:
        return binascii.unhexlify(b"".join(digits.split()))
    except binascii.Error:
        return None


def to_tags(block: bytes) -> exif.Tags:
    """Return a block as tags of a TIFF file: all of it, and its captions alone."""
    tags = {34377: exif.Field(exif.BYTE, len(block), block)} if block else {}
    if iptc := iptc_of(block):
        tags[exif.IPTC] = exif.Field(exif.UNDEFINED, len(iptc), iptc)
    return tags
