"""Read the mask of a photo, and guess what its large holes hide from the photo at a fraction of its size.

A mask's value is the share of a pixel that is replaced: black 0, white 1, gray between. Below a tenth nothing is
replaced, and from nine tenths on everything: black may be 16 and white 235. From a quarter on a pixel is *lost*: what
the photo shows there is neither given to the network nor matched in color. Where compression has scattered two values,
each pixel is replaced whole or not at all, from a half on.

What carries the value (`mask_meaning` has the details):

- Gray, or the luma of gray colors, in any type. If no value reaches a tenth of white, two values are black and white,
  and 16 bits that hold 8, 10 or 12 are read as those.
- Transparency, if it differs: what is painted on a transparent layer is damaged, whatever its color; where black and
  white are painted, only the white. In a picture that is opaque for the most part, what was erased is damaged.
- Colors, where they stand on black or on white: all that is not black, or all that is colored.

A mask is drawn on the photo as it is shown, that is upright, or on the photo as it is stored where only that size fits.
Square photos, and those that are mirrored or upside down, do not tell one from the other: theirs is drawn upright, or
has the same EXIF orientation.

Anything else is refused in one sentence; what is not plain is told in `Mask.note`. An empty mask is told there too, and
refused where it is the only one of a run (`require_marks`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from edgeae.errors import ImageError
from edgeae.images import colours
from edgeae.images.arrays import Rows, to_float
from edgeae.images.files.metadata import UPRIGHT
from edgeae.images.files.pillow_guard import ImageSource
from edgeae.images.files.reader import Photo
from edgeae.images.files.turns import to_stored, to_upright
from edgeae.inference import inpainting, tiles
from edgeae.inference.inpainting import HoleTraining, has_square
from edgeae.inference.mask_meaning import (
    BLACK,
    Levels,
    MeaningError,
    Palette,
    Plane,
    choose_plane,
    choose_scale,
    is_lost,
)
from edgeae.inference.picture import Picture

Floats = npt.NDArray[np.float32]
MaskSource: TypeAlias = ImageSource | npt.NDArray[Any]
RowReader = Callable[[int], npt.NDArray[Any]]  # returns the next n rows, fewer at the end

_STRIP = 1 << 18  # pixels that are counted at once
_LIKE = 12 / 255  # mean difference in brightness of two copies of a photo, at most


class Mask:
    """The mask of a photo, understood; it can be read several times.

    Attributes:
        note: what was understood, where that is not plain.
        meaning: turns its pixels into shares.
    """

    def __init__(self, source: MaskSource, photo: Picture) -> None:
        """Read a mask once or twice, strip by strip, and find out what it means.

        Args:
            source: a picture in any form; as an array, bool, uint8, uint16 or floats in [0, 1], (H, W) or (H, W, 1 to
                4).
            photo: whose mask it is.

        Raises:
            ImageError: the mask cannot be read, has another size, is the photo itself, or does not tell what is
                damaged.
        """
        self._source, self._photo = _to_source(source), photo
        self._given_name = None if isinstance(source, str | os.PathLike) else "The mask"
        if isinstance(photo, Photo) and _is_same_file(self._source, photo.source):
            raise ImageError(f"{photo.name} is its own mask: paint the damage white on black in another file.")
        try:
            with self._open() as mask:
                self._orientation, turned = _match(mask, photo)
                lossy = mask.format == "JPEG" or (mask.format == "WEBP" and not mask.metadata.options.get("lossless"))
                plane = Plane() if mask.mode == "L" else self._choose_plane(mask, lossy)
            levels = Levels()
            with self._open() as mask:
                for count in _counts(mask):
                    levels.add(plane.values(mask.read(count), mask.mode))
            self.meaning = choose_scale(levels, plane, lossy, colours.white_level(mask.dtype))
        except MeaningError as error:
            raise ImageError(f"{mask.name} {error}") from error
        pages = "of the mask's pages or frames the first is taken" if "of which the first" in mask.note else ""
        self.note = "; ".join(filter(None, (turned, pages, self.meaning.note)))

    def open(self, stack: ExitStack) -> RowReader:
        """Return a function that reads the next n rows as the photo stores them: shares (n, W, 1) in the photo's type.

        Args:
            stack: closes the mask.
        """
        mask, dtype = stack.enter_context(self._open()), self._photo.dtype

        def read(count: int) -> Rows:
            return colours.to_depth(self.meaning.shares(mask.read(count), mask.mode)[..., None], dtype)

        return self._align(mask, read)

    def _open(self) -> Photo:
        return Photo(self._source, self._given_name)

    def _choose_plane(self, mask: Photo, lossy: bool) -> Plane:
        palette = Palette()
        for count in _counts(mask):
            palette.add(mask.read(count), mask.mode)
        like_photo = self._looks_like_photo(palette.most_opaque) if palette.may_be_erased else None
        return choose_plane(palette, lossy, like_photo)

    def _looks_like_photo(self, most_opaque: float) -> bool:
        """Return whether the photo is about as bright as the opaque pixels of the mask."""
        difference, pixels = 0.0, 0
        with self._open() as mask, self._photo.reopen() as photo:

            def read_mask(count: int) -> Rows:
                rows = mask.read(count)
                return colours.to_depth(
                    np.concatenate([colours.convert(rows[..., :-1], mask.mode[:-1], "L"), rows[..., -1:]], axis=-1),
                    np.uint8,
                )

            read = self._align(mask, read_mask)
            for count in _counts(photo):
                bright, alpha = np.moveaxis(colours.to_depth(read(count), np.float32), -1, 0)
                opaque = alpha >= most_opaque / 2
                difference += float(
                    np.abs(colours.to_floats(photo.read(count), photo.mode, 1)[..., 0] - bright)[opaque].sum()
                )
                pixels += int(opaque.sum())
        return difference <= _LIKE * pixels

    def _align(self, mask: Photo, read: RowReader) -> RowReader:
        """Return a function that reads rows of the mask as the photo stores them."""
        stored = self._photo.orientation
        if self._orientation == stored:
            return read
        whole = np.concatenate([read(count) for count in _counts(mask)])
        return tiles.row_reader(to_stored(to_upright(whole, self._orientation), stored))


def require_marks(mask: Path) -> None:
    """Check that a mask can be read and marks anything.

    Raises:
        ImageError: it cannot, or is black or transparent everywhere.
    """
    with Photo(mask) as photo:
        first: Rows | None = None
        for count in _counts(photo):
            rows = photo.read(count)
            first = rows[:1, :1] if first is None else first
            if (rows != first).any():
                return
        assert first is not None
        transparent = photo.mode.endswith("A") and not first[..., -1].any()
        if transparent or Plane().values(first, photo.mode) < BLACK:
            what = "transparent" if transparent else "black"
            raise ImageError(f"{mask} is {what} everywhere, which marks nothing: paint the damage white.")


def _match(mask: Photo, photo: Picture) -> tuple[int, str]:
    """Return the EXIF orientation that turns the rows of a mask as the photo is shown, and a note if that is not its.

    Raises:
        ImageError: the mask has another size, however it is turned.
    """
    if mask.shown_size == photo.shown_size:
        return mask.orientation, ""
    size = mask.width, mask.height
    if size == photo.shown_size:
        return UPRIGHT, "the mask is upright, although its EXIF orientation says otherwise"
    if size == (photo.width, photo.height) and mask.orientation == UPRIGHT:
        return photo.orientation, "the mask was drawn on the photo as it is stored, and is turned with it"
    (width, height), (photo_width, photo_height) = mask.shown_size, photo.shown_size
    mend = "make the mask as large as the photo"
    if _have_one_shape((width, height), photo.shown_size):
        mend = f"resize the mask to {photo_width}×{photo_height}"
    elif (height, width) == photo.shown_size:
        mend = "turn the mask as the photo is shown"
    raise ImageError(f"{mask.name} has {width}×{height} pixels and {photo.name} {photo_width}×{photo_height}: {mend}.")


def _have_one_shape(a: tuple[int, int], b: tuple[int, int]) -> bool:
    """Return whether two sizes have the same aspect ratio, but for rounding to whole pixels."""
    return abs(a[0] * b[1] - a[1] * b[0]) <= max(*a, *b)


def _counts(photo: Picture) -> Iterator[int]:
    """Yield the numbers of rows in which a whole picture is read strip by strip."""
    most = max(1, _STRIP // photo.width)
    for top in range(0, photo.height, most):
        yield min(most, photo.height - top)


def _to_source(mask: MaskSource) -> ImageSource:
    """Return a source that can be read several times.

    Raises:
        ImageError: an array of a wrong shape, type or range.
    """
    if isinstance(mask, np.ndarray):
        return _to_pil(mask)
    if isinstance(mask, str | os.PathLike | bytes | bytearray | memoryview | Image.Image):
        return mask
    return mask.read()


def _to_pil(mask: npt.NDArray[Any]) -> Image.Image:
    rows = mask[..., None] if mask.ndim == 2 else mask
    if rows.ndim != 3 or rows.shape[2] not in (1, 2, 3, 4) or 0 in rows.shape:
        raise ImageError(f"A mask of shape {mask.shape} is no picture: give (height, width), or 1 to 4 channels.")
    if rows.dtype == bool:
        rows = rows * np.uint8(255)
    elif np.issubdtype(rows.dtype, np.integer):
        if rows.min() < 0 or rows.max() > 65_535:
            raise ImageError(
                f"A mask has values from {rows.min()} to {rows.max()}: give bool, uint8, or floats in [0, 1]."
            )
        if rows.dtype not in (np.uint8, np.uint16):
            rows = rows.astype(np.uint8 if rows.max() <= 255 else np.uint16)
    else:
        rows = to_float(rows)
    if rows.shape[2] == 1:
        return Image.fromarray(rows[..., 0])
    return Image.fromarray(colours.to_depth(rows, np.uint8))


def _is_same_file(mask: ImageSource, photo: ImageSource) -> bool:
    if not (isinstance(mask, str | os.PathLike) and isinstance(photo, str | os.PathLike)):
        return False
    try:
        return Path(mask).samefile(photo)
    except OSError:  # opening it says why
        return False


def guess_large_holes(
    photo: Picture,
    read: RowReader,
    read_mask: RowReader,
    factor: int,
    channels: int,
    network: inpainting.Network,
    training: HoleTraining,
) -> Floats | None:
    """Restore a photo at a fraction of its size, where even its large holes are small enough for the network.

    Args:
        photo: what the rows belong to.
        read, read_mask: return the next n rows of the photo, or of its damaged copy, and of its mask, from the top.
        factor: by how much the photo is made smaller.
        channels: C, 1 or 3, of the network.
        network: (h, w, C) → (h, w, C), any size.
        training: what the network was trained on.

    Returns:
        (H / factor, W / factor, C) in [0, 1], as stored; None if no hole is too large for the network.
    """
    small = inpainting.Reducer(factor, photo.width)
    while len(rows := read(8 * factor)):
        small.add(colours.to_floats(rows, photo.mode, channels), is_lost(read_mask(len(rows))[..., 0]))
    known, hole = small.result()
    if not has_square(hole, max(1, training.large // factor)):
        return None
    filled = inpainting.fill_holes(
        np.ascontiguousarray(to_upright(known, photo.orientation)),
        np.ascontiguousarray(to_upright(hole[..., None], photo.orientation)[..., 0]),
        network,
        training,
    )
    return np.where(hole[..., None], to_stored(filled, photo.orientation), known)
