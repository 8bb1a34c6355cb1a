"""Restore a picture row by row: run the network on its pieces, and mix photo and result by strength and mask.

`photo.restore` writes the restored rows to a file, `Session.reconstruct` returns them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeae.config import ModelConfig
from edgeae.errors import UsageError
from edgeae.images import colours
from edgeae.images.arrays import fit, to_float
from edgeae.images.damage.harmonic import blend_hole
from edgeae.images.files.turns import to_stored, to_upright
from edgeae.inference import inpainting, tiles
from edgeae.inference.inpainting import HoleTraining, prepare_holes
from edgeae.inference.mask_meaning import is_lost
from edgeae.inference.masks import Mask, MaskSource, guess_large_holes
from edgeae.inference.picture import Picture
from edgeae.inference.task import output_mode, removes_color
from edgeae.inference.tiles import Strip

Rows = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Network = Callable[[Floats], Floats]  # (h, w, C) → (h, w, C')


@dataclass
class Job:
    """A picture, and how it is to be restored.

    Attributes:
        picture: it.
        config: of the network.
        task: what the network was trained on, as its weight file says.
        run: runs the network on one piece.
        strength: 0 keeps the picture, 1 takes the network's result, between them a mixture.
        max_mem: bytes for the network and for the rows being joined; None runs the whole picture in one piece.
        damaged: the picture's rows after damage was done to it; None without.
        ms: time spent in the network until now.
        pieces: that the picture was cut into.
        mask_note: what was understood of the mask, where that is not plain.
    """

    picture: Picture
    config: ModelConfig
    task: str
    run: Network
    strength: float = 1.0
    max_mem: int | None = None
    damaged: Rows | None = None
    ms: float = 0.0
    pieces: int = 1
    mask_note: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise UsageError(f"`strength` must be between 0 and 1, not {self.strength:g}.")

    @cached_property
    def training(self) -> HoleTraining:
        """The holes that the network has met in training."""
        return HoleTraining.of(self.config, self.task)

    @cached_property
    def knows_gray_only(self) -> bool:
        """Whether the network has never seen a color, as one for colorization."""
        return removes_color(self.task, 1)

    @cached_property
    def mode(self) -> str:
        """The mode of the restored rows."""
        mode = output_mode(self.picture.mode, self.config, self.task)
        # A vae makes a picture of its own: neither the alpha nor the inks of the photo belong to it.
        return mode if self.config.takes_any_size else mode.removesuffix("A").replace("CMYK", "RGB")

    def run_timed(self, x: Floats) -> Floats:
        """Run the network on one piece, and count the time."""
        started = time.perf_counter()
        result = self.run(x)
        self.ms += (time.perf_counter() - started) * 1e3
        return result


# ---- the whole picture, fitted to the size of a vae --------------------------------------------------------------


def restore_fitted(job: Job) -> tuple[Rows, Floats, Floats]:
    """Restore a picture at the one size of a `vae`.

    Returns:
        The restored rows, (size, size, len(job.mode)), as stored; and, upright and in [0, 1], the fitted picture and
        the result.
    """
    picture, size = job.picture, job.config.size
    rows = picture.read(picture.height) if job.damaged is None else job.damaged
    whole = to_upright(colours.to_floats(rows, picture.mode, job.config.in_channels), picture.orientation)
    square = to_float(fit(whole, (size, size)))
    result = job.run_timed(square)
    if job.strength < 1 and result.shape == square.shape:
        result = square + np.float32(job.strength) * (result - square)
    stored = to_stored(colours.from_floats(result, rows, picture.mode, job.mode), picture.orientation)
    return stored, square, result


# ---- piece by piece, at the picture's own size -------------------------------------------------------------------


def restore_strips(job: Job, read: Callable[[int], Strip]) -> Iterator[tuple[Strip, Rows]]:
    """Restore a picture from its strips, which `open_strips` reads.

    Yields:
        strips as they were read, and the restored rows, (n, width, len(job.mode)), from the top.
    """
    picture, config = job.picture, job.config
    if job.max_mem is None:
        strip = read(picture.height)
        yield strip, _mix(job, strip, _run_piece(job, strip))
        return
    extra = 0 if read(0).mask is None else 1 + config.in_channels  # a mask, and a guess that there may be
    column = 3 * (len(picture.mode) + extra) * picture.dtype.itemsize + 12 * config.out_channels
    tiling = tiles.plan(picture.height, picture.width, config, job.max_mem, column)
    job.pieces = tiling.pieces
    for strip, result in tiles.join(read, picture.height, tiling, lambda piece: _run_piece(job, piece)):
        yield strip, _mix(job, strip, result)


def network_input(job: Job, strip: Strip, channels: int) -> Floats:
    """Return a strip as the network sees it, (n, w, channels) in [0, 1], with its holes prepared."""
    x = colours.to_floats(strip.pixels, job.picture.mode, channels)
    if job.knows_gray_only:
        x = colours.desaturate(x)
    if strip.mask is None:
        return x
    guess = None if strip.guess is None else colours.to_depth(strip.guess, np.float32)
    return prepare_holes(x, is_lost(strip.mask[..., 0]), job.training, guess)


def _run_piece(job: Job, piece: Strip) -> Floats | None:
    """Return the network's result for a piece, (h, w, C), or None where nothing of it is masked."""
    if piece.mask is not None and not piece.mask.any():
        return None
    orientation = job.picture.orientation
    x = network_input(job, piece, job.config.in_channels)
    result = to_stored(job.run_timed(np.ascontiguousarray(to_upright(x, orientation))), orientation)
    if piece.mask is not None:
        known = colours.to_floats(piece.pixels, job.picture.mode, job.config.out_channels)
        result = blend_hole(result, known, is_lost(piece.mask[..., 0]))
    return result


def _mix(job: Job, strip: Strip, result: Floats | None) -> Rows:
    """Mix picture and result by strength and mask: (n, W, len(job.mode)) in the picture's type."""
    picture, strength = job.picture, job.strength
    untouched = colours.convert(strip.pixels, picture.mode, job.mode)
    if result is None:
        return untouched
    mask: Floats | None = None if strip.mask is None else colours.to_depth(strip.mask, np.float32)
    if mask is not None or strength < 1:
        share = strength if mask is None else strength * mask
        x = colours.to_floats(strip.pixels, picture.mode, job.config.out_channels)
        result = x + np.float32(share) * (result - x)
    mixed = colours.from_floats(result, strip.pixels, picture.mode, job.mode)
    return mixed if mask is None else np.where(mask == 0, untouched, mixed)


# ---- strips of the picture with its mask -------------------------------------------------------------------------


def open_strips(job: Job, mask: MaskSource | None, stack: ExitStack) -> Callable[[int], Strip]:
    """Return a function that reads the next n rows as stored, with the mask and a guess of what large holes hide."""
    picture, top = job.picture, 0
    read = picture.read if job.damaged is None else tiles.row_reader(job.damaged)
    if mask is None:
        return lambda count: Strip(read(count))
    understood = Mask(mask, picture)
    job.mask_note = understood.note
    factor = inpainting.coarse_factor(picture.width, picture.height)
    coarse = _guess_large_holes(job, understood, factor) if job.config.in_channels == job.config.out_channels else None
    read_mask = understood.open(stack)

    def read_strip(count: int) -> Strip:
        nonlocal top
        pixels, hole = read(count), read_mask(count)
        top += len(pixels)
        if coarse is None:
            return Strip(pixels, hole)
        guess = inpainting.enlarge(coarse, factor, top - len(pixels), top, picture.width)
        return Strip(pixels, hole, colours.to_depth(guess, picture.dtype))  # of 8 bits: a quarter of what floats take

    return read_strip


def _guess_large_holes(job: Job, mask: Mask, factor: int) -> Floats | None:
    """Restore the picture at 1/factor of its size; None if no hole is too large for the network."""

    def network(image: Floats) -> Floats:
        if job.max_mem is None:
            return job.run_timed(image)
        return tiles.in_pieces(image, job.config, job.max_mem, job.run_timed)

    with ExitStack() as stack:
        picture = stack.enter_context(job.picture.reopen())
        read = picture.read if job.damaged is None else tiles.row_reader(job.damaged)
        read_mask = mask.open(stack)
        return guess_large_holes(picture, read, read_mask, factor, job.config.in_channels, network, job.training)
