"""Read PNG files strip by strip: pictures of any height in a few tens of MB, with 8 or 16 bits.

Pillow decodes whole images only, and drops the low bytes of 16-bit colour.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from PIL.PngImagePlugin import PngImageFile

from edgeae.errors import ImageError
from edgeae.images.arrays import Rows
from edgeae.images.files.png_format import (
    HEADER,
    LARGEST_SIDE,
    PIECE_BYTES,
    ROW_BYTES,
    SIGNATURE,
    STRIP_BYTES,
    Bytes,
    pack_chunk,
)

# Chunks that stay true for a restored picture of the same size: they do not depend on how its pixels are stored.
_KEPT = b"iCCP gAMA cHRM sRGB cICP mDCV cLLI pHYs eXIf tEXt zTXt iTXt tIME".split()
_KEPT_BYTES = 2**24  # of all of them together, unpacked
_KEPT_CHUNKS = 1000
_MOST_UNPACKED = 2**20  # of one, as Pillow reads them
_TOLD_BYTES = 64  # of a private chunk, or of what follows the last: smaller ones hold no picture
_FRAMES = (b"fcTL", b"fdAT")  # of an animation
_MOST_CHUNKS = 2**20  # of any kind: a picture of 1 GB in chunks of 1 kB
_START = SIGNATURE + b"\0\0\0\x0dIHDR"
_PALETTE = 3  # a colour type
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}  # by colour type
_MODES = {0: "L", 2: "RGB", 3: "RGB", 4: "LA", 6: "RGBA"}  # by colour type
_DAMAGED = "is damaged or cut short: copy or save it again."
_MOST_INFLATED = 1032  # times its length: deflate's shortest code, 2 bits, stands for 258 bytes at most


def _require(sound: bool) -> None:
    if not sound:
        raise ImageError(_DAMAGED)


class PngReader:
    """Reads the rows of a non-interlaced PNG from the top, about 1 MiB at a time.

    All chunk headers are read at once, so that a file that is cut short is refused by the constructor. Damaged pixel
    data are found by `read`. Chunks after IEND are ignored. A palette index past the palette's end is opaque black, as
    in Pillow and libpng.

    Attributes:
        width, height: in pixels.
        mode: "L", "LA", "RGB" or "RGBA". A palette becomes RGB, with a tRNS chunk RGBA; gray and RGB with a tRNS colour
            key become LA and RGBA; gray of 1, 2 or 4 bits is scaled to 0 to 255.
        dtype: uint8, or uint16 for a file of 16 bits.
        interlaced: whether the file is; then `read` raises ImageError, and Pillow has to read it.
        animated: whether the file is an APNG; `read` returns its default image.
        chunks: (type, data), in the file's order, of what is worth keeping: profiles, resolution, EXIF, texts, time.
        lost: names of what is in other chunks, or behind the last, and no result has.
        left_out: number of such chunks that are too large, or past a limit for all: 1,000, and 16 MiB unpacked.
    """

    width: int
    height: int

    def __init__(self, file: BinaryIO) -> None:
        """Open a PNG file.

        Args:
            file: binary, seekable and at its beginning.

        Raises:
            ImageError: the file is no PNG, is cut short or breaks the specification (also by a wrong CRC in a chunk
                that is read), has rows of more than 16 MiB, or more than a million chunks. The text continues after the
                file's name.
        """
        self._file = file
        self._size = file.seek(0, io.SEEK_END)
        file.seek(0)
        if file.read(len(_START)) != _START:
            raise ImageError("is not a PNG file, or only its beginning: check that its name tells its format.")
        self._parse_header(self._body(len(SIGNATURE)))
        self._tables: dict[bytes, bytes] = {}  # PLTE and tRNS
        self._idat_start, self._idat_bytes = 0, 0
        self.animated, self.left_out = False, 0
        self.lost: list[str] = []
        self.chunks = tuple(self._scan())
        too_little = self.height * (1 + self._row_bytes) > _MOST_INFLATED * self._idat_bytes
        _require(self._idat_start > 0 and (self.interlaced or not too_little))
        if b"tRNS" in self._tables and not self.mode.endswith("A"):
            self.mode += "A"
        pixel_bytes = self.width * len(self.mode) * self.dtype.itemsize
        if pixel_bytes > ROW_BYTES:
            raise ImageError(f"has rows of more than {ROW_BYTES >> 20} MiB: make it narrower first.")
        key = self._tables.get(b"tRNS") if self._colour in (0, 2) else None
        _require(key is None or len(key) == 2 * self._samples)
        self._key = None if key is None else np.frombuffer(key, ">u2") & np.uint16(2**self._depth - 1)
        self._pixels_in_byte = self._byte_table() if self._colour == _PALETTE or self._depth < 8 else None
        self._strip_rows = max(1, STRIP_BYTES // pixel_bytes)
        self._rows_left = self.height
        self._above = np.zeros(self._row_bytes, np.uint8)
        self._pieces = self._idat_pieces()
        self._pending = b""
        self._inflater = zlib.decompressobj()

    def read(self, rows: int) -> Rows:
        """Return the next `rows` rows, (n, width, len(mode)): fewer at the end, none after it.

        Raises:
            ImageError: the pixel data are damaged, or interlaced.
        """
        if self.interlaced:
            raise ImageError("is interlaced and cannot be read in strips: save it without interlacing.")
        rows = max(0, min(rows, self._rows_left))
        pixels = np.empty((rows, self.width, len(self.mode)), self.dtype)
        for start in range(0, rows, self._strip_rows):
            strip = pixels[start : start + self._strip_rows]
            filtered = np.frombuffer(self._inflate(len(strip) * (1 + self._row_bytes)), np.uint8)
            self._to_pixels(self._unfilter(filtered.reshape(len(strip), -1)), strip)
        self._rows_left -= rows
        if not self._rows_left:
            for _ in self._pieces:  # check the CRCs of the remaining chunks
                pass
        return pixels

    def _parse_header(self, data: bytes) -> None:
        self.width, self.height, self._depth, self._colour, *methods, interlace = struct.unpack(HEADER, data)
        _require(1 <= self.width <= LARGEST_SIDE and 1 <= self.height <= LARGEST_SIDE)
        _require(self._depth in _DEPTHS.get(self._colour, ()) and not any(methods) and interlace <= 1)
        self.interlaced = interlace == 1
        self.mode = _MODES[self._colour]
        self.dtype: np.dtype[Any] = np.dtype(np.uint16 if self._depth == 16 else np.uint8)
        self._samples = 1 if self._colour == _PALETTE else len(self.mode)  # of a pixel, in the file
        self._row_bytes = (self.width * self._samples * self._depth + 7) // 8

    def _scan(self) -> Iterator[tuple[bytes, bytes]]:
        """Read all chunks but IHDR and the pixel data; yield those worth keeping."""
        position, previous, left, kept, count = len(_START) + 17, b"IHDR", _KEPT_BYTES, 0, 0
        while previous != b"IEND":
            count += 1
            if count > _MOST_CHUNKS:
                raise ImageError(f"has more than {_MOST_CHUNKS:,} chunks: save it again with another program.")
            kind, length = self._chunk_at(position)
            if kind == b"IDAT":
                _require(not self._idat_start or previous == b"IDAT")
                self._idat_start = self._idat_start or position
                self._idat_bytes += length
            elif kind in (b"PLTE", b"tRNS"):
                _require(not self._idat_start and kind not in self._tables and length <= 768)
                self._tables[kind] = self._body(position)
            elif kind in _KEPT:
                if length > left or kept == _KEPT_CHUNKS:
                    self.left_out += 1
                else:
                    data = self._body(position)
                    unpacked = length + _unpacked_bytes(kind, data)
                    left -= unpacked  # also of one that is left out: the work is what is limited
                    if unpacked > _MOST_UNPACKED + length or left < 0:
                        self.left_out += 1
                    else:
                        kept += 1
                        yield kind, data
            elif kind == b"acTL":
                self.animated = True
            else:  # neither a second IHDR nor an unknown critical chunk
                _require(kind == b"IEND" or kind[:1].islower())
                if kind[1:2].islower() and length >= _TOLD_BYTES and kind not in _FRAMES:
                    self._lose("content credentials" if kind == b"caBX" else "private chunks")
            position, previous = position + length + 12, kind
        if self._size - position >= _TOLD_BYTES and any(self._read_at(position, _TOLD_BYTES)):
            self._lose("data after the picture's end")

    def _lose(self, name: str) -> None:
        self.lost += [] if name in self.lost else [name]

    def _chunk_at(self, position: int) -> tuple[bytes, int]:
        """Return type and length of the chunk that begins at `position`, and require that it ends within the file."""
        length, kind = struct.unpack(">I4s", self._read_at(position, 8))
        _require(position + length + 12 <= self._size and kind.isalpha())
        return kind, length

    def _body(self, position: int) -> bytes:
        """Return the data of the chunk that begins at `position`, and check its CRC."""
        data = self._read_at(position + 4, self._chunk_at(position)[1] + 8)
        _require(zlib.crc32(data[:-4]) == int.from_bytes(data[-4:], "big"))
        return data[4:-4]

    def _read_at(self, position: int, count: int) -> bytes:
        self._file.seek(position)
        data = self._file.read(count)
        _require(len(data) == count)
        return data

    def copy_pixels(self) -> io.BytesIO:
        """Return a PNG file with the same pixels, and without what else is in this one."""
        file = io.BytesIO(SIGNATURE)
        file.seek(0, io.SEEK_END)
        file.write(pack_chunk(b"IHDR", self._body(len(SIGNATURE))))
        for kind in (b"PLTE", b"tRNS"):
            if kind in self._tables:
                file.write(pack_chunk(kind, self._tables[kind]))
        for piece in self._idat_pieces():
            file.write(pack_chunk(b"IDAT", piece))
        file.write(pack_chunk(b"IEND", b""))
        file.seek(0)
        return file

    def _byte_table(self) -> Bytes:
        """Return the pixels that each byte of a palette or gray image holds: (256, 8 / depth, channels)."""
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
        """Yield the data of the IDAT chunks in small pieces, and check their CRCs."""
        position = self._idat_start
        while (chunk := self._chunk_at(position))[0] == b"IDAT":
            length, crc = chunk[1], zlib.crc32(b"IDAT")
            for start in range(0, length, PIECE_BYTES):
                piece = self._read_at(position + 8 + start, min(PIECE_BYTES, length - start))
                crc = zlib.crc32(piece, crc)
                yield piece
            position += length + 12
            _require(int.from_bytes(self._read_at(position - 4, 4), "big") == crc)

    def _inflate(self, count: int) -> bytes:
        """Return the next `count` bytes of filtered rows."""
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

    def _unfilter(self, filtered: Bytes) -> Bytes:
        """Undo the filters by Pillow's decoder: (n, 1 + row bytes) → (n, row bytes).

        A filter depends on bytes and on the distance to the pixel on the left, not on what the bytes mean. So any row
        can be passed to Pillow as a row of 8-bit pixels. 16-bit colour has too large a distance for that: its high and
        its low bytes are passed as one such row each.
        """
        _require(filtered[:, 0].max() <= 4)
        distance = max(1, self._samples * self._depth // 8)
        lanes = 1 if distance <= 4 else 2  # Pillow has no 8-bit pixels of more than 4 bytes
        raw = np.empty((len(filtered), self._row_bytes), np.uint8)
        for lane in range(lanes):
            scanlines = np.zeros((len(filtered) + 1, 1 + self._row_bytes // lanes), np.uint8)
            scanlines[0, 1:] = self._above[lane::lanes]  # filter 0: only what the next row refers to
            scanlines[1:, 0] = filtered[:, 0]
            scanlines[1:, 1:] = filtered[:, 1 + lane :: lanes]
            raw[:, lane::lanes] = _decode(scanlines, distance // lanes)[1:]
        self._above = raw[-1].copy()
        return raw

    def _to_pixels(self, raw: Bytes, out: Rows) -> None:
        """Write the pixels of unfiltered rows to `out`, (n, width, len(mode))."""
        if self._pixels_in_byte is not None:
            out[:] = self._pixels_in_byte[raw].reshape(len(raw), -1, len(self.mode))[:, : self.width]
            return
        samples = raw.view(">u2" if self._depth == 16 else "u1").reshape(len(raw), self.width, self._samples)
        out[..., : self._samples] = samples
        if self._key is not None:
            out[..., -1] = (samples != self._key).any(axis=-1) * np.iinfo(self.dtype).max


def _unpacked_bytes(kind: bytes, data: bytes) -> int:
    """Return the size of a chunk's compressed text or profile, counted up to a little more than _MOST_UNPACKED."""
    _, _, rest = data.partition(b"\0")
    if kind == b"iTXt":
        if rest[:1] != b"\1":
            return 0
        rest = rest[2:].split(b"\0", 2)[-1]  # past the language and the translated name
    elif kind in (b"iCCP", b"zTXt"):
        rest = rest[1:]
    else:
        return 0
    try:
        return len(zlib.decompressobj().decompress(rest, _MOST_UNPACKED + 1))
    except zlib.error:
        return 0  # found to be broken when it is read


def _decode(scanlines: Bytes, channels: int) -> Bytes:
    """Let Pillow decode filtered rows of 8-bit pixels as a small PNG: (n, 1 + row bytes) → (n, row bytes)."""
    height, width = len(scanlines), (scanlines.shape[1] - 1) // channels
    header = struct.pack(HEADER, width, height, 8, (0, 4, 2, 6)[channels - 1], 0, 0, 0)
    idat = zlib.compress(scanlines.tobytes(), 0)
    file = SIGNATURE + pack_chunk(b"IHDR", header) + pack_chunk(b"IDAT", idat) + pack_chunk(b"IEND", b"")
    # Not Image.open, which refuses images above Pillow's limit, and a program may have set that to anything.
    with PngImageFile(io.BytesIO(file)) as image:
        return np.asarray(image, np.uint8).reshape(height, -1)
