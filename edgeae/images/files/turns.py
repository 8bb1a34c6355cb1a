"""Turn rows of pixels as an EXIF orientation, 1 (upright) to 8, says."""

from __future__ import annotations

from PIL import Image

from edgeae.images.arrays import Rows

# What makes stored rows upright, by EXIF orientation: (swap rows and columns, then flip up-down, flip left-right).
_TURNS = {
    1: (False, False, False), 2: (False, False, True), 3: (False, True, True), 4: (False, True, False),
    5: (True, False, False), 6: (True, False, True), 7: (True, True, True), 8: (True, True, False),
}  # fmt: skip
AS_STORED = {  # the inverse, in Pillow's words
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}  # fmt: skip


def swaps_sides(orientation: int) -> bool:
    """Return whether the width of a stored picture is the height of the shown one."""
    return _TURNS[orientation][0]


def to_upright(rows: Rows, orientation: int) -> Rows:
    """Return a view of stored rows (H, W, C), turned upright as the EXIF orientation, 1 to 8, says."""
    swap, up_down, left_right = _TURNS[orientation]
    rows = rows.swapaxes(0, 1) if swap else rows
    return rows[:: -1 if up_down else 1, :: -1 if left_right else 1]


def to_stored(rows: Rows, orientation: int) -> Rows:
    """Return a view of upright rows (H, W, C), turned as they are stored: the inverse of `to_upright`."""
    swap, up_down, left_right = _TURNS[orientation]
    rows = rows[:: -1 if up_down else 1, :: -1 if left_right else 1]
    return rows.swapaxes(0, 1) if swap else rows
