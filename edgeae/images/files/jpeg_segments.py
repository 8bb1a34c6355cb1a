"""Sort a JPEG file's segments that Pillow does not read, and name what lies behind its picture."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from edgeae.images.files import photoshop
from edgeae.images.files.embedded import has_picture
from edgeae.images.files.xmp import EXTENSION, clean_xmp, join_extension, split_extension

_PIECE_BYTES = 1 << 20
_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")  # within scan data: not a byte of the picture, nor a restart
_REST_BYTES = 16  # shorter rests are padding
_MOST_MARKERS = 10_000  # of a picture: with 64 KiB each, they would be 650 MB
_VIDEO = re.compile(rb"ftyp(?!hei|avi|mif|msf)|moov|\x1aE\xdf\xa3")
# What a segment holds, by (name, start); "" is kept elsewhere or says nothing that a result could lack.
_SEGMENTS = (
    ("APP0", b"JFIF\0", ""),
    ("APP0", b"JFXX\0", "JFIF thumbnail"),
    ("APP0", b"AVI1", ""),
    ("APP1", b"Exif\0", ""),
    ("APP1", b"http://ns.adobe.com/xap/1.0/\0", ""),
    ("APP1", b"FLIR\0", "thermal picture"),
    ("APP2", b"ICC_PROFILE\0", ""),
    ("APP2", b"MPF\0", ""),
    ("APP2", b"urn:iso:std:iso:ts:21496:-1\0", ""),
    ("APP2", b"FPXR\0", "FlashPix data"),
    ("APP11", b"JP", "content credentials"),
    ("APP14", b"Adobe", ""),
)
_GAIN_MAP = b"urn:iso:std:iso:ts:21496:-1\0"


@dataclass
class Segments:
    """What is in the segments of a JPEG file.

    Attributes:
        resources: Photoshop's image resources.
        extension: segments of extended XMP data.
        gain_map: whether the file says that it has a gain map (ISO 21496-1).
        lost: names of what is left out.
    """

    resources: bytes = b""
    extension: list[bytes] = field(default_factory=list)
    gain_map: bool = False
    lost: list[str] = field(default_factory=list)


def sort_segments(segments: Sequence[tuple[str, bytes]]) -> Segments:
    """Sort segments, (name, data), as Pillow lists them."""
    found, resources = Segments(), []
    for name, data in segments:
        if name == "APP13" and data.startswith(photoshop.START):
            resources.append(data[len(photoshop.START) :])
        elif name == "APP1" and data.startswith(EXTENSION):
            found.extension.append(data)
        elif name.startswith("APP"):
            found.gain_map |= data.startswith(_GAIN_MAP)
            known = (word for segment, start, word in _SEGMENTS if segment == name and data.startswith(start))
            word = next(known, f"data of the camera's maker ({name})")
            if word and word not in found.lost:
                found.lost.append(word)
    found.resources = b"".join(resources)
    return found


def clean_extension(segments: Sequence[bytes]) -> tuple[list[bytes], tuple[bytes, bytes] | None, list[str]]:
    """Return the segments of extended XMP data without pictures and claims of them.

    Returns:
        The segments, unchanged if nothing is in them that goes; what the main document called the extended one, and
        its new name, None where that stays; the names of what is left out.
    """
    if not segments:
        return [], None, []
    document = join_extension(segments)
    cleaned, lost = clean_xmp(document)
    if not document or (not cleaned or has_picture(cleaned)):
        return [], None, lost or ["extended XMP data"]
    if cleaned == document:
        return list(segments), None, []
    old = segments[0][len(EXTENSION) : len(EXTENSION) + 32]
    new, pieces = split_extension(cleaned)
    return pieces, (old, new), lost


def describe_rest(file: BinaryIO, gain_map: bool) -> list[str]:
    """Name what follows the picture in a JPEG file: a second picture, a video, a maker's data.

    Args:
        file: it, seekable; its position is kept.
        gain_map: whether the file says that its second picture is one.
    """
    start = file.tell()
    try:
        end, size = _end_of_picture(file), file.seek(0, io.SEEK_END)
        if end is None or size - end < _REST_BYTES:
            return []
        names = []
        file.seek(end)
        first = True
        tail = b""
        while piece := file.read(_PIECE_BYTES):
            data = tail + piece
            if first and not data.strip(b"\0"):
                continue
            first = False
            if b"\xff\xd8\xff" in data:
                names.append("gain map" if gain_map else "second picture")
            if _VIDEO.search(data):
                names.append("motion video")
            tail = data[-3:]
        if first:
            return []
        return list(dict.fromkeys(names)) or ["data after the picture's end"]
    finally:
        file.seek(start)


def _end_of_picture(file: BinaryIO) -> int | None:
    """Return the position after a JPEG's end marker, None if it has none, or more markers than any file before it."""
    position, size = 2, file.seek(0, io.SEEK_END)
    for _ in range(_MOST_MARKERS):
        if position + 4 > size:
            break
        file.seek(position)
        head = file.read(4)
        if head[0] != 0xFF or head[1] in (0x00, 0xFF) or 0xD0 <= head[1] <= 0xD7:
            found = _next_marker(file, position)
            if found is None:
                return None
            position = found
        elif head[1] == 0xD9:
            return position + 2
        elif head[1] in (0x01, 0xD8):
            position += 2
        else:
            position += 2 + int.from_bytes(head[2:], "big")
            if head[1] == 0xDA:
                found = _next_marker(file, position)
                if found is None:
                    return None
                position = found
    return position + 2 if position + 2 == size else None


def _next_marker(file: BinaryIO, position: int) -> int | None:
    """Return the position of the marker that ends the scan data at `position`."""
    file.seek(position)
    tail = b""
    while piece := file.read(_PIECE_BYTES):
        data = tail + piece
        if match := _MARKER.search(data):
            return position - len(tail) + match.start()
        position += len(piece)
        tail = data[-1:]
    return None
