"""Images stored as one array: reading IDX, `.npy` and `.npz` files, and conversion of arrays to uint8 images.

Files are not trusted: a header that claims more than the file can hold is refused before memory is allocated, and
nothing is unpickled.
"""

import functools
import gzip
import io
import math
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgeae.data.packed_rows import ZIP_ERRORS, PackedRows
from edgeae.errors import DataError
from edgeae.images.arrays import fit
from edgeae.images.colours import LUMA_BT601

Images: TypeAlias = NDArray[Any] | PackedRows

# An image with a shorter side is a mistake (an icon, or channels taken for a width), not training data.
MIN_SIDE = 8

_GZIP_MAGIC = b"\x1f\x8b"
_IDX_UINT8 = 0x08
_BLOCK_BYTES = 1 << 20
_ROWS_BYTES = 1 << 26  # of the images of an array that are in memory at once
_MOST_UNPACKED_BYTES = 1 << 28  # of a compressed file that is unpacked as a whole
_MOST_PIXELS = 178_956_970  # of an image, as in picture files
_MOST_HEADER_BYTES = 10_000  # of an array, as NumPy has it
# By the version of an `.npy` file: how its header's length is written, and what reads both.
_NPY_HEADERS: dict[tuple[int, int], tuple[str, Callable[[IO[bytes]], Any]]] = {
    (1, 0): ("<H", np.lib.format.read_array_header_1_0),
    (2, 0): ("<I", np.lib.format.read_array_header_2_0),
}
# Deflate cannot compress better than 1032 to 1 (zlib's technical notes); the slack covers the container's own bytes.
_DEFLATE_RATIO = 1032
_DEFLATE_SLACK_BYTES = 1 << 16
# Names under which the two splits are commonly stored; Keras' mnist.npz has the last pair.
_NPZ_SPLITS = (("train", "val"), ("train", "test"), ("x_train", "x_val"), ("x_train", "x_test"))


def require_memory(size_bytes: int, what: str) -> None:
    """Check that an allocation fits into this machine's memory.

    Args:
        size_bytes: of the allocation.
        what: what needs it; the error message starts with it.

    Raises:
        DataError: the machine has less memory in all.
    """
    try:
        total_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return  # Windows has no sysconf; NumPy's own MemoryError must do
    if size_bytes > total_bytes:
        raise DataError(
            f"{what} needs {size_bytes / 2**30:,.0f} GiB and this machine has {total_bytes / 2**30:,.0f}: "
            "use fewer images or a smaller size."
        )


def read_idx(path: Path) -> Images:
    """Read the images of an IDX file, plain or gzipped.

    The format (http://yann.lecun.com/exdb/mnist/): two zero bytes, a type code, the number of dimensions, the
    dimensions as big-endian 32-bit integers, then the pixels.

    Returns:
        uint8 (N, H, W) or (N, H, W, C); PackedRows for a gzipped file of more than 256 MB.

    Raises:
        DataError: the file has another format, holds labels, or fewer or more pixels than its header claims.
    """
    try:
        with path.open("rb") as file:
            packed = file.read(2) == _GZIP_MAGIC
            file.seek(0)
            file_bytes = os.fstat(file.fileno()).st_size
            if not packed:
                return _read_idx(file, file_bytes, path)
            with gzip.GzipFile(fileobj=file) as unpacked:
                return _read_idx(unpacked, file_bytes * _DEFLATE_RATIO, path)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}): fetch or copy it again.") from error


def _read_idx(stream: IO[bytes] | gzip.GzipFile, limit_bytes: int, path: Path) -> Images:
    head = stream.read(4)
    if len(head) < 4 or head[:2] != b"\0\0" or not 1 <= head[3] <= 4:
        raise DataError(f"{path} is not a dataset: give a folder of images, an .npy, .npz or IDX file.")
    kind, ndim = head[2], head[3]
    if ndim == 1:
        raise DataError(f"{path} holds labels, one number each: give the images file, such as train-images-idx3-ubyte.")
    if kind != _IDX_UINT8 or ndim == 2:
        raise DataError(f"{path} holds IDX type 0x{kind:02x} in {ndim} dimensions: images are type 0x08 in 3 or 4.")
    dims = stream.read(4 * ndim)
    if len(dims) < 4 * ndim:
        raise DataError(f"{path} ends inside its header: fetch or copy it again.")
    shape = struct.unpack(f">{ndim}I", dims)
    claimed = math.prod(shape)
    if not claimed:
        raise DataError(f"{path} holds no pixels ({'×'.join(map(str, shape))}): fetch or copy it again.")
    if claimed > limit_bytes:
        raise DataError(f"{path} claims {claimed:,} pixels, more than the file can hold: fetch or copy it again.")
    if claimed > _MOST_UNPACKED_BYTES and isinstance(stream, gzip.GzipFile):
        return PackedRows(functools.partial(_open_idx, path, ndim), shape, np.dtype(np.uint8), f"{path}")
    require_memory(claimed, f"{path}")
    pixels = bytearray()
    while block := stream.read(min(_BLOCK_BYTES, claimed + 1 - len(pixels))):
        pixels += block
    if len(pixels) != claimed:
        more = "more" if len(pixels) > claimed else "fewer"
        raise DataError(f"{path} holds {more} pixels than the {claimed:,} its header claims: fetch or copy it again.")
    return np.frombuffer(pixels, dtype=np.uint8).reshape(shape)


def _read_npy_header(stream: IO[bytes], size_bytes: int, what: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, whether the first axis is the fastest, and type of an array of numbers.

    Raises:
        DataError: the .npy header describes anything else, or more than fits into `size_bytes`.
    """
    try:
        shape, fortran_order, dtype = _parse_npy_header(stream)
    except (ValueError, KeyError, EOFError, RecursionError, MemoryError, tokenize.TokenError, struct.error) as error:
        raise DataError(f"{what} is not a readable .npy array: save it with numpy.save again.") from error
    if dtype.kind not in "buf":
        kind = f"{dtype}" if dtype.names is None else "structured"
        raise DataError(f"{what} holds {kind} values: images are uint8, or float in [0, 1].")
    if any(side < 1 for side in shape):
        raise DataError(f"{what} has the shape {shape}, which holds no image.")
    if math.prod(shape) * dtype.itemsize > size_bytes:
        raise DataError(f"{what} claims the shape {shape}, more than the file can hold: save it again.")
    return shape, fortran_order, dtype


def _parse_npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, whether the first axis is the fastest, and type, and leave the stream at the first value.

    NumPy reads as many bytes as a header says it has, and looks at them afterwards.

    Raises:
        ValueError: it is no header, or too long; or what NumPy raises.
    """
    version = np.lib.format.read_magic(stream)
    layout, read = _NPY_HEADERS[version]
    length = stream.read(struct.calcsize(layout))
    if struct.unpack(layout, length)[0] > _MOST_HEADER_BYTES:
        raise ValueError("the header is too long")
    shape, fortran_order, dtype = read(io.BytesIO(length + stream.read(*struct.unpack(layout, length))))
    if any(type(side) is not int for side in shape):
        raise ValueError("the shape is not of numbers")
    return shape, fortran_order, dtype


def read_npy(path: Path) -> NDArray[Any]:
    """Read an `.npy` file as a memory-mapped array.

    Raises:
        DataError: the file is truncated, pickled, or not an array of numbers.
    """
    try:
        with path.open("rb") as file:
            _read_npy_header(file, os.fstat(file.fileno()).st_size, str(path))
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, OverflowError) as error:
        raise DataError(f"{path} cannot be read ({error}): save it with numpy.save again.") from error
    return array


def read_npz(path: Path) -> dict[str, Images]:
    """Read the image arrays of an `.npz` file.

    Returns:
        {"train": array, "val": array} if two arrays have such names (`train` and `val` or `test`, also with Keras'
        prefix `x_`); otherwise {"all": array} with the array named `images`, `x` or `train`, or else the first one.

    Raises:
        DataError: the file is truncated, pickled, claims more than it can hold, or has no array of numbers.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            pair = next((pair for pair in _NPZ_SPLITS if all(name in members for name in pair)), None)
            if pair:
                chosen = {"train": pair[0], "val": pair[1]}
            else:
                name = next((name for name in ("images", "x", "train", *members) if name in members), None)
                if name is None:
                    raise DataError(f"{path} holds no array: save the images with numpy.savez(path, images=array).")
                chosen = {"all": name}
            return {
                part: _read_member(archive, path, members[name], f"{path} [{name}]") for part, name in chosen.items()
            }
    except ZIP_ERRORS as error:
        raise DataError(f"{path} cannot be read ({error}): save it with numpy.savez again.") from error


def _read_member(archive: zipfile.ZipFile, path: Path, info: zipfile.ZipInfo, what: str) -> Images:
    if info.file_size > info.compress_size * _DEFLATE_RATIO + _DEFLATE_SLACK_BYTES:
        raise DataError(f"{what} claims {info.file_size:,} bytes, more than the file can hold: save it again.")
    with archive.open(info) as stream:
        shape, fortran_order, dtype = _read_npy_header(stream, info.file_size, what)
    if not fortran_order or len(shape) < 2:
        return PackedRows(functools.partial(_open_member, path, info.filename), shape or (1,), dtype, what)
    if info.file_size > _MOST_UNPACKED_BYTES:  # whose images have no place of their own in the file
        raise DataError(f"{what} is stored in Fortran order: save numpy.ascontiguousarray of it.")
    with archive.open(info) as stream:
        array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
    return array


def _open_member(path: Path, member: str) -> IO[bytes]:
    """Open a member whose header was checked, at its first value."""
    archive = zipfile.ZipFile(path)
    stream = archive.open(member)  # which keeps the archive's file open for itself
    archive.close()
    _parse_npy_header(stream)
    return stream


def _open_idx(path: Path, ndim: int) -> IO[bytes]:
    """Open a gzipped IDX file whose header was checked, at its first pixel."""
    stream: Any = gzip.open(path)  # noqa: SIM115 - whoever reads the rows closes it
    stream.read(4 + 4 * ndim)
    return stream  # type: ignore[no-any-return]


def as_image_array(array: Images, what: str) -> Images:
    """Return a view of an array as images, (N, H, W, 1 or 3), without looking at its values.

    Args:
        array: (N, H, W) or (N, H, W, C).
        what: name of the array for messages.

    Raises:
        DataError: the array has another shape or a type that images do not have.
    """
    if array.dtype != np.uint8 and array.dtype.kind not in "bf":
        raise DataError(f"{what} holds {array.dtype} values: images are uint8, or float in [0, 1].")
    view = array
    if array.ndim == 3:
        view = array.with_channel() if isinstance(array, PackedRows) else array[..., None]
    if view.ndim != 4:
        raise DataError(f"{what} has the shape {array.shape}: images are (N, H, W) or (N, H, W, C).")
    if view.shape[3] not in (1, 3):
        if view.shape[1] in (1, 3):
            raise DataError(f"{what} has its channels first, {array.shape}: turn it with .transpose(0, 2, 3, 1).")
        raise DataError(f"{what} has {view.shape[3]} channels: give 1 (grey) or 3 (RGB).")
    if min(view.shape[1:3]) < MIN_SIDE:
        raise DataError(f"{what} has images of {view.shape[2]}×{view.shape[1]} pixels: they need {MIN_SIDE} a side.")
    if view.shape[1] * view.shape[2] > _MOST_PIXELS:
        raise DataError(f"{what} has images of more than {_MOST_PIXELS // 10**6} million pixels: make them smaller.")
    return view


def to_uint8(images: NDArray[Any], what: str) -> NDArray[np.uint8]:
    """Convert pixel values to uint8.

    Args:
        images: uint8, bool, or float in [0, 1].
        what: name of the array for messages.

    Raises:
        DataError: a float value is NaN or outside [0, 1].
    """
    if images.dtype == np.uint8:
        return images
    if images.dtype == np.bool_:
        return images.astype(np.uint8) * np.uint8(255)
    # NaN makes both min and max NaN, and fails every comparison
    low, high = (float(images.min()), float(images.max())) if images.size else (0.0, 0.0)
    if not (low >= 0 and high <= 1):
        raise DataError(f"{what} holds float values from {low:g} to {high:g}: scale them to [0, 1], or save uint8.")
    scaled: NDArray[np.uint8] = np.rint(images * 255).astype(np.uint8)
    return scaled


def to_channels(images: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """Convert uint8 (N, H, W, 1 or 3) to `channels`: gray is repeated, RGB becomes its luma (ITU-R BT.601)."""
    if images.shape[3] == channels:
        return images
    if channels == 3:
        return np.repeat(images, 3, axis=3)
    luma: NDArray[np.float32] = images @ LUMA_BT601
    return np.rint(luma).astype(np.uint8)[..., None]


def fit_rows(images: Images, rows: NDArray[np.intp], size: int, channels: int, what: str) -> NDArray[np.uint8]:
    """Load some images of an array, cropped about the centre and resized.

    Args:
        images: (N, H, W, C), see `as_image_array`; may be memory-mapped.
        rows: (n,), which images.
        size: side of the result in pixels.
        channels: of the result, 1 or 3.
        what: name of the array for messages.

    Returns:
        uint8 (n, size, size, channels).

    Raises:
        DataError: a value is out of range, or the result does not fit into memory.
    """
    require_memory(len(rows) * size * size * channels, what)
    # Some at a time: `images` may be a file larger than memory.
    step = max(1, min(1000, _ROWS_BYTES // (math.prod(images.shape[1:]) * images.dtype.itemsize)))
    out = np.empty((len(rows), size, size, channels), dtype=np.uint8)
    for start in range(0, len(rows), step):
        chunk = to_uint8(np.asarray(images[rows[start : start + step]]), what)
        chunk = to_channels(chunk, channels)
        if chunk.shape[1:3] == (size, size):
            out[start : start + step] = chunk
        else:
            for row, image in enumerate(chunk, start):
                out[row] = fit(image, (size, size))
    return out
