"""Pixels as files hold them to pixels as networks take them, and back.

A file's rows are (n, W, K) with K the letters of a mode: "L", "LA", "RGB", "RGBA" (alpha straight, not premultiplied)
or "CMYK" (0 is no ink), in uint8, uint16 or float32 of 0 to 1. A network takes and gives float32
(n, W, 1 or 3) in [0, 1].

What a network leaves as it was comes back bit for bit, in every mode: alpha is never touched, colours under full
transparency are kept, and inks are changed only where the colour is.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from edgeae.errors import ImageError

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[Any]

CHANNELS = {"L": 1, "LA": 1, "RGB": 3, "RGBA": 3, "CMYK": 3}
LUMA_BT601 = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_WHITE = np.float32(1)
_LEAST_CHANGE = np.float32(0.25 / 255)


def to_floats(rows: Rows, mode: str, channels: int) -> Floats:
    """The opaque picture for a network: grey is repeated, colour becomes BT.601 luma, fully transparent is white."""
    x = _unit(rows)
    if mode == "CMYK":
        colour = (1 - x[..., :3]) * (1 - x[..., 3:])
    else:
        colour = x[..., : CHANNELS[mode]]
        if mode.endswith("A"):
            colour = np.where(rows[..., -1:] == 0, _WHITE, colour)
    return _with_channels(colour, channels)


def greyed(x: Floats) -> Floats:
    """(n, W, 3) with all channels the BT.601 luma; (n, W, 1) as it is."""
    return _with_channels(_with_channels(x, 1), x.shape[-1])


def from_floats(result: Floats, rows: Rows, mode: str, target: str) -> Rows:
    """What a network gave for `rows` of `mode`, as rows of the mode `target` in the same type.

    Args:
        result: (n, W, 1 or 3) in [0, 1].
        rows: (n, W, len(mode)): alpha, black and what is transparent are taken from here.
        target: `mode` itself, or another with alpha only if `mode` has it.

    Raises:
        ImageError: NaN or infinite pixels.
    """
    if not np.isfinite(result).all():
        raise ImageError("A result has NaN pixels: the model has diverged or its weights are damaged.")
    if target == "CMYK":
        return _inks(result, rows)
    colour = _scaled(_with_channels(np.clip(result, 0, 1), CHANNELS[target]), rows.dtype)
    if not target.endswith("A"):
        return colour
    alpha = rows[..., -1:]
    if CHANNELS[target] == CHANNELS[mode]:
        colour = np.where(alpha == 0, rows[..., :-1], colour)
    return np.concatenate([colour, alpha], axis=-1)


def convert(rows: Rows, mode: str, target: str) -> Rows:
    """Rows of one mode in another of the same type, for a file that cannot hold the first.

    Alpha that is dropped is laid on white; alpha that is asked for and missing is opaque.
    """
    if mode == target:
        return rows
    white = top(rows.dtype)
    x = to_floats(rows, mode, CHANNELS[target])
    if mode.endswith("A") and not target.endswith("A"):
        alpha = _unit(rows[..., -1:])
        x = x * alpha + (1 - alpha)
    colour = _scaled(x, rows.dtype)
    if not target.endswith("A"):
        return colour
    alpha = rows[..., -1:] if mode.endswith("A") else np.full((*rows.shape[:2], 1), white, rows.dtype)
    return np.concatenate([colour, alpha], axis=-1)


def to_depth(rows: Rows, dtype: npt.DTypeLike) -> Rows:
    """The same pixels in uint8, uint16 or float32."""
    return rows if rows.dtype == dtype else _scaled(_unit(rows), np.dtype(dtype))


def top(dtype: np.dtype[Any]) -> int:
    """What white is in a type."""
    return 1 if dtype == np.float32 else int(np.iinfo(dtype).max)


def _unit(rows: Rows) -> Floats:
    return rows if rows.dtype == np.float32 else rows.astype(np.float32) / np.float32(top(rows.dtype))


def _scaled(x: Floats, dtype: np.dtype[Any]) -> Rows:
    """[0, 1] to the range of `dtype`, rounded half to even."""
    return x if dtype == np.float32 else np.rint(x * np.float32(top(dtype))).astype(dtype)


def _with_channels(colour: Floats, channels: int) -> Floats:
    if colour.shape[-1] == channels:
        return colour
    if channels == 3:
        return np.repeat(colour, 3, axis=-1)
    # Equal channels give themselves, which a sum of rounded products would not.
    first = colour[..., :1]
    return (first + (colour - first) @ LUMA_BT601[:, None]).astype(np.float32, copy=False)


def _inks(result: Floats, rows: Rows) -> Rows:
    """Cyan, magenta and yellow that give the colour under the same black, or less black where that is too dark."""
    colour = _with_channels(np.clip(result, 0, 1), 3)
    light = np.maximum(1 - _unit(rows[..., 3:]), colour.max(axis=-1, keepdims=True))
    inks = 1 - np.divide(colour, light, out=np.zeros_like(colour), where=light > 0)
    found = _scaled(np.concatenate([inks, 1 - light], axis=-1), rows.dtype)
    changed = np.abs(colour - to_floats(rows, "CMYK", 3)).max(axis=-1, keepdims=True) > _LEAST_CHANGE
    return np.where(changed, found, rows)
