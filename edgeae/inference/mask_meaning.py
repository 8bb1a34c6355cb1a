"""Find out what a mask's pixels mean, from counts of its colours, and turn them into shares. `masks` says the rules.

Two passes over the rows: `Palette` counts colours and transparency, from which `choose_plane` tells what carries the
mask; `Levels` counts the values of that, from which `choose_scale` tells which of them are black and white.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from edgeae.images import colours
from edgeae.images.arrays import Bools, Floats, Rows

Counts: TypeAlias = npt.NDArray[np.int64]
Kind: TypeAlias = Literal["gray", "strokes", "erased", "painted", "bright", "colorful"]

BLACK, WHITE = 0.1, 0.9  # below the one nothing is replaced, from the other on everything
LOST = 0.25  # the share from which on a pixel is lost: see `is_lost`
_HALF = 0.5
MOST = 0.5  # of the picture: a mask that replaces more may be inverted
_STEPS = 65_535
_SCALES = (255, 1023, 4095)  # whites of 8, 10 and 12 bits in values of 16
_COLORFUL = 4  # of 15: least difference of the channels of a colour that is no gray
_FLAT, _PICTURE = 8, 24  # so many colours make up 95% of something drawn, at most; and more than so many of a picture
_R, _G, _B = (np.arange(4096) >> shift & 15 for shift in (8, 4, 0))
_CHROMA = np.maximum(np.maximum(_R, _G), _B) - np.minimum(np.minimum(_R, _G), _B)
_LIGHT = np.maximum(np.maximum(_R, _G), _B)


class MeaningError(ValueError):
    """A mask does not tell what is damaged; the text continues after its name."""


# ---- what carries the mask ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plane:
    """What of a mask's pixels carries it.

    Attributes:
        kind: "gray": their luma. "strokes": how opaque they are. "erased": how transparent. "painted": luma on black.
            "bright": their brightest channel. "colorful": how far they are from gray.
        full: the value that counts as 1.
    """

    kind: Kind = "gray"
    full: float = 1.0

    def values(self, rows: Rows, mode: str) -> Floats:
        """Return the values of rows (n, W, len(mode)): (n, W) in [0, 1]."""
        if self.kind in ("strokes", "erased"):
            alpha: Floats = colours.to_depth(rows[..., -1], np.float32)
            return alpha if self.kind == "strokes" else 1 - alpha
        # Alpha that says nothing is dropped here, and not laid on white, as colours are elsewhere.
        colour, mode = (rows[..., :-1], mode[:-1]) if mode.endswith("A") else (rows, mode)
        if self.kind in ("gray", "painted"):
            light = colours.to_floats(colour, mode, 1)[..., 0]
            return light if self.kind == "gray" else light * colours.to_depth(rows[..., -1], np.float32)
        rgb = colours.to_floats(colour, mode, 3)
        value = rgb.max(axis=-1) - (rgb.min(axis=-1) if self.kind == "colorful" else 0)
        bounded: Floats = np.minimum(value / np.float32(self.full), np.float32(1))
        return bounded


@dataclass
class Palette:
    """Counts of a mask's colours by their transparency, each channel by its upper 4 bits.

    Attributes:
        counts: (16, 4096), by alpha, and by red, green and blue.
    """

    counts: Counts = field(default_factory=lambda: np.zeros((16, 4096), np.int64))

    def add(self, rows: Rows, mode: str) -> None:
        """Count the next rows, (n, W, len(mode))."""
        colour, plain = (rows[..., :-1], mode[:-1]) if mode.endswith("A") else (rows, mode)
        rgb = colours.to_depth(colours.to_floats(colour, plain, 3), np.uint8).astype(np.uint16) >> 4
        index = rgb[..., 0] << 8 | rgb[..., 1] << 4 | rgb[..., 2]
        if mode.endswith("A"):
            index |= (colours.to_depth(rows[..., -1], np.uint8).astype(np.uint16) >> 4) << 12
        else:
            index |= np.uint16(15 << 12)
        self.counts += np.bincount(index.ravel(), minlength=65_536).reshape(16, 4096)

    @property
    def alpha_says_something(self) -> bool:
        """Whether some pixels are more transparent than others."""
        return int((self.counts.sum(axis=1) > 0).sum()) > 1

    @property
    def may_be_erased(self) -> bool:
        """Whether it depends on the photo what a mask with transparency means: if it looks like that."""
        return self.alpha_says_something and (self.opaque_part > MOST or not self.is_flat)

    @property
    def most_opaque(self) -> float:
        """The highest alpha, in [0, 1]."""
        return int(np.flatnonzero(self.counts.any(axis=1))[-1]) / 15

    @property
    def opaque(self) -> Counts:
        """Counts of the colours, (4096,), of pixels at least half as opaque as the most opaque ones."""
        counts: Counts = self.counts[int(np.ceil(self.most_opaque * 15 / 2)) :].sum(axis=0)
        return counts

    @property
    def opaque_part(self) -> float:
        """The part of the pixels that is opaque."""
        return float(self.opaque.sum() / self.counts.sum())

    @property
    def is_flat(self) -> bool:
        """Whether what is opaque has a few colours, as something drawn has."""
        return _count_colours(self.opaque) <= _FLAT


def _count_colours(counts: Counts) -> int:
    """Return how many colours make up 95% of the pixels."""
    return 1 + int(np.searchsorted(np.sort(counts)[::-1].cumsum(), 0.95 * counts.sum()))


def choose_plane(palette: Palette, lossy: bool, like_photo: bool | None = None) -> Plane:
    """Return what carries a mask with colours or alpha.

    Args:
        palette: its colours.
        lossy: whether the mask's format loses details.
        like_photo: whether what is opaque looks like the photo; None if that is not known.

    Raises:
        MeaningError: that cannot be told.
    """
    if palette.alpha_says_something:
        return _choose_of_transparent(palette, like_photo)
    counts = palette.counts.sum(axis=0)
    if palette.most_opaque == 0 and np.count_nonzero(counts) == 1:  # an empty layer, and not a file of unused alpha
        return Plane("strokes")
    gray, colorful = counts[_CHROMA < _COLORFUL].sum(), counts * (_CHROMA >= _COLORFUL)
    if not colorful.any():
        return Plane()
    if _count_colours(counts) > _PICTURE:
        raise MeaningError("is a picture and no mask: paint the damage white on black.")
    black, white = (counts[(_CHROMA < _COLORFUL) & level].sum() for level in (_LIGHT < 2, _LIGHT >= 14))
    if black >= gray / 2 > 0:
        lit = counts * (_LIGHT >= 2)
        return Plane("bright", _full(_LIGHT, lit, lossy))
    if white >= gray / 2 > 0 and gray - white <= colorful.sum() / 4:
        return Plane("colorful", _full(_CHROMA, colorful, lossy))
    raise MeaningError("has colors that do not tell what is damaged: paint the damage white on black.")


def _full(levels: npt.NDArray[np.int_], counts: Counts, lossy: bool) -> float:
    """Return the level that counts as 1, in [0, 1], of the counted colours with `levels` of 15.

    That is the lowest one of those that are drawn with, a twentieth of the pixels or more; of colours that compression
    has scattered, one that nearly all are below.
    """
    if lossy:
        by_level = np.bincount(levels, counts, 16).cumsum()
        return float(np.searchsorted(by_level, 0.9 * by_level[-1])) / 15
    return float(levels[counts >= counts.sum() / 20].min(initial=15) / 15)


def _choose_of_transparent(palette: Palette, like_photo: bool | None) -> Plane:
    counts = palette.opaque
    gray = _CHROMA < _COLORFUL
    black, white = counts[gray & (_LIGHT < 2)].sum(), counts[gray & (_LIGHT >= 14)].sum()
    black_and_white = black and white and black + white >= 0.9 * counts.sum()
    mostly = palette.opaque_part > MOST
    if like_photo and palette.may_be_erased:
        if mostly:
            return Plane("erased")
        raise MeaningError(
            "looks like the photo and is transparent in more than half of it: paint the damage white on black."
        )
    if black_and_white:
        return Plane("painted")
    if not mostly:
        return Plane("strokes")
    if not palette.is_flat:
        return Plane("erased")
    raise MeaningError(
        f"has strokes in {palette.opaque_part:.0%} of the picture, or damage that was erased in the rest: paint the "
        "damage white on black."
    )


# ---- which values are black and white ----------------------------------------------------------------------------


@dataclass
class Levels:
    """Counts of the values of a mask's plane, in steps of 1/65535."""

    counts: Counts = field(default_factory=lambda: np.zeros(_STEPS + 1, np.int64))

    def add(self, values: Floats) -> None:
        """Count the next values, in [0, 1]."""
        self.counts += np.bincount(np.rint(values.ravel() * _STEPS).astype(np.int64), minlength=_STEPS + 1)

    def between(self, low: float, high: float) -> Counts:
        """Return the counts of values from `low` on and below `high`."""
        return self.counts[int(np.ceil(low * _STEPS)) : int(np.ceil(high * _STEPS))]


@dataclass(frozen=True)
class Meaning:
    """What a mask's pixels mean.

    Attributes:
        plane: what carries the mask.
        black, white: values of it that count as 0 and as 1.
        hard: whether its edges are hard but for the noise of compression: then shares are 0 and 1 only.
        replaced: the mean share.
        gray: the part of the pixels that is replaced in part.
        note: what was understood, as a half sentence, where that is not plain.
    """

    plane: Plane = field(default_factory=Plane)
    black: float = 0.0
    white: float = 1.0
    hard: bool = False
    replaced: float = 0.0
    gray: float = 0.0
    note: str = ""

    def shares(self, rows: Rows, mode: str) -> Floats:
        """Return how much of each pixel is replaced.

        Args:
            rows: (n, W, len(mode)) of the mask, uint8, uint16, or float32 in [0, 1] (see `colours`).
            mode: theirs.

        Returns:
            (n, W) in [0, 1]; what is at least LOST is lost.
        """
        return self._to_shares(self.plane.values(rows, mode))

    def _to_shares(self, values: Floats) -> Floats:
        shares = (values - np.float32(self.black)) / np.float32(self.white - self.black)
        if self.hard:
            return (shares >= _HALF).astype(np.float32)
        return np.where(shares < BLACK, np.float32(0), np.where(shares >= WHITE, np.float32(1), shares))


def is_lost(shares: Rows) -> Bools:
    """Return which pixels are lost, of shares in uint8, uint16 or floats.

    Damage reaches into the gray edge of a stroke, while edges feathered outwards leave it behind. Around antialiased
    scratches on two photos, in dB: 24.3 and 25.0 where a pixel is lost from a tenth on, 23.9 and 24.5 from a quarter,
    21.2 and 20.9 from a half; with edges feathered outwards by 6 pixels 23.5 and 21.9, 24.3 and 23.6, 27.4 and 26.8.
    """
    lost: Bools = shares >= LOST * colours.white_level(shares.dtype)
    return lost


def choose_scale(levels: Levels, plane: Plane, lossy: bool, white: int = 255) -> Meaning:
    """Return what the values of a mask's plane mean.

    Args:
        levels: the values.
        plane: what has them.
        lossy: whether the mask's format loses details.
        white: the highest value of the mask's type.

    Raises:
        MeaningError: they say nothing sensible.
    """
    found = np.flatnonzero(levels.counts)
    least, most = found[0] / _STEPS, found[-1] / _STEPS
    said = [_PLANES[plane.kind]] if plane.kind in _PLANES else []
    if least >= WHITE:
        raise MeaningError("is white everywhere and leaves nothing of the photo: paint only the damage.")
    top = round(most * white)
    named = f"{most:.3g}" if white == 1 else f"{top} of {white}"
    if most < BLACK and len(found) == 1:
        said.append(f"the mask is empty, its values are all {named}: nothing is replaced")
        return Meaning(plane, note="; ".join(said))
    black, full = 0.0, 1.0
    if most < BLACK:
        if len(found) == 2:
            black, full = float(least), float(most)
        elif white == _STEPS and top > 16:
            full = next((scale for scale in _SCALES if scale >= top), top) / _STEPS
        else:
            raise MeaningError(
                f"has values of up to {named}, which do not tell white: paint the damage white on black."
            )
        said.append(f"{round(full * white) if white > 1 else f'{full:.3g}'} is taken for the mask's white")
    elif most < WHITE:
        said.append(f"the mask's highest value is {named}: no more than {most:.0%} is replaced")
    if least >= BLACK:
        said.append(f"the mask's lowest value replaces {least:.0%} everywhere")
    # JPEG and WebP keep colors at half the resolution: edges between two of them are never sharp.
    hard = _has_noise(levels, lossy) or (lossy and plane.kind in ("bright", "colorful"))
    steps = np.arange(_STEPS + 1, dtype=np.float32) / np.float32(_STEPS)
    replaced = float(Meaning(plane, black, full, hard)._to_shares(steps) @ levels.counts / levels.counts.sum())
    gray = 0.0 if hard else float(levels.between(BLACK, WHITE).sum() / levels.counts.sum())
    if gray > MOST:
        said.append(f"{gray:.0%} of the mask is gray, and replaced in part")
    faint = found[(found > found[0]) & (found < BLACK * _STEPS)]
    if most >= BLACK and not lossy and _are_classes(levels.counts, found, faint):
        said.append(f"values of up to {faint[-1] / _STEPS * white:.3g} count as black")
    if replaced == 0:
        said.append("nothing is replaced")
    if replaced > MOST:
        said.append(f"the mask replaces {replaced:.0%} of the picture: if black marks the damage, invert it")
    return Meaning(plane, black, full, hard, replaced, gray, "; ".join(said))


def _are_classes(counts: Counts, found: npt.NDArray[np.intp], faint: npt.NDArray[np.intp]) -> bool:
    """Return whether the faint ones of the values found may be meant, such as numbers of classes beside a white border.

    They are few, and neither the noise of a black ground nor the soft edges of what is marked.
    """
    dark, marked = counts[found[0]], counts[found[found >= BLACK * _STEPS]].sum()
    return len(found) <= _FLAT and bool(dark > counts[faint].sum() > marked / 4)


_PLANES = {
    "strokes": "the mask is what is painted on its transparent layer",
    "erased": "the mask is what is transparent in it",
    "painted": "the mask is the white on its transparent layer",
    "bright": "the mask is all that is not black in it",
    "colorful": "the mask is what is colored in it",
}


def _has_noise(levels: Levels, lossy: bool) -> bool:
    """Return whether a mask has two values but for what compression made of them.

    Compression scatters values around black and white in whole blocks, and leaves few in the middle; soft edges have
    as many there as near the ends. The limits are from 300 drawings, saved as JPEG of qualities 10 to 90 and as WebP,
    and from the same blurred by 0.5 to 15 pixels, resized and rotated: one in a hundred is on the wrong side.
    """
    ends = levels.between(0, BLACK), levels.between(WHITE, 1.1)
    noise = sum(int(end.sum() - end.max()) for end in ends)
    between, middle, lost = (int(levels.between(*span).sum()) for span in ((BLACK, WHITE), (0.3, 0.7), (_HALF, 1.1)))
    if lossy:
        return noise > 0.9 * between and middle < 0.25 * between < 0.5 * lost
    few = between < lost or middle < 0.05 * lost
    return noise > 1.7 * between and middle < 0.15 * between and few
