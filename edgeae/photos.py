"""Photos as people have them: a file opened row by row, with everything that belongs to the picture.

A Photo gives rows from the top as they are stored (`turn` says how they are turned to be upright), in a mode and type
of `colours`. PNG files pass in strips (`png`); of the other formats Pillow holds the whole picture, 4 bytes a pixel.
`photowriter` writes a picture in a photo's place.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, JpegImagePlugin, TiffImagePlugin

from edgeae import imaging
from edgeae.errors import ImageError
from edgeae.png import PngReader, PngWriter

Rows = npt.NDArray[Any]

MAX_PIXELS = 1 << 30  # of a PNG; Pillow's own limit, for what it holds whole, is 179 million

_MODES = {  # what Pillow calls the pixels, and what is read of them
    "1": "L", "L": "L", "LA": "LA", "La": "LA", "P": "RGB", "PA": "RGBA", "RGB": "RGB", "RGBX": "RGB", "RGBA": "RGBA",
    "RGBa": "RGBA", "CMYK": "CMYK", "YCbCr": "RGB", "HSV": "RGB", "I;16": "L", "I;16B": "L", "I;16L": "L", "I": "L",
    "F": "L",
}  # fmt: skip
UPRIGHT = 1
# How stored rows are turned to be upright, by EXIF orientation: (swap rows and columns, flip up-down, flip left-right).
_TURNS = {
    1: (False, False, False), 2: (False, False, True), 3: (False, True, True), 4: (False, True, False),
    5: (True, False, False), 6: (True, False, True), 7: (True, True, True), 8: (True, True, False),
}  # fmt: skip


def upright(rows: Rows, turn: int) -> Rows:
    """Stored rows (H, W, C), turned as EXIF orientation 1 to 8 says."""
    swap, up_down, left_right = _TURNS[turn]
    rows = rows.swapaxes(0, 1) if swap else rows
    return rows[:: -1 if up_down else 1, :: -1 if left_right else 1]


def stored(rows: Rows, turn: int) -> Rows:
    """The inverse of `upright`."""
    swap, up_down, left_right = _TURNS[turn]
    rows = rows[:: -1 if up_down else 1, :: -1 if left_right else 1]
    return rows.swapaxes(0, 1) if swap else rows


@dataclass
class Kept:
    """What belongs to a picture beside its pixels.

    chunks: a PNG's own, kept as they are. options: Pillow's for the same format (JPEG's tables, TIFF's compression...).
    """

    icc: bytes | None = None
    dpi: tuple[float, float] | None = None
    exif: Image.Exif = field(default_factory=Image.Exif)
    exif_bytes: bytes | None = None
    xmp: bytes | None = None
    chunks: Sequence[tuple[bytes, bytes]] = ()
    options: dict[str, Any] = field(default_factory=dict)


class Photo:
    """An open picture.

    Attributes:
        source, name: where it is read from, and what messages call it.
        format: Pillow's name of the file's format.
        width, height: as stored; with a `turn` of 5 to 8 they change places when it is shown.
        mode, dtype: of the rows (see `colours`).
        turn: EXIF orientation, 1 to 8.
        kept: what goes with the pixels into a file written in its place.
        note: what of the file does not come along, a sentence, or empty.
    """

    format: str
    width: int
    height: int
    mode: str
    dtype: np.dtype[Any]
    turn: int
    kept: Kept

    def __init__(self, source: str | Path | bytes, name: str | None = None) -> None:
        """Open the path or the bytes of a file; raises ImageError, as do `read` and `load`."""
        self.name = name or ("The image in memory" if isinstance(source, bytes) else str(source))
        self.source, self.note = source, ""
        self._image: Image.Image | None = None
        self._png: PngReader | None = None
        self._row = 0
        with self._reading():
            self._file: BinaryIO = io.BytesIO(source) if isinstance(source, bytes) else Path(source).open("rb")  # noqa: SIM115
        try:
            with self._reading():
                if self._file.read(8) == b"\x89PNG\r\n\x1a\n":
                    self._open_png()
                else:
                    self._open_other()
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
        """Let go of the file."""
        self._image = None
        self._file.close()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except ImageError as error:
            raise ImageError(f"{self.name} {error}") from error
        except Exception as error:  # a damaged or hostile file makes decoders raise almost anything
            raise ImageError(f"{self.name} {imaging.why_unreadable(error)}") from error

    @property
    def shown_size(self) -> tuple[int, int]:
        """Width and height when upright."""
        return (self.height, self.width) if _TURNS[self.turn][0] else (self.width, self.height)

    def read(self, count: int) -> Rows:
        """The next `count` rows, fewer at the end: (n, width, len(mode))."""
        with self._reading():
            return self._png.read(count) if self._png is not None else self._strip(count)

    def load(self) -> None:
        """Decode now what is not decoded row by row."""
        if self._image is not None:
            with self._reading():
                self._image.load()

    def _strip(self, count: int) -> Rows:
        assert self._image is not None
        top, self._row = self._row, min(self._row + count, self.height)
        if top == self._row:
            return np.empty((0, self.width, len(self.mode)), self.dtype)
        strip = self._image.crop((0, top, self.width, self._row))
        if self.dtype == np.uint8 and strip.mode != self.mode:
            strip = strip.convert("RGBA").convert(self.mode) if self.mode == "LA" else strip.convert(self.mode)
        return np.array(strip).astype(self.dtype, copy=False).reshape(-1, self.width, len(self.mode))

    def _open_png(self) -> None:
        self._file.seek(0)
        png = PngReader(self._file)
        if png.interlaced:
            self._open_other()
            self.kept.chunks = png.chunks
            return
        self._png = png
        self.format, self.width, self.height, self.mode, self.dtype = "PNG", png.width, png.height, png.mode, png.dtype
        self.kept = _kept(_carrier(png.chunks))
        self.kept.chunks = png.chunks
        self.turn = _turn(self.kept.exif)
        if png.animated:
            self.note = "it is an animation, of which the first frame is restored"

    def _open_other(self) -> None:
        self._file.seek(0)
        with imaging.no_warnings():
            image = Image.open(self._file, formats=imaging.READ_FORMATS)
            self.format = {"MPO": "JPEG"}.get(image.format or "", image.format or "")
            frames = int(getattr(image, "n_frames", 1))
            self.kept = _kept(image)
        self.width, self.height = image.size
        if not (self.width and self.height):
            raise ImageError("has no pixels: give an image of at least 1×1.")
        if image.mode not in _MODES:
            raise ImageError(f"has pixels of the kind {image.mode}: save it as RGB or grey.")
        self.mode, self.dtype = _MODES[image.mode], np.dtype(np.uint8)
        if image.mode in ("P", "L", "RGB") and image.has_transparency_data:
            self.mode = "LA" if image.mode == "L" else "RGBA"
        if image.mode.startswith("I"):
            self.dtype = np.dtype(np.uint16)
        elif image.mode == "F":
            self.dtype = np.dtype(np.float32)
        if self.dtype != np.uint8:
            imaging.check_values(image)
        elif image.format == "TIFF" and 16 in _bits(image):
            self.note = "it has 16 bits a channel, of which 8 are kept"
        if frames > 1 and image.format != "MPO":
            what = "page" if image.format == "TIFF" else "frame"
            self.note = f"it has {frames} {what}s, of which the first is restored"
        self.turn = _turn(self.kept.exif)
        self._image = image


def _bits(image: Image.Image) -> tuple[int, ...]:
    assert isinstance(image, TiffImagePlugin.TiffImageFile)
    return tuple(image.tag_v2.get(258, (8,)))




# ---- what belongs to a picture -----------------------------------------------------------------------------------


def _kept(image: Image.Image) -> Kept:
    info = image.info
    kept = Kept(icc=info.get("icc_profile") or None, xmp=info.get("xmp") or None)
    dpi = info.get("dpi")
    if dpi and all(0 < float(value) < 1e6 for value in dpi):
        kept.dpi = float(dpi[0]), float(dpi[1])
    try:
        kept.exif, kept.exif_bytes = image.getexif(), info.get("exif")
    except Exception:  # a sound picture with broken EXIF is shown as it is stored, as every viewer does
        kept.exif, kept.exif_bytes = Image.Exif(), None
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        kept.options = {"qtables": image.quantization, "subsampling": JpegImagePlugin.get_sampling(image),
                        "progressive": bool(info.get("progressive")), "comment": info.get("comment")}
    elif image.format == "TIFF":
        kept.options = {"compression": info.get("compression")}
    elif image.format == "WEBP" and _is_lossless(image):
        kept.options = {"lossless": True, "exact": True}
    return kept


def _is_lossless(image: Image.Image) -> bool:
    """Whether a WebP file's picture is a VP8L chunk: Pillow does not tell."""
    file: BinaryIO = image.fp  # type: ignore[attr-defined]
    place = file.tell()
    file.seek(12)  # past "RIFF", the size and "WEBP"
    found = False
    while len(head := file.read(8)) == 8 and head[:4] not in (b"VP8 ", b"ANMF"):
        if found := head[:4] == b"VP8L":
            break
        file.seek(int.from_bytes(head[4:], "little") + 1 & ~1, 1)
    file.seek(place)
    return found


def _turn(exif: Image.Exif) -> int:
    turn = exif.get(ExifTags.Base.Orientation, UPRIGHT)
    return turn if turn in _TURNS else UPRIGHT


def _carrier(chunks: Sequence[tuple[bytes, bytes]]) -> Image.Image:
    """A picture of one pixel with these chunks, which Pillow reads as it would have read them in the file."""
    file = io.BytesIO()
    writer = PngWriter(file, 1, 1, "L", np.uint8, chunks)
    writer.write(np.zeros((1, 1, 1), np.uint8))
    writer.close()
    with imaging.no_warnings():
        return Image.open(file, formats=["PNG"])
