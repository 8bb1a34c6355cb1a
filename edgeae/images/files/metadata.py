"""What belongs to a picture beside its pixels: colour profile, EXIF and XMP data, resolution, how it was compressed."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image, JpegImagePlugin

from edgeae.images.files.decoding import no_warnings
from edgeae.images.files.exif import Tags, parsed
from edgeae.images.files.png import PngWriter

EXIF_START = b"Exif\0\0"
_MAX_DPI = 65_536  # JPEG has 16 bits for it
_WEBP_QUALITY = 90
_EXTENDED_XMP = b"http://ns.adobe.com/xmp/extension/\0"
UPRIGHT = 1


@dataclass
class Kept:
    """What belongs to a picture beside its pixels.

    exif: EXIF data as the file has them, unless it is a TIFF. tags: what they, or a TIFF, say. chunks: a PNG's own,
    kept as they are. options: Pillow's for the same format (JPEG's tables, TIFF's compression...).
    """

    icc: bytes | None = None
    dpi: tuple[float, float] | None = None
    exif: bytes = b""
    tags: Tags = field(default_factory=dict)
    xmp: bytes | None = None
    chunks: Sequence[tuple[bytes, bytes]] = ()
    options: dict[str, Any] = field(default_factory=dict)


def kept_of(image: Image.Image, file: BinaryIO) -> Kept:
    """What belongs to a picture that Pillow has opened from `file`."""
    info = image.info
    kept = Kept(icc=info.get("icc_profile") or None)
    if isinstance(info.get("xmp"), bytes):
        kept.xmp = info["xmp"]
    with suppress(TypeError, ValueError):
        across, down = (float(value) for value in info.get("dpi", ()))
        kept.dpi = (across, down) if 0 < across < _MAX_DPI and 0 < down < _MAX_DPI else None
    kept.exif = info.get("exif", b"").removeprefix(EXIF_START)
    kept.tags = _tags(file if image.format == "TIFF" else io.BytesIO(kept.exif))
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        kept.options = _jpeg_options(image)
    elif image.format == "TIFF":
        kept.options = {"compression": info.get("compression")}
    elif image.format == "GIF":
        kept.options = {"comment": info.get("comment")}
    elif image.format == "WEBP":
        kept.options = {"lossless": True, "exact": True} if _is_lossless(file) else {"quality": _WEBP_QUALITY}
    return kept


def _jpeg_options(image: JpegImagePlugin.JpegImageFile) -> dict[str, Any]:
    """The same tables, sampling and order, and the segments that Pillow does not know: captions and long XMP data."""
    tables = [image.quantization[layer[3]] for layer in image.layer]
    inks_as_luma = image.mode == "CMYK" and image.info.get("adobe_transform") == 2  # which Pillow does not write
    while len(tables) > 1 and (tables[-1] == tables[-2] or inks_as_luma):
        tables.pop()  # the last one is that of all channels after it
    segments = {"APP13": b"", "APP1": _EXTENDED_XMP}
    extra = [
        bytes((0xFF, 0xE0 + int(name[3:]))) + (len(data) + 2).to_bytes(2, "big") + data
        for name, data in image.applist
        if name in segments and data.startswith(segments[name])
    ]
    options = {
        "qtables": tables,
        "progressive": bool(image.info.get("progressive")),
        "comment": image.info.get("comment"),
        "extra": b"".join(extra),
    }
    if image.mode == "RGB":
        # Of the samplings that Pillow has no name for, none is finer than 4:4:4.
        options["subsampling"] = max(0, JpegImagePlugin.get_sampling(image))
        options["keep_rgb"] = image.info.get("adobe_transform") == 0 and "jfif" not in image.info
    return options


def _is_lossless(file: BinaryIO) -> bool:
    """Whether a WebP file's picture is a VP8L chunk: Pillow does not tell."""
    place = file.tell()
    file.seek(12)  # past "RIFF", the size and "WEBP"
    found = False
    while len(head := file.read(8)) == 8 and head[:4] not in (b"VP8 ", b"ANMF"):
        if found := head[:4] == b"VP8L":
            break
        file.seek((int.from_bytes(head[4:], "little") + 1) & ~1, io.SEEK_CUR)
    file.seek(place)
    return found


def _tags(file: BinaryIO) -> Tags:
    def read(place: int, count: int) -> bytes:
        file.seek(place)
        return file.read(count)

    position = file.tell()
    try:
        return parsed(read)
    except struct.error:  # a sound picture with broken EXIF data, or none
        return {}
    finally:
        file.seek(position)


def turn_of(image: Image.Image) -> int:
    """As viewers have it: EXIF data come before XMP data, and broken ones say nothing."""
    try:
        turn = image.getexif().get(ExifTags.Base.Orientation, UPRIGHT)
        return int(turn) if turn in range(1, 9) else UPRIGHT
    except Exception:
        return UPRIGHT


def kept_of_png(chunks: Sequence[tuple[bytes, bytes]]) -> tuple[Kept, int]:
    """What Pillow tells of a picture of one pixel with these chunks, and its orientation.

    Broken chunks, which make other programs refuse a file, are left out.
    """
    try:
        kept, turn = _of_one_pixel(chunks)
    except Exception:  # Pillow raises almost anything
        chunks = [chunk for chunk in chunks if _is_sound(chunk)]
        kept, turn = _of_one_pixel(chunks)
    kept.chunks = chunks
    return kept, turn


def _is_sound(chunk: tuple[bytes, bytes]) -> bool:
    try:
        _of_one_pixel([chunk])
    except Exception:
        return False
    return True


def _of_one_pixel(chunks: Sequence[tuple[bytes, bytes]]) -> tuple[Kept, int]:
    file = io.BytesIO()
    writer = PngWriter(file, 1, 1, "L", np.uint8, chunks)
    writer.write(np.zeros((1, 1, 1), np.uint8))
    writer.close()
    with no_warnings(), Image.open(file, formats=["PNG"]) as image:
        image.load()
        return kept_of(image, file), turn_of(image)
