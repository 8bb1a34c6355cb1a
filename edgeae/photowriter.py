"""A picture written in a photo's place: with its colour profile, EXIF data, resolution, and the like.

In the format of the photo a file also gets its quality, compression and turn; in another it stands upright. PNG files
are written in strips; for the other formats the whole picture is held until the end, 4 bytes a pixel.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, TiffImagePlugin

from edgeae import colours, imaging
from edgeae.errors import ImageError
from edgeae.photos import UPRIGHT, Photo, upright
from edgeae.png import PngReader, PngWriter

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
_KEEPS_EXIF = ("JPEG", "PNG", "WEBP", "TIFF")
_DESCRIPTIVE = (  # TIFF's tags that tell of the picture, not of how its pixels are laid out
    "DocumentName", "ImageDescription", "Make", "Model", "Orientation", "PageName", "Software", "DateTime", "Artist",
    "HostComputer", "Copyright", "XMLPacket", "IPTCNAA", "ImageResources", "Rating",
)  # fmt: skip
_TAGS = {int(getattr(ExifTags.Base, name)) for name in _DESCRIPTIVE if hasattr(ExifTags.Base, name)}
_IFDS = (int(ExifTags.IFD.Exif), int(ExifTags.IFD.GPSInfo))
_SEGMENT = 65_000  # bytes that a JPEG file can hold in one piece, less what Pillow puts before them


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
            self._png = PngWriter(file, width, height, self.mode, self.dtype, self._chunks())
        elif width * height > 2 * (Image.MAX_IMAGE_PIXELS or sys.maxsize):
            raise ImageError(f"An image of {width}×{height} pixels is too large for {kind}: use .png.")
        elif self.dtype == np.uint8:
            imaging.check_sides(photo.shown_size if self._turned else (width, height), kind)
            self._canvas = Image.new(self.mode, (width, height))

    def write(self, rows: Rows) -> None:
        """The next rows, (n, width, K) in the mode and type of the photo, or the mode that was asked for."""
        rows = colours.to_depth(colours.convert(rows, self._source, self.mode), self.dtype)
        if self._png is not None:
            self._png.write(rows)
        elif self._canvas is not None:
            self._canvas.paste(_pil(rows, self.mode), (0, self._rows))
        else:
            self._wide.append(rows)
        self._rows += len(rows)

    def close(self) -> None:
        """Write what is left; the file stays open."""
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
            png = PngWriter(self._file, rows.shape[1], rows.shape[0], self.mode, self.dtype, self._chunks())
            png.write(rows)
            png.close()
        else:
            self._save(_pil(rows, self.mode))

    def _save(self, picture: Image.Image) -> None:
        kept = self._photo.kept
        options: dict[str, Any] = dict(imaging.SAVE_OPTIONS.get(self._kind, {}))
        if self._kind == self._photo.format:
            options |= {key: value for key, value in kept.options.items() if value is not None}
        options |= {key: value for key, value in (("icc_profile", kept.icc), ("dpi", kept.dpi)) if value}
        if self._kind in ("JPEG", "WEBP") and kept.xmp and len(kept.xmp) < _SEGMENT:
            options["xmp"] = kept.xmp
        if self._kind == "TIFF":
            options |= _tiff_options(_described(kept.exif, self.turn), options["compression"])
        elif self._kind in _KEEPS_EXIF:
            options["exif"] = self._exif()
        if self._kind == "JPEG" and "qtables" in options:
            options.pop("quality", None)
            if picture.mode != "RGB" or options.get("subsampling", -1) < 0:
                options.pop("subsampling", None)
        if self._kind == "GIF":
            picture = imaging.to_palette(picture)
        self._file.write(imaging.encode_pil(picture, self._kind, options))

    def _chunks(self) -> Sequence[tuple[bytes, bytes]]:
        """A PNG's own, or those that Pillow writes for what another format told."""
        kept = self._photo.kept
        if self._photo.format == "PNG":
            grey = self.mode in ("L", "LA")
            same_kind = grey == (self._photo.mode in ("L", "LA"))  # a profile is of grey or of colour
            return kept.chunks if same_kind else [chunk for chunk in kept.chunks if chunk[0] != b"iCCP"]
        file = io.BytesIO()
        options = {"icc_profile": kept.icc, "dpi": kept.dpi, "exif": self._exif()}
        Image.new("L", (1, 1)).save(file, "PNG", **{key: value for key, value in options.items() if value})
        file.seek(0)
        return PngReader(file).chunks


    def _exif(self) -> bytes:
        """EXIF data as a block: the photo's own, byte for byte, unless the turn is another."""
        kept = self._photo.kept
        if kept.exif_bytes and not self._turned:
            return kept.exif_bytes
        exif = _described(kept.exif, self.turn)
        block = exif.tobytes() if len(exif) else b""
        return block if len(block) < _SEGMENT else b""


def _described(exif: Image.Exif, turn: int) -> Image.Exif:
    """What of EXIF data tells of the picture, with a given turn: a TIFF's also hold how its own pixels are laid out."""
    kept = Image.Exif()
    for tag, value in exif.items():
        if tag in _TAGS and tag != ExifTags.Base.Orientation:
            kept[tag] = value
    for ifd in _IFDS:
        if values := exif.get_ifd(ifd):
            kept.get_ifd(ifd).update(values)
    if turn != UPRIGHT:
        kept[ExifTags.Base.Orientation] = turn
    return kept


def _tiff_options(exif: Image.Exif, compression: str) -> dict[str, Any]:
    """Tags and compression. Pillow writes camera data (tables of their own) into uncompressed files only."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in exif.items():
        if tag not in _IFDS:
            tags[tag] = value
    tables = {ifd: dict(exif.get_ifd(ifd)) for ifd in _IFDS if exif.get_ifd(ifd)}
    for ifd, values in tables.items():
        tags[ifd] = values
    if tables:
        compression = "raw"
    elif compression not in ("raw", "tiff_lzw", "packbits", "tiff_deflate", "jpeg"):
        compression = "tiff_adobe_deflate"
    return {"tiffinfo": tags, "compression": compression, **({"quality": 95} if compression == "jpeg" else {})}


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
