"""Convert pixels as files hold them to pixels as networks take them, and back.

Rows of a file are (n, W, K), where K is the number of letters of a mode: "L", "LA", "RGB", "RGBA" (alpha straight, not
premultiplied) or "CMYK" (0 is no ink). They are uint8, uint16, or float32 in [0, 1]. A network takes and returns
float32 (n, W, 1 or 3) in [0, 1].

A pixel that a network does not change comes back bit for bit, in every mode: alpha is never changed, colours under full
transparency are kept, and inks change only where the colour does.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from edgeae.errors import ImageError
from edgeae.images.arrays import Floats, Rows

CHANNELS = {"L": 1, "LA": 1, "RGB": 3, "RGBA": 3, "CMYK": 3}  # of the picture that a network sees, by mode
LUMA_BT601 = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # weights of R, G, B in ITU-R BT.601's luma
_WHITE = np.float32(1)
_LEAST_CHANGE = np.float32(0.25 / 255)  # of a colour, for which its inks change: a quarter of an 8-bit level


def to_floats(rows: Rows, mode: str, channels: int) -> Floats:
    """Convert rows of a file to what a network takes.

    Alpha is dropped, but fully transparent pixels become white.

    Args:
        rows: (n, W, len(mode)).
        mode: theirs.
        channels: 1 or 3. Gray is repeated three times; colour becomes its BT.601 luma.

    Returns:
        (n, W, channels) in [0, 1].
    """
    x = _to_unit(rows)
    if mode == "CMYK":
        colour = (1 - x[..., :3]) * (1 - x[..., 3:])
    else:
        colour = x[..., : CHANNELS[mode]]
        if mode.endswith("A"):
            colour = np.where(rows[..., -1:] == 0, _WHITE, colour)
    return _with_channels(colour, channels)


def desaturate(x: Floats) -> Floats:
    """Replace each channel of (n, W, 3) by the BT.601 luma; return (n, W, 1) as it is."""
    return _with_channels(_with_channels(x, 1), x.shape[-1])


def from_floats(result: Floats, rows: Rows, mode: str, target: str) -> Rows:
    """Convert a network's output to rows of a file.

    Args:
        result: (n, W, 1 or 3), clipped to [0, 1].
        rows: (n, W, len(mode)), the rows that the network was run on. Alpha, black ink and the colours of fully
            transparent pixels are taken from them.
        mode: of `rows`.
        target: mode of the result: `mode` itself, or another one, with alpha only if `mode` has it.

    Returns:
        (n, W, len(target)) of the type of `rows`.

    Raises:
        ImageError: NaN or infinite pixels.
    """
    if not np.isfinite(result).all():
        raise ImageError("A result has NaN pixels: the model has diverged or its weights are damaged.")
    if target == "CMYK":
        return _inks(result, rows)
    colour = _from_unit(_with_channels(np.clip(result, 0, 1), CHANNELS[target]), rows.dtype)
    if not target.endswith("A"):
        return colour
    alpha = rows[..., -1:]
    if CHANNELS[target] == CHANNELS[mode]:
        colour = np.where(alpha == 0, rows[..., :-1], colour)
    return np.concatenate([colour, alpha], axis=-1)


def convert(rows: Rows, mode: str, target: str) -> Rows:
    """Convert rows of one mode to another of the same type, for a file that cannot hold the first.

    Where alpha is dropped, the picture is laid on white; where it is added, the picture is opaque.
    """
    if mode == target:
        return rows
    white = white_level(rows.dtype)
    x = to_floats(rows, mode, CHANNELS[target])
    if mode.endswith("A") and not target.endswith("A"):
        alpha = _to_unit(rows[..., -1:])
        x = x * alpha + (1 - alpha)
    colour = _from_unit(x, rows.dtype)
    if not target.endswith("A"):
        return colour
    alpha = rows[..., -1:] if mode.endswith("A") else np.full((*rows.shape[:2], 1), white, rows.dtype)
    return np.concatenate([colour, alpha], axis=-1)


def to_depth(rows: Rows, dtype: npt.DTypeLike) -> Rows:
    """Convert rows to uint8, uint16 or float32."""
    return rows if rows.dtype == dtype else _from_unit(_to_unit(rows), np.dtype(dtype))


def white_level(dtype: np.dtype[Any]) -> int:
    """Return the value of white in uint8, uint16 or float32."""
    return 1 if dtype == np.float32 else int(np.iinfo(dtype).max)


def _to_unit(rows: Rows) -> Floats:
    return rows if rows.dtype == np.float32 else rows.astype(np.float32) / np.float32(white_level(rows.dtype))


def _from_unit(x: Floats, dtype: np.dtype[Any]) -> Rows:
    """Scale [0, 1] to the range of `dtype`, rounded half to even."""
    return x if dtype == np.float32 else np.rint(x * np.float32(white_level(dtype))).astype(dtype)


def _with_channels(colour: Floats, channels: int) -> Floats:
    if colour.shape[-1] == channels:
        return colour
    if channels == 3:
        return np.repeat(colour, 3, axis=-1)
    # Written as differences so that equal channels give exactly their value, which a sum of rounded products may not.
    first = colour[..., :1]
    return (first + (colour - first) @ LUMA_BT601[:, None]).astype(np.float32, copy=False)


def _inks(result: Floats, rows: Rows) -> Rows:
    """Return the inks of a colour: black as in `rows`, or less where that is too dark, and what it takes of the others.

    With K the black, a colour is (1 - ink)·(1 - K) for each of cyan, magenta and yellow.
    """
    colour = _with_channels(np.clip(result, 0, 1), 3)
    light = np.maximum(1 - _to_unit(rows[..., 3:]), colour.max(axis=-1, keepdims=True))
    inks = 1 - np.divide(colour, light, out=np.zeros_like(colour), where=light > 0)
    changed_rows = _from_unit(np.concatenate([inks, 1 - light], axis=-1), rows.dtype)
    changed = np.abs(colour - to_floats(rows, "CMYK", 3)).max(axis=-1, keepdims=True) > _LEAST_CHANGE
    return np.where(changed, changed_rows, rows)
