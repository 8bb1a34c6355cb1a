"""Watch a folder: yield the photos in it, and then each that is added or changed, at next to no cost while it rests.

1. Every quarter of a second the time of each folder is looked at; only folders whose time has changed are listed again.
2. Files are looked at while they are young, until neither size nor time have changed for a second, so that a camera can
   finish writing them. All others are looked at now and then: writing into a file does not change its folder's time.
3. Both wait longer where a look takes longer, so that together they stay under 1% of one core.
4. With the package `watchdog` the system says what has changed, and the looks of 1. become rarer. They do not end:
   changes that another computer makes on a network share are told by no system.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeae.errors import UsageError
from edgeae.files import is_folder, is_same_file
from edgeae.images.files.listing import FolderContent, LeftOut, identify, read_folder, walk
from edgeae.inference.collect import Item, is_result, name_comparison, output_folder

_POLL_S = 0.25  # between looks at the folders
_TOLD_POLL_S = 2.0  # the same where the system tells of changes
_FULL_S = 2.0  # between looks at all files, at least
_SETTLE_S = 1.0  # a file that has not changed for so long is whole
_YOUNG_S = 10.0  # and for so long it is looked at each time
_RACY_S = 3.0  # a folder's time may be as coarse as 2 s (FAT): so long it is listed again although the time is the same
_LOOK_COST = 200  # how many times as long as a look at the folders to wait before the next
_BUSY_S, _BUSY_COST = 0.05, 10  # the same while files are young or changes are told, at least
_FULL_COST = 500  # and of a look at all files
_LONGEST_S = 3600.0

_State = tuple[int, int]  # size and time


@dataclass(frozen=True)
class Notice:
    """What is worth telling of a folder that is watched.

    Attributes:
        source: the folder.
        reason: in words that go on after its name.
    """

    source: str
    reason: str


def watch(
    folder: Path, output: Path | None, stop: threading.Event, overwrite: bool = False, compare: bool = False
) -> Iterator[Item | LeftOut | Notice]:
    """Yield the photos of a folder, and then each that is added or changed, until `stop` is set.

    Between them come photos that are missed, such as those in a sub-folder that cannot be listed, and notices, such as
    that the folder is gone; then it is waited for.

    Args:
        folder: the folder, with its sub-folders.
        output: where results go; None is `photos.out/` beside `photos/`.
        stop: ends the iteration.
        overwrite: replace outputs that exist.
        compare: pictures of before and after are written too.

    Raises:
        UsageError: `folder` is not a folder, or is the output.
    """
    if not is_folder(folder):
        raise UsageError(f"{folder} is not a folder: name the one into which pictures come.")
    target = output or output_folder(folder)
    if is_same_file(folder, target):
        raise UsageError(f"{folder} would be watched for its own results; name another folder with `output`.")
    tree = _Tree(folder, target)
    signal = _Signal(folder, target)
    at_start: dict[Path, _State] | None = None
    taken: dict[Path, _State] = {}
    inside = Path(os.path.realpath(target)).is_relative_to(os.path.realpath(folder))
    try:
        while not stop.is_set():
            yield from signal.attend()
            yield from tree.look(signal.take())
            at_start = dict(tree.states) if at_start is None else at_start
            for path in tree.settled():
                state = tree.states[path]
                if taken.get(path) == state or is_result(path, tree.states.__contains__):
                    continue
                taken[path] = state
                result = target / path.relative_to(folder)
                if not inside and Path(os.path.realpath(result)).is_relative_to(os.path.realpath(folder)):
                    yield LeftOut(str(path), "photo whose result would lie in the folder that is watched", True)
                    continue
                keep = at_start.get(path) == state and not overwrite
                comparison = name_comparison(path, result) if compare else None
                yield Item(path, result, keep, comparison=comparison)
            signal.wait(*tree.rest_s(signal.is_told), stop)
    finally:
        signal.close()


@dataclass
class _Listed:
    """A folder as it was listed: its time, since when (monotonic) it has that time, and what is in it."""

    time_ns: int
    since: float
    content: FolderContent


@dataclass
class _Tree:
    """What is known of the folders and files.

    Attributes:
        root: the folder that is watched.
        skip: the folder of the results.
        states: size and time of each file.
    """

    root: Path
    skip: Path
    states: dict[Path, _State] = field(default_factory=dict)
    _listed: dict[Path, _Listed] = field(default_factory=dict)
    _known: dict[Path, FolderContent] = field(default_factory=dict)
    _young: dict[Path, float] = field(default_factory=dict)  # and since when they have their state
    _told: set[LeftOut] = field(default_factory=set)
    _is_gone: bool = False
    _look_s: float = 0.0  # how long the last look took
    _full_at: float = 0.0  # when to look at all files again
    _changed: set[Path] = field(default_factory=set)

    def look(self, changed: set[Path]) -> Iterator[LeftOut | Notice]:
        """Bring what is known up to date.

        Args:
            changed: files and folders of which the system says that they have changed.
        """
        started = time.monotonic()
        if identify(self.root) is None:
            if not self._is_gone:
                self._is_gone = True
                yield Notice(str(self.root), "is gone: waiting until it is there again")
            return
        if self._is_gone:
            self._is_gone = False
            yield Notice(str(self.root), "is there again")
        self._changed = changed
        full = started >= self._full_at
        if full:
            self._listed.clear()
        contents = dict(walk(self.root, self.skip, self._read))
        for folder in self._known.keys() - contents.keys():
            self._forget(self._known.pop(folder).files)
        for folder, content in contents.items():
            before = self._known.get(folder)
            if before is not content:
                self._known[folder] = content
                self._compare({} if before is None else before.files, content.files, started)
                yield from self._tell(content)
        for path in changed:
            if path in self.states:
                self._young.setdefault(path, started)
        for path in list(self.states) if full else list(self._young):
            self._check(path, started)
        self._look_s = time.monotonic() - started
        if full:
            self._full_at = started + min(_LONGEST_S, max(_FULL_S, _FULL_COST * self._look_s))
            self._look_s = 0.0  # it says nothing of the quick ones

    def settled(self) -> list[Path]:
        """Return the young files that have been as they are for long enough, and are not empty."""
        now = time.monotonic()
        settled = [path for path, since in self._young.items() if now - since >= _SETTLE_S and self.states[path][0]]
        for path in [path for path, since in self._young.items() if now - since >= _YOUNG_S]:
            del self._young[path]
        return sorted(settled)

    def rest_s(self, is_told: bool) -> tuple[float, float]:
        """Return how long to wait until the next look, at the least and where nothing is told."""
        least = min(_LONGEST_S, max(_BUSY_S, _BUSY_COST * self._look_s))
        if self._young:
            return least, max(_POLL_S, least)
        return least, min(_LONGEST_S, max(_TOLD_POLL_S if is_told else _POLL_S, _LOOK_COST * self._look_s))

    def _read(self, folder: Path, status: os.stat_result) -> FolderContent:
        """List a folder, or return what was listed if nothing can have changed."""
        now, time_ns = time.monotonic(), status.st_mtime_ns
        last = self._listed.get(folder)
        same = last is not None and last.time_ns == time_ns
        if last is not None and same and now - last.since >= _RACY_S and folder not in self._changed:
            return last.content
        content = read_folder(folder)
        if last is not None and last.content == content:
            content = last.content  # nothing has changed
        elif (known := self._known.get(folder)) == content and known is not None:
            content = known
        self._listed[folder] = _Listed(time_ns, last.since if last is not None and same else now, content)
        return content

    def _compare(self, before: dict[Path, int], after: dict[Path, int], now: float) -> None:
        """Take note of the files that are new in a folder, replaced, or gone."""
        self._forget(before.keys() - after.keys())
        for path, number in after.items():
            if before.get(path) != number:
                self.states.setdefault(path, (0, 0))
                self._young[path] = now

    def _forget(self, paths: Any) -> None:
        for path in paths:
            self.states.pop(path, None)
            self._young.pop(path, None)

    def _check(self, path: Path, now: float) -> None:
        """Take note of a file's state."""
        try:
            status = path.stat()
        except OSError:  # gone, or it will be told as its folder
            self._forget([path])
            return
        state = status.st_size, status.st_mtime_ns
        if self.states.get(path) != state:
            self.states[path] = state
            self._young[path] = now

    def _tell(self, content: FolderContent) -> Iterator[LeftOut]:
        for left_out in content.left_out:
            if left_out.missed and left_out not in self._told and os.path.lexists(left_out.path):
                self._told.add(left_out)
                yield left_out


class _Signal:
    """What the system tells of changes through `watchdog`; where there is none, of nothing.

    Attributes:
        is_told: whether the system tells.
    """

    def __init__(self, root: Path, skip: Path) -> None:
        self._root, self._skip = root, skip
        self._identity: tuple[int, int] | None = None
        self._observer: Any = None
        self._changed: set[Path] = set()
        self._lock, self._wake = threading.Lock(), threading.Event()
        self.is_told = False

    def attend(self) -> Iterator[Notice]:
        """Listen to the folder, or to another one that has come in its place."""
        identity = identify(self._root)
        if identity == self._identity or identity is None:
            return
        self.close()
        self._identity = identity
        try:
            self._listen()
        except ImportError:
            return
        except (OSError, RuntimeError) as error:
            self.close()
            self._identity = identity  # once is enough
            number = error.errno if isinstance(error, OSError) else None
            limits = {
                errno.ENOSPC: "fs.inotify.max_user_watches",
                errno.EMFILE: "fs.inotify.max_user_instances",
            }
            why = f"the limit {limits[number]} is reached" if number in limits else f"{error}"
            yield Notice(str(self._root), f"is looked at now and then, as the system cannot tell of changes ({why})")

    def take(self) -> set[Path]:
        """Return what has changed since the last call."""
        with self._lock:
            changed, self._changed = self._changed, set()
            self._wake.clear()
        return changed

    def wait(self, least_s: float, most_s: float, stop: threading.Event) -> None:
        """Wait until something has changed, or `stop` is set; without the latter no shorter or longer than given."""
        if not self.is_told:
            stop.wait(most_s)
            return
        until = time.monotonic() + most_s
        stop.wait(min(least_s, most_s))
        while not stop.is_set() and not self._wake.wait(max(0.0, min(_POLL_S, until - time.monotonic()))):
            if time.monotonic() >= until:
                return

    def close(self) -> None:
        """Stop listening."""
        observer, self._observer, self.is_told, self._identity = self._observer, None, False, None
        if observer is not None:
            with contextlib.suppress(RuntimeError, OSError, KeyError):
                observer.stop()
                observer.join(2)

    def _listen(self) -> None:
        from watchdog.events import FileSystemEvent, FileSystemEventHandler
        from watchdog.observers import Observer

        signal = self

        class Handler(FileSystemEventHandler):
            def on_any_event(self, event: FileSystemEvent) -> None:
                if event.event_type not in ("opened", "closed_no_write"):  # of our own reading
                    signal._note(os.fsdecode(event.src_path), os.fsdecode(event.dest_path or ""))

        # A new folder that watchdog lists while the system tells of it is registered twice, which changes nothing.
        warnings.filterwarnings("ignore", r"Callback with id .* already exists for watch", RuntimeWarning)
        self._observer = Observer()
        self._observer.daemon = True
        self._observer.schedule(Handler(), str(self._root), recursive=True)
        self._observer.start()
        self.is_told = True

    def _note(self, *names: str) -> None:
        """Take note that these have changed, and with them the folders that they are in."""
        paths = [Path(name) for name in names if name]
        paths = [path for path in paths if not path.is_relative_to(self._skip)]
        if paths:
            with self._lock:
                self._changed.update(paths, [path.parent for path in paths])
                self._wake.set()
