"""PNG files strip by strip: pictures of any height in a few tens of MB, with 8 or 16 bits.

`PngReader` gives rows from the top, `PngWriter` takes them; both hold a strip of about 1 MiB. Pillow decodes whole
images only, and of 16-bit colour it drops the low bytes. Format: the PNG specification, third edition (W3C, 2025).
"""

import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray
from PIL.PngImagePlugin import PngImageFile

from edgeae.errors import ImageError

Bytes: TypeAlias = NDArray[np.uint8]
Chunks: TypeAlias = Sequence[tuple[bytes, bytes]]

# Kept for a restored picture of the same size: what does not depend on how its pixels are stored.
_KEPT = b"iCCP gAMA cHRM sRGB cICP mDCV cLLI pHYs eXIf tEXt zTXt iTXt tIME".split()
_KEPT_BYTES = 2**24
_ROW_BYTES = 2**24  # the longest row of pixels, as `read` gives it
_STRIP_BYTES = 2**20  # filters three times as fast as 4 MiB: the temporary arrays stay in the processor's cache
_PIECE_BYTES = 2**15  # of the file at a time, and of what zlib is tried on: its window
_LARGEST_SIDE = 2**31 - 1
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_START = _SIGNATURE + b"\0\0\0\x0dIHDR"
_HEADER = ">IIBBBBB"  # width, height, depth, colour type, compression, filter method, interlace
_PALETTE = 3
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}  # by colour type
_MODES = {0: "L", 2: "RGB", 3: "RGB", 4: "LA", 6: "RGBA"}
_COLOUR_TYPES = {"L": 0, "LA": 4, "RGB": 2, "RGBA": 6}
_DAMAGED = "is damaged or cut short: copy or save it again."
_MOST_INFLATED = 1032  # times its length: deflate's shortest code, 2 bits, stands for 258 bytes at most


def _require(sound: bool) -> None:
    if not sound:
        raise ImageError(_DAMAGED)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return b"".join((struct.pack(">I", len(data)), kind, data, struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))))


class PngReader:
    """Rows of a non-interlaced PNG, from the top, never the whole image.

    `file` is binary, seekable and at its beginning. All chunk headers are read at once, so that a file that is cut
    short is told here; damaged pixel data is told by `read`. Chunks after IEND are ignored.

    width, height   in pixels
    mode            "L", "LA", "RGB" or "RGBA". A palette becomes RGB, with tRNS RGBA; grey and RGB with a tRNS colour
                    key become LA and RGBA; grey of 1, 2 or 4 bits is scaled to 0..255
    dtype           uint8, or uint16 for a file of 16 bits
    interlaced      `read` raises ImageError; Pillow reads such files
    animated        the file is an APNG; `read` gives its default image
    chunks          (type, data) in file order of what is worth keeping: profiles, resolution, EXIF, texts, time

    A palette index past the palette's end is opaque black, as in Pillow and libpng. Raises ImageError, whose text goes
    on after the file's name, when the file is no PNG, is cut short or breaks the specification (a wrong CRC in any
    chunk that is read included), has rows of more than 16 MiB, or more than 16 MiB of `chunks`.
    """

    width: int
    height: int

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = file.seek(0, io.SEEK_END)
        file.seek(0)
        if file.read(len(_START)) != _START:
            raise ImageError("is not a PNG file, or only its beginning: check that its name tells its format.")
        self._parse_header(self._body(len(_SIGNATURE)))
        self._tables: dict[bytes, bytes] = {}  # PLTE and tRNS
        self._idat_start, self._idat_bytes = 0, 0
        self.animated = False
        self.chunks = tuple(self._scan())
        too_little = self.height * (1 + self._row_bytes) > _MOST_INFLATED * self._idat_bytes
        _require(self._idat_start > 0 and (self.interlaced or not too_little))
        if b"tRNS" in self._tables and not self.mode.endswith("A"):
            self.mode += "A"
        pixel_bytes = self.width * len(self.mode) * self.dtype.itemsize
        if pixel_bytes > _ROW_BYTES:
            raise ImageError(f"has rows of more than {_ROW_BYTES >> 20} MiB: make it narrower first.")
        key = self._tables.get(b"tRNS") if self._colour in (0, 2) else None
        _require(key is None or len(key) == 2 * self._samples)
        self._key = None if key is None else np.frombuffer(key, ">u2") & np.uint16(2**self._depth - 1)
        self._pixels_in_byte = self._byte_table() if self._colour == _PALETTE or self._depth < 8 else None
        self._strip_rows = max(1, _STRIP_BYTES // pixel_bytes)
        self._rows_left = self.height
        self._above = np.zeros(self._row_bytes, np.uint8)
        self._pieces = self._idat_pieces()
        self._pending = b""
        self._inflater = zlib.decompressobj()

    def read(self, rows: int) -> NDArray[Any]:
        """The next `rows` rows, (n, width, len(mode)): fewer at the end, none after it. Raises ImageError as above."""
        if self.interlaced:
            raise ImageError("is interlaced and cannot be read in strips: save it without interlacing.")
        rows = max(0, min(rows, self._rows_left))
        pixels = np.empty((rows, self.width, len(self.mode)), self.dtype)
        for start in range(0, rows, self._strip_rows):
            strip = pixels[start : start + self._strip_rows]
            filtered = np.frombuffer(self._inflate(len(strip) * (1 + self._row_bytes)), np.uint8)
            self._to_pixels(self._unfiltered(filtered.reshape(len(strip), -1)), strip)
        self._rows_left -= rows
        if not self._rows_left:
            for _ in self._pieces:  # checks the CRCs to the last
                pass
        return pixels

    def _parse_header(self, data: bytes) -> None:
        self.width, self.height, self._depth, self._colour, *methods, interlace = struct.unpack(_HEADER, data)
        _require(1 <= self.width <= _LARGEST_SIDE and 1 <= self.height <= _LARGEST_SIDE)
        _require(self._depth in _DEPTHS.get(self._colour, ()) and not any(methods) and interlace <= 1)
        self.interlaced = interlace == 1
        self.mode = _MODES[self._colour]
        self.dtype: np.dtype[Any] = np.dtype(np.uint16 if self._depth == 16 else np.uint8)
        self._samples = 1 if self._colour == _PALETTE else len(self.mode)  # of a pixel, in the file
        self._row_bytes = (self.width * self._samples * self._depth + 7) // 8

    def _scan(self) -> Iterator[tuple[bytes, bytes]]:
        """Read all but IHDR and the pixel data; yields the chunks worth keeping."""
        position, previous, left = len(_START) + 17, b"IHDR", _KEPT_BYTES
        while previous != b"IEND":
            kind, length = self._chunk_at(position)
            if kind == b"IDAT":
                _require(not self._idat_start or previous == b"IDAT")
                self._idat_start = self._idat_start or position
                self._idat_bytes += length
            elif kind in (b"PLTE", b"tRNS"):
                _require(not self._idat_start and kind not in self._tables and length <= 768)
                self._tables[kind] = self._body(position)
            elif kind in _KEPT:
                left -= length + 128  # what Python takes for an empty one
                if left < 0:
                    raise ImageError(f"has more than {_KEPT_BYTES >> 20} MiB of profiles and texts: remove them first.")
                yield kind, self._body(position)
            elif kind == b"acTL":
                self.animated = True
            else:  # neither IHDR again nor a critical chunk of no specification
                _require(kind == b"IEND" or kind[:1].islower())
            position, previous = position + length + 12, kind

    def _chunk_at(self, position: int) -> tuple[bytes, int]:
        """Type and length of the chunk that begins at `position`; it ends within the file."""
        length, kind = struct.unpack(">I4s", self._read_at(position, 8))
        _require(position + length + 12 <= self._size and kind.isalpha())
        return kind, length

    def _body(self, position: int) -> bytes:
        """The data of the chunk that begins at `position`; its CRC is checked."""
        data = self._read_at(position + 4, self._chunk_at(position)[1] + 8)
        _require(zlib.crc32(data[:-4]) == int.from_bytes(data[-4:], "big"))
        return data[4:-4]

    def _read_at(self, position: int, count: int) -> bytes:
        self._file.seek(position)
        data = self._file.read(count)
        _require(len(data) == count)
        return data

    def _byte_table(self) -> Bytes:
        """(256, 8 / depth, channels): the pixels in a byte of a palette image, or of a grey one."""
        levels = np.arange(2**self._depth)
        if self._colour == _PALETTE:
            palette = self._tables.get(b"PLTE", b"")
            _require(palette != b"" and len(palette) % 3 == 0)
            colours = np.frombuffer(palette.ljust(768, b"\0"), np.uint8).reshape(256, 3)
            alpha = np.frombuffer(self._tables.get(b"tRNS", b"")[:256].ljust(256, b"\xff"), np.uint8)
        else:
            colours = (levels[:, None] * (255 // levels[-1])).astype(np.uint8)
            alpha = np.where(levels == self._key, np.uint8(0), np.uint8(255))
        pixels = np.concatenate((colours, alpha[:, None]), axis=1)[:, : len(self.mode)]
        shifts = np.arange(8 - self._depth, -1, -self._depth)
        return np.array(pixels[(np.arange(256)[:, None] >> shifts) % len(levels)])

    def _idat_pieces(self) -> Iterator[bytes]:
        """The data of the IDAT chunks in small pieces."""
        position = self._idat_start
        while (chunk := self._chunk_at(position))[0] == b"IDAT":
            length, crc = chunk[1], zlib.crc32(b"IDAT")
            for start in range(0, length, _PIECE_BYTES):
                piece = self._read_at(position + 8 + start, min(_PIECE_BYTES, length - start))
                crc = zlib.crc32(piece, crc)
                yield piece
            position += length + 12
            _require(int.from_bytes(self._read_at(position - 4, 4), "big") == crc)

    def _inflate(self, count: int) -> bytes:
        """The next `count` bytes of filtered rows."""
        parts = []
        while count:
            compressed = self._pending or next(self._pieces, b"")
            try:
                part = self._inflater.decompress(compressed, count)
            except zlib.error as error:
                raise ImageError(_DAMAGED) from error
            _require(len(part) == count or (compressed != b"" and not self._inflater.eof))
            self._pending = self._inflater.unconsumed_tail
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def _unfiltered(self, filtered: Bytes) -> Bytes:
        """(n, 1 + row bytes) → (n, row bytes): Pillow's decoder undoes the filters.

        A filter knows bytes and the distance to the pixel on the left, not what the bytes mean. So any row passes for
        one of 8-bit pixels, and the high and the low bytes of 16-bit colour for one such row each.
        """
        _require(filtered[:, 0].max() <= 4)
        distance = max(1, self._samples * self._depth // 8)
        lanes = 1 if distance <= 4 else 2
        raw = np.empty((len(filtered), self._row_bytes), np.uint8)
        for lane in range(lanes):
            scanlines = np.zeros((len(filtered) + 1, 1 + self._row_bytes // lanes), np.uint8)
            scanlines[0, 1:] = self._above[lane::lanes]  # filter 0: only what the next row refers to
            scanlines[1:, 0] = filtered[:, 0]
            scanlines[1:, 1:] = filtered[:, 1 + lane :: lanes]
            raw[:, lane::lanes] = _decoded(scanlines, distance // lanes)[1:]
        self._above = raw[-1].copy()
        return raw

    def _to_pixels(self, raw: Bytes, out: NDArray[Any]) -> None:
        """Rows of the file's bytes → pixels (n, width, len(mode)) in `out`."""
        if self._pixels_in_byte is not None:
            out[:] = self._pixels_in_byte[raw].reshape(len(raw), -1, len(self.mode))[:, : self.width]
            return
        samples = raw.view(">u2" if self._depth == 16 else "u1").reshape(len(raw), self.width, self._samples)
        out[..., : self._samples] = samples
        if self._key is not None:
            out[..., -1] = (samples != self._key).any(axis=-1) * np.iinfo(self.dtype).max


def _decoded(scanlines: Bytes, channels: int) -> Bytes:
    """(n, 1 + row bytes), filtered, of 8-bit pixels → (n, row bytes) by way of a small PNG file in memory."""
    height, width = len(scanlines), (scanlines.shape[1] - 1) // channels
    header = struct.pack(_HEADER, width, height, 8, (0, 4, 2, 6)[channels - 1], 0, 0, 0)
    idat = zlib.compress(scanlines.tobytes(), 0)
    file = _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", idat) + _chunk(b"IEND", b"")
    # Not Image.open: it warns of, or refuses, more pixels than the program around has set as Pillow's limit.
    with PngImageFile(io.BytesIO(file)) as image:
        return np.asarray(image, np.uint8).reshape(height, -1)


class PngWriter:
    """A PNG of `mode` "L", "LA", "RGB" or "RGBA" and `dtype` uint8 or uint16, from the top, never the whole image.

    `chunks` are (type, data) as `PngReader.chunks` has them. `level` is zlib's, 0 to 9. Where zlib's search for strings
    finds next to none, as in photographs, it is left out: files of the same size, made five times as fast.
    Raises ImageError, whose text goes on after the file's name, for sizes and types that a PNG cannot have, and for
    rows of more than 16 MiB.
    """

    def __init__(
        self, file: BinaryIO, width: int, height: int, mode: str, dtype: DTypeLike, chunks: Chunks = (), level: int = 6
    ) -> None:
        self._dtype = np.dtype(dtype)
        if mode not in _COLOUR_TYPES or self._dtype not in (np.uint8, np.uint16):
            raise ImageError(f"cannot be a PNG of {mode} pixels of {self._dtype}: use L, LA, RGB or RGBA and uint8.")
        self._distance = len(mode) * self._dtype.itemsize
        if not (0 < height <= _LARGEST_SIDE and 0 < width * self._distance <= _ROW_BYTES):
            raise ImageError(f"cannot be a PNG of {width}×{height} pixels: choose another size.")
        self._file = file
        self._shape = width, len(mode)
        self._rows_left = height
        self._strip_rows = max(1, _STRIP_BYTES // (width * self._distance))
        self._above = np.zeros(width * self._distance, np.uint8)
        # A stream without zlib's header and sum, so that another with a better strategy can go on where it ends.
        self._new_deflater = partial(zlib.compressobj, level, zlib.DEFLATED, -zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL)
        self._strategy, self._deflater = zlib.Z_RLE, self._new_deflater(zlib.Z_RLE)
        self._sum, self._until_sample = zlib.adler32(b""), 0
        header = struct.pack(_HEADER, width, height, 8 * self._dtype.itemsize, _COLOUR_TYPES[mode], 0, 0, 0)
        file.write(_SIGNATURE)
        for kind, data in ((b"IHDR", header), *chunks, (b"IDAT", b"\x78\x9c")):  # the last is zlib's header
            file.write(_chunk(kind, data))

    def write(self, rows: NDArray[Any]) -> None:
        """The next rows: (n, width, len(mode)) of the file's type. Raises ImageError for others, and for too many."""
        if rows.shape[1:] != self._shape or rows.dtype != self._dtype or len(rows) > self._rows_left:
            raise ImageError(f"cannot take rows of shape {rows.shape} and type {rows.dtype}: they do not fit its size.")
        for start in range(0, len(rows), self._strip_rows):
            strip = rows[start : start + self._strip_rows]
            raw = np.ascontiguousarray(strip, self._dtype.newbyteorder(">")).view(np.uint8).reshape(len(strip), -1)
            self._deflate(_filtered(raw, self._above, self._distance).tobytes())
            self._above = raw[-1].copy()
            self._rows_left -= len(strip)

    def close(self) -> None:
        """Write the file's end; the file stays open. Raises ImageError when rows are missing."""
        if self._rows_left:
            raise ImageError(f"lacks {self._rows_left} of its rows: write them all.")
        last = self._deflater.flush() + struct.pack(">I", self._sum)
        self._file.write(_chunk(b"IDAT", last) + _chunk(b"IEND", b""))

    def _deflate(self, data: bytes) -> None:
        self._sum = zlib.adler32(data, self._sum)
        packed = b""
        if self._until_sample <= 0:
            self._until_sample = _STRIP_BYTES
            strategy = self._better_strategy(data)
            if strategy != self._strategy:
                packed = self._deflater.flush(zlib.Z_SYNC_FLUSH)  # to a whole byte
                self._strategy, self._deflater = strategy, self._new_deflater(strategy)
        self._until_sample -= len(data)
        if packed := packed + self._deflater.compress(data):
            self._file.write(_chunk(b"IDAT", packed))

    def _better_strategy(self, data: bytes) -> int:
        """Z_RLE, fast because it finds repeated bytes only, unless Z_FILTERED makes a sample smaller by 5 %."""
        sample = data[max(0, (len(data) - _PIECE_BYTES) // 2) :][:_PIECE_BYTES]
        deflaters = self._new_deflater(zlib.Z_RLE), self._new_deflater(zlib.Z_FILTERED)
        rle, filtered = (len(deflater.compress(sample) + deflater.flush()) for deflater in deflaters)
        return zlib.Z_FILTERED if filtered < 0.95 * rle else zlib.Z_RLE


def _filtered(rows: Bytes, above: Bytes, distance: int) -> Bytes:
    """(n, row bytes) → (n, 1 + row bytes): each row by the filter with the least sum of absolute values."""
    count, length = rows.shape
    padded = np.zeros((count + 1, distance + length), np.uint8)
    padded[0, distance:] = above
    padded[1:, distance:] = rows
    left, up, corner = padded[1:, :-distance], padded[:-1, distance:], padded[:-1, :-distance]
    mean = (left & up) + ((left ^ up) >> 1)  # without a ninth bit
    predicted = np.stack((np.zeros_like(rows), left, up, mean, _paeth(left, up, corner)))
    residuals = np.subtract(rows, predicted, out=predicted)
    kinds = np.minimum(residuals, -residuals).sum(axis=2, dtype=np.uint32).argmin(axis=0)
    return np.concatenate((kinds[:, None].astype(np.uint8), residuals[kinds, np.arange(count)]), axis=1)


def _paeth(left: Bytes, up: Bytes, corner: Bytes) -> Bytes:
    """Whichever of the three is nearest to left + up − corner, the first of equals; in bytes, which NumPy does fast."""
    to_left = np.maximum(up, corner) - np.minimum(up, corner)
    to_up = np.maximum(left, corner) - np.minimum(left, corner)
    # The distance to the corner is their difference when the corner lies between the two, else their sum: the farthest.
    between = (left > corner) != (up > corner)
    to_corner = (np.maximum(to_left, to_up) - np.minimum(to_left, to_up)) | (between.view(np.uint8) - np.uint8(1))
    nearest = _where(to_up <= to_corner, up, corner)
    return _where((to_left <= to_up) & (to_left <= to_corner), left, nearest)


def _where(condition: NDArray[np.bool_], yes: Bytes, no: Bytes) -> Bytes:
    """np.where, six times as fast for bytes."""
    return no ^ ((no ^ yes) & -condition.view(np.uint8))
