"""Write files atomically: a reader sees the old content or the new, never a part of it, whatever stops the writer.

The bytes go to a temporary file in the target's folder (see `temporary_files`) and are flushed to the disk; then it
gets the target's name. It is made when the first bytes leave the buffer, so a job that waits has none.
"""

import errno
import io
import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, cast

from edgeae.errors import EdgeaeError
from edgeae.permissions import most, narrow
from edgeae.pipes import PipeWriter
from edgeae.temporary_files import TemporaryFile, change_mode

_BUFFER_BYTES = 1 << 16  # the header of a picture with its metadata
Inputs: TypeAlias = Path | Sequence[Path] | None


def is_folder(path: Path) -> bool:
    """Return whether the path is a folder; unlike Path.is_dir, for any text, such as a name that is too long."""
    with suppress(OSError):
        return path.is_dir()
    return False


def is_file(path: Path) -> bool:
    """Return whether the path is a file; unlike Path.is_file, for any text."""
    with suppress(OSError):
        return path.is_file()
    return False


def is_same_file(one: Path, other: Path) -> bool:
    """Return whether two paths are one file: by links of either kind, or by another spelling."""
    with suppress(OSError, ValueError):
        if os.path.realpath(one) == os.path.realpath(other):
            return True
        return one.samefile(other)
    return False


def names_one_file(one: Path, other: Path) -> bool:
    """Return whether two paths of files that need not exist would be one file where they lie.

    Some file systems take capital and small letters for one, or the two ways to code an accent. Where names differ, a
    file of the one name is made in a temporary folder, and looked for by the other.
    """
    if one == other:
        return True
    if len(one.parts) != len(other.parts):
        return False
    pairs = [(mine, its) for mine, its in zip(one.parts, other.parts, strict=True) if mine != its]
    place = next(parent for parent in one.parents if parent.is_dir())
    try:
        with tempfile.TemporaryDirectory(prefix=".edgeae-", dir=place) as folder:
            for mine, its in pairs:
                Path(folder, mine).touch()
                if not Path(folder, its).exists():
                    return False
    except OSError:  # nothing can be written there anyway
        return False
    return True


@contextmanager
def atomic_write(path: str | os.PathLike[str], like: Inputs = None) -> Iterator[BinaryIO]:
    """Open a binary file for writing whose content becomes that of `path` when the block ends without an error.

    Missing parent folders are created. On any exception, KeyboardInterrupt included, nothing is left of it and `path`
    keeps its content. A symbolic link stays a link, and its target is replaced. An existing file keeps its permissions.
    A device or a pipe is written to directly.

    Args:
        path: the file.
        like: the photos that the content is made from, whose permissions are the most that the file gets, also if it
            exists (see `permissions`).

    Yields:
        The file, writable and seekable.

    Raises:
        EdgeaeError: for each OSError, such as a full disk, missing permission, or a folder of that name.
    """
    inputs = [like] if isinstance(like, Path) else list(like or ())
    target = Path(os.path.realpath(path))
    temporary: TemporaryFile | None = None

    def make() -> int:
        nonlocal temporary
        temporary = TemporaryFile(target.parent, most(inputs))
        return temporary.fd

    try:
        mode = _mode(target)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if mode and not stat.S_ISREG(mode):  # a device or a pipe, such as /dev/null, must not be replaced by a file
            with io.BufferedWriter(PipeWriter(target)) if stat.S_ISFIFO(mode) else target.open("wb") as file:
                yield file
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        raw = _MadeWhenUsed(make)
        if not os.access(target.parent, os.W_OK):  # say so before the work
            raw.fileno()
        buffered = io.BufferedRandom(raw, _BUFFER_BYTES)
        try:
            yield cast(BinaryIO, buffered)
            buffered.flush()
            os.fsync(raw.fileno())
            assert temporary is not None
            change_mode(temporary.fd, narrow(stat.S_IMODE(mode) if mode else temporary.mode, temporary.fd, inputs))
            temporary.become(target)
        finally:
            raw.abandon()
            buffered.close()
    except BaseException as error:
        if temporary is not None:
            temporary.remove()
        if isinstance(error, OSError):
            raise EdgeaeError(_sentence(path, error)) from error
        raise


def set_date(path: Path, date_ns: int) -> None:
    """Set the date of a file's modification, in nanoseconds since 1970.

    Raises:
        EdgeaeError: the file is gone, or the file system refuses.
    """
    try:
        os.utime(path, ns=(date_ns, date_ns))
    except OSError as error:
        raise EdgeaeError(_sentence(path, error)) from error


def write_bytes_atomic(path: str | os.PathLike[str], data: bytes, like: Inputs = None) -> None:
    """Write `data` as the whole content of `path`, as `atomic_write` does."""
    with atomic_write(path, like) as file:
        file.write(data)


class _MadeWhenUsed(io.RawIOBase):
    """A file that is made when it is first read or written, or asked for its descriptor."""

    def __init__(self, make: Callable[[], int]) -> None:
        self._make = make
        self._made: io.FileIO | None = None

        self._abandoned = False

    def abandon(self) -> None:
        """Close the file, and take no notice of what a buffer still writes."""
        self._abandoned = True
        if self._made is not None:
            self._made.close()

    def _file(self) -> io.FileIO:
        if self._made is None:
            self._made = io.FileIO(self._make(), "r+b")
        return self._made

    def fileno(self) -> int:
        return self._file().fileno()

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        return self._file().readinto(buffer)

    def write(self, data: Any) -> int | None:
        return len(data) if self._abandoned else self._file().write(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if self._abandoned or (self._made is None and offset == 0):
            return 0
        return self._file().seek(offset, whence)

    def tell(self) -> int:
        return self.seek(0, os.SEEK_CUR)

    def truncate(self, size: int | None = None) -> int:
        return self._file().truncate(size)


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return 0


def _sentence(path: str | os.PathLike[str], error: OSError) -> str:
    mends = {
        errno.ENOSPC: "the disk is full; free some space or write to another disk",
        errno.EDQUOT: "your disk quota is used up; free some space or write to another disk",
        errno.EISDIR: "it is a folder; give a file name",
        errno.ENOTDIR: "a part of its path is a file, not a folder; give another path",
        errno.EEXIST: "a part of its path is a file, not a folder; give another path",
        errno.EACCES: "permission is denied; write to a folder of your own",
        errno.EPERM: "permission is denied; write to a folder of your own",
        errno.EROFS: "its file system is read-only; write somewhere else",
        errno.ENAMETOOLONG: "its name is too long; give a shorter one",
        errno.EMFILE: "this process has too many files open; raise its limit (ulimit -n 1024)",
        errno.ENFILE: "this machine has too many files open; close other programs",
        errno.EFBIG: "it is too large for its file system or your limits; write to another disk",
        errno.ELOOP: "links lead in a circle; remove them or give another path",
        errno.ENXIO: "it is a socket or a device that is not there; give a file name",
    }
    reason = mends.get(error.errno or 0, f"{error.strerror or error}; write somewhere else")
    return f"{os.fspath(path)} cannot be written: {reason}."
