"""The main job in one call: load a model, and restore a photo or many."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, TypeAlias

from edgeae.errors import UsageError
from edgeae.files import is_folder
from edgeae.images.damage.spec import parse
from edgeae.images.files.listing import LeftOut
from edgeae.inference import tiles
from edgeae.inference.collect import collect
from edgeae.inference.folder import Failed, Outcome, Summary, restore_all
from edgeae.inference.load import load
from edgeae.inference.mask_pairs import add_masks
from edgeae.inference.masks import MaskSource
from edgeae.inference.photo import Options, Restored
from edgeae.inference.photo import restore as restore_photo
from edgeae.inference.session import Session
from edgeae.network.shipped import DEFAULT

PathLike: TypeAlias = str | os.PathLike[str]


def restore(
    source: PathLike | bytes,
    target: PathLike | BinaryIO | None = None,
    *,
    model: PathLike | Session = DEFAULT,
    mask: MaskSource | None = None,
    strength: float = 1.0,
    corrupt: str = "none",
    seed: int = 0,
    compare: bool = False,
    allow_loss: bool = False,
    keep_date: bool = False,
    device: str | None = None,
    threads: int | None = None,
    max_mem: int | None = None,
) -> Restored:
    """Restore a photo from file to file, as `edgeae run` does: its format, size, rotation and metadata are kept.

    Args:
        source: the path or the bytes of an image file.
        target: a path or a folder, or an open binary file. None writes `photo.out.jpg` beside `photo.jpg`.
        model: a shipped name, a path, or a session from `edgeae.load`, which saves loading it again for each photo.
        mask: an image of the photo's size, white where the photo is damaged: only there it is changed.
        strength: 0 keeps the photo, 1 takes the network's result, between them a mixture.
        corrupt, seed: damage to do first, as in `edgeae corrupt`.
        compare: also write `NAME.compare.png`, the photo before and after.
        allow_loss: write a result even where not all of the file can be kept: some of its bits, or of its pages.
        keep_date: give the result the photo's date of modification.
        device, threads, max_mem: as in `edgeae.load`; a session has its own.

    Returns:
        where the result is, its size, and what of the file is not in it (`note`).

    Raises:
        ImageError: the photo or the mask cannot be read, or the result does not fit into the format.
        UsageError: an argument is out of range, or a photo from memory has no target.
        EdgeaeError: the target cannot be written.
        WeightsError, DeviceError: the model cannot be loaded or run.
    """
    _require_file(source)
    session = _open(model, device, threads, max_mem)
    options = _make_options(session, max_mem, strength, corrupt, seed, compare, allow_loss, keep_date)
    destination: Path | BinaryIO
    if isinstance(target, str | os.PathLike | None):
        destination = _place(source, None if target is None else Path(target))
    else:
        destination = target
    picture = source if isinstance(source, bytes) else Path(source)
    return restore_photo(picture, destination, session, options, mask=mask)


def restore_many(
    sources: PathLike | Sequence[PathLike],
    output: PathLike | None = None,
    *,
    model: PathLike | Session = DEFAULT,
    mask: PathLike | None = None,
    strength: float = 1.0,
    corrupt: str = "none",
    seed: int = 0,
    compare: bool = False,
    allow_loss: bool = False,
    keep_date: bool = False,
    overwrite: bool = False,
    on_done: Callable[[Outcome], None] = lambda outcome: None,
    device: str | None = None,
    batch: int = 16,
    threads: int | None = None,
    max_mem: int | None = None,
) -> Summary:
    """Restore many photos, as `edgeae run` does; one that fails does not stop the others.

    Args:
        sources: files, folders (with their sub-folders) and patterns such as `scans/**/*.png`.
        output: a folder, which gets the tree of each folder or pattern. None writes `photo.out.jpg` beside
            `photo.jpg`, and `photos.out/` beside `photos/`.
        model: a shipped name, a path, or a session from `edgeae.load`.
        mask: one file for all photos, or a folder of masks with the photos' names.
        strength, corrupt, seed, compare, allow_loss, keep_date: as in `restore`.
        overwrite: replace outputs that exist; otherwise these photos are skipped.
        on_done: called after each photo with its outcome, in this thread.
        device, batch, threads, max_mem: as in `edgeae.load`; a session has its own.

    Returns:
        what was done, what failed and why, what existed already, and what was left out.

    Raises:
        UsageError: an argument is out of range, or outputs would replace one another or an input.
        ImageError: a folder or a pattern gives no image.
        WeightsError, DeviceError: the model cannot be loaded or run.
        EdgeaeError: the disk is full; files written before stay.
    """
    session = _open(model, device, threads, max_mem, batch)
    options = _make_options(session, max_mem, strength, corrupt, seed, compare, allow_loss, keep_date)
    paths = [sources] if isinstance(sources, str | os.PathLike) else sources
    inputs = [Path(path) for path in paths]
    unmasked, left_out = list[Failed](), list[LeftOut]()
    folder = None if output is None else Path(output)
    items = collect(inputs, folder, overwrite, compare=compare, on_left_out=left_out.append)
    if mask is not None:
        items, unmasked = add_masks(items, Path(mask), inputs)
    summary = restore_all(session, items, options, on_done)
    for failure in unmasked:
        on_done(failure)
    summary.failed += unmasked
    summary.left_out = left_out
    return summary


def _make_options(
    session: Session,
    max_mem: int | None,
    strength: float,
    corrupt: str,
    seed: int,
    compare: bool,
    allow_loss: bool,
    keep_date: bool,
) -> Options:
    memory = max_mem or session.max_mem or tiles.default_memory()
    return Options(strength, memory, parse(corrupt), seed, compare, allow_loss, keep_date)


def _open(
    model: PathLike | Session, device: str | None, threads: int | None, max_mem: int | None, batch: int = 16
) -> Session:
    if isinstance(model, Session):
        return model
    return load(model, device, batch=batch, threads=threads, max_mem=max_mem)


def _require_file(source: object) -> None:
    if not isinstance(source, str | os.PathLike | bytes):
        kind = type(source).__name__
        raise UsageError(f"a {kind} is no file: give a path or bytes, or take `Session.reconstruct` for it.")


def _place(source: PathLike | bytes, target: Path | None) -> Path:
    """Return the path of the result."""
    if not isinstance(source, bytes):
        path = Path(source)
        if is_folder(path):
            raise UsageError(f"{path} is a folder: `restore_many` restores all photos in it.")
        return collect([path], target)[0].target
    if target is None:
        raise UsageError("a photo from memory has no name for its result: give a `target`.")
    if not target.suffix or is_folder(target):
        raise UsageError(f"{target} is a folder, and a photo from memory has no name: give the path of a file.")
    return target
