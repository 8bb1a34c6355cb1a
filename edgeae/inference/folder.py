"""Restore many photos with one model: choose the files, name their outputs, and go on when one of them fails.

Folders keep their tree, names and formats. Outputs that exist are left alone, so that a run that was stopped goes on
where it was.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import glob
import os
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from edgeae.errors import DeviceError, EdgeaeError, ImageError, UsageError
from edgeae.files import is_file, is_folder
from edgeae.images.files.formats import WRITE_FORMATS, format_of
from edgeae.images.files.listing import scan
from edgeae.inference.microbatch import MicroBatcher
from edgeae.inference.photo import Options, Restored, restore
from edgeae.inference.restoration import Floats
from edgeae.inference.session import Session

_WORKERS = 32  # two batches of the smallest pictures
_ROOM = 16_000_000  # pixels of all photos that are in work at once; a larger one is alone
_POLL_S = 0.25
_FATAL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # what the next photo would meet too


@dataclass(frozen=True)
class Item:
    """One photo to restore.

    Attributes:
        source, target: paths.
        keep: leave an existing target alone.
        mask: path of the photo's mask, as in `photo.restore`.
    """

    source: Path
    target: Path
    keep: bool = False
    mask: Path | None = None


@dataclass(frozen=True)
class Failed:
    """A photo that was not restored, and why."""

    source: str
    reason: str


@dataclass(frozen=True)
class Skipped:
    """A photo whose output exists already."""

    source: str
    output: str


@dataclass
class Summary:
    """The outcomes for many photos, each list in the order of the inputs."""

    done: list[Restored] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


Outcome: TypeAlias = Restored | Failed | Skipped


# ---- inputs and outputs ------------------------------------------------------------------------------------------


def collect(inputs: Sequence[Path], output: Path | None = None, overwrite: bool = False) -> list[Item]:
    """Return the photos that some paths name, and where their results go.

    Args:
        inputs: files, folders (all image files in them, sub-folders included) and patterns such as `scans/**/*.png`.
        output: for one file, a file or an existing folder; else a folder, which gets the tree of each folder or
            pattern. None writes `photo.out.jpg` beside `photo.jpg`, and `photos.out/` beside `photos/`.
        overwrite: replace outputs that exist. One file alone always replaces.

    Raises:
        UsageError: `output` is no image file, is a file for several photos, or outputs would replace one another or an
            input.
        ImageError: a folder or a pattern gives no image.
    """
    if len(inputs) == 1 and not is_folder(inputs[0]) and not _is_pattern(inputs[0]):
        return [Item(inputs[0], _target_of_one(inputs[0], output))]
    if output is not None and (is_file(output) or output.suffix.lower().removeprefix(".") in WRITE_FORMATS):
        raise UsageError(f"{output} names one file for several inputs; name a folder with `output`.")
    items: list[Item] = []
    for path in inputs:
        if is_folder(path):
            folder = output or path.with_name(f"{path.resolve().name}.out")
            files = scan(path, path, skip=folder if folder.is_dir() else None).files
            items += [Item(file.path, folder / file.name, not overwrite) for file in files]
            if not files:
                raise ImageError(f"{path} holds no images: it takes JPEG, PNG, WebP, TIFF, BMP or GIF files.")
        elif _is_pattern(path):
            base = _fixed_part(path)
            matches = [file for file in map(Path, sorted(glob.glob(str(path), recursive=True))) if file.is_file()]  # noqa: PTH207
            items += [
                Item(file, output / file.relative_to(base) if output else _beside(file), not overwrite)
                for file in matches
            ]
            if not matches:
                raise ImageError(f"{path} matches no file: check the pattern.")
        else:
            items.append(Item(path, output / path.name if output else _beside(path), not overwrite))
    _check_targets(items)
    return items


def _is_pattern(path: Path) -> bool:
    return glob.has_magic(str(path)) and not os.path.lexists(path)


def _fixed_part(pattern: Path) -> Path:
    """Return the folder down to which a pattern has no wildcards."""
    parts = []
    for part in pattern.parent.parts:
        if glob.has_magic(part):
            break
        parts.append(part)
    return Path(*parts)


def _beside(source: Path) -> Path:
    return source.with_name(f"{source.stem}.out{source.suffix}")


def _target_of_one(source: Path, output: Path | None) -> Path:
    if output is None:
        return _beside(source)
    if output.suffix and not is_folder(output):
        format_of(output, None, WRITE_FORMATS)
        return output
    target = output / source.name
    _check_targets([Item(source, target)])
    return target


def _check_targets(items: Sequence[Item]) -> None:
    taken: dict[Path, Path] = {}
    for item in items:
        if (other := taken.setdefault(item.target, item.source)) != item.source:
            raise UsageError(f"{other} and {item.source} would both become {item.target}; restore them one by one.")
        if os.path.realpath(item.target) == os.path.realpath(item.source):  # also through a link
            raise UsageError(f"{item.source} would be overwritten by its result; name another folder with `output`.")


# ---- restoring ---------------------------------------------------------------------------------------------------


def restore_all(
    session: Session,
    items: Sequence[Item],
    options: Options | None = None,
    on_done: Callable[[Outcome], None] = lambda outcome: None,
) -> Summary:
    """Restore photos; one that fails does not stop the others. `on_done` is called after each, in this thread.

    Raises as `restore_each` does.
    """
    order = {str(item.source): i for i, item in enumerate(items)}
    summary = Summary()
    lists: dict[type, list[Any]] = {Restored: summary.done, Failed: summary.failed, Skipped: summary.skipped}
    workers = min(_WORKERS, max(1, len(items)))
    with contextlib.closing(restore_each(session, lambda stop: iter(items), options, workers)) as outcomes:
        for outcome in outcomes:
            lists[type(outcome)].append(outcome)
            on_done(outcome)
    for listed in lists.values():
        listed.sort(key=lambda outcome: order[outcome.source])
    return summary


def restore_each(
    session: Session,
    items: Callable[[threading.Event], Iterator[Item]],
    options: Options | None = None,
    workers: int = _WORKERS,
) -> Generator[Outcome]:
    """Restore photos as they come, and yield the outcome of each, in any order.

    Files are decoded and encoded in threads while the network runs, and small pictures of one shape run together.
    Close the generator to stop before the end: it waits for these threads, which otherwise end with the process in the
    middle of their work.

    Args:
        session: the model.
        items: yields photos until the event is set.
        options: None takes the defaults.
        workers: threads.

    Raises:
        DeviceError: the device failed; files written before stay.
        EdgeaeError: the disk is full; files written before stay.
    """
    batcher: MicroBatcher[Outcome] = MicroBatcher(session.run_floats, session.batch, workers, _ROOM)

    jobs = (functools.partial(_restore, item, session, options, batcher) for item in items(batcher.stopping))
    with contextlib.closing(batcher.run(jobs)) as results:
        yield from results


def _restore(item: Item, session: Session, options: Options | None, batcher: MicroBatcher[Outcome]) -> Outcome:
    source, ms = str(item.source), 0.0

    def network(piece: Floats) -> Floats:
        nonlocal ms
        answer, share = batcher.ask(piece)
        ms += share
        return answer

    try:
        if item.keep and item.target.exists():
            return Skipped(source, str(item.target))
        restored = restore(
            item.source, item.target, session, options, mask=item.mask, network=network, reserve=batcher.reserve
        )
        return replace(restored, ms=ms)
    except DeviceError:
        raise
    except EdgeaeError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in _FATAL:
            raise
        return Failed(source, str(error))


def watch(folder: Path, output: Path | None, stop: threading.Event, overwrite: bool = False) -> Iterator[Item]:
    """Yield the photos of a folder, and then each that is added or changed, until `stop` is set.

    A file is taken when neither its size nor its time has changed for a moment, so that a camera can finish writing it.

    Args:
        folder: the folder, with its sub-folders.
        output: where results go; None is `photos.out/` beside `photos/`.
        stop: ends the iteration.
        overwrite: replace outputs that exist.

    Raises:
        UsageError: `folder` is not a folder.
    """
    if not is_folder(folder):
        raise UsageError(f"{folder} is not a folder: name the one into which pictures come.")
    target = output or folder.with_name(f"{folder.resolve().name}.out")
    at_start = before = _states(folder, target)
    taken: dict[Path, tuple[int, int]] = {}
    while not stop.wait(_POLL_S):
        now = _states(folder, target)
        for path, state in now.items():
            if state == before.get(path) != taken.get(path) and state[0]:
                taken[path] = state
                keep = at_start.get(path) == state and not overwrite
                yield Item(path, target / path.relative_to(folder), keep)
        before = now


def _states(folder: Path, skip: Path) -> dict[Path, tuple[int, int]]:
    """Return the size and time of each image file."""
    states = {}
    for file in scan(folder, folder, skip=skip if skip.is_dir() else None).files:
        with contextlib.suppress(OSError):  # gone again
            status = file.path.stat()
            states[file.path] = status.st_size, status.st_mtime_ns
    return states
