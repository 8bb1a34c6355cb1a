"""Read a picture file row by row, in every format and kind of pixels that people have, with its metadata.

A `Photo` gives rows from the top as they are stored, turned or not, in a mode and type that `colours` describes. PNG
files are read in strips (see `png_reader`); of the other formats Pillow holds the whole picture, 4 bytes a pixel.
`writer` writes a result in a photo's place.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin, TiffTags

from edgeae.errors import ImageError
from edgeae.images import colours
from edgeae.images.arrays import Rows
from edgeae.images.files.jpeg_scans import check_scans
from edgeae.images.files.metadata import UPRIGHT, Metadata, read_metadata, read_orientation, read_png_metadata
from edgeae.images.files.pillow_guard import (
    READ_FORMATS,
    ImageSource,
    check_values,
    mute_warnings,
    source_name,
    why_unreadable,
)
from edgeae.images.files.png_reader import PngReader
from edgeae.images.files.tiff_pages import MOST_PAGES, count_pages
from edgeae.interrupts import run_interruptibly

MAX_PIXELS = 1 << 30  # of a PNG; Pillow's own limit, for what it holds whole, is 179 million
_QUICK_PIXELS = 1 << 20  # a decoder ends soon with so many, and need not be interrupted
EIGHT_OF_16 = "it has 16 bits a channel, of which 8 are kept"

_MODES = {  # Pillow's modes, and those of the rows that are read from them
    "1": "L", "L": "L", "LA": "LA", "La": "LA", "P": "RGB", "PA": "RGBA", "RGB": "RGB", "RGBX": "RGB", "RGBA": "RGBA",
    "RGBa": "RGBA", "CMYK": "CMYK", "YCbCr": "RGB", "HSV": "RGB", "I;16": "L", "I;16B": "L", "I": "L", "F": "L",
}  # fmt: skip
# What makes stored rows upright, by EXIF orientation: (swap rows and columns, then flip up-down, flip left-right).
_TURNS = {
    1: (False, False, False), 2: (False, False, True), 3: (False, True, True), 4: (False, True, False),
    5: (True, False, False), 6: (True, False, True), 7: (True, True, True), 8: (True, True, False),
}  # fmt: skip
_AS_STORED = {  # the inverse, in Pillow's words
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}  # fmt: skip
_WHITE_IS_ZERO = 0  # a TIFF's photometric interpretation


def to_upright(rows: Rows, orientation: int) -> Rows:
    """Return a view of stored rows (H, W, C), turned upright as the EXIF orientation, 1 to 8, says."""
    swap, up_down, left_right = _TURNS[orientation]
    rows = rows.swapaxes(0, 1) if swap else rows
    return rows[:: -1 if up_down else 1, :: -1 if left_right else 1]


def to_stored(rows: Rows, orientation: int) -> Rows:
    """Return a view of upright rows (H, W, C), turned as they are stored: the inverse of `to_upright`."""
    swap, up_down, left_right = _TURNS[orientation]
    rows = rows[:: -1 if up_down else 1, :: -1 if left_right else 1]
    return rows.swapaxes(0, 1) if swap else rows


class Photo:
    """An open picture file, or a PIL image. As a context manager it closes the file.

    Attributes:
        source: where it is read from.
        name: what error messages call it.
        format: Pillow's name of the file's format; empty for a PIL image that is from no file.
        width, height: in pixels as stored; an orientation of 5 to 8 swaps them when the picture is shown.
        mode, dtype: of the rows that `read` returns (see `colours`).
        orientation: EXIF orientation, 1 (upright) to 8.
        metadata: what a file written in its place takes over.
        note: what of the file is not read, as half a sentence; empty if nothing is lost.
    """

    format: str
    width: int
    height: int
    mode: str
    dtype: np.dtype[Any]
    orientation: int
    metadata: Metadata

    def __init__(self, source: ImageSource, name: str | None = None) -> None:
        """Open a picture.

        Args:
            source: a path, the bytes of a file, an open binary file, or a PIL image.
            name: what error messages call it; None takes the path, or words for the kind of source.

        Raises:
            ImageError: it cannot be read, or is too large; also raised by `read` and `load`.
        """
        self.source, self.name, self.note = source, name or source_name(source), ""
        self._image: Image.Image | None = None
        self._decoded = self._negative = False
        self._png: PngReader | None = None
        self._row = 0
        self._file: BinaryIO = io.BytesIO()
        try:
            with self._reading():
                self._open()
                if self.width * self.height > MAX_PIXELS:
                    raise ImageError(f"has more than {MAX_PIXELS // 10**6} million pixels: make it smaller first.")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Photo:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._image = None
        self._file.close()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except ImageError as error:
            raise ImageError(f"{self.name} {error}") from error
        except Exception as error:  # a damaged or hostile file makes decoders raise almost anything
            raise ImageError(f"{self.name} {why_unreadable(error)}") from error

    @property
    def shown_size(self) -> tuple[int, int]:
        """Width and height in pixels when upright."""
        return (self.height, self.width) if _TURNS[self.orientation][0] else (self.width, self.height)

    def read(self, count: int) -> Rows:
        """Return the next `count` rows, fewer at the end, none after it: (n, width, len(mode))."""
        with self._reading():
            return self._png.read(count) if self._png is not None else self._strip(count)

    def load(self) -> None:
        """Decode the whole picture now if it will not be decoded row by row."""
        if self._image is not None:
            with self._reading():
                self._decode()

    def _decode(self) -> Image.Image:
        """Return the whole picture as it is stored."""
        assert self._image is not None
        if not self._decoded:
            image = self._image
            if image.format in ("JPEG", "MPO"):
                check_scans(self._file)
            if self.width * self.height > _QUICK_PIXELS:
                run_interruptibly(image.load)
            else:
                image.load()
            if image.mode in ("I", "F"):
                check_values(image)
            if image.format == "TIFF" and self.orientation != UPRIGHT:  # the one format that Pillow turns upright
                image = image.transpose(_AS_STORED[self.orientation])
            self._image, self._decoded = image, True
        return self._image

    def _strip(self, count: int) -> Rows:
        image = self._decode()
        top, self._row = self._row, min(self._row + count, self.height)
        if top == self._row:
            return np.empty((0, self.width, len(self.mode)), self.dtype)
        strip = image.crop((0, top, self.width, self._row))
        if self.dtype == np.uint8 and strip.mode != self.mode:
            strip = strip.convert("RGBA") if self.mode == "LA" and strip.mode != "La" else strip
            strip = strip.convert(self.mode)
        rows = np.array(strip).astype(self.dtype, copy=False).reshape(-1, self.width, len(self.mode))
        return self.dtype.type(colours.white_level(self.dtype)) - rows if self._negative else rows

    def _open(self) -> None:
        if isinstance(self.source, Image.Image):
            self.metadata, self.format = Metadata(), self.source.format or ""
            self._describe(self.source)
            return
        if isinstance(self.source, str | os.PathLike):
            mode = Path(self.source).stat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # opening a pipe that nobody writes to would block
                raise ImageError("is not a regular file: copy the picture to one.")
            self._file = Path(self.source).open("rb")  # noqa: SIM115 - `close` does
        elif isinstance(self.source, bytes | bytearray | memoryview):
            self._file = io.BytesIO(self.source)
        else:  # read to its end, as a pipe cannot seek
            self._file = io.BytesIO(self.source.read())
        if self._file.read(8) == b"\x89PNG\r\n\x1a\n":
            self._open_png()
        else:
            self._open_other()

    def _open_png(self) -> None:
        self._file.seek(0)
        png = PngReader(self._file)
        if png.left_out:
            self.note = f"{png.left_out} of its profiles and texts, which are too large or too many, are left out"
        if png.interlaced:
            source, self._file = self._file, png.copy_pixels()
            source.close()
            self._open_other()
            self.metadata, self.orientation = read_png_metadata(png.chunks)
            if png.dtype != self.dtype:
                self.note = EIGHT_OF_16
            return
        self._png = png
        self.format, self.width, self.height, self.mode, self.dtype = "PNG", png.width, png.height, png.mode, png.dtype
        self.metadata, self.orientation = read_png_metadata(png.chunks)
        if png.animated:
            self.note = "it is an animation, of which the first frame is restored"

    def _open_other(self) -> None:
        self._file.seek(0)
        with mute_warnings():
            image = Image.open(self._file, formats=READ_FORMATS)
            self.format = {"MPO": "JPEG"}.get(image.format or "", image.format or "")
            frames = count_pages(self._file) if image.format == "TIFF" else int(getattr(image, "n_frames", 1))
            self.metadata = read_metadata(image, self._file)
            if image.format == "TIFF":  # else Pillow reads these tables with the pixels, and warns of broken ones then
                for table in TiffTags.TAGS_V2_GROUPS.keys() & image.getexif().keys():
                    image.getexif().get_ifd(table)
        self._describe(image)
        if frames > 1 and image.format != "MPO":
            what = "page" if image.format == "TIFF" else "frame"
            number = f"{MOST_PAGES:,} or more" if frames == MOST_PAGES else frames
            self.note = f"it has {number} {what}s, of which the first is restored"

    def _describe(self, image: Image.Image) -> None:
        """Set the attributes from an image that Pillow has opened."""
        self.width, self.height = image.size
        with mute_warnings():
            self.orientation = read_orientation(image)
        if not (self.width and self.height):
            raise ImageError("has no pixels: give an image of at least 1×1.")
        if image.mode not in _MODES:
            raise ImageError(f"has pixels of the kind {image.mode}: save it as RGB or grey.")
        self.mode, self.dtype = _MODES[image.mode], np.dtype(np.uint8)
        if image.mode in ("1", "L", "P", "RGB") and image.has_transparency_data:
            self.mode = "LA" if self.mode == "L" else "RGBA"
        if image.mode.startswith("I"):
            self.dtype = np.dtype(np.uint16)
        elif image.mode == "F":
            self.dtype = np.dtype(np.float32)
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            self._check_tiff(image)
        self._image = image

    def _check_tiff(self, image: TiffImagePlugin.TiffImageFile) -> None:
        """Handle what Pillow does differently for TIFF: turned sizes, 12 bits, negatives, and 16-bit colour."""
        self.width, self.height = image.tag_v2[ExifTags.Base.ImageWidth], image.tag_v2[ExifTags.Base.ImageLength]
        bits = image.tag_v2.get(ExifTags.Base.BitsPerSample, (1,))
        if bits == (12,):  # which Pillow leaves at 0 to 4095 in a type of 16 bits
            raise ImageError("has 12 bits a pixel: save it with 8 or 16.")
        if self.dtype != np.uint8:
            self._negative = image.tag_v2.get(ExifTags.Base.PhotometricInterpretation) == _WHITE_IS_ZERO
        elif 16 in bits:
            self.note = EIGHT_OF_16
