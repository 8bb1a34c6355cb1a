"""Find pictures inside other data: previews in camera notes, pictures in text, packed ones."""

from __future__ import annotations

import re
import struct
import zlib

import numpy as np

from edgeae.images.files import exif

# Where a JPEG begins; some cameras change the first byte of a preview, so it may be any.
_JPEG = re.compile(rb"\xd8\xff[\xdb\xc0\xc2\xc4\xdd\xe0-\xef\xfe](..)", re.S)
_OTHERS = re.compile(
    rb"\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF....WEBP|ftyp(?:hei|avi|mif|msf|isom|mp4|qt|crx)|\xff\x4f\xff\x51\0"
    rb"|jP  \r\n\x87\n|JXL \r\n\x87\n|8BPS\x00\x01|BM....\0\0\0\0....[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0",
    re.S,
)
_TIFF = re.compile(rb"II[*+]\0|MM\0[*+]")
_MOST_TIFFS = 64  # that are looked into; no camera's notes have so many
_PICTURE_TAGS = (273, 324, 513, 330)  # of a directory that has a picture: strips, tiles, JPEG data, more directories
_BLOCK_BYTES, _BLOCKS, _AMONG = 512, 6, 9  # 3 KB: 32×32 pixels in colour; a few blocks between may be rough
_SMOOTH = 0.35  # of the standard deviation; independent bytes have more than 1
# The same beginnings in base64 (plain, of addresses, in JSON), wherever a text begins with them: 100 letters or more.
_BASE64 = re.compile(
    rb"(?<![A-Za-z0-9+/])(?:\\?[/_]9j\\?[/_]|iVBORw0KGgo|R0lGOD|UklGR|SUkqA|TU0AK|AAAA[A-Za-z0-9+/]{4}ZnR5c"
    rb"|Qk[0-3][A-Za-z0-9+/_-]{5}AAAA)(?:[A-Za-z0-9+/=_\\-]|\s|&#(?:xA|xD|10|13);){100}"
)
_HEX = re.compile(
    rb"(?:ffd8ff(?:db|c[0-4]|dd|e[0-9a-f]|fe)|89504e470d0a1a0a|47494638[37]961|52494646.{8}57454250"
    rb"|49492a00|4d4d002a)(?:[0-9a-f]|\s){200}",
    re.I | re.S,
)
_BASE64_PARTS = (b"9j", b"iVBORw0KGgo", b"R0lGOD", b"UklGR", b"SUkqA", b"TU0AK", b"ZnR5c", b"AAAA")
_HEX_PARTS = (b"ffd8ff", b"89504e47", b"47494638", b"52494646", b"49492a00", b"4d4d002a")
_ZLIB = re.compile(rb"x[\x01\x5e\x9c\xda]")
_MOST_TRIES, _MOST_STREAMS = 4096, 16  # that are looked into
_PACKED_BYTES, _MOST_INFLATED = 1 << 16, 1 << 18  # of a stream: its beginning shows what it is


def has_picture(data: bytes) -> bool:
    """Return whether a picture begins somewhere in `data`: as it is, packed by zlib, or as text in base64 or hex."""
    return _has_plain(data) or _has_packed(data)


def _has_plain(data: bytes) -> bool:
    """Return whether a picture that is not packed begins in `data`; its text may be of two bytes a letter."""
    texts = (data, data.replace(b"\0", b"")) if b"\0" in data else (data,)
    if any(map(_has_text, texts)):
        return True
    return bool(_OTHERS.search(data)) or _has_jpeg(data) or _has_tiff(data)


def _has_text(text: bytes) -> bool:
    """Return whether a picture is written in `text`; its rare parts are looked for first, which is quick."""
    base64 = any(part in text for part in _BASE64_PARTS) and bool(_BASE64.search(text))
    lower = text.lower()
    return base64 or (any(part in lower for part in _HEX_PARTS) and bool(_HEX.search(lower)))


def _has_packed(data: bytes) -> bool:
    """Return whether a zlib stream in `data` holds a picture, or pixels."""
    streams = 0
    for tries, match in enumerate(_ZLIB.finditer(data)):
        if tries == _MOST_TRIES or streams == _MOST_STREAMS:
            return True
        try:
            unpacked = zlib.decompressobj().decompress(
                data[match.start() : match.start() + _PACKED_BYTES], _MOST_INFLATED
            )
        except zlib.error:
            continue
        streams += 1
        if _has_plain(unpacked) or has_pixels(unpacked):
            return True
    return False


def has_pixels(data: bytes) -> bool:
    """Return whether 3 KB or more of `data` look like uncompressed pixels: neighbours that differ little.

    A picture has near values one pixel on, which is 1 to 4 bytes; numbers, text and packed data have not. Zeros and
    other constant bytes are no picture.
    """
    blocks = np.frombuffer(data, np.uint8)[: len(data) // _BLOCK_BYTES * _BLOCK_BYTES].reshape(-1, _BLOCK_BYTES)
    values = blocks.astype(np.int16)
    steps = [np.abs(values[:, lag:] - values[:, :-lag]).mean(axis=1) for lag in (1, 2, 3, 4)]
    spread = values.std(axis=1)
    smooth = (spread > 1) & (np.min(steps, axis=0) < _SMOOTH * spread) if len(values) else np.zeros(0, bool)
    return len(smooth) >= _BLOCKS and bool((np.convolve(smooth, np.ones(_AMONG, int)) >= _BLOCKS).any())


def _has_jpeg(data: bytes) -> bool:
    """Return whether a JPEG's beginning is followed by another marker."""
    for match in _JPEG.finditer(data):
        after = match.start(1) + int.from_bytes(match[1], "big")
        if data[after : after + 1] == b"\xff":
            return True
    return False


def _has_tiff(data: bytes) -> bool:
    """Return whether a directory of a TIFF inside has a picture: camera notes are TIFFs too, mostly without one."""
    for index, match in enumerate(_TIFF.finditer(data)):
        if index == _MOST_TIFFS:
            return True
        inside = data[match.start() :]
        try:
            tags = exif.parse_tags(lambda position, count, inside=inside: inside[position : position + count])  # type: ignore[misc]
        except struct.error:
            continue
        if any(tag in tags for tag in _PICTURE_TAGS):
            return True
    return False
