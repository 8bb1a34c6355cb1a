"""Read rows of a compressed array as they are asked for, without unpacking it all into memory."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from edgeae.errors import DataError

_BLOCK_BYTES = 1 << 20
# What zipfile raises for a damaged member; RuntimeError for one that is encrypted or packed by an unknown method.
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError)


class PackedRows:
    """Stands for an array (N, …) in a compressed file. Indexed by ascending rows it reads those alone.

    Attributes:
        shape, dtype, ndim: as of an array.
    """

    def __init__(
        self, unpack: Callable[[], IO[bytes]], shape: tuple[int, ...], dtype: np.dtype[Any], what: str
    ) -> None:
        """
        Args:
            unpack: opens a stream of the values, row after row.
            shape, dtype: of the array, which were checked.
            what: its name for messages.
        """
        self.shape, self.dtype = shape, dtype
        self._unpack, self._what = unpack, what
        self._row_bytes = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
        self._stream: IO[bytes] | None = None
        self._next = 0  # row that the stream comes to

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self[np.arange(len(self))].astype(dtype or self.dtype, copy=False)

    def with_channel(self) -> PackedRows:
        """Return the same array with an axis of length 1 at the end."""
        return PackedRows(self._unpack, (*self.shape, 1), self.dtype, self._what)

    def __getitem__(self, rows: NDArray[np.intp]) -> NDArray[Any]:
        """Return some rows, numbered in ascending order. Raises DataError if the file is damaged before their end."""
        out = np.empty((len(rows), self._row_bytes), np.uint8)
        try:
            for place, row in enumerate(rows.tolist()):
                if self._stream is None or row < self._next:
                    self.close()
                    self._stream = self._unpack()
                self._skip((row - self._next) * self._row_bytes)
                out[place] = np.frombuffer(self._take(self._row_bytes), np.uint8)
                self._next = row + 1
        except ZIP_ERRORS as error:
            raise DataError(f"{self._what} cannot be read ({error}): copy or save it again.") from error
        finally:
            if self._next == len(self):
                self.close()
        return out.view(self.dtype).reshape(len(rows), *self.shape[1:])

    def close(self) -> None:
        """Close the file; the next rows open it again."""
        if self._stream is not None:
            self._stream.close()
        self._stream, self._next = None, 0

    def __del__(self) -> None:
        if getattr(self, "_stream", None) is not None:
            self.close()

    def _skip(self, count: int) -> None:
        while count:
            count -= len(self._take(min(count, _BLOCK_BYTES)))

    def _take(self, count: int) -> bytes:
        assert self._stream is not None
        data = self._stream.read(count)
        if len(data) < count:
            raise ValueError("it ends within its pixels")
        return data
