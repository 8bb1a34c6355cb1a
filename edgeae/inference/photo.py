"""One photo restored: read in strips, cut into pieces, run through the network, joined, and written as it came.

`restore` does all of it; `batches` calls it for many.
"""

from __future__ import annotations

import copy
import io
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from edgeae.config import IMAGE_TO_IMAGE, ModelConfig, task_of
from edgeae.errors import ImageError, UsageError
from edgeae.files import atomic_write
from edgeae.images import arrays as imaging
from edgeae.images import colours
from edgeae.images.damage.apply import damage_rows
from edgeae.images.damage.harmonic import blend_hole
from edgeae.images.damage.spec import Corruption, parse
from edgeae.images.drawing import grids as pictures
from edgeae.images.files.array_io import write_image
from edgeae.images.files.formats import WRITE_FORMATS, format_of
from edgeae.images.files.reader import Photo, to_stored, to_upright
from edgeae.images.files.writer import Writer
from edgeae.inference import inpainting, tiles
from edgeae.inference.inpainting import Learned, has_square, prepared
from edgeae.inference.session import Session

Rows = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Reader = Callable[[int], Rows]  # gives the next n rows
Network = Callable[[Floats], Floats]  # (h, w, C) → (h, w, C')


@dataclass(frozen=True)
class Options:
    """How photos are restored.

    Attributes:
        strength: 0 gives the photo back, 1 the network's result, and what lies between a mixture.
        max_mem: bytes for the network and the rows in work.
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
    """One photo that was restored.

    Attributes:
        source, output: where from and where to.
        width, height: of the output in pixels, upright.
        pieces: how many it was cut into.
        ms: time in the network; of several that went through it together, this one's share.
        note: what of the file did not come along, or empty.
        compare: the picture of before and after, or empty.
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
    network: Network | None = None,
    taking: Callable[[int], AbstractContextManager[None]] | None = None,
) -> Restored:
    """Restore a photo.

    Args:
        source: the path or the bytes of an image file.
        target: a path, whose extension tells the format unless it is the source's, or a binary file that gets the whole
            picture in the source's format at the end.
        session: the model.
        options: the defaults if None.
        name: of the source in messages.
        mask: an image of the photo's size when upright, white where it is damaged: only there is it changed. Grey is a
            soft edge. What the photo has there does not count.
        network: runs the model on one piece; by default the session, in this thread.
        taking: a context manager that makes room for so many pixels.

    Raises:
        ImageError: the photo or the mask cannot be read, or the result does not fit into the format.
        UsageError: the format is unknown, or the memory too little.
        EdgeaeError: the target cannot be written.
        DeviceError: the device failed.
    """
    options = options or Options()
    with ExitStack() as stack:
        photo = stack.enter_context(Photo(source, name))
        kind = photo.format
        if isinstance(target, Path) and not (isinstance(source, Path) and same_suffix(source, target)):
            kind = format_of(target, None, WRITE_FORMATS)
        if taking:
            stack.enter_context(taking(photo.width * photo.height))
        photo.load()
        work = _Work(
            photo, session, options, mask, stack, network or (lambda piece: session.run_floats(piece[None])[0])
        )
        with _written(target) as file:
            (work.piece_by_piece if session.config.takes_any_size else work.fitted_to_size)(file, kind)
        beside = ""
        if options.compare and isinstance(target, Path):
            beside = str(target.with_name(f"{target.stem}.compare.png"))
            write_image(work.comparison(), beside)
    return Restored(
        photo.name,
        str(target) if isinstance(target, Path) else "-",
        *work.shown_size,
        work.pieces,
        work.ms,
        photo.note,
        beside,
    )


def same_suffix(source: Path, target: Path) -> bool:
    """Whether a file is written under the extension of the one it was read from, and so in its format."""
    return source.suffix.lower() == target.suffix.lower()


@contextmanager
def _written(target: Path | BinaryIO) -> Iterator[BinaryIO]:
    if isinstance(target, Path):
        with atomic_write(target) as file:
            yield file
    else:
        whole = io.BytesIO()
        yield whole
        target.write(whole.getvalue())
        target.flush()


def output_mode(mode: str, config: ModelConfig, task: str) -> str:
    """The colours of a result: the photo's, unless the network makes others (colorization, its number of channels)."""
    alpha = "A" if mode.endswith("A") else ""
    if config.out_channels == 1:
        return "L" + alpha
    makes_colours = config.in_channels == 1 or colours_grey(task) or task == IMAGE_TO_IMAGE
    return "RGB" + alpha if makes_colours and mode.startswith("L") else mode


def colours_grey(task: str, least: float = 0.0) -> bool:
    """Whether all that a network learned to undo takes colour away: at least this share of it, 1 for all."""
    with suppress(UsageError):  # another task than undoing damage
        return all(
            any(step.name == "gray" and step.strength >= least for step in steps) for steps in parse(task).choices
        )
    return False


class _Work:
    """A photo on its way. Rows are as stored, with the mask's values, if there is one, as one more channel."""

    def __init__(
        self, photo: Photo, session: Session, options: Options, mask: Path | None, stack: ExitStack, network: Network
    ) -> None:
        self._photo, self._config, self._options, self._network = photo, session.config, options, network
        self._task = task_of(session.metadata)
        self._colours_grey = colours_grey(self._task, 1)
        self._learned = Learned.of(session.config, self._task)
        self._seen: dict[str, pictures.Thumbnail] = {}
        self._clean: Rows | None = None
        self._damaged: Rows | None = None
        self._read: Reader = photo.read
        self._masked = mask is not None
        if options.corrupt.steps:
            self._clean, self._damaged = self._damage()
            self._read = tiles.reader(self._damaged)
        self.ms, self.pieces, self.shown_size = 0.0, 1, photo.shown_size
        if mask is not None and session.config.takes_any_size:
            self._read = self._with_mask(mask, stack)

    def piece_by_piece(self, file: BinaryIO, kind: str) -> None:
        """The way of the fully convolutional networks: at the photo's own size."""
        photo, config = self._photo, self._config
        mode = output_mode(photo.mode, config, self._task)
        held = (len(photo.mode) + self._masked * (1 + config.in_channels)) * photo.dtype.itemsize
        plan = tiles.plan(photo.height, photo.width, config, self._options.max_mem, 3 * held + 12 * config.out_channels)
        self.pieces = plan.pieces
        writer = Writer(file, kind, photo, mode)
        for rows, result in tiles.join(self._read, photo.height, plan, self._run):
            pixels, mask = rows[..., : len(photo.mode)], self._mask_of(rows)
            done = self._finished(pixels, mask, result, mode)
            writer.write(done)
            if self._options.compare:
                self._show(pixels, mask, done, mode)
        writer.close()

    def fitted_to_size(self, file: BinaryIO, kind: str) -> None:
        """The way of a `vae`, which has one size."""
        size = self._config.size
        if self._masked:
            raise UsageError("`mask` needs a conv or residual model: a vae changes the whole picture.")
        photo = self._photo
        rows = self._read(photo.height)
        whole = to_upright(colours.to_floats(rows, photo.mode, self._config.in_channels), photo.orientation)
        fitting = imaging.fit(whole, (size, size))
        result = self._asked(imaging.to_float(fitting))
        mode = output_mode(photo.mode, self._config, self._task).removesuffix("A").replace("CMYK", "RGB")
        done = colours.from_floats(result, rows, photo.mode, mode)
        square = copy.copy(photo)
        square.width = square.height = size
        writer = Writer(file, kind, square, mode)
        writer.write(to_stored(done, photo.orientation))
        writer.close()
        self.shown_size = size, size
        for title, image in (("original", fitting), ("restored", imaging.to_uint8(result))):
            self._seen[title] = pictures.Thumbnail(size, size)
            self._seen[title].add(image)

    def comparison(self) -> imaging.Pixels:
        """Original, what the network was given where that differs, and the result, side by side."""
        turn = self._photo.orientation if self._config.takes_any_size else 1
        titles = [title for title in ("original", "damaged", "masked", "restored") if title in self._seen]
        row = [to_upright(self._seen[title].picture(), turn) for title in titles]
        return pictures.comparison([row], titles, min_side=256, max_side=1024)

    # ---- what is read ------------------------------------------------------------------------------------------------

    def _damage(self) -> tuple[Rows, Rows]:
        """The photo as it was, and damaged."""
        photo = self._photo
        with Photo(photo.source, photo.name) as again:
            clean = again.read(photo.height)
        return clean, damage_rows(photo, self._options.corrupt, self._options.seed)[0]

    def _fresh(self, stack: ExitStack) -> Reader:
        """A reader of the photo, or of it damaged, from its top."""
        if self._damaged is not None:
            return tiles.reader(self._damaged)
        return stack.enter_context(Photo(self._photo.source, self._photo.name)).read

    def _with_mask(self, mask: Path, stack: ExitStack) -> Reader:
        """A reader of pixels, mask, and a guess of what large holes hide, if there are any."""
        photo, top = self._photo, 0
        factor = inpainting.coarse_factor(photo.width, photo.height)
        coarse = self._coarse_guess(mask, factor)
        read, read_mask = self._read, self._mask_reader(mask, stack)

        def all_of_them(count: int) -> Rows:
            nonlocal top
            rows = np.concatenate([read(count), read_mask(count)], axis=-1)
            if coarse is None:
                return rows
            top += len(rows)
            guess = inpainting.enlarged(coarse, factor, top - len(rows), top, photo.width)
            return np.concatenate([rows, colours.to_depth(guess, photo.dtype)], axis=-1)

        return all_of_them

    def _mask_reader(self, mask: Path, stack: ExitStack) -> Reader:
        photo, plane = self._photo, stack.enter_context(Photo(mask))
        if plane.shown_size != photo.shown_size:
            mine, other = (f"{width}×{height}" for width, height in (plane.shown_size, photo.shown_size))
            raise ImageError(f"{mask} has {mine} pixels and {photo.name} {other}: make the mask as large as the photo.")
        read: Reader = plane.read
        if photo.orientation != 1 or plane.orientation != 1:
            read = tiles.reader(to_stored(to_upright(plane.read(plane.height), plane.orientation), photo.orientation))
        return lambda count: colours.to_depth(colours.convert(read(count), plane.mode, "L"), photo.dtype)

    def _coarse_guess(self, mask: Path, factor: int) -> Floats | None:
        """What the network makes of the whole photo, made smaller by a factor; None if it has no large holes."""
        photo = self._photo
        if self._config.in_channels != self._config.out_channels:
            return None
        small = inpainting.Reducer(factor, photo.width)
        with ExitStack() as stack:
            read, read_mask = self._fresh(stack), self._mask_reader(mask, stack)
            while len(rows := read(8 * factor)):
                hole = read_mask(len(rows))[..., 0] > 0
                small.add(colours.to_floats(rows, photo.mode, self._config.in_channels), hole)
        known, hole = small.result()
        if not has_square(hole, max(1, self._learned.large // factor)):
            return None

        def network(image: Floats) -> Floats:
            return tiles.in_pieces(image, self._config, self._options.max_mem, self._asked)

        seen, lost = to_upright(known, photo.orientation), to_upright(hole[..., None], photo.orientation)[..., 0]
        guess = inpainting.filled(np.ascontiguousarray(seen), np.ascontiguousarray(lost), network, self._learned)
        return np.where(hole[..., None], to_stored(guess, photo.orientation), known)

    def _mask_of(self, rows: Rows) -> Floats | None:
        """(n, W, 1) in [0, 1]: how much of a pixel is to be replaced."""
        at = len(self._photo.mode)
        return colours.to_depth(rows[..., at : at + 1], np.float32) if self._masked else None

    def _guess_of(self, rows: Rows) -> Floats | None:
        guess = rows[..., len(self._photo.mode) + 1 :]
        return colours.to_depth(guess, np.float32) if guess.shape[-1] else None

    # ---- through the network -----------------------------------------------------------------------------------------

    def _run(self, piece: Rows) -> Floats | None:
        mask = self._mask_of(piece)
        if mask is not None and not mask.any():
            return None
        pixels = piece[..., : len(self._photo.mode)]
        x = self._given(pixels, mask, self._config.in_channels, self._guess_of(piece))
        turn = self._photo.orientation
        result = to_stored(self._asked(np.ascontiguousarray(to_upright(x, turn))), turn)
        if mask is not None:
            known = colours.to_floats(pixels, self._photo.mode, self._config.out_channels)
            result = blend_hole(result, known, mask[..., 0] > 0)
        return result

    def _given(self, pixels: Rows, mask: Floats | None, channels: int, guess: Floats | None = None) -> Floats:
        """What the network is given."""
        x = colours.to_floats(pixels, self._photo.mode, channels)
        if self._colours_grey:
            x = colours.desaturate(x)  # it has never seen a colour
        return x if mask is None else prepared(x, mask[..., 0] > 0, self._learned, guess)

    def _asked(self, x: Floats) -> Floats:
        started = time.perf_counter()
        result = self._network(x)
        self.ms += (time.perf_counter() - started) * 1e3
        return result

    # ---- what is written ---------------------------------------------------------------------------------------------

    def _finished(self, pixels: Rows, mask: Floats | None, result: Floats | None, mode: str) -> Rows:
        untouched = colours.convert(pixels, self._photo.mode, mode)
        if result is None:
            return untouched
        share: Floats | float = self._options.strength if mask is None else self._options.strength * mask
        if mask is not None or share < 1:
            x = colours.to_floats(pixels, self._photo.mode, self._config.out_channels)
            result = x + np.float32(share) * (result - x)
        done = colours.from_floats(result, pixels, self._photo.mode, mode)
        return done if mask is None else np.where(mask == 0, untouched, done)

    def _show(self, pixels: Rows, mask: Floats | None, done: Rows, mode: str) -> None:
        photo, stages = self._photo, {"original": pixels}
        if self._clean is not None:
            stages = {"original": self._clean[: len(pixels)], "damaged": pixels}
            self._clean = self._clean[len(pixels) :]
        elif mask is not None:
            given = self._given(pixels, mask, colours.CHANNELS[photo.mode])
            stages["masked"] = colours.from_floats(given, pixels, photo.mode, photo.mode)
        for title, rows in [*stages.items(), ("restored", done)]:
            if title not in self._seen:
                self._seen[title] = pictures.Thumbnail(photo.width, photo.height)
            shown = colours.convert(rows, mode if title == "restored" else photo.mode, "RGB")
            self._seen[title].add(colours.to_depth(shown, np.uint8))
