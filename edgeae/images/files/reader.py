"""Read a picture file row by row, in every format and kind of pixels that people have, with its metadata.

A `Photo` gives rows from the top as they are stored, turned or not, in a mode and type that `colours` describes. PNG
files are read in strips (see `png_reader`); of the other formats Pillow holds the whole picture, 4 bytes a pixel.
`writer` writes a result in a photo's place.
"""

from __future__ import annotations

import io
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin, TiffTags, UnidentifiedImageError

from edgeae.errors import ImageError
from edgeae.images import colours
from edgeae.images.arrays import Rows
from edgeae.images.files import bmp, exif, kinds
from edgeae.images.files.exif_block import reset_orientation
from edgeae.images.files.heif import FORMAT as HEIF
from edgeae.images.files.heif import HeifPicture
from edgeae.images.files.metadata import (
    UPRIGHT,
    Metadata,
    read_metadata,
    read_orientation,
    read_png_metadata,
    read_tiff_metadata,
    upright_xmp,
)
from edgeae.images.files.pillow_guard import (
    ImageSource,
    check_values,
    mute_warnings,
    read_formats,
    source_name,
    why_unreadable,
)
from edgeae.images.files.png_interlaced import read_interlaced
from edgeae.images.files.png_reader import PngReader
from edgeae.images.files.tiff_pages import Pages, sort_pages
from edgeae.images.files.tiff_wide import WideTiff, is_wide

MAX_PIXELS = 1 << 30  # of a PNG; Pillow's own limit, for what it holds whole, is 179 million
EIGHT_OF_16 = "it has 16 bits a channel, of which 8 are kept"
_ALPHA_OF_BMP = ("RGB", "RGBX")  # Pillow's modes of files whose alpha it does not read

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
        pages: of a TIFF; None for other files.
        losses: of what the picture itself is made, depth or pages, what no result can have; empty mostly.
    """

    format: str
    width: int
    height: int
    mode: str
    dtype: np.dtype[Any]
    orientation: int
    metadata: Metadata
    pages: Pages | None

    def __init__(self, source: ImageSource, name: str | None = None) -> None:
        """Open a picture.

        Args:
            source: a path, the bytes of a file, an open binary file, or a PIL image.
            name: what error messages call it; None takes the path, or words for the kind of source.

        Raises:
            ImageError: it cannot be read, or is too large; also raised by `read` and `load`.
        """
        self.source, self.name, self.note = source, name or source_name(source), ""
        self.losses = ""
        self.pages = None
        self._image: Image.Image | None = None
        self._decoded = self._negative = False
        self._reader: PngReader | WideTiff | None = None  # reads row by row
        self._whole: Rows | None = None  # decoded by other means than Pillow
        self._heif: HeifPicture | None = None
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
            return self._reader.read(count) if self._reader is not None else self._strip(count)

    def read_bytes(self, position: int, count: int) -> bytes:
        """Return bytes of the file, for what is copied as it is."""
        self._file.seek(position)
        return self._file.read(count)

    def load(self) -> None:
        """Decode the whole picture now if it will not be decoded row by row."""
        with self._reading():
            if self._heif is not None and self._whole is None:
                self._whole = self._heif.decode()
            if self._image is not None:
                self._decode()

    def _decode(self) -> Image.Image:
        """Return the whole picture as it is stored."""
        assert self._image is not None
        if not self._decoded:
            image = self._image
            image.load()
            if image.mode in ("I", "F"):
                check_values(image)
            if image.format == "TIFF" and self.orientation != UPRIGHT:  # the one format that Pillow turns upright
                image = image.transpose(_AS_STORED[self.orientation])
            self._image, self._decoded = image, True
        return self._image

    def _strip(self, count: int) -> Rows:
        top, self._row = self._row, min(self._row + count, self.height)
        if self._heif is not None and self._whole is None:
            self._whole = self._heif.decode()
        if self._whole is not None:
            return self._whole[top : self._row]
        image = self._decode()
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
        head = self._file.read(kinds.HEAD_BYTES)
        if head.startswith(b"\x89PNG\r\n\x1a\n"):
            self._open_png()
        elif kinds.starts_as_raw(head):
            raise ImageError(kinds.RAW)
        elif kinds.is_heif(head):
            self._open_heif()
        else:
            if not (kinds.is_tiff(head) and self._open_wide()) and not (head.startswith(b"BM") and self._open_fields()):
                self._open_other()
            self._note_losses()

    def _open_png(self) -> None:
        self._file.seek(0)
        png = PngReader(self._file)
        if png.interlaced:
            self._open_other()
            self.metadata, self.orientation = read_png_metadata(png.chunks)
            if png.dtype != self.dtype:  # 16 bits, of which Pillow reads 8
                self._whole, self._image = read_interlaced(self._file), None
                self.mode, self.dtype = png.mode, png.dtype
        else:
            self._reader = png
            self.format, self.width, self.height = "PNG", png.width, png.height
            self.mode, self.dtype = png.mode, png.dtype
            self.metadata, self.orientation = read_png_metadata(png.chunks)
        self._note_losses()
        if png.animated:
            self._add_note("it is an animation, of which the first frame is restored")

    def _open_heif(self) -> None:
        picture = self._heif = HeifPicture(self._file)
        self.format, self.width, self.height = HEIF, picture.width, picture.height
        self.mode, self.dtype, self.orientation = picture.mode, picture.dtype, UPRIGHT
        self.metadata = Metadata(icc=picture.info["icc_profile"] or None)
        block = (picture.info["exif"] or b"").removeprefix(b"Exif\0\0")
        self.metadata.take_exif(block)
        try:  # the picture has been turned already
            self.metadata.take_exif(reset_orientation(self.metadata.exif) if self.metadata.exif else b"")
        except struct.error:
            self.metadata.take_exif(b"")
        if picture.info["xmp"]:
            self.metadata.take_xmp(upright_xmp(picture.info["xmp"]))
        self.metadata.lose(picture.lost)
        self._note_losses()
        if picture.pictures > 1:
            self._add_note(f"it has {picture.pictures} pictures, of which the main one is restored")
        if picture.bits > 10:
            self._add_note(f"it has {picture.bits} bits a channel, of which 10 are kept")

    def _open_other(self) -> None:
        self._file.seek(0)
        try:
            with mute_warnings():
                image = Image.open(self._file, formats=read_formats())
        except UnidentifiedImageError as error:
            if self._open_wide(narrow=True):
                return
            self._refuse_tiff()
            sentence = kinds.name_kind(self._file, self.name)
            if sentence is None:
                raise
            raise ImageError(sentence) from error
        except OSError as error:
            if str(error).startswith("Unsupported BMP"):
                raise ImageError(f"is a BMP that cannot be read ({error}): save it as PNG.") from error
            raise
        with mute_warnings():
            self.format = {"MPO": "JPEG"}.get(image.format or "", image.format or "")
            frames = 1 if image.format in ("TIFF", "MPO") else int(getattr(image, "n_frames", 1))
            if image.format == "TIFF":
                self._open_pages(image)
            self.metadata = read_metadata(image, self._file)
            if image.format == "TIFF":  # else Pillow reads these tables with the pixels, and warns of broken ones then
                for table in TiffTags.TAGS_V2_GROUPS.keys() & image.getexif().keys():
                    image.getexif().get_ifd(table)
        self._describe(image)
        if image.format == "BMP":
            self._open_bmp(image)
        if frames > 1:
            self._add_note(f"it has {frames} frames, of which the first is restored")

    def _open_wide(self, narrow: bool = False) -> bool:
        """Open a TIFF that `WideTiff` reads, with `narrow` also those of 8 bits; False for others."""
        try:
            pages = sort_pages(self.read_bytes, self.name)
            if pages.refused or not is_wide(pages.tags, narrow):
                return False
        except struct.error:
            return False
        self._take_pages(pages)
        wide = self._reader = WideTiff(self._file, pages.tags, pages.order)
        self.format, self.width, self.height, self.mode, self.dtype = (
            "TIFF",
            wide.width,
            wide.height,
            wide.mode,
            wide.dtype,
        )
        self.metadata, self.orientation = read_tiff_metadata(self._file)
        if wide.lost > 0:
            self.metadata.lose(["extra channels"])
        if pages.copies:
            self.metadata.lose(["smaller copies"])
        return True

    def _open_fields(self) -> bool:
        """Open a BMP whose channels have bits that Pillow does not know; False for others."""
        found = bmp.read_fields(self._file)
        if found is None:
            return False
        rows, dpi, most = found
        self._whole, self.format, self.mode, self.dtype = rows, "BMP", "RGBA"[: rows.shape[2]], rows.dtype
        self.height, self.width = rows.shape[:2]
        self.metadata, self.orientation = Metadata(icc=bmp.read_profile(self._file), dpi=dpi), UPRIGHT
        if most > 8:
            self.losses = f"it has up to {most} bits a channel, of which 8 are kept"
            self._add_note(self.losses)
        return True

    def _open_pages(self, image: Image.Image) -> None:
        """Look at the pages of a TIFF."""
        pages = sort_pages(self.read_bytes, self.name, image)
        if pages.refused:
            raise ImageError(pages.refused)
        self._take_pages(pages)

    def _take_pages(self, pages: Pages) -> None:
        self.pages = pages
        if pages.others and pages.stuck:
            self.losses = f"it has {1 + len(pages.others)} pages, of which only the first is kept ({pages.stuck})"
        elif pages.others:
            more = "the other is" if len(pages.others) == 1 else f"the other {len(pages.others)} are"
            self._add_note(f"it has {1 + len(pages.others)} pages, of which the first is restored; {more} copied")
        self._add_note(self.losses)

    def _refuse_tiff(self) -> None:
        """Say what a TIFF is that Pillow does not know.

        Raises:
            ImageError: it is one.
        """
        try:
            pages = sort_pages(self.read_bytes, self.name)
        except struct.error:
            return
        raise ImageError(pages.refused or kinds.name_tiff(pages.tags))

    def _open_bmp(self, image: Image.Image) -> None:
        self.metadata.icc = bmp.read_profile(self._file)
        if image.mode in _ALPHA_OF_BMP and (alpha := bmp.read_alpha(self._file, *image.size)) is not None:
            with mute_warnings():
                colour = np.asarray(image.convert("RGB"))
            self._whole, self._image, self.mode = np.dstack([colour, alpha]), None, "RGBA"

    def _add_note(self, text: str) -> None:
        self.note = "; ".join(filter(None, (self.note, text)))

    def _note_losses(self) -> None:
        """Name in the note what the file carries besides its picture and no result has."""
        if lost := self.metadata.lost:
            names = ", ".join(lost[:-1]) + " and " + lost[-1] if len(lost) > 1 else lost[0]
            self._add_note(f"without its {names}")

    def _describe(self, image: Image.Image) -> None:
        """Set the attributes from an image that Pillow has opened."""
        self.width, self.height = image.size
        with mute_warnings():
            self.orientation = read_orientation(image)
        if not (self.width and self.height):
            raise ImageError("has no pixels: give an image of at least 1×1.")
        if image.mode not in _MODES:
            kind = {"LAB": "LAB (CIE L*a*b*)"}.get(image.mode, image.mode)
            raise ImageError(f"has pixels of the kind {kind}: save it as RGB or grey.")
        self.mode, self.dtype = _MODES[image.mode], np.dtype(np.uint8)
        if image.mode in ("1", "L", "P", "RGB") and image.has_transparency_data:
            self.mode = "LA" if self.mode == "L" else "RGBA"
        if image.mode.startswith("I"):
            self.dtype = np.dtype(np.uint16)
        elif image.mode == "F":
            self.dtype = np.dtype(np.float32)
        self._image = image
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            self._check_tiff(image)

    def _check_tiff(self, image: TiffImagePlugin.TiffImageFile) -> None:
        """Handle what Pillow does differently for TIFF: turned sizes, 12 bits, negatives, and colour of 16 bits."""
        self.width, self.height = image.tag_v2[ExifTags.Base.ImageWidth], image.tag_v2[ExifTags.Base.ImageLength]
        bits = image.tag_v2.get(ExifTags.Base.BitsPerSample, (1,))
        if bits == (12,):  # which Pillow leaves at 0 to 4095 in a type of 16 bits
            raise ImageError("has 12 bits a pixel: save it with 8 or 16.")
        if self.dtype != np.uint8:
            self._negative = image.tag_v2.get(ExifTags.Base.PhotometricInterpretation) == _WHITE_IS_ZERO
        elif max(bits) > 8:
            self.losses = EIGHT_OF_16.replace("16", str(max(bits)))
            self._add_note(self.losses)
        if self.pages is not None:
            if image.mode == "RGBX" or exif.number(self.pages.tags, 277, 1) > len(image.getbands()):
                self.metadata.lose(["extra channels"])
            if self.pages.copies:
                self.metadata.lose(["smaller copies"])
