"""Keep a JPEG's blocks where a restoration has changed nothing, coefficient by coefficient.

A JPEG holds blocks of 8×8 samples as quantized DCT coefficients, often with the chroma at half the resolution. A
picture that is decoded and encoded again has other coefficients almost everywhere, with the same tables too.
`keep_blocks` puts the photo's own back wherever no pixel differs. What is decoded from them is the photo bit for bit,
but for one pixel beside the changed blocks: decoders enlarge the chroma by blending neighbours.

libjpeg-turbo reads and writes the coefficients, through the Python package `pyjpegio`. It takes names of files; they
are those of open files without a name in any folder.
"""

from __future__ import annotations

import io
import os
import tempfile
from importlib import import_module
from typing import IO, Any

import numpy as np
from PIL import Image

from edgeae.images.arrays import Bools
from edgeae.images.files.pillow_guard import mute_warnings

_SIDE = 8  # of a block
_STRIP = 512  # rows that are compared at once
_MOST_SCANS = 64  # that a photo may have: programs write about ten, and each takes as long as a whole picture
_MOST_PIXELS = 100_000_000
_PIXEL_BYTES = 24  # that are held of each, at most; 12 where the chroma has half the resolution
_START_OF_SCAN = b"\xff\xda"
_LEAST, _MOST = -1024, 1023  # coefficients of 8-bit samples; the encoder gives up at others


class BlocksLostError(Exception):
    """The photo's blocks cannot be kept; the message says why, as half a sentence."""


def keep_blocks(encoded: bytes, original: bytes, before: Image.Image, after: Image.Image) -> bytes:
    """Replace the blocks of a JPEG in which no pixel differs from the photo by the photo's own.

    Args:
        encoded: the file of the result, with its metadata.
        original: the photo's file.
        before: the photo's pixels, as stored.
        after: the result's pixels, from which `encoded` was made.

    Returns:
        `encoded` with other coefficients and Huffman tables; all else is as it was.

    Raises:
        BlocksLostError: `pyjpegio` is not installed, the two files are built differently, or the photo's is damaged.
    """
    if before.mode != after.mode or before.size != after.size:
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
    if original.count(_START_OF_SCAN) > _MOST_SCANS:
        raise BlocksLostError("it has too many scans")
    try:
        data, ratios = _replace_blocks(library, encoded, original, changed)
        faithful = _is_faithful(data, before, changed, ratios)
    except (RuntimeError, OSError, ValueError, IndexError, MemoryError) as error:
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


def _replace_blocks(
    library: Any, encoded: bytes, original: bytes, changed: Bools
) -> tuple[bytes, list[tuple[int, int]]]:
    """Return the file, and of how many squares of 8×8 pixels a block of each component is made, down and across."""
    source = _read(library, original)
    layout = _layout(source)
    if any(_is_damaged(array) for array in source.coef_arrays):
        raise BlocksLostError("it is damaged")
    coefficients = [array.astype(np.int16) for array in source.coef_arrays]
    del source  # which holds 4 bytes for each of them
    result = _read(library, encoded)
    if _layout(result) != layout:
        raise BlocksLostError("its chroma sampling, color space or tables are of a kind that is not written")
    ratios = _ratios(result)
    for target, own, (down, across) in zip(result.coef_arrays, coefficients, ratios, strict=True):
        rows, columns = (side // _SIDE for side in own.shape)
        kept = ~_any_in_cells(changed, down, across)
        shape = (rows, _SIDE, columns, _SIDE)
        np.copyto(target.reshape(shape), own.reshape(shape), where=kept[:, None, :, None])
    return _write(result), ratios


def _is_faithful(data: bytes, before: Image.Image, changed: Bools, ratios: list[tuple[int, int]]) -> bool:
    """Return whether a file's pixels are the photo's wherever no changed block reaches."""
    with mute_warnings(), Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
        differing = _compare_squares(before, image)
    down, across = (max(factors) for factors in zip(*ratios, strict=True))
    units = _any_in_cells(changed, down, across).repeat(down, 0).repeat(across, 1)
    return not (differing & ~_with_neighbours(units[: changed.shape[0], : changed.shape[1]])).any()


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
    jpeg.optimize_coding = 1  # the tables of the encoded file may lack codes for the photo's coefficients
    with tempfile.TemporaryFile() as file:
        jpeg.write(_path(file))
        file.seek(0)
        return file.read()


def _path(file: IO[bytes]) -> str:
    return f"/dev/fd/{file.fileno()}"


def _ratios(jpeg: Any) -> list[tuple[int, int]]:
    factors = [(component.v_samp_factor, component.h_samp_factor) for component in jpeg.comp_info]
    most = [max(sides) for sides in zip(*factors, strict=True)]
    if any(side % factor for sides in factors for side, factor in zip(most, sides, strict=True)):
        raise BlocksLostError("its chroma sampling is of a kind that is not written")
    return [(most[0] // down, most[1] // across) for down, across in factors]


def _layout(jpeg: Any) -> tuple[object, ...]:
    """Return what two files have to share for their coefficients to mean the same."""
    tables = [jpeg.quant_tables[component.quant_tbl_no].tobytes() for component in jpeg.comp_info]
    shapes = [array.shape for array in jpeg.coef_arrays]
    return jpeg.jpeg_color_space, jpeg.data_precision, tables, shapes, _ratios(jpeg)


def _is_damaged(array: Any) -> bool:
    """Return whether coefficients, (rows, columns), are outside the range that can be written."""
    if array.min() < _LEAST or array.max() > _MOST:
        return True
    # The lowest value is that of a black block's mean; all other coefficients have one bit less.
    return bool((array == _LEAST).sum() > (array[::_SIDE, ::_SIDE] == _LEAST).sum())
