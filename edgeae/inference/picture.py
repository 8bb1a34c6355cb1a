"""What is restored: rows of a picture, from an open file (`images.files.reader.Photo`) or from an array."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import numpy as np
from PIL import Image

from edgeae.images import colours
from edgeae.images.arrays import Rows
from edgeae.images.files.metadata import UPRIGHT
from edgeae.images.files.reader import Photo
from edgeae.images.files.turns import to_upright
from edgeae.inference import tiles

# Modes of PIL images that `Photo` reads as another one, and into which a result can be turned back without loss.
_PIL_MODES = ("La", "RGBa", "RGBX", "YCbCr", "HSV", "I")
_INFO = ("icc_profile", "dpi")  # what a result keeps of a PIL image's `info`


class Picture(Protocol):
    """Rows of a picture from the top, as they are stored, which may be turned; see `Photo` for the attributes."""

    name: str
    width: int
    height: int
    mode: str
    dtype: np.dtype[Any]
    orientation: int

    @property
    def shown_size(self) -> tuple[int, int]:
        """Width and height in pixels when upright."""

    def read(self, count: int) -> Rows:
        """Return the next rows, (n, width, len(mode)), fewer at the end."""

    def reopen(self) -> AbstractContextManager[Picture]:
        """Return the same picture from its first row."""


class ArrayPicture:
    """An upright picture in memory.

    Args:
        rows: (H, W, len(mode)), uint8, uint16, or float32 in [0, 1].
        mode: of the rows (see `colours`).
        name: what error messages call it.
    """

    orientation = UPRIGHT

    def __init__(self, rows: Rows, mode: str, name: str = "The array") -> None:
        self.name, self.mode, self.dtype = name, mode, rows.dtype
        self.height, self.width = rows.shape[:2]
        self._rows, self.read = rows, tiles.row_reader(rows)

    @property
    def shown_size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.width, self.height

    def reopen(self) -> AbstractContextManager[ArrayPicture]:
        """Return the same picture from its first row."""
        return nullcontext(ArrayPicture(self._rows, self.mode, self.name))


def to_pil(rows: Rows, photo: Photo, source: object) -> Image.Image:
    """Return restored rows as a PIL image, upright.

    Args:
        rows: (H, W, K) as stored; K says the mode: L, LA, RGB, or 4 for the photo's CMYK or RGBA.
        photo: what was restored; its color profile and resolution go into `info`.
        source: what it was read from; a PIL image gives the result its mode, where that holds every color.
    """
    rows = to_upright(rows, photo.orientation)
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "CMYK" if photo.mode == "CMYK" else "RGBA"}[rows.shape[2]]
    if rows.dtype != np.uint8 and mode != "L":
        rows = colours.to_depth(rows, np.uint8)  # PIL has 16 bits for gray only
    rows = np.ascontiguousarray(rows[..., 0] if mode == "L" else rows)
    picture = Image.frombytes("CMYK", rows.shape[1::-1], rows.tobytes()) if mode == "CMYK" else Image.fromarray(rows)
    if isinstance(source, Image.Image) and source.mode in _PIL_MODES and photo.mode == mode:
        picture = picture.convert(source.mode)
    kept = {"icc_profile": photo.metadata.icc, "dpi": photo.metadata.dpi}
    if isinstance(source, Image.Image):
        kept = {key: source.info.get(key) for key in _INFO}
    picture.info.update({key: value for key, value in kept.items() if value})
    return picture
