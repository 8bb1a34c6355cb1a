"""Restore one photo: read it strip by strip, run it through the network in pieces, and write it in its own format."""

from __future__ import annotations

import copy
import io
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from edgeae.config import task_of
from edgeae.errors import UsageError
from edgeae.files import atomic_write, is_same_file, set_date
from edgeae.images import colours
from edgeae.images.arrays import to_uint8
from edgeae.images.damage.apply import damage_rows
from edgeae.images.damage.spec import Corruption
from edgeae.images.files.array_io import write_image
from edgeae.images.files.formats import WRITE_FORMATS, format_of
from edgeae.images.files.losses import describe_losses, require_whole
from edgeae.images.files.metadata import UPRIGHT
from edgeae.images.files.reader import Photo
from edgeae.images.files.writer import Writer
from edgeae.inference import tiles
from edgeae.inference.masks import MaskSource
from edgeae.inference.previews import Previews
from edgeae.inference.restoration import (
    Job,
    Network,
    Rows,
    network_input,
    open_strips,
    restore_fitted,
    restore_strips,
)
from edgeae.inference.session import Session
from edgeae.inference.tiles import Strip


@dataclass(frozen=True)
class Options:
    """How to restore photos.

    Attributes:
        strength: 0 keeps the photo, 1 takes the network's result, between them a mixture.
        max_mem: bytes for the network and for the rows being joined.
        corrupt, seed: damage to do first.
        compare: also write `NAME.compare.png`, the photo before and after.
        allow_loss: write a result even where not all of the picture can be kept: some of its bits, or of its pages.
        keep_date: give the result the photo's date of modification.
    """

    strength: float = 1.0
    max_mem: int = field(default_factory=tiles.default_memory)
    corrupt: Corruption = field(default_factory=Corruption)
    seed: int = 0
    compare: bool = False
    allow_loss: bool = False
    keep_date: bool = False

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
        note: what of the file is not in the result, and what was understood of its mask; empty if all is plain.
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
    mask: MaskSource | None = None,
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
        mask: an image of the photo's size, white where the photo is damaged: only there it is changed, and what it
            shows there is ignored. Gray is replaced in part; `masks` tells what else is understood.
        comparison: where `options.compare` writes; None takes `NAME.compare.png` beside the target.
        network: runs the model on one piece; by default the session, in this thread.
        reserve: a context manager that waits until so many pixels may be held in memory.

    Raises:
        ImageError: the photo or the mask cannot be read, or the result does not fit into the format.
        UsageError: the format is unknown, the memory too little, the target the mask, or a `vae` has a mask.
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
            comparison = comparison or target.with_name(f"{target.stem}.compare.png")
            for path in [target, comparison][: 1 + options.compare]:
                if isinstance(mask, str | os.PathLike) and is_same_file(path, Path(mask)):
                    raise UsageError(f"{path} would replace the mask: name another place with `output`.")
        date_ns = source.stat().st_mtime_ns if options.keep_date and isinstance(source, Path) else None
        if not options.allow_loss:
            require_whole(photo, kind)
        if reserve:
            stack.enter_context(reserve(photo.width * photo.height))
        photo.load()
        job = Job(
            photo,
            session.config,
            task_of(session.metadata),
            network or (lambda piece: session.run_floats(piece[None])[0]),
            options.strength,
            options.max_mem,
            damage_rows(photo, options.corrupt, options.seed)[0] if options.corrupt.steps else None,
        )
        if not session.config.takes_any_size:
            if mask is not None:
                raise UsageError("`mask` needs a conv or residual model: a vae changes the whole picture.")
            shown_size = (session.config.size, session.config.size)
            previews = Previews(*shown_size, UPRIGHT)
            outside = ""
            with _open_target(target, source) as file:
                _restore_fitted(job, photo, file, kind, previews)
        else:
            shown_size, previews = photo.shown_size, Previews(photo.width, photo.height, photo.orientation)
            read = open_strips(job, mask, stack)
            with _open_target(target, source) as file:
                outside = _restore_in_strips(job, photo, read, file, kind, previews if options.compare else None)
        compare = ""
        if options.compare and isinstance(target, Path):
            compare = str(comparison)
            write_image(previews.draw(), compare, like=source if isinstance(source, Path) else None)
        note = "; ".join(filter(None, (describe_losses(photo, kind), job.mask_note, outside)))
    if date_ns is not None and isinstance(target, Path):
        set_date(target, date_ns)
    output = str(target) if isinstance(target, Path) else "-"
    return Restored(photo.name, output, *shown_size, job.pieces, job.ms, note, compare)


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


def _restore_fitted(job: Job, photo: Photo, file: BinaryIO, kind: str, previews: Previews) -> None:
    """Write a photo fitted to the size of a `vae`."""
    rows, original, restored = restore_fitted(job)
    layout = copy.copy(photo)  # all that belongs to the photo, at another size
    layout.height, layout.width = rows.shape[:2]
    writer = Writer(file, kind, layout, job.mode)
    writer.write(rows)
    writer.close()
    for stage, image in (("original", original), ("restored", restored)):
        previews.add(stage, to_uint8(image), "L" if image.shape[-1] == 1 else "RGB")


def _restore_in_strips(
    job: Job, photo: Photo, read: Callable[[int], Strip], file: BinaryIO, kind: str, previews: Previews | None
) -> str:
    """Write a photo at its own size, and add its stages to the previews; return what changes outside the mask."""
    masked = read(0).mask is not None
    writer = Writer(file, kind, photo, job.mode, keep=masked or job.strength == 0)
    with ExitStack() as stack:
        compare = None if previews is None else _open_comparison(job, photo, previews, stack)
        for strip, restored in restore_strips(job, read):
            writer.write(restored)
            if compare is not None:
                compare(strip, restored)
    writer.close()
    return writer.note if masked else ""


def _open_comparison(job: Job, photo: Photo, previews: Previews, stack: ExitStack) -> Callable[[Strip, Rows], None]:
    """Return a function that adds a strip and its restored rows to the previews."""
    read_original = stack.enter_context(photo.reopen()).read if job.damaged is not None else None

    def compare(strip: Strip, restored: Rows) -> None:
        original = strip.pixels if read_original is None else read_original(len(strip))
        previews.add("original", original, photo.mode)
        if read_original is not None:
            previews.add("damaged", strip.pixels, photo.mode)
        elif strip.mask is not None:
            x = network_input(job, replace(strip, guess=None), colours.CHANNELS[photo.mode])
            previews.add("masked", colours.from_floats(x, strip.pixels, photo.mode, photo.mode), photo.mode)
        previews.add("restored", restored, job.mode)

    return compare
