"""Read what a picture file holds beside its pixels: colour profile, EXIF and XMP data, resolution, compression."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image, JpegImagePlugin

from edgeae.images.files.exif import Tags, parse_tags
from edgeae.images.files.pillow_guard import mute_warnings
from edgeae.images.files.png_writer import PngWriter

EXIF_START = b"Exif\0\0"
UPRIGHT = 1  # the EXIF orientation of a picture that is stored as it is shown
_MAX_DPI = 65_536  # JPEG has 16 bits for it
_WEBP_QUALITY = 90
_EXTENDED_XMP = b"http://ns.adobe.com/xmp/extension/\0"


@dataclass
class Metadata:
    """What a file written in a picture's place takes over from it.

    Attributes:
        icc: the colour profile.
        dpi: horizontal and vertical resolution in pixels per inch.
        exif: the EXIF block, byte for byte; empty for a TIFF, which has only `tags`.
        tags: the tags of that block, or of the TIFF's first directory.
        xmp: XMP data.
        chunks: (type, data) of a PNG's own chunks, copied unchanged into another PNG.
        options: Pillow's options for saving in the same format: JPEG's tables, TIFF's compression...
    """

    icc: bytes | None = None
    dpi: tuple[float, float] | None = None
    exif: bytes = b""
    tags: Tags = field(default_factory=dict)
    xmp: bytes | None = None
    chunks: Sequence[tuple[bytes, bytes]] = ()
    options: dict[str, Any] = field(default_factory=dict)


def read_metadata(image: Image.Image, file: BinaryIO) -> Metadata:
    """Return the metadata of an image that Pillow has opened from `file`."""
    info = image.info
    metadata = Metadata(icc=info.get("icc_profile") or None)
    if isinstance(info.get("xmp"), bytes):
        metadata.xmp = info["xmp"]
    with suppress(TypeError, ValueError):
        across, down = (float(value) for value in info.get("dpi", ()))
        metadata.dpi = (across, down) if 0 < across < _MAX_DPI and 0 < down < _MAX_DPI else None
    metadata.exif = info.get("exif", b"").removeprefix(EXIF_START)
    metadata.tags = _read_tags(file if image.format == "TIFF" else io.BytesIO(metadata.exif))
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        metadata.options = _jpeg_options(image)
    elif image.format == "TIFF":
        metadata.options = {"compression": info.get("compression")}
    elif image.format == "GIF":
        metadata.options = {"comment": info.get("comment")}
    elif image.format == "WEBP":
        metadata.options = {"lossless": True, "exact": True} if _is_lossless(file) else {"quality": _WEBP_QUALITY}
    return metadata


def read_png_metadata(chunks: Sequence[tuple[bytes, bytes]]) -> tuple[Metadata, int]:
    """Return the metadata in a PNG's chunks, and the EXIF orientation they give.

    Broken chunks, because of which other programs refuse a file, are left out.
    """
    try:
        metadata, orientation = _read_through_pillow(chunks)
    except Exception:  # Pillow raises almost anything
        chunks = [chunk for chunk in chunks if _is_sound(chunk)]
        metadata, orientation = _read_through_pillow(chunks)
    metadata.chunks = chunks
    return metadata, orientation


def read_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8, of an image that Pillow has opened.

    As in image viewers, EXIF data take precedence over XMP data, and a broken or unknown value means upright.
    """
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, UPRIGHT)
        return int(orientation) if orientation in range(1, 9) else UPRIGHT
    except Exception:
        return UPRIGHT


def _jpeg_options(image: JpegImagePlugin.JpegImageFile) -> dict[str, Any]:
    """Options that repeat the file's tables, sampling and order, and copy its captions (APP13) and long XMP data."""
    tables = [image.quantization[layer[3]] for layer in image.layer]
    inks_as_luma = image.mode == "CMYK" and image.info.get("adobe_transform") == 2  # which Pillow does not write
    while len(tables) > 1 and (tables[-1] == tables[-2] or inks_as_luma):
        tables.pop()  # the last table in the list also serves all channels after it
    segments = {"APP13": b"", "APP1": _EXTENDED_XMP}  # which Pillow does not read
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
        # -1 stands for a sampling that Pillow has no name for. None of those is finer than 4:4:4, which is 0.
        options["subsampling"] = max(0, JpegImagePlugin.get_sampling(image))
        options["keep_rgb"] = image.info.get("adobe_transform") == 0 and "jfif" not in image.info
    return options


def _is_lossless(file: BinaryIO) -> bool:
    """Return whether a WebP file's first picture is a VP8L chunk; Pillow does not say."""
    position = file.tell()
    file.seek(12)  # past "RIFF", the size and "WEBP"
    lossless = False
    while len(head := file.read(8)) == 8 and head[:4] not in (b"VP8 ", b"ANMF"):
        if lossless := head[:4] == b"VP8L":
            break
        file.seek((int.from_bytes(head[4:], "little") + 1) & ~1, io.SEEK_CUR)  # chunks are padded to an even length
    file.seek(position)
    return lossless


def _read_tags(file: BinaryIO) -> Tags:
    def read(position: int, count: int) -> bytes:
        file.seek(position)
        return file.read(count)

    start = file.tell()
    try:
        return parse_tags(read)
    except struct.error:  # a sound picture with broken EXIF data, or none
        return {}
    finally:
        file.seek(start)


def _is_sound(chunk: tuple[bytes, bytes]) -> bool:
    try:
        _read_through_pillow([chunk])
    except Exception:
        return False
    return True


def _read_through_pillow(chunks: Sequence[tuple[bytes, bytes]]) -> tuple[Metadata, int]:
    """Put the chunks into a PNG of one pixel, and let Pillow read that."""
    file = io.BytesIO()
    writer = PngWriter(file, 1, 1, "L", np.uint8, chunks)
    writer.write(np.zeros((1, 1, 1), np.uint8))
    writer.close()
    with mute_warnings(), Image.open(file, formats=["PNG"]) as image:
        image.load()
        return read_metadata(image, file), read_orientation(image)
