"""Reduce a picture to the 256 colours of a GIF."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from edgeae.images.arrays import Bools, Pixels
from edgeae.images.files.formats import choose_palette, to_palette

_COLOURS = 256
_SAMPLE = 50_000  # pixels that new colours are chosen from


def with_palette(picture: Image.Image, before: Image.Image | None = None) -> tuple[Image.Image, int | None]:
    """Reduce a picture to at most 256 colours, exactly if it has no more.

    Args:
        picture: of mode L, RGB or RGBA.
        before: the photo that it was made from, whose pixels are to stay where both are equal: the other pixels get
            what these leave of the palette. None if all pixels are equally important.

    Returns:
        The picture in mode P, and the index of its transparent colour, None if it has none.
    """
    if picture.mode == "L":
        return picture.convert("P"), None
    pixels = _without_half_transparency(picture)
    hidden = pixels[..., 3] == 0
    colours = _colours(pixels)
    if colours is not None:
        return _paletted(_indices(pixels, colours), colours), _transparent(colours)
    if before is not None:
        same = (pixels == _without_half_transparency(before)).all(-1) | hidden
        colours = _colours(pixels[None, same])
        if colours is not None:
            return _with_added_colours(pixels, same, colours)
    return _with_fewer_colours(Image.fromarray(pixels[..., :3]), hidden)


def _with_added_colours(pixels: Pixels, same: Bools, kept: Pixels) -> tuple[Image.Image, int | None]:
    """Like `with_palette`: pixels in `same` keep the colours `kept` (n, 4), the others get the nearest of 256."""
    added = np.empty((0, 3), np.uint8)
    if free := _COLOURS - len(kept):
        others = pixels[~same, :3]
        sample = Image.fromarray(others[None, :: 1 + len(others) // _SAMPLE])
        palette = choose_palette(sample, free).getpalette() or []
        added = np.array(palette[: 3 * free], np.uint8).reshape(-1, 3)
    colours = np.concatenate([kept, np.pad(added, ((0, 0), (0, 1)), constant_values=255)])
    visible = np.flatnonzero(colours[:, 3])
    shown = _paletted(np.zeros((1, 1)), colours[visible])
    nearest = Image.fromarray(pixels[..., :3]).quantize(palette=shown, dither=Image.Dither.FLOYDSTEINBERG)
    indices = visible[np.minimum(np.asarray(nearest), len(visible) - 1)]
    indices[same] = _indices(pixels[same], kept)
    return _paletted(indices, colours), _transparent(colours)


def _with_fewer_colours(picture: Image.Image, hidden: Bools) -> tuple[Image.Image, int | None]:
    """Like `to_palette`, with the last colour reserved for hidden pixels."""
    if not hidden.any():
        return to_palette(picture), None
    last = _COLOURS - 1
    palette = choose_palette(picture, last)
    indices = np.array(picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG))
    indices[hidden] = last
    colours = np.array((palette.getpalette() or [])[: 3 * last], np.uint8).reshape(-1, 3)
    return _paletted(indices, np.pad(colours, ((0, _COLOURS - len(colours)), (0, 1)))), last


# ---- pixels (H, W, 4) and colours (n, 4), both red, green, blue and an alpha of 0 or 255 --------------------------


def _without_half_transparency(picture: Image.Image) -> Pixels:
    """Return pixels that are opaque, or hidden and then all of one colour."""
    pixels: Pixels = np.array(picture.convert("RGBA"))
    hidden = pixels[..., 3] < 128
    pixels[..., 3] = np.where(hidden, 0, 255)
    if hidden.any():
        pixels[hidden] = pixels[hidden][0]
    return pixels


def _colours(pixels: Pixels) -> Pixels | None:
    """Return the sorted colours of pixels, None if they are more than 256."""
    counted = Image.fromarray(pixels).getcolors(_COLOURS) if pixels.size else []
    if counted is None:
        return None
    colours = np.array([colour for _, colour in counted], np.uint8).reshape(-1, 4)
    return colours[np.argsort(colours.view(np.uint32)[:, 0])]


def _indices(pixels: Pixels, colours: Pixels) -> npt.NDArray[Any]:
    return np.searchsorted(colours.view(np.uint32)[:, 0], pixels.view(np.uint32)[..., 0])


def _transparent(colours: Pixels) -> int | None:
    return int(colours[:, 3].argmin()) if (colours[:, 3] == 0).any() else None


def _paletted(indices: npt.NDArray[Any], colours: Pixels) -> Image.Image:
    picture = Image.frombytes("P", indices.shape[::-1], indices.astype(np.uint8).tobytes())
    picture.putpalette(colours[:, :3].tobytes())
    return picture
