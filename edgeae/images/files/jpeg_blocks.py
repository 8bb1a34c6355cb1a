"""Keep a JPEG's blocks where a restoration has changed nothing, coefficient by coefficient.

A JPEG holds blocks of 8×8 samples as quantized DCT coefficients, often with the chroma at half the resolution. A
picture that is decoded and encoded again has other coefficients almost everywhere, with the same tables too.
`keep_blocks` takes the photo's coefficients and replaces those of the blocks in which a pixel differs. What is decoded
from the others is the photo bit for bit, but for one pixel beside the changed blocks: decoders enlarge the chroma by
blending neighbours.

libjpeg-turbo reads and writes the coefficients, through the Python package `pyjpegio`. It takes names of files; they
are those of open files without a name in any folder.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import IO, Any

import numpy as np
from PIL import Image, ImageChops, JpegImagePlugin

from edgeae.errors import ImageError
from edgeae.images.arrays import Bools
from edgeae.images.files.formats import encode_pil
from edgeae.images.files.pillow_guard import mute_warnings

_SIDE = 8  # of a block
_STRIP = 512  # rows that are compared at once
_BAND = 16  # rows of units of blocks that are encoded at once: 128 or 256 rows of pixels
_MOST_SCANS = 64  # that a photo may have: programs write about ten, and each takes as long as a whole picture
_MOST_PIXELS = 100_000_000
_PIXEL_BYTES = 18  # that are held of each, at most; 9 where the chroma has half the resolution
_LEAST, _MOST = -1024, 1023  # coefficients of 8-bit samples; the encoder gives up at others
_SCAN, _COMMENT, _APP0, _ADOBE, _LAST_APP = 0xDA, 0xFE, 0xE0, 0xEE, 0xEF  # markers, which follow a byte 0xFF
_JFIF = b"JFIF\0"
_TO_YCC = np.array(  # JFIF 1.02, as ITU-R BT.601 with all 256 levels
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32
)
_YCC_ZERO = np.array([0, 128, 128], np.float32)


class BlocksLostError(Exception):
    """The photo's blocks cannot be kept; the message says why, as half a sentence."""


def keep_blocks(encoded: bytes, original: bytes, before: Image.Image, after: Image.Image) -> bytes:
    """Return the photo's JPEG with other blocks where pixels have changed, and with the metadata of another file.

    Args:
        encoded: a file of the result, from which all metadata are taken.
        original: the photo's file.
        before: the photo's pixels as stored, opened from that file.
        after: the result's pixels.

    Returns:
        A file of the photo's sampling, tables and scans; `encoded` itself if no block is left as it was.

    Raises:
        BlocksLostError: `pyjpegio` is not installed, or the photo is too large, damaged, or built in an unusual way.
    """
    if before.mode != after.mode or before.size != after.size or not isinstance(before, JpegImagePlugin.JpegImageFile):
        raise BlocksLostError("the result has other channels or another size")
    changed = _compare_squares(before, after)
    if changed.all():
        return encoded
    try:
        library = import_module("jpegio")
    except ImportError:
        raise BlocksLostError("pip install 'edgeae[jpeg]' keeps them") from None
    if before.width * before.height > _most_pixels():
        raise BlocksLostError("it has too many pixels")
    if original.count(bytes((0xFF, _SCAN))) > _MOST_SCANS:
        raise BlocksLostError("it has too many scans")
    try:
        jpeg = _read(library, original)
        if any(_is_damaged(array) for array in jpeg.coef_arrays):
            raise BlocksLostError("it is damaged")
        ratios = _ratios(jpeg)
        tables = [before.quantization[layer[3]] for layer in before.layer]
        _replace_blocks(library, jpeg, tables, after, changed, ratios)
        jpeg.markers = [*_color_segments(jpeg), *_other_segments(encoded)]
        data = _write(jpeg)
        del jpeg  # which holds 4 bytes for each coefficient
        faithful = _is_faithful(data, before, changed, ratios)
    except (RuntimeError, OSError, ValueError, LookupError, MemoryError, ImageError) as error:
        raise BlocksLostError("its blocks cannot be read") from error
    if not faithful:
        raise BlocksLostError("it is built in an unusual way")  # such as scans that are missing
    return data


def _most_pixels() -> int:
    """Return for how many pixels a third of the machine's memory is enough."""
    try:
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return _MOST_PIXELS
    return min(_MOST_PIXELS, machine // 3 // _PIXEL_BYTES)


# ---- blocks ------------------------------------------------------------------------------------------------------


def _ratios(jpeg: Any) -> list[tuple[int, int]]:
    """Return of how many squares of 8×8 pixels a block of each component is made, down and across."""
    factors = [(component.v_samp_factor, component.h_samp_factor) for component in jpeg.comp_info]
    most = [max(sides) for sides in zip(*factors, strict=True)]
    if any(side % factor for sides in factors for side, factor in zip(most, sides, strict=True)):
        raise BlocksLostError("its chroma is sampled in an unusual way")
    return [(most[0] // down, most[1] // across) for down, across in factors]


def _replace_blocks(
    library: Any,
    jpeg: Any,
    tables: Sequence[Sequence[int]],
    after: Image.Image,
    changed: Bools,
    ratios: list[tuple[int, int]],
) -> None:
    """Replace the blocks in which a pixel has changed; each component is encoded as a gray picture.

    Args:
        library: `jpegio`.
        jpeg: the photo's coefficients; changed in place.
        tables: the quantization table of each component.
        after: the pixels.
        changed: the squares of 8×8 pixels that differ.
        ratios: of how many of them a block of each component is made, down and across.
    """
    down, across = (max(factors) for factors in zip(*ratios, strict=True))
    units = _any_in_cells(changed, down, across)  # the smallest parts that have whole blocks of every component
    for first in range(0, len(units), _BAND):
        band = units[first : first + _BAND]
        if not band.any():
            continue
        in_rows, in_columns = (np.flatnonzero(band.any(axis)) for axis in (1, 0))
        left, top = in_columns[0] * across * _SIDE, (first + in_rows[0]) * down * _SIDE
        right, bottom = (in_columns[-1] + 1) * across * _SIDE, (first + in_rows[-1] + 1) * down * _SIDE
        part = after.crop((left, top, min(right, after.width), min(bottom, after.height)))
        planes = _components(part, jpeg.jpeg_color_space)
        for array, plane, table, ratio in zip(jpeg.coef_arrays, planes, tables, ratios, strict=True):
            gray = encode_pil(plane.reduce(ratio[::-1]), "JPEG", {"qtables": [list(table)]})
            blocks = _read(library, gray).coef_arrays[0]
            y, x = top // ratio[0], left // ratio[1]
            rows, columns = (side // _SIDE for side in blocks.shape)
            touched = _any_in_cells(changed, *ratio)[y // _SIDE :, x // _SIDE :][:rows, :columns]
            target = array[y : y + blocks.shape[0], x : x + blocks.shape[1]]
            np.copyto(target, blocks, where=touched.repeat(_SIDE, 0).repeat(_SIDE, 1))


def _components(picture: Image.Image, color_space: int) -> tuple[Image.Image, ...]:
    """Return what a JPEG stores of a picture, for one of libjpeg's color spaces."""
    match color_space, picture.mode:
        case (1, "L") | (2, "RGB"):
            return picture.split()
        case 3, "RGB":
            return _to_ycc(picture)
        case 4, "CMYK":  # Pillow takes all of them for inverted, as Adobe writes them
            return ImageChops.invert(picture).split()
        case 5, "CMYK":  # YCCK: three inks as if they were light, and black inverted
            *inks, black = picture.split()
            return (*_to_ycc(Image.merge("RGB", inks)), ImageChops.invert(black))
    raise BlocksLostError("its color space is unknown")


def _to_ycc(picture: Image.Image) -> tuple[Image.Image, ...]:
    """Convert RGB to Y, Cb and Cr; Pillow's own conversion is a level off for half of the pixels."""
    values = np.rint(np.asarray(picture, np.float32) @ _TO_YCC.T + _YCC_ZERO)
    return Image.fromarray(values.clip(0, 255).astype(np.uint8)).split()


def _is_damaged(array: Any) -> bool:
    """Return whether coefficients, (rows, columns), are outside the range that can be written."""
    if array.min() < _LEAST or array.max() > _MOST:
        return True
    # The lowest value is that of a black block's mean; all other coefficients have one bit less.
    return bool((array == _LEAST).sum() > (array[::_SIDE, ::_SIDE] == _LEAST).sum())


# ---- pixels ------------------------------------------------------------------------------------------------------


def _compare_squares(before: Image.Image, after: Image.Image) -> Bools:
    """Return in which squares of 8×8 pixels two pictures differ: (height / 8, width / 8), rounded up."""
    width, height = before.size
    strips = []
    for top in range(0, height, _STRIP):
        box = (0, top, width, min(top + _STRIP, height))
        differ = np.asarray(before.crop(box)) != np.asarray(after.crop(box))
        strips.append(_any_in_cells(differ.reshape(len(differ), -1), _SIDE, _SIDE * differ[0, 0].size))
    return np.concatenate(strips)


def _is_faithful(data: bytes, before: Image.Image, changed: Bools, ratios: list[tuple[int, int]]) -> bool:
    """Return whether a file's pixels are the photo's wherever no changed block reaches."""
    with mute_warnings(), Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
        differing = _compare_squares(before, image)
    down, across = (max(factors) for factors in zip(*ratios, strict=True))
    units = _any_in_cells(changed, down, across).repeat(down, 0).repeat(across, 1)
    return not (differing & ~_with_neighbours(units[: changed.shape[0], : changed.shape[1]])).any()


def _any_in_cells(mask: Bools, down: int, across: int) -> Bools:
    """Return which cells of down × across elements have one that is true; the last ones may be smaller."""
    rows, columns = mask.shape
    mask = np.pad(mask, ((0, -rows % down), (0, -columns % across)))
    in_rows = np.logical_or.reduce(mask.reshape(-1, down, mask.shape[1]), axis=1)
    return np.logical_or.reduce(in_rows.reshape(len(in_rows), -1, across), axis=2)  # type: ignore[no-any-return]


def _with_neighbours(mask: Bools) -> Bools:
    for _ in range(2):  # up and down, then left and right
        wide = np.pad(mask, ((1, 1), (0, 0)))
        mask = (wide[:-2] | wide[1:-1] | wide[2:]).T
    return mask


# ---- files -------------------------------------------------------------------------------------------------------


def _read(library: Any, data: bytes) -> Any:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        return library.read(_path(file))


def _write(jpeg: Any) -> bytes:
    jpeg.optimize_coding = 1  # the photo's Huffman tables may lack codes for the new coefficients
    jpeg.arith_code = 0  # few programs read arithmetic coding
    for index, component in enumerate(jpeg.comp_info):
        component.dc_tbl_no = component.ac_tbl_no = min(index, 1)
    with tempfile.TemporaryFile() as file:
        jpeg.write(_path(file))
        file.seek(0)
        return file.read()


def _path(file: IO[bytes]) -> str:
    return f"/dev/fd/{file.fileno()}"


def _color_segments(jpeg: Any) -> Iterator[dict[str, object]]:
    """Yield the photo's segments that say which color space it has, without the thumbnail that one of them may hold."""
    for segment in jpeg.markers:
        kind, data = segment["type"], segment["data"]
        if kind == _APP0 and data.startswith(_JFIF):
            yield {"type": kind, "data": data[:12] + b"\0\0"}  # a thumbnail of 0×0
        elif kind == _ADOBE and data.startswith(b"Adobe"):
            yield {"type": kind, "data": data[:12]}


def _other_segments(data: bytes) -> Iterator[dict[str, object]]:
    """Yield all other segments of metadata of a sound JPEG file."""
    position = 2
    while (marker := data[position + 1]) != _SCAN:
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        content = data[position + 4 : position + 2 + length]
        is_jfif = marker == _APP0 and content.startswith(_JFIF)
        if (marker == _COMMENT or _APP0 <= marker <= _LAST_APP) and marker != _ADOBE and not is_jfif:
            yield {"type": marker, "data": content}
        position += 2 + length
