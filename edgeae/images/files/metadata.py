"""Read what a picture file holds beside its pixels: colour profile, EXIF and XMP data, resolution, compression."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image, JpegImagePlugin

from edgeae.images.files import jpeg_segments, photoshop, png_texts
from edgeae.images.files.embedded import has_picture
from edgeae.images.files.exif import IPTC, ORIENTATION, XMP, Field, Tags, number, parse_tags
from edgeae.images.files.exif_block import clean_tags, drop_pictures
from edgeae.images.files.pillow_guard import mute_warnings
from edgeae.images.files.png_writer import PngWriter
from edgeae.images.files.xmp import clean_xmp

EXIF_START = b"Exif\0\0"
UPRIGHT = 1  # the EXIF orientation of a picture that is stored as it is shown
_MAX_DPI = 65_536  # JPEG has 16 bits for it
_WEBP_QUALITY = 90
_XMP_ORIENTATION = re.compile(rb"""(tiff:Orientation(?:=["']|>))[2-8]""")
_IMAGE_RESOURCES, _LAYERS = 34377, 37724  # Photoshop's tags
_ICC_PROFILE, _ACROSS, _DOWN, _UNIT = 34675, 282, 283, 296  # a TIFF's tags
_PER_INCH = {2: 1.0, 3: 2.54}  # units of resolution, by their number
_TIFF_COMPRESSIONS = {  # Pillow's names
    1: "raw", 5: "tiff_lzw", 8: "tiff_adobe_deflate", 32773: "packbits", 32946: "tiff_deflate", 34925: "lzma",
    50000: "zstd",
}  # fmt: skip


@dataclass
class Metadata:
    """What a file written in a picture's place takes over from it: no pictures, and no claims of what is gone.

    Attributes:
        icc: the colour profile.
        dpi: horizontal and vertical resolution in pixels per inch.
        exif: the EXIF block, byte for byte; empty for a TIFF, which has only `tags`.
        tags: the tags of that block, or of the TIFF's first directory.
        xmp: XMP data.
        extension: segments of a JPEG's extended XMP data.
        resources: Photoshop's image resources, captions (IPTC) among them.
        chunks: (type, data) of a PNG's own chunks, copied unchanged into another PNG.
        options: Pillow's options for saving in the same format: JPEG's tables, TIFF's compression...
        lost: names of what is left out: thumbnails, gain map, video...
    """

    icc: bytes | None = None
    dpi: tuple[float, float] | None = None
    exif: bytes = b""
    tags: Tags = field(default_factory=dict)
    xmp: bytes | None = None
    extension: Sequence[bytes] = ()
    resources: bytes = b""
    chunks: Sequence[tuple[bytes, bytes]] = ()
    options: dict[str, Any] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)

    def lose(self, names: Sequence[str]) -> None:
        """Note that something is left out."""
        self.lost += [name for name in dict.fromkeys(names) if name not in self.lost]

    def take_icc(self, profile: bytes | None) -> None:
        """Take over a colour profile, unless somebody has hidden a picture in it."""
        self.icc = profile or None
        if profile and has_picture(profile):
            self.icc = None
            self.lose(["colour profile with a picture"])

    def take_exif(self, block: bytes) -> None:
        """Take over an EXIF block, but for its pictures."""
        self.exif, lost = drop_pictures(block)
        self.tags = _read_tags(io.BytesIO(self.exif))
        self.lose(lost)

    def take_xmp(self, xmp: bytes, extended: bool = False) -> None:
        """Take over XMP data, but for pictures and claims of them."""
        self.xmp, lost = clean_xmp(xmp, extended)
        self.lose(lost)

    def take_resources(self, block: bytes) -> None:
        """Take over Photoshop's image resources, but for pictures."""
        self.resources, lost = photoshop.clean_resources(block)
        self.lose(lost)


def read_metadata(image: Image.Image, file: BinaryIO) -> Metadata:
    """Return the metadata of an image that Pillow has opened from `file`."""
    info = image.info
    metadata = Metadata()
    metadata.take_icc(info.get("icc_profile"))
    if isinstance(info.get("xmp"), bytes) and not isinstance(image, JpegImagePlugin.JpegImageFile):
        metadata.take_xmp(info["xmp"])
    with suppress(TypeError, ValueError):
        metadata.dpi = _checked_dpi(*(float(value) for value in info.get("dpi", ())))
    metadata.take_exif((info.get("exif") or b"").removeprefix(EXIF_START))
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        metadata.options = _jpeg_options(image)
        _take_segments(metadata, image, file)
    elif image.format == "TIFF":
        _take_tiff(metadata, file)
        metadata.options = {"compression": info.get("compression")}
    elif image.format == "GIF":
        comment = info.get("comment")
        metadata.options = {"comment": comment if comment and not has_picture(comment) else None}
    elif image.format == "AVIF":
        metadata.options = {"quality": _WEBP_QUALITY}
    elif image.format == "WEBP":
        metadata.options = {"lossless": True, "exact": True} if _is_lossless(file) else {"quality": _WEBP_QUALITY}
    return metadata


def read_tiff_metadata(file: BinaryIO) -> tuple[Metadata, int]:
    """Return the metadata of a TIFF that Pillow does not open, and its orientation."""
    metadata, tags = Metadata(), _read_tags(file)
    _take_tiff(metadata, file)
    if isinstance(value := tags.get(_ICC_PROFILE), Field):
        metadata.take_icc(value.data)
    if isinstance(value := tags.get(XMP), Field):
        metadata.take_xmp(value.data)
    across, down = tags.get(_ACROSS), tags.get(_DOWN)
    unit = _PER_INCH.get(number(tags, _UNIT, 2))
    if unit and isinstance(across, Field) and isinstance(down, Field) and (across.kind, down.kind) == (5, 5):
        (a, b), (c, d) = struct.unpack("<2I", across.data[:8]), struct.unpack("<2I", down.data[:8])
        metadata.dpi = _checked_dpi(a * unit / b, c * unit / d) if b and d else None
    metadata.options = {"compression": _TIFF_COMPRESSIONS.get(number(tags, 259, 1))}
    orientation = number(tags, ORIENTATION, UPRIGHT)
    return metadata, orientation if orientation in range(1, 9) else UPRIGHT


def _checked_dpi(across: float, down: float) -> tuple[float, float] | None:
    return (across, down) if 0 < across < _MAX_DPI and 0 < down < _MAX_DPI else None


def read_png_metadata(chunks: Sequence[tuple[bytes, bytes]]) -> tuple[Metadata, int]:
    """Return the metadata in a PNG's chunks, and the EXIF orientation they give.

    Broken chunks, because of which other programs refuse a file, are left out.
    """
    try:
        metadata, orientation = _read_through_pillow(chunks)
    except Exception:  # Pillow raises almost anything
        chunks = [chunk for chunk in chunks if _is_sound(chunk)]
        metadata, orientation = _read_through_pillow(chunks)
    metadata.chunks, resources, lost = png_texts.clean_chunks(chunks)
    metadata.take_resources(resources)
    metadata.lose(lost)
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


def upright_xmp(xmp: bytes) -> bytes:
    """Return XMP data that call the picture upright."""
    return _XMP_ORIENTATION.sub(rb"\g<1>1", xmp)


def _take_segments(metadata: Metadata, image: JpegImagePlugin.JpegImageFile, file: BinaryIO) -> None:
    """Take over what a JPEG has in segments that Pillow does not read, or reads one of; note what follows its end."""
    segments = jpeg_segments.sort_segments(image.applist)
    xmp = image.info.get("xmp") or b""
    kept, digits, lost = jpeg_segments.clean_extension(segments.extension)
    metadata.extension = kept
    metadata.lose(lost)
    metadata.take_xmp(xmp.replace(*digits) if digits else xmp, extended=bool(kept))
    metadata.take_resources(segments.resources)
    gain_map = segments.gain_map or "gain map" in metadata.lost
    metadata.lose(segments.lost)
    metadata.lose(jpeg_segments.describe_rest(file, gain_map))
    comment = image.info.get("comment")
    if comment and has_picture(comment):
        metadata.options["comment"] = None
        metadata.lose(["picture in a comment"])


def _take_tiff(metadata: Metadata, file: BinaryIO) -> None:
    """Take over the tags of a TIFF's first directory."""
    tags = dict(_read_tags(file))
    resources, iptc = tags.pop(_IMAGE_RESOURCES, None), tags.pop(IPTC, None)
    block = resources.data if isinstance(resources, Field) else b""
    if isinstance(iptc, Field) and not photoshop.iptc_of(block):
        block += photoshop.from_iptc(iptc.data)
    metadata.take_resources(block)
    if _LAYERS in tags:
        metadata.lose(["Photoshop layers"])
    metadata.tags, lost = clean_tags(tags)
    metadata.lose(lost)


def _jpeg_options(image: JpegImagePlugin.JpegImageFile) -> dict[str, Any]:
    """Return options that repeat the file's tables, sampling and order."""
    tables = [image.quantization[layer[3]] for layer in image.layer]
    inks_as_luma = image.mode == "CMYK" and image.info.get("adobe_transform") == 2  # which Pillow does not write
    while len(tables) > 1 and (tables[-1] == tables[-2] or inks_as_luma):
        tables.pop()  # the last table in the list also serves all channels after it
    options = {
        "qtables": tables,
        "progressive": bool(image.info.get("progressive")),
        "comment": image.info.get("comment"),
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
