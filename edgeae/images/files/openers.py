"""Open the pictures that need no decoder of Pillow's, or more than Pillow does: PNG, HEIC, deep TIFF, unusual BMP."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Protocol

import numpy as np

from edgeae.errors import ImageError
from edgeae.images.arrays import Rows
from edgeae.images.files import bmp, exif, signatures
from edgeae.images.files.exif_block import reset_orientation
from edgeae.images.files.heif import FORMAT as HEIF
from edgeae.images.files.heif import HeifPicture
from edgeae.images.files.metadata import UPRIGHT, Metadata, read_png_metadata, read_tiff_metadata, upright_xmp
from edgeae.images.files.png_interlaced import read_interlaced
from edgeae.images.files.png_reader import PngReader
from edgeae.images.files.tiff_pages import Pages, sort_pages
from edgeae.images.files.tiff_wide import WideTiff, is_wide


class RowSource(Protocol):
    """Gives the rows of a picture from the top."""

    def read(self, count: int, /) -> Rows:
        """Return the next `count` rows, fewer at the end."""


class WholePicture:
    """Gives the rows of a picture that is decoded in one piece, when the first of them is wanted."""

    def __init__(self, decode: Callable[[], Rows]) -> None:
        """Remember how to decode it."""
        self._decode: Callable[[], Rows] | None = decode
        self._rows: Rows = np.empty(0)
        self._next = 0

    def load(self) -> None:
        """Decode it, if that has not happened."""
        if self._decode is not None:
            self._rows, self._decode = self._decode(), None

    def read(self, count: int, /) -> Rows:
        """Return the next `count` rows, fewer at the end."""
        self.load()
        start, self._next = self._next, min(self._next + count, len(self._rows))
        return self._rows[start : self._next]


@dataclass
class Opened:
    """A picture that is open: the attributes of a `Photo`, and what gives its rows."""

    format: str
    width: int
    height: int
    mode: str
    dtype: np.dtype[Any]
    orientation: int
    metadata: Metadata
    rows: RowSource
    notes: list[str] = field(default_factory=list)
    losses: str = ""
    pages: Pages | None = None


def open_png(file: BinaryIO, png: PngReader) -> Opened | None:
    """Open a PNG; None for one that only Pillow reads: interlaced, of 8 bits or less."""
    rows: RowSource = png
    if png.interlaced:
        if png.dtype != np.uint16:
            return None
        rows = WholePicture(lambda: read_interlaced(file))
    metadata, orientation = read_png_metadata(png.chunks)
    opened = Opened("PNG", png.width, png.height, png.mode, png.dtype, orientation, metadata, rows)
    opened.notes += describe_left_out(png)
    if png.animated:
        opened.notes.append("it is an animation, of which the first frame is restored")
    return opened


def describe_left_out(png: PngReader) -> list[str]:
    """Say how many of a PNG's profiles and texts are not kept, if any."""
    if not png.left_out:
        return []
    return [f"{png.left_out} of its profiles and texts, which are too large or too many, are left out"]


def open_heif(file: BinaryIO) -> Opened:
    """Open a HEIC picture, which comes upright.

    Raises:
        ImageError: the extra `heif` is not installed, or the pixels are of an unknown kind.
    """
    picture = HeifPicture(file)
    metadata = Metadata(icc=picture.info["icc_profile"] or None)
    metadata.take_exif((picture.info["exif"] or b"").removeprefix(b"Exif\0\0"))
    try:
        metadata.take_exif(reset_orientation(metadata.exif) if metadata.exif else b"")
    except struct.error:
        metadata.take_exif(b"")
    if picture.info["xmp"]:
        metadata.take_xmp(upright_xmp(picture.info["xmp"]))
    metadata.lose(picture.lost)
    opened = Opened(
        HEIF,
        picture.width,
        picture.height,
        picture.mode,
        picture.dtype,
        UPRIGHT,
        metadata,
        WholePicture(picture.decode),
    )
    if picture.pictures > 1:
        opened.notes.append(f"it has {picture.pictures} pictures, of which the main one is restored")
    if picture.bits > 10:
        opened.notes.append(f"it has {picture.bits} bits a channel, of which 10 are kept")
    return opened


def open_wide_tiff(file: BinaryIO, read: exif.Read, name: str, narrow: bool = False) -> Opened | None:
    """Open a TIFF that `WideTiff` reads, with `narrow` also those of 8 bits; None for others."""
    try:
        pages = sort_pages(read, name)
    except struct.error:
        return None
    if pages.refused or not is_wide(pages.tags, narrow):
        return None
    wide = WideTiff(file, pages.tags, pages.order)
    metadata, orientation = read_tiff_metadata(file)
    if wide.lost > 0:
        metadata.lose(["extra channels"])
    if pages.copies:
        metadata.lose(["smaller copies"])
    notes, losses = describe_pages(pages)
    return Opened(
        "TIFF", wide.width, wide.height, wide.mode, wide.dtype, orientation, metadata, wide, notes, losses, pages
    )


def describe_pages(pages: Pages) -> tuple[list[str], str]:
    """Return notes on the pages of a TIFF besides the first, and what is lost of them."""
    count, others = 1 + len(pages.others), len(pages.others)
    if not others:
        return [], ""
    if pages.stuck:
        lost = f"it has {count} pages, of which only the first is kept ({pages.stuck})"
        return [lost], lost
    more = "the other is" if others == 1 else f"the other {others} are"
    return [f"it has {count} pages, of which the first is restored; {more} copied"], ""


def open_bmp_fields(file: BinaryIO) -> Opened | None:
    """Open a BMP whose channels have bits that Pillow does not know; None for others."""
    found = bmp.read_fields(file)
    if found is None:
        return None
    rows, dpi, most = found
    metadata = Metadata(icc=bmp.read_profile(file), dpi=dpi)
    height, width, channels = rows.shape
    mode = "RGBA"[:channels]
    opened = Opened("BMP", width, height, mode, rows.dtype, UPRIGHT, metadata, WholePicture(lambda: rows))
    if most > 8:
        opened.losses = f"it has up to {most} bits a channel, of which 8 are kept"
        opened.notes.append(opened.losses)
    return opened


def refuse_tiff(read: exif.Read, name: str) -> None:
    """Say what a TIFF is that Pillow does not know; do nothing for another file.

    Raises:
        ImageError: it is one. The text continues after the file's name.
    """
    try:
        pages = sort_pages(read, name)
    except struct.error:
        return
    raise ImageError(pages.refused or signatures.name_tiff(pages.tags))
