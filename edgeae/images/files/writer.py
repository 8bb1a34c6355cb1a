"""A picture written in a photo's place: with its colour profile, EXIF data, resolution, and the like.

In the format of the photo a file also gets its quality, compression and turn; in another it stands upright. PNG files
are written in strips; for the other formats the whole picture is held until the end, 4 bytes a pixel.
"""

from __future__ import annotations

import io
import re
import struct
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, PngImagePlugin

from edgeae.errors import ImageError
from edgeae.images import colours
from edgeae.images.files import exif
from edgeae.images.files.formats import SAVE_OPTIONS, check_sides, encode_pil, to_palette
from edgeae.images.files.metadata import EXIF_START, UPRIGHT
from edgeae.images.files.png import PngReader, PngWriter
from edgeae.images.files.reader import Photo, upright

Rows = npt.NDArray[Any]

# What the files of a format can hold, of the modes of `colours`.
_HOLDS = {
    "PNG": ("L", "LA", "RGB", "RGBA"),
    "TIFF": ("L", "LA", "RGB", "RGBA", "CMYK"),
    "WEBP": ("RGB", "RGBA"),
    "GIF": ("L", "RGB", "RGBA"),
    "JPEG": ("L", "RGB", "CMYK"),
    "BMP": ("L", "RGB"),
}
_PROFILES = {"L": b"GRAY", "LA": b"GRAY", "RGB": b"RGB ", "RGBA": b"RGB ", "CMYK": b"CMYK"}  # what one says it is for
_KEEPS_EXIF = ("JPEG", "PNG", "WEBP", "TIFF")
_DESCRIPTIVE = {  # tags that tell of the picture, not of how its pixels are laid out
    *(int(ExifTags.Base[name]) for name in (
        "DocumentName", "ImageDescription", "Make", "Model", "PageName", "Software", "DateTime", "Artist",
        "HostComputer", "Copyright", "Rating", "RatingPercent", "XPTitle", "XPComment", "XPAuthor", "XPKeywords",
        "XPSubject")), exif.EXIF, exif.GPS,
}  # fmt: skip
_OF_TIFF = {int(ExifTags.Base.IPTCNAA), int(ExifTags.Base.ImageResources)}  # which other formats keep elsewhere
_SEGMENT = 65_533  # bytes that a JPEG file can hold in one piece
_XMP_SEGMENT = _SEGMENT - 29  # of XMP data
_XMP_TURN = re.compile(rb"""(tiff:Orientation(?:=["']|>))[2-8]""")
_GIF_COLOURS = 256
_PREDICTED = {317: 2}  # TIFF's tag for what makes compressed photographs a third smaller: differences of neighbours


class Writer:
    """Rows into a file of Pillow's format `kind`, in the place of a photo.

    Attributes:
        mode, dtype: of the rows that `write` takes: what the file holds of the photo's, or of the mode asked for.
        turn: 1 when rows of a turned photo come out upright, as in another format than the photo's; else the photo's.
    """

    def __init__(self, file: BinaryIO, kind: str, photo: Photo, mode: str) -> None:
        self._file, self._kind, self._photo, self._source = file, kind, photo, mode
        self.turn = photo.turn if kind == photo.format and kind in _KEEPS_EXIF else UPRIGHT
        self._turned = self.turn != photo.turn
        self.mode = _held(mode, kind)
        self.dtype = _held_depth(photo.dtype, kind, self.mode)
        self._rows = 0
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
        """The next rows, (n, width, K) in the mode and type of the photo, or the mode that was asked for."""
        if self._rows + len(rows) > self._photo.height:
            raise ImageError(f"The result of {self._photo.name} has more rows than it: write {self._photo.height}.")
        rows = colours.to_depth(colours.convert(rows, self._source, self.mode), self.dtype)
        if self._png is not None:
            self._png.write(rows)
        elif self._canvas is not None:
            self._canvas.paste(_pil(rows, self.mode), (0, self._rows))
        else:
            self._wide.append(rows)
        self._rows += len(rows)

    def close(self) -> None:
        """Write what is left; the file stays open. Raises ImageError when rows are missing."""
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
        rows = upright(rows, self._photo.turn) if self._turned else rows
        if self._kind == "PNG":
            png = self._png_writer(rows.shape[1], rows.shape[0])
            png.write(rows)
            png.close()
        else:
            self._save(_pil(rows, self.mode))

    def _png_writer(self, width: int, height: int) -> PngWriter:
        try:
            return PngWriter(self._file, width, height, self.mode, self.dtype, self._chunks())
        except ImageError as error:
            raise ImageError(f"The result of {self._photo.name} {error}") from error

    def _save(self, picture: Image.Image) -> None:
        kept = self._photo.kept
        options: dict[str, Any] = dict(SAVE_OPTIONS.get(self._kind, {}))
        if self._kind == self._photo.format:
            options |= {key: value for key, value in kept.options.items() if value is not None}
        options |= {key: value for key, value in (("icc_profile", self._icc()), ("dpi", kept.dpi)) if value}
        if self._kind in ("JPEG", "WEBP"):
            options["exif"], xmp = self._exif(), self._xmp()
            if xmp and (self._kind == "WEBP" or len(xmp) <= _XMP_SEGMENT):
                options["xmp"] = xmp
        if "qtables" in options:
            dropped = ("quality",) if self.mode == "RGB" else ("quality", "subsampling", "keep_rgb")
            options = {key: value for key, value in options.items() if key not in dropped}
        if options.get("keep_rgb"):
            options.pop("dpi", None)  # it would make Pillow say that the pixels are YCbCr; EXIF data have it too
        if self._kind == "TIFF":
            options |= _compression(options["compression"], picture.mode)
        if self._kind == "GIF":
            picture, transparent = _with_palette(picture)
            options |= {} if transparent is None else {"transparency": transparent}
        data = encode_pil(picture, self._kind, options)
        if self._kind == "TIFF" and (tags := self._tags(_DESCRIPTIVE | _OF_TIFF, set())):
            data = exif.with_tags(data, tags)
        self._file.write(data)

    def _chunks(self) -> Sequence[tuple[bytes, bytes]]:
        """A PNG's own, or those that Pillow writes for what another format told."""
        kept, icc = self._photo.kept, self._icc()
        if self._photo.format == "PNG":
            return [chunk for chunk in kept.chunks if chunk[0] != b"iCCP" or icc]
        file, texts = io.BytesIO(), PngImagePlugin.PngInfo()
        if xmp := self._xmp():
            texts.add_itxt("XML:com.adobe.xmp", xmp.decode("utf-8", "replace"))
        options = {"icc_profile": icc, "dpi": kept.dpi, "exif": self._exif(), "pnginfo": texts}
        Image.new("L", (1, 1)).save(file, "PNG", **{key: value for key, value in options.items() if value})
        file.seek(0)
        return PngReader(file).chunks

    # ---- what belongs to the picture ---------------------------------------------------------------------------------

    def _icc(self) -> bytes | None:
        """The profile, if it is for pixels such as those that are written."""
        icc, photo = self._photo.kept.icc, self._photo
        same = self._kind == photo.format and _PROFILES[self.mode] == _PROFILES[photo.mode]
        return icc if icc and (same or icc[16:20] == _PROFILES[self.mode]) else None

    def _xmp(self) -> bytes:
        xmp = self._photo.kept.xmp or b""
        return _XMP_TURN.sub(rb"\g<1>1", xmp) if self._turned else xmp

    def _exif(self) -> bytes:
        """As much of the EXIF data as the format can hold, and the turn at any rate."""
        blocks = (EXIF_START + block if block else b"" for block in self._exif_blocks())
        return next(block for block in blocks if self._kind != "JPEG" or len(block) <= _SEGMENT)

    def _exif_blocks(self) -> Iterator[bytes]:
        block = self._photo.kept.exif
        if block and self._turned:
            with suppress(struct.error):
                yield exif.upright(block)
        elif block or self._kind == self._photo.format:
            yield block
        for left_out in (set[int](), {exif.MAKER_NOTE}, {exif.EXIF}, _DESCRIPTIVE):
            tags = self._tags(_DESCRIPTIVE, left_out)
            yield exif.HEADER + exif.packed(tags, len(exif.HEADER)) if tags else b""

    def _tags(self, wanted: set[int], left_out: set[int]) -> exif.Tags:
        """Those of the photo, with the turn of what is written; a TIFF has its XMP data among them."""
        tags = {tag: value for tag, value in self._photo.kept.tags.items() if tag in wanted - left_out}
        if isinstance(table := tags.get(exif.EXIF), dict):
            tags[exif.EXIF] = {tag: value for tag, value in table.items() if tag not in left_out}
        if self.turn != UPRIGHT or exif.ORIENTATION in self._photo.kept.tags:
            tags[exif.ORIENTATION] = exif.SHORT, 1, bytes((self.turn, 0))
        if self._kind == "TIFF" and (xmp := self._xmp()):
            tags[exif.XMP] = exif.BYTE, len(xmp), xmp
        return tags


def _compression(wanted: str, mode: str) -> dict[str, Any]:
    """Of a TIFF file: as it was, where that is for such pixels and without another loss."""
    if wanted == "jpeg" and mode in ("L", "RGB", "CMYK"):
        return {"compression": wanted, "quality": SAVE_OPTIONS["JPEG"]["quality"]}
    if wanted in ("raw", "packbits"):
        return {"compression": wanted}
    return {"compression": "tiff_lzw" if wanted == "tiff_lzw" else "tiff_adobe_deflate", "tiffinfo": _PREDICTED}


def _with_palette(picture: Image.Image) -> tuple[Image.Image, int | None]:
    """At most 256 colours, the picture's own if it has no more, and the number of the transparent one if there is."""
    if picture.mode == "L":
        return picture.convert("P"), None
    pixels = np.array(picture.convert("RGBA"))
    hidden = pixels[..., 3] < 128
    pixels[..., 3] = np.where(hidden, 0, 255)
    if hidden.any():
        pixels[hidden] = pixels[hidden][0]
    found = Image.fromarray(pixels).getcolors(_GIF_COLOURS)
    if found is None:
        return _with_fewer_colours(Image.fromarray(pixels[..., :3]), hidden)
    palette = np.array([colour for _, colour in found], np.uint8)
    palette = palette[np.argsort(palette.view(np.uint32)[:, 0])]
    numbers = np.searchsorted(palette.view(np.uint32)[:, 0], pixels.view(np.uint32)[..., 0])
    return _numbered(numbers, palette[:, :3].tobytes()), int(palette[:, 3].argmin()) if hidden.any() else None


def _with_fewer_colours(picture: Image.Image, hidden: npt.NDArray[np.bool_]) -> tuple[Image.Image, int | None]:
    """As `imaging.to_palette`, with the last colour left for what is hidden."""
    if not hidden.any():
        return to_palette(picture), None
    last = _GIF_COLOURS - 1
    palette = picture.quantize(last, Image.Quantize.MAXCOVERAGE, kmeans=1)
    numbers = np.array(picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG))
    numbers[hidden] = last
    return _numbered(numbers, bytes(palette.getpalette() or ())[: 3 * last].ljust(3 * _GIF_COLOURS, b"\0")), last


def _numbered(numbers: npt.NDArray[Any], palette: bytes) -> Image.Image:
    picture = Image.frombytes("P", numbers.shape[::-1], numbers.astype(np.uint8).tobytes())
    picture.putpalette(palette)
    return picture


def _held(mode: str, kind: str) -> str:
    """The mode that comes nearest among those that a format holds."""
    holds = _HOLDS[kind]
    colour, alpha = {"CMYK": "RGB"}.get(mode, mode.removesuffix("A")), "A" if mode.endswith("A") else ""
    candidates = (mode, colour + alpha, "RGB" + alpha, colour, "RGB")
    return next(candidate for candidate in candidates if candidate in holds)


def _held_depth(dtype: np.dtype[Any], kind: str, mode: str) -> np.dtype[Any]:
    if kind == "PNG":
        return np.dtype(np.uint8 if dtype == np.uint8 else np.uint16)
    return dtype if kind == "TIFF" and mode == "L" else np.dtype(np.uint8)


def _pil(rows: Rows, mode: str) -> Image.Image:
    if mode == "CMYK":
        return Image.frombytes(mode, rows.shape[1::-1], np.ascontiguousarray(rows))
    return Image.fromarray(np.ascontiguousarray(rows[..., 0] if rows.shape[2] == 1 else rows))
