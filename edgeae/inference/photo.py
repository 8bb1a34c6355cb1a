"""Restore one photo: read it strip by strip, run it through the network in pieces, and write it in its own format."""

from __future__ import annotations

import copy
import io
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from edgeae.config import ModelConfig, task_of
from edgeae.errors import UsageError
from edgeae.files import atomic_write
from edgeae.images import colours
from edgeae.images.arrays import fit, to_float, to_uint8
from edgeae.images.damage.apply import damage_rows
from edgeae.images.damage.harmonic import blend_hole
from edgeae.images.damage.spec import Corruption
from edgeae.images.files.array_io import write_image
from edgeae.images.files.formats import WRITE_FORMATS, format_of
from edgeae.images.files.metadata import UPRIGHT
from edgeae.images.files.reader import Photo, to_stored, to_upright
from edgeae.images.files.writer import Writer
from edgeae.inference import inpainting, tiles
from edgeae.inference.inpainting import HoleTraining, prepare_holes
from edgeae.inference.masks import guess_large_holes, open_mask
from edgeae.inference.previews import Previews
from edgeae.inference.session import Session
from edgeae.inference.task import output_mode, removes_color
from edgeae.inference.tiles import Strip

Rows = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Network = Callable[[Floats], Floats]  # (h, w, C) → (h, w, C')


@dataclass(frozen=True)
class Options:
    """How to restore photos.

    Attributes:
        strength: 0 keeps the photo, 1 takes the network's result, between them a mixture.
        max_mem: bytes for the network and for the rows being joined.
        corrupt, seed: damage to do first.
        compare: also write `NAME.compare.png`, the photo before and after.
    """

    strength: float = 1.0
    max_mem: int = field(default_factory=tiles.default_memory)
    corrupt: Corruption = field(default_factory=Corruption)
    seed: int = 0
    compare: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise UsageError(f"`strength` must be between 0 and 1, not {self.strength:g}.")


@dataclass(frozen=True)
class Restored:
    """A photo that was restored.

    Attributes:
        source, output: paths of the photo and of the result.
        width, height: of the result in pixels, upright.
        pieces: number of pieces that went through the network.
        ms: time in the network; where several photos went through it together, this one's share.
        note: what of the file is not in the result, or empty.
        compare: path of the picture of before and after, or empty.
    """

    source: str
    output: str
    width: int
    height: int
    pieces: int
    ms: float
    note: str = ""
    compare: str = ""


def restore(
    source: Path | bytes,
    target: Path | BinaryIO,
    session: Session,
    options: Options | None = None,
    *,
    name: str | None = None,
    mask: Path | None = None,
    comparison: Path | None = None,
    network: Network | None = None,
    reserve: Callable[[int], AbstractContextManager[None]] | None = None,
) -> Restored:
    """Restore a photo.

    Args:
        source: the path or the bytes of an image file.
        target: a path, whose extension chooses the format unless it is the source's extension; or a binary file, which
            gets the whole picture in the source's format at the end.
        session: the model.
        options: None takes the defaults.
        name: of the source in messages.
        mask: an image of the photo's size when upright, white where the photo is damaged: only there it is changed, and
            what it shows there is ignored. Gray is a soft edge.
        comparison: where `options.compare` writes; None takes `NAME.compare.png` beside the target.
        network: runs the model on one piece; by default the session, in this thread.
        reserve: a context manager that waits until so many pixels may be held in memory.

    Raises:
        ImageError: the photo or the mask cannot be read, or the result does not fit into the format.
        UsageError: the format is unknown, the memory too little, or a `vae` has a mask.
        EdgeaeError: the target cannot be written.
        DeviceError: the device failed.
    """
    options = options or Options()
    with ExitStack() as stack:
        photo = stack.enter_context(Photo(source, name))
        kind = photo.format
        if isinstance(target, Path):
            same_suffix = isinstance(source, Path) and source.suffix.lower() == target.suffix.lower()
            kind = photo.format if same_suffix else format_of(target, None, WRITE_FORMATS)
        if reserve:
            stack.enter_context(reserve(photo.width * photo.height))
        photo.load()
        job = _Job(
            photo,
            session.config,
            task_of(session.metadata),
            network or (lambda piece: session.run_floats(piece[None])[0]),
            options,
            damage_rows(photo, options.corrupt, options.seed)[0] if options.corrupt.steps else None,
        )
        if not session.config.takes_any_size:
            if mask is not None:
                raise UsageError("`mask` needs a conv or residual model: a vae changes the whole picture.")
            pieces, shown_size = 1, (session.config.size, session.config.size)
            previews = Previews(*shown_size, UPRIGHT)
            with _open_target(target, source) as file:
                _restore_fitted(job, file, kind, previews)
        else:
            shown_size, previews = photo.shown_size, Previews(photo.width, photo.height, photo.orientation)
            read = _open_strips(job, mask, stack)
            with _open_target(target, source) as file:
                pieces = _restore_in_pieces(job, read, file, kind, previews)
        compare = ""
        if options.compare and isinstance(target, Path):
            compare = str(comparison or target.with_name(f"{target.stem}.compare.png"))
            write_image(previews.draw(), compare, like=source if isinstance(source, Path) else None)
    output = str(target) if isinstance(target, Path) else "-"
    return Restored(photo.name, output, *shown_size, pieces, job.ms, photo.note, compare)


@dataclass
class _Job:
    """A photo, and how it is to be restored.

    Attributes:
        photo: it, open.
        config: of the network.
        task: what the network was trained on, as its weight file says.
        run: runs the network on one piece.
        options: of the caller.
        damaged: the photo's rows after `options.corrupt`; None without damage.
        ms: time spent in the network until now.
    """

    photo: Photo
    config: ModelConfig
    task: str
    run: Network
    options: Options
    damaged: Rows | None
    ms: float = 0.0

    @cached_property
    def training(self) -> HoleTraining:
        """The holes that the network has met in training."""
        return HoleTraining.of(self.config, self.task)

    @cached_property
    def knows_gray_only(self) -> bool:
        """Whether the network has never seen a color, as one for colorization."""
        return removes_color(self.task, 1)

    def run_timed(self, x: Floats) -> Floats:
        """Run the network on one piece, and count the time."""
        started = time.perf_counter()
        result = self.run(x)
        self.ms += (time.perf_counter() - started) * 1e3
        return result


@contextmanager
def _open_target(target: Path | BinaryIO, source: Path | bytes) -> Iterator[BinaryIO]:
    if isinstance(target, Path):
        with atomic_write(target, like=source if isinstance(source, Path) else None) as file:
            yield file
    else:
        whole = io.BytesIO()
        yield whole
        target.write(whole.getvalue())
        target.flush()


# ---- the whole photo, fitted to the size of a vae ----------------------------------------------------------------


def _restore_fitted(job: _Job, file: BinaryIO, kind: str, previews: Previews) -> None:
    photo, size = job.photo, job.config.size
    rows = photo.read(photo.height) if job.damaged is None else job.damaged
    whole = to_upright(colours.to_floats(rows, photo.mode, job.config.in_channels), photo.orientation)
    square = fit(whole, (size, size))
    result = job.run_timed(to_float(square))
    mode = output_mode(photo.mode, job.config, job.task).removesuffix("A").replace("CMYK", "RGB")
    layout = copy.copy(photo)  # all that belongs to the photo, at another size
    layout.width = layout.height = size
    writer = Writer(file, kind, layout, mode)
    writer.write(to_stored(colours.from_floats(result, rows, photo.mode, mode), photo.orientation))
    writer.close()
    for stage, image in (("original", square), ("restored", to_uint8(result))):
        previews.add(stage, image, "L" if image.shape[-1] == 1 else "RGB")


# ---- piece by piece, at the photo's own size ---------------------------------------------------------------------


def _restore_in_pieces(job: _Job, read: Callable[[int], Strip], file: BinaryIO, kind: str, previews: Previews) -> int:
    """Restore a photo from its strips; return the number of pieces."""
    photo, config = job.photo, job.config
    mode = output_mode(photo.mode, config, job.task)
    extra = 0 if read(0).mask is None else 1 + config.in_channels  # a mask, and a guess that there may be
    column = 3 * (len(photo.mode) + extra) * photo.dtype.itemsize + 12 * config.out_channels
    tiling = tiles.plan(photo.height, photo.width, config, job.options.max_mem, column)
    writer = Writer(file, kind, photo, mode)
    with ExitStack() as stack:
        compare = _open_comparison(job, mode, previews, stack) if job.options.compare else None
        for strip, result in tiles.join(read, photo.height, tiling, lambda piece: _run_piece(job, piece)):
            restored = _mix(job, strip, result, mode)
            writer.write(restored)
            if compare is not None:
                compare(strip, restored)
    writer.close()
    return tiling.pieces


def _run_piece(job: _Job, piece: Strip) -> Floats | None:
    """Return the network's result for a piece, (h, w, C), or None where nothing of it is masked."""
    if piece.mask is not None and not piece.mask.any():
        return None
    orientation = job.photo.orientation
    x = _network_input(job, piece, job.config.in_channels)
    result = to_stored(job.run_timed(np.ascontiguousarray(to_upright(x, orientation))), orientation)
    if piece.mask is not None:
        known = colours.to_floats(piece.pixels, job.photo.mode, job.config.out_channels)
        result = blend_hole(result, known, piece.mask[..., 0] > 0)
    return result


def _network_input(job: _Job, strip: Strip, channels: int) -> Floats:
    x = colours.to_floats(strip.pixels, job.photo.mode, channels)
    if job.knows_gray_only:
        x = colours.desaturate(x)
    if strip.mask is None:
        return x
    guess = None if strip.guess is None else colours.to_depth(strip.guess, np.float32)
    return prepare_holes(x, strip.mask[..., 0] > 0, job.training, guess)


def _mix(job: _Job, strip: Strip, result: Floats | None, mode: str) -> Rows:
    """Mix photo and result by strength and mask: (n, W, len(mode)) in the photo's type."""
    photo, strength = job.photo, job.options.strength
    untouched = colours.convert(strip.pixels, photo.mode, mode)
    if result is None:
        return untouched
    mask: Floats | None = None if strip.mask is None else colours.to_depth(strip.mask, np.float32)
    if mask is not None or strength < 1:
        share = strength if mask is None else strength * mask
        x = colours.to_floats(strip.pixels, photo.mode, job.config.out_channels)
        result = x + np.float32(share) * (result - x)
    mixed = colours.from_floats(result, strip.pixels, photo.mode, mode)
    return mixed if mask is None else np.where(mask == 0, untouched, mixed)


def _open_comparison(job: _Job, mode: str, previews: Previews, stack: ExitStack) -> Callable[[Strip, Rows], None]:
    """Return a function that adds a strip, and its restored rows of `mode`, to the previews."""
    photo = job.photo
    read_original = stack.enter_context(Photo(photo.source, photo.name)).read if job.damaged is not None else None

    def compare(strip: Strip, restored: Rows) -> None:
        original = strip.pixels if read_original is None else read_original(len(strip))
        previews.add("original", original, photo.mode)
        if read_original is not None:
            previews.add("damaged", strip.pixels, photo.mode)
        elif strip.mask is not None:
            x = _network_input(job, replace(strip, guess=None), colours.CHANNELS[photo.mode])
            previews.add("masked", colours.from_floats(x, strip.pixels, photo.mode, photo.mode), photo.mode)
        previews.add("restored", restored, mode)

    return compare


# ---- strips of the photo with its mask ---------------------------------------------------------------------------


def _open_strips(job: _Job, mask: Path | None, stack: ExitStack) -> Callable[[int], Strip]:
    """Return a function that reads the next n rows as stored, with the mask and a guess of what large holes hide."""
    photo, top = job.photo, 0
    read = photo.read if job.damaged is None else tiles.row_reader(job.damaged)
    if mask is None:
        return lambda count: Strip(read(count))
    factor = inpainting.coarse_factor(photo.width, photo.height)
    coarse = _guess_large_holes(job, mask, factor) if job.config.in_channels == job.config.out_channels else None
    read_mask = open_mask(mask, photo, stack)

    def read_strip(count: int) -> Strip:
        nonlocal top
        pixels, hole = read(count), read_mask(count)
        top += len(pixels)
        if coarse is None:
            return Strip(pixels, hole)
        guess = inpainting.enlarge(coarse, factor, top - len(pixels), top, photo.width)
        return Strip(pixels, hole, colours.to_depth(guess, photo.dtype))  # of 8 bits: a quarter of the memory of floats

    return read_strip


def _guess_large_holes(job: _Job, mask: Path, factor: int) -> Floats | None:
    """Restore the photo at 1/factor of its size; None if no hole is too large for the network."""

    def network(image: Floats) -> Floats:
        return tiles.in_pieces(image, job.config, job.options.max_mem, job.run_timed)

    with ExitStack() as stack:
        photo = stack.enter_context(Photo(job.photo.source, job.photo.name))
        read = photo.read if job.damaged is None else tiles.row_reader(job.damaged)
        read_mask = open_mask(mask, photo, stack)
        return guess_large_holes(photo, read, read_mask, factor, job.config.in_channels, network, job.training)
