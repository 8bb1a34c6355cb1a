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
from PIL import ExifTags, Image, TiffImagePlugin, TiffTags, UnidentifiedImageError

from edgeae.errors import ImageError
from edgeae.formatting import join_names
from edgeae.images import colours
from edgeae.images.arrays import Rows
from edgeae.images.files import bmp, exif, signatures
from edgeae.images.files.jpeg_scans import check_scans
from edgeae.images.files.metadata import UPRIGHT, Metadata, read_metadata, read_orientation, read_png_metadata
from edgeae.images.files.openers import (
    Opened,
    RowSource,
    WholePicture,
    describe_left_out,
    describe_pages,
    open_bmp_fields,
    open_heif,
    open_png,
    open_wide_tiff,
    refuse_tiff,
)
from edgeae.images.files.pillow_guard import (
    ImageSource,
    check_values,
    mute_warnings,
    read_formats,
    source_name,
    why_unreadable,
)
from edgeae.images.files.png_reader import PngReader
from edgeae.images.files.tiff_pages import Pages, sort_pages
from edgeae.images.files.turns import AS_STORED, swaps_sides
from edgeae.interrupts import run_interruptibly

MAX_PIXELS = 1 << 30  # of a PNG; Pillow's own limit, for what it holds whole, is 179 million
_QUICK_PIXELS = 1 << 20  # a decoder ends soon with so many, and need not be interrupted
EIGHT_OF_16 = "it has 16 bits a channel, of which 8 are kept"
_ALPHA_OF_BMP = ("RGB", "RGBX")  # Pillow's modes of files whose alpha it does not read

_MODES = {  # Pillow's modes, and those of the rows that are read from them
    "1": "L", "L": "L", "LA": "LA", "La": "LA", "P": "RGB", "PA": "RGBA", "RGB": "RGB", "RGBX": "RGB", "RGBA": "RGBA",
    "RGBa": "RGBA", "CMYK": "CMYK", "YCbCr": "RGB", "HSV": "RGB", "I;16": "L", "I;16B": "L", "I": "L", "F": "L",
}  # fmt: skip
_WHITE_IS_ZERO = 0  # a TIFF's photometric interpretation


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
        self.source, self.name = source, name or source_name(source)
        self._notes: list[str] = []
        self.losses = ""
        self.pages = None
        self._image: Image.Image | None = None
        self._decoded = self._negative = False
        self._rows: RowSource | None = None  # instead of Pillow's image
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

    def reopen(self) -> Photo:
        """Open the same picture again, from its first row. An open binary file cannot be read twice."""
        return Photo(self.source, self.name)

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
        return (self.height, self.width) if swaps_sides(self.orientation) else (self.width, self.height)

    def read(self, count: int) -> Rows:
        """Return the next `count` rows, fewer at the end, none after it: (n, width, len(mode))."""
        with self._reading():
            return self._rows.read(count) if self._rows is not None else self._strip(count)

    def read_bytes(self, position: int, count: int) -> bytes:
        """Return bytes of the file, for what is copied as it is."""
        self._file.seek(position)
        return self._file.read(count)

    def load(self) -> None:
        """Decode the whole picture now if it will not be decoded row by row."""
        with self._reading():
            if isinstance(self._rows, WholePicture):
                run_interruptibly(self._rows.load)
            elif self._image is not None:
                self._decode()

    def whole(self) -> Image.Image:
        """Return the whole picture as it is stored, in one of Pillow's modes; not for a PNG file."""
        with self._reading():
            return self._decode()

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
                image = image.transpose(AS_STORED[self.orientation])
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
        head = self._file.read(signatures.HEAD_BYTES)
        opened = None
        if signatures.starts_as_raw(head):
            raise ImageError(signatures.RAW)
        if head.startswith(b"\x89PNG\r\n\x1a\n"):
            self._file.seek(0)
            png = PngReader(self._file)
            opened = open_png(self._file, png)
            if opened is None:
                source, self._file = self._file, png.copy_pixels()
                source.close()
                self._open_other()
                self.metadata, self.orientation = read_png_metadata(png.chunks)
                self._notes += describe_left_out(png)
        elif signatures.is_heif(head):
            opened = open_heif(self._file)
        elif signatures.is_tiff(head):
            opened = open_wide_tiff(self._file, self.read_bytes, self.name)
        elif head.startswith(b"BM"):
            opened = open_bmp_fields(self._file)
        if opened is not None:
            self._take(opened)
        elif not head.startswith(b"\x89PNG\r\n\x1a\n"):
            self._open_other()
        self._note_losses()

    def _take(self, opened: Opened) -> None:
        """Take over the attributes of a picture that needs no decoder of Pillow's."""
        self.format, self.width, self.height = opened.format, opened.width, opened.height
        self.mode, self.dtype, self.orientation = opened.mode, opened.dtype, opened.orientation
        self.metadata, self.pages, self.losses = opened.metadata, opened.pages, opened.losses
        self._rows = opened.rows
        self._notes += opened.notes

    def _open_other(self) -> None:
        self._file.seek(0)
        try:
            with mute_warnings():
                image = Image.open(self._file, formats=read_formats())
        except UnidentifiedImageError as error:
            opened = open_wide_tiff(self._file, self.read_bytes, self.name, narrow=True)
            if opened is not None:
                self._take(opened)
                return
            refuse_tiff(self.read_bytes, self.name)
            sentence = signatures.name_kind(self._file, self.name)
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
        if image.format == "AVIF" and (bits := signatures.avif_bits(self.read_bytes(0, signatures.HEAD_BYTES))) > 8:
            self._notes.append(EIGHT_OF_16.replace("16", str(bits)))
        if frames > 1:
            self._notes.append(f"it has {frames} frames, of which the first is restored")

    def _open_pages(self, image: Image.Image) -> None:
        """Look at the pages of a TIFF."""
        pages = sort_pages(self.read_bytes, self.name, image)
        if pages.refused:
            raise ImageError(pages.refused)
        notes, self.losses = describe_pages(pages)
        self.pages, self._notes = pages, self._notes + notes

    def _open_bmp(self, image: Image.Image) -> None:
        self.metadata.icc = bmp.read_profile(self._file)
        if image.mode in _ALPHA_OF_BMP and (alpha := bmp.read_alpha(self._file, *image.size)) is not None:
            with mute_warnings():
                colour = np.asarray(image.convert("RGB"))
            rows = np.dstack([colour, alpha])
            self._rows, self._image, self.mode = WholePicture(lambda: rows), None, "RGBA"

    def _note_losses(self) -> None:
        """Name in the note what the file carries besides its picture and no result has."""
        if lost := self.metadata.lost:
            self._notes.append(f"without its {join_names(lost)}")

    @property
    def note(self) -> str:
        """What of the file is not read, as half a sentence; empty if nothing is lost."""
        return "; ".join(self._notes)

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
            self._notes.append(self.losses)
        if self.pages is not None:
            if image.mode == "RGBX" or exif.number(self.pages.tags, 277, 1) > len(image.getbands()):
                self.metadata.lose(["extra channels"])
            if self.pages.copies:
                self.metadata.lose(["smaller copies"])
