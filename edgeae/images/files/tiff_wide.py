"""Read and write TIFF colour of more than 8 bits a channel, which Pillow reduces to 8, and files it does not know.

Strips and tiles go through Pillow as rows of single bytes, so that its decompressors serve; what the bytes mean is
decided here: depth, byte order, predictors (TIFF 6.0, section 14; Adobe Photoshop TIFF Technical Note 3), planes and
alpha (section 18).
"""

from __future__ import annotations

import io
import struct
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, TiffImagePlugin

from edgeae.errors import ImageError
from edgeae.images import colours
from edgeae.images.arrays import Rows
from edgeae.images.files import exif
from edgeae.images.files.formats import encode_pil
from edgeae.images.files.pillow_guard import mute_warnings

_COLOURS = {0: 1, 1: 1, 2: 3, 5: 4}  # channels by photometric interpretation: grey, grey, RGB, inks
_MODES = {1: "L", 3: "RGB", 4: "CMYK"}  # by channels
_COMPRESSIONS = (1, 5, 8, 32773, 32946, 34925, 50000)
_UNSIGNED, _FLOAT = 1, 3  # sample formats
_PREMULTIPLIED, _STRAIGHT = 1, 2  # kinds of alpha
_DIFFERENCES, _FLOAT_DIFFERENCES = 2, 3  # predictors
_BAND_BYTES = 1 << 20
_DAMAGED = "is damaged or cut short: copy or save it again."
_Bytes = npt.NDArray[np.uint8]


class WideTiff:
    """Reads the rows of a TIFF's first page from the top.

    Attributes:
        width, height: in pixels.
        mode: "L", "LA", "RGB", "RGBA" or "CMYK".
        dtype: uint16 or float32.
        lost: how many channels, besides colour and alpha, are left out.
    """

    def __init__(self, file: BinaryIO, tags: exif.Tags, order: str) -> None:
        """Open a page.

        Args:
            file: the file, seekable.
            tags: the page's directory, for which `is_wide` holds.
            order: of the file's bytes, as `struct` writes it.

        Raises:
            ImageError: the directory contradicts itself. The text continues after the file's name.
        """
        self._file, self._order = file, order
        self._size = file.seek(0, io.SEEK_END)
        self.width, self.height = exif.number(tags, 256), exif.number(tags, 257)
        channels = exif.number(tags, 277, 1)
        photometric = exif.number(tags, 262)
        self._inverted = photometric == 0
        self._channels = channels
        colour = _COLOURS[photometric]
        kinds = exif.numbers(tags, 338)
        alpha = kinds[0] if kinds and channels > colour and colour != 4 else 0
        self._premultiplied = alpha == _PREMULTIPLIED
        self.mode = _MODES[colour] + ("A" if alpha in (_PREMULTIPLIED, _STRAIGHT) else "")
        self.lost = channels - len(self.mode)
        self.dtype: np.dtype[Any] = np.dtype({8: np.uint8, 16: np.uint16}.get(exif.number(tags, 258), np.float32))
        self._compression, self._predictor = exif.number(tags, 259, 1), exif.number(tags, 317, 1)
        self._planes = channels if exif.number(tags, 284, 1) == 2 else 1
        tiled = 324 in tags
        self._starts = exif.numbers(tags, 324 if tiled else 273)
        self._counts = exif.numbers(tags, 325 if tiled else 279)
        self._piece_width = exif.number(tags, 322) if tiled else self.width
        rows = exif.number(tags, 323) if tiled else exif.number(tags, 278, self.height)
        self._piece_rows = max(1, min(rows, self.height)) if not tiled else rows
        self._tiled = tiled
        if min(self.width, self.height, self._piece_width, self._piece_rows) < 1:
            raise ImageError(_DAMAGED)
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 1 << 40)
        if max(self.width * self.height, self._piece_width * self._piece_rows) > limit:
            raise ImageError(f"has more than {limit // 10**6} million pixels: make it smaller first.")
        self._across = -(-self.width // self._piece_width)
        self._down = -(-self.height // self._piece_rows)
        if min(len(self._starts), len(self._counts)) < self._across * self._down * self._planes:
            raise ImageError(_DAMAGED)
        self._row_bytes = self._piece_width * (self._channels // self._planes) * self.dtype.itemsize
        self._next_row = 0  # of pieces
        self._buffer = np.empty((0, self.width, len(self.mode)), self.dtype)

    def read(self, count: int) -> Rows:
        """Return the next `count` rows, fewer at the end: (n, width, len(mode)).

        Raises:
            ImageError: the pixels are damaged, or floats outside 0 to 1. The text continues after the file's name.
        """
        while len(self._buffer) < count and self._next_row < self._down:
            self._buffer = np.concatenate([self._buffer, self._read_band()])
        rows, self._buffer = self._buffer[:count], self._buffer[count:]
        return rows

    def _read_band(self) -> Rows:
        """Return the rows of the next strips, about 1 MiB of them, or of the next row of tiles."""
        per_band = max(1, _BAND_BYTES // max(1, self._row_bytes * self._piece_rows)) if not self._tiled else 1
        first, self._next_row = self._next_row, min(self._down, self._next_row + per_band)
        planes = []
        for plane in range(self._planes):
            offset = plane * self._across * self._down
            indices = range(offset + first * self._across, offset + self._next_row * self._across)
            top, bottom = first * self._piece_rows, self._next_row * self._piece_rows
            total = len(indices) * self._piece_rows if self._tiled else min(bottom, self.height) - top
            samples = self._samples(self._decompress(indices, total))
            if self._tiled:
                samples = samples.reshape(len(indices), self._piece_rows, self._piece_width, -1)
                samples = np.concatenate(list(samples), axis=1)[: self.height - top, : self.width]
            planes.append(samples)
        return self._to_rows(np.concatenate(planes, axis=2))

    def _decompress(self, indices: range, rows: int) -> _Bytes:
        """Return the bytes of some pieces, one below the other: (rows, bytes of a row)."""
        pieces = []
        for index in indices:
            start, count = self._starts[index], self._counts[index]
            if start + count > self._size or not count:
                raise ImageError(_DAMAGED)
            self._file.seek(start)
            pieces.append(self._file.read(count))
        lengths = np.array([len(piece) for piece in pieces], "<u4")
        fields = {
            256: [self._row_bytes], 257: [rows], 258: [8], 259: [self._compression], 262: [1], 277: [1],
            278: [self._piece_rows], 279: list(lengths), 273: list(8 + np.cumsum(lengths) - lengths),
        }  # fmt: skip
        body = b"".join(pieces)
        start = 8 + len(body) + len(body) % 2
        tags = {
            tag: exif.Field(exif.LONG, len(values), np.array(values, "<u4").tobytes())
            for tag, values in sorted(fields.items())
        }
        file = b"II*\0" + struct.pack("<I", start) + body + bytes(len(body) % 2) + exif.pack_tags(tags, start)
        with mute_warnings(), TiffImagePlugin.TiffImageFile(io.BytesIO(file)) as image:
            return np.asarray(image, np.uint8)

    def _samples(self, data: _Bytes) -> npt.NDArray[Any]:
        """Return (rows, width of a piece, channels) of the bytes of a piece's rows."""
        channels = self._channels // self._planes
        if self._predictor == _FLOAT_DIFFERENCES:
            steps = data.reshape(len(data), -1, channels).cumsum(axis=1, dtype=np.uint8)
            parts = steps.reshape(len(data), self.dtype.itemsize, -1).swapaxes(1, 2)  # the first bytes of all, then...
            return np.ascontiguousarray(parts).view(">f4").reshape(len(data), -1, channels)
        samples = np.ascontiguousarray(data).view(self.dtype.newbyteorder(self._order))  # type: ignore[arg-type]
        samples = samples.reshape(len(data), -1, channels)
        if self._predictor == _DIFFERENCES and self.dtype != np.float32:
            samples = samples.cumsum(axis=1, dtype=self.dtype)
        return samples

    def _to_rows(self, samples: npt.NDArray[Any]) -> Rows:
        rows = np.ascontiguousarray(samples[..., : len(self.mode)].astype(self.dtype))
        white = self.dtype.type(colours.white_level(self.dtype))
        if self.dtype == np.float32 and not (rows.size and rows.min() >= 0 and rows.max() <= 1):
            raise ImageError("has float pixels outside 0 to 1: scale them, or save it with 8 or 16 bits.")
        if self._premultiplied:
            alpha = rows[..., -1:].astype(np.float64)
            colour = np.divide(
                rows[..., :-1] * float(white), alpha, out=np.zeros(rows[..., :-1].shape), where=alpha > 0
            )
            colour = np.clip(colour, 0, white)
            rows[..., :-1] = colour if self.dtype == np.float32 else np.rint(colour)
        if self._inverted:
            rows[..., :1] = white - rows[..., :1]
        return rows


def is_wide(tags: exif.Tags, narrow: bool = False) -> bool:
    """Return whether a page has colour (or grey with alpha) of 16 bits or floats, and `WideTiff` can read it.

    Args:
        tags: the page's directory.
        narrow: whether 8 bits, and grey alone, are right too.
    """
    bits, formats = set(exif.numbers(tags, 258)), set(exif.numbers(tags, 339)) or {_UNSIGNED}
    depth = (bits == {16} and formats == {_UNSIGNED}) or (bits == {32} and formats == {_FLOAT})
    channels, colour = exif.number(tags, 277, 1), _COLOURS.get(exif.number(tags, 262, -1), 99)
    depth = depth or (narrow and bits == {8} and formats == {_UNSIGNED})
    predictors = (1, _FLOAT_DIFFERENCES) if bits == {32} else (1, _DIFFERENCES)
    return (
        depth
        and channels >= max(1 if narrow else 2, colour)
        and exif.number(tags, 259, 1) in _COMPRESSIONS
        and exif.number(tags, 317, 1) in predictors
        and bool(exif.numbers(tags, 273) or exif.numbers(tags, 324))
        and exif.number(tags, 266, 1) == 1
    )


def encode_wide(rows: Rows, mode: str, options: dict[str, Any]) -> bytes:
    """Return a TIFF file of rows of uint16 or float32, (H, W, len(mode)), saved with Pillow's `options`.

    Raises:
        ImageError: the encoder fails.
    """
    height, width, channels = rows.shape
    samples, predictor = rows, 1
    if rows.dtype == np.uint16 and options.get("compression", "raw") not in ("raw", "packbits"):
        samples, predictor = np.diff(rows, axis=1, prepend=rows.dtype.type(0)), _DIFFERENCES
    data = np.ascontiguousarray(samples, rows.dtype.newbyteorder("<")).view(np.uint8).reshape(height, -1)
    options = {key: value for key, value in options.items() if key != "tiffinfo"}
    file = encode_pil(Image.fromarray(data), "TIFF", options)
    sample_format = _UNSIGNED if rows.dtype == np.uint16 else _FLOAT
    alpha = [_STRAIGHT] if mode.endswith("A") else []
    photometric = {"L": 1, "R": 2, "C": 5}[mode[0]]
    shorts = {
        258: [rows.dtype.itemsize * 8] * channels, 262: [photometric], 277: [channels], 284: [1], 317: [predictor],
        338: alpha, 339: [sample_format] * channels,
    }  # fmt: skip
    tags: dict[int, exif.Field] = {256: exif.Field(exif.LONG, 1, struct.pack("<I", width))}
    for tag, values in shorts.items():
        if values:
            tags[tag] = exif.Field(exif.SHORT, len(values), struct.pack(f"<{len(values)}H", *values))
    return exif.replace_tags(file, tags)
