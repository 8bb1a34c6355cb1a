"""Restore many photos with one model, and go on when one of them fails.

Outputs that exist are left alone, so that a run that was stopped goes on where it was. `collect` chooses the photos and
names their outputs, `watch` those that come into a folder.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from edgeae.errors import DeviceError, EdgeaeError
from edgeae.files import is_folder
from edgeae.images.files.listing import LeftOut
from edgeae.inference.collect import Item
from edgeae.inference.microbatch import MicroBatcher
from edgeae.inference.photo import Options, Restored, restore
from edgeae.inference.restoration import Floats
from edgeae.inference.session import Session
from edgeae.inference.watch import Notice
from edgeae.temporary_files import remove_stale

if sys.platform != "win32":
    import resource

_WORKERS = 32  # two batches of the smallest pictures
_FOLDERS = 4096  # whose names are remembered
_FILES_A_PHOTO, _FILES_ELSEWHERE = 6, 40  # open at once: photo, mask, result and the like; libraries and devices
_ROOM = 16_000_000  # pixels of all photos that are in work at once; a larger one is alone
_FATAL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # what the next photo would meet too


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
    """The outcomes for many photos, each list in the order of the inputs; `left_out` are files that were no inputs."""

    done: list[Restored] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)


Outcome: TypeAlias = Restored | Failed | Skipped
Told: TypeAlias = LeftOut | Notice


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
            if isinstance(outcome, LeftOut | Notice):
                continue
            lists[type(outcome)].append(outcome)
            on_done(outcome)
    for listed in lists.values():
        listed.sort(key=lambda outcome: order[outcome.source])
    return summary


def restore_each(
    session: Session,
    items: Callable[[threading.Event], Iterator[Item | Told]],
    options: Options | None = None,
    workers: int = _WORKERS,
) -> Generator[Outcome | Told]:
    """Restore photos as they come, and yield the outcome of each, in any order.

    Files are decoded and encoded in threads while the network runs, and small pictures of one shape run together.
    Close the generator to stop before the end: it waits for these threads, which otherwise end with the process in the
    middle of their work. Temporary files that killed processes left in the folders of the results are removed.

    Args:
        session: the model.
        items: yields photos until the event is set; what is told of others is yielded as it is.
        options: None takes the defaults.
        workers: threads.

    Raises:
        DeviceError: the device failed; files written before stay.
        EdgeaeError: the disk is full; files written before stay.
    """
    workers = min(workers, _most_workers())
    batcher: MicroBatcher[Outcome | Told] = MicroBatcher(session.run_floats, session.batch, workers, _ROOM)
    tidy = functools.lru_cache(_FOLDERS)(remove_stale)  # each folder once

    def jobs() -> Generator[Callable[[], Outcome | Told]]:
        for item in items(batcher.stopping):
            if isinstance(item, Item):
                tidy(item.target.parent)
            yield functools.partial(_restore, item, session, options, batcher)

    with contextlib.closing(jobs()) as waiting, contextlib.closing(batcher.run(waiting)) as results:
        yield from results


def _most_workers() -> int:
    """Return how many threads there may be for the number of files that this process may have open."""
    if sys.platform == "win32":
        return _WORKERS
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _WORKERS if limit == resource.RLIM_INFINITY else max(1, (limit - _FILES_ELSEWHERE) // _FILES_A_PHOTO)


def _restore(
    item: Item | Told, session: Session, options: Options | None, batcher: MicroBatcher[Outcome | Told]
) -> Outcome | Told:
    if not isinstance(item, Item):
        return item
    source, ms = str(item.source), 0.0

    def network(piece: Floats) -> Floats:
        nonlocal ms
        answer, share = batcher.ask(piece)
        ms += share
        return answer

    try:
        if item.keep and os.path.exists(item.target) and not is_folder(item.target):  # noqa: PTH110 - for any text
            return Skipped(source, str(item.target))
        restored = restore(
            item.source,
            item.target,
            session,
            options,
            mask=item.mask,
            comparison=item.comparison,
            network=network,
            reserve=batcher.reserve,
        )
        return replace(restored, ms=ms)
    except DeviceError:
        raise
    except EdgeaeError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in _FATAL:
            raise
        return Failed(source, str(error))
