"""Write a picture in a photo's place: with its colour profile, EXIF data, resolution, and the like.

A file of the photo's format also gets the photo's quality, compression and orientation; of another format it is
upright. PNG files are written in strips; of the other formats the whole picture is held until the end, 4 bytes a pixel.
"""

from __future__ import annotations

import io
import struct
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image, PngImagePlugin

from edgeae.errors import ImageError
from edgeae.images import colours
from edgeae.images.arrays import Rows
from edgeae.images.files import exif, photoshop
from edgeae.images.files.bmp import encode_bmp
from edgeae.images.files.exif_block import reset_orientation
from edgeae.images.files.formats import SAVE_OPTIONS, check_sides, encode_pil
from edgeae.images.files.gif_palette import with_palette
from edgeae.images.files.heif import FORMAT as HEIF
from edgeae.images.files.heif import encode_heif
from edgeae.images.files.jpeg_blocks import BlocksLostError, keep_blocks
from edgeae.images.files.metadata import EXIF_START, UPRIGHT, upright_xmp
from edgeae.images.files.png_reader import PngReader
from edgeae.images.files.png_writer import PngWriter
from edgeae.images.files.reader import Photo
from edgeae.images.files.tiff_pages import append_pages
from edgeae.images.files.tiff_wide import encode_wide
from edgeae.images.files.turns import to_upright
from edgeae.images.files.xmp import clean_xmp

# Modes of `colours` that the files of a format can hold.
_FORMAT_MODES = {
    "PNG": ("L", "LA", "RGB", "RGBA"),
    "TIFF": ("L", "LA", "RGB", "RGBA", "CMYK"),
    "WEBP": ("RGB", "RGBA"),
    "GIF": ("L", "RGB", "RGBA"),
    "JPEG": ("L", "RGB", "CMYK"),
    "BMP": ("L", "RGB", "RGBA"),
    "AVIF": ("RGB", "RGBA"),
    "HEIF": ("L", "RGB", "RGBA"),
}
# The colour space that an ICC profile's header names, by mode.
_PROFILES = {"L": b"GRAY", "LA": b"GRAY", "RGB": b"RGB ", "RGBA": b"RGB ", "CMYK": b"CMYK"}
_KEEPS_EXIF = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF")
_DESCRIPTIVE = {  # tags about the picture, not about how its pixels are laid out
    *(int(ExifTags.Base[name]) for name in (
        "DocumentName", "ImageDescription", "Make", "Model", "PageName", "Software", "DateTime", "Artist",
        "HostComputer", "Copyright", "Rating", "RatingPercent", "XPTitle", "XPComment", "XPAuthor", "XPKeywords",
        "XPSubject")), exif.EXIF, exif.GPS,
}  # fmt: skip
# Of a TIFF, true of the result too: pixel values, colours, position on paper and on the Earth (GeoTIFF, GDAL), numbers.
_TIFF_ONLY = {280, 281, 285, 286, 287, 297, 301, 318, 319, 33550, 33922, 34264, 34735, 34736, 34737, 42112, 42113}
_SEGMENT_BYTES = 65_533  # the most that a JPEG file can hold in one segment
_XMP_BYTES = _SEGMENT_BYTES - 29  # of XMP data in one segment
_PREDICTOR = {317: 2}  # store differences of neighbours (TIFF's tag): compressed photographs become a third smaller


class Writer:
    """Takes rows from the top, as the photo stores them, and writes them to a file with the photo's metadata.

    Attributes:
        mode, dtype: of the pixels in the file: the nearest to those of the rows that its format can hold.
        orientation: EXIF orientation of the file: the photo's, or 1 where a turned photo is written upright.
        note: after `close`, why pixels that should stay have changed, as half a sentence; empty if they have not.
    """

    def __init__(self, file: BinaryIO, kind: str, photo: Photo, mode: str, keep: bool = False) -> None:
        """Begin a file.

        Args:
            file: where to write it, open for writing.
            kind: Pillow's name of its format.
            photo: the photo in whose place the file is written.
            mode: mode of the rows that `write` is called with (see `colours`).
            keep: whether pixels that are equal in the rows and the photo have to be so in a file of its format too,
                also where that loses (JPEG blocks) or has few colours (GIF).

        Raises:
            ImageError: the format cannot hold a picture of this size.
        """
        self._file, self._kind, self._photo, self._row_mode, self._keep = file, kind, photo, mode, keep
        self.note = ""
        self.orientation = photo.orientation if kind == photo.format and kind in _KEEPS_EXIF else UPRIGHT
        self._turned = self.orientation != photo.orientation
        self.mode = _nearest_mode(mode, kind)
        if (self.mode, kind) == ("LA", "TIFF") and photo.dtype != np.uint8 and photo.format != "TIFF":
            self.mode = "RGBA"  # Pillow, and many others, read no TIFF of 16-bit grey with alpha
        self.dtype = _nearest_dtype(photo.dtype, kind, self.mode)
        self._rows = 0
        # Rows go to one of three: a PNG file that grows in strips, an image of 8 bits, a list of wider rows.
        self._png: PngWriter | None = None
        self._canvas: Image.Image | None = None
        self._wide: list[Rows] = []
        width, height = photo.width, photo.height
        if kind == "PNG" and not self._turned:
            self._png = self._png_writer(width, height)
        elif width * height > 2 * (Image.MAX_IMAGE_PIXELS or sys.maxsize):
            raise ImageError(f"An image of {width}×{height} pixels is too large for {kind}: use .png.")
        elif self.dtype == np.uint8:
            check_sides(photo.shown_size if self._turned else (width, height), kind)
            self._canvas = Image.new(self.mode, (width, height))

    def write(self, rows: Rows) -> None:
        """Write the next rows, (n, width, K), in the mode given to the constructor and the photo's type.

        Raises:
            ImageError: too many rows.
        """
        if self._rows + len(rows) > self._photo.height:
            raise ImageError(f"The result of {self._photo.name} has more rows than it: write {self._photo.height}.")
        rows = colours.to_depth(colours.convert(rows, self._row_mode, self.mode), self.dtype)
        if self._png is not None:
            self._png.write(rows)
        elif self._canvas is not None:
            self._canvas.paste(_pil(rows, self.mode), (0, self._rows))
        else:
            self._wide.append(rows)
        self._rows += len(rows)

    def close(self) -> None:
        """Write what is left; the file stays open.

        Raises:
            ImageError: rows are missing, or the encoder fails.
        """
        if missing := self._photo.height - self._rows:
            raise ImageError(f"The result of {self._photo.name} lacks {missing} of its rows: write them all.")
        if self._png is not None:
            self._png.close()
            return
        if self._canvas is None:
            rows = np.concatenate(self._wide)
            self._wide.clear()
        elif self._turned or self._kind == "PNG":
            rows = np.array(self._canvas).reshape(*self._canvas.size[::-1], len(self.mode))
        else:
            self._save(self._canvas)
            return
        self._canvas = None
        rows = to_upright(rows, self._photo.orientation) if self._turned else rows
        if self._kind == "PNG":
            png = self._png_writer(rows.shape[1], rows.shape[0])
            png.write(rows)
            png.close()
        elif self.dtype != np.uint8 and (self._kind == HEIF or self.mode != "L"):
            self._save(rows)
        else:
            self._save(_pil(rows, self.mode))

    def _png_writer(self, width: int, height: int) -> PngWriter:
        try:
            return PngWriter(self._file, width, height, self.mode, self.dtype, self._chunks())
        except ImageError as error:
            raise ImageError(f"The result of {self._photo.name} {error}") from error

    def _save(self, picture: Image.Image | Rows) -> None:
        """Write a whole picture: rows where Pillow has no image of their mode and type."""
        metadata = self._photo.metadata
        keeps = self._keep and self._kind == self._photo.format
        if self._kind == HEIF:
            self._note_change("write .png to keep them" if keeps else "")
            rows = picture if isinstance(picture, np.ndarray) else np.asarray(picture)
            named = {"exif": self._exif(), "xmp": self._xmp(), "icc_profile": self._icc()}
            self._file.write(encode_heif(rows, self.mode, {**SAVE_OPTIONS[HEIF], **named}))
            return
        options = self._options(picture)
        if self._kind == "BMP" and (self.mode == "RGBA" or self._icc()) and self.mode != "L":
            self._file.write(encode_bmp(np.asarray(picture), metadata.dpi, self._icc()))
            return
        if self._kind == "GIF":
            assert isinstance(picture, Image.Image)
            picture, transparent = with_palette(picture, self._photo.whole() if keeps else None)
            options |= {} if transparent is None else {"transparency": transparent}
        if isinstance(picture, Image.Image):
            data = encode_pil(picture, self._kind, options)
            data = self._keep_unchanged(data, picture, options) if keeps else data
        else:
            data = encode_wide(picture, self.mode, options)
        if self._kind == "TIFF":
            tags = {**self._tags(_DESCRIPTIVE | _TIFF_ONLY, set()), **photoshop.to_tags(metadata.resources)}
            data = exif.add_tags(data, tags) if tags else data
            if self._photo.pages is not None and self._photo.pages.others and not self._photo.pages.stuck:
                data = append_pages(data, self._photo.read_bytes, self._photo.pages.others)
        self._file.write(data)

    def _keep_unchanged(self, data: bytes, picture: Image.Image, options: dict[str, Any]) -> bytes:
        """Return a file in which pixels equal to the photo's stay equal, as far as its format allows; else note it."""
        if self._kind == "JPEG":
            try:
                return keep_blocks(data, self._photo.read_bytes(0, -1), self._photo.whole(), picture)
            except BlocksLostError as error:
                self._note_change(str(error))
        elif (self._kind in ("WEBP", "AVIF") and not options.get("lossless")) or options.get("compression") == "jpeg":
            self._note_change("write .png to keep them")
        return data

    def _note_change(self, reason: str) -> None:
        self.note = f"it is encoded again, which changes pixels outside the mask a little: {reason}" if reason else ""

    def _options(self, picture: Image.Image | Rows) -> dict[str, Any]:
        """Return Pillow's options for saving a picture with the photo's metadata."""
        metadata = self._photo.metadata
        options: dict[str, Any] = dict(SAVE_OPTIONS.get(self._kind, {}))
        if self._kind == self._photo.format:
            options |= {key: value for key, value in metadata.options.items() if value is not None}
        options |= {key: value for key, value in (("icc_profile", self._icc()), ("dpi", metadata.dpi)) if value}
        if self._kind in ("JPEG", "WEBP", "AVIF"):
            options["exif"], xmp = self._exif(), self._xmp()
            if xmp and (self._kind != "JPEG" or len(xmp) <= _XMP_BYTES):
                options["xmp"] = xmp
        if self._kind == "JPEG":
            options["extra"] = self._segments()
        if "qtables" in options:
            dropped = ("quality",) if self.mode == "RGB" else ("quality", "subsampling", "keep_rgb")
            options = {key: value for key, value in options.items() if key not in dropped}
        if options.get("keep_rgb"):
            options.pop("dpi", None)  # with it Pillow marks the pixels as YCbCr; EXIF data have the resolution too
        if self._kind == "TIFF":
            options |= _compression(options["compression"], self.mode)
        return options

    def _segments(self) -> bytes:
        """Return a JPEG's segments that Pillow does not write: Photoshop's resources, and long XMP data."""
        metadata = self._photo.metadata
        extension = [b"\xff\xe1" + struct.pack(">H", len(data) + 2) + data for data in metadata.extension]
        return b"".join([photoshop.to_segments(metadata.resources), *extension])

    def _chunks(self) -> Sequence[tuple[bytes, bytes]]:
        """Return the photo's chunks if it is a PNG, else those that Pillow writes for its metadata."""
        metadata, icc = self._photo.metadata, self._icc()
        if self._photo.format == "PNG":
            return [chunk for chunk in metadata.chunks if chunk[0] != b"iCCP" or icc]
        file, texts = io.BytesIO(), PngImagePlugin.PngInfo()
        if xmp := self._xmp():
            texts.add_itxt("XML:com.adobe.xmp", xmp.decode("utf-8", "replace"))
        if metadata.resources:
            profile = photoshop.to_profile("iptc", metadata.resources).decode()
            texts.add_text("Raw profile type iptc", profile, zip=True)
        options = {"icc_profile": icc, "dpi": metadata.dpi, "exif": self._exif(), "pnginfo": texts}
        Image.new("L", (1, 1)).save(file, "PNG", **{key: value for key, value in options.items() if value})
        file.seek(0)
        return PngReader(file).chunks

    # ---- metadata ----------------------------------------------------------------------------------------------------

    def _icc(self) -> bytes | None:
        """Return the colour profile if it is for the colour space of the pixels that are written."""
        icc, photo = self._photo.metadata.icc, self._photo
        same = self._kind == photo.format and _PROFILES[self.mode] == _PROFILES[photo.mode]
        return icc if icc and (same or icc[16:20] == _PROFILES[self.mode]) else None

    def _xmp(self) -> bytes:
        metadata = self._photo.metadata
        xmp = metadata.xmp or b""
        if metadata.extension and self._kind != "JPEG":
            xmp, _ = clean_xmp(xmp)  # which names an extended document that only a JPEG can hold
        return upright_xmp(xmp) if self._turned else xmp

    def _exif(self) -> bytes:
        """Return as much of the EXIF data as the format can hold, and the orientation in any case."""
        blocks = (EXIF_START + block if block else b"" for block in self._exif_blocks())
        return next(block for block in blocks if self._kind != "JPEG" or len(block) <= _SEGMENT_BYTES)

    def _exif_blocks(self) -> Iterator[bytes]:
        """Yield the EXIF block to write, then smaller ones for a format that cannot hold it."""
        block = self._photo.metadata.exif
        if block and self._turned:
            with suppress(struct.error):
                yield reset_orientation(block)
        elif block or self._kind == self._photo.format:
            yield block
        for excluded in (set[int](), {exif.MAKER_NOTE}, {exif.EXIF}, _DESCRIPTIVE):
            tags = self._tags(_DESCRIPTIVE, excluded)
            yield exif.HEADER + exif.pack_tags(tags, len(exif.HEADER)) if tags else b""

    def _tags(self, included: set[int], excluded: set[int]) -> exif.Tags:
        """Return tags of the photo, and the orientation of the file; a TIFF has its XMP data among them."""
        tags = {tag: value for tag, value in self._photo.metadata.tags.items() if tag in included - excluded}
        if isinstance(table := tags.get(exif.EXIF), dict):
            tags[exif.EXIF] = {tag: value for tag, value in table.items() if tag not in excluded}
        if self.orientation != UPRIGHT or exif.ORIENTATION in self._photo.metadata.tags:
            tags[exif.ORIENTATION] = exif.Field(exif.SHORT, 1, bytes((self.orientation, 0)))
        if self._kind == "TIFF" and (xmp := self._xmp()):
            tags[exif.XMP] = exif.Field(exif.BYTE, len(xmp), xmp)
        return tags


def _compression(name: str, mode: str) -> dict[str, Any]:
    """Return a TIFF file's compression options: the photo's, or lossless ones if Pillow cannot repeat those."""
    if name == "jpeg" and mode in ("L", "RGB", "CMYK"):
        return {"compression": name, "quality": SAVE_OPTIONS["JPEG"]["quality"]}
    if name in ("raw", "packbits"):
        return {"compression": name}
    return {"compression": "tiff_lzw" if name == "tiff_lzw" else "tiff_adobe_deflate", "tiffinfo": _PREDICTOR}


def _nearest_mode(mode: str, kind: str) -> str:
    """Return the mode nearest to `mode` among those that a format can hold."""
    modes = _FORMAT_MODES[kind]
    colour, alpha = {"CMYK": "RGB"}.get(mode, mode.removesuffix("A")), "A" if mode.endswith("A") else ""
    candidates = (mode, colour + alpha, "RGB" + alpha, colour, "RGB")
    return next(candidate for candidate in candidates if candidate in modes)


def _nearest_dtype(dtype: np.dtype[Any], kind: str, mode: str) -> np.dtype[Any]:
    if kind in ("PNG", HEIF):
        return np.dtype(np.uint8 if dtype == np.uint8 else np.uint16)
    return dtype if kind == "TIFF" else np.dtype(np.uint8)


def _pil(rows: Rows, mode: str) -> Image.Image:
    if mode == "CMYK":
        return Image.frombytes(mode, rows.shape[1::-1], np.ascontiguousarray(rows))
    return Image.fromarray(np.ascontiguousarray(rows[..., 0] if rows.shape[2] == 1 else rows))
