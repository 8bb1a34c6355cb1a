"""Write files atomically: a reader sees the old content or the new, never a part of it, whatever stops the writer.

The bytes go to a temporary file in the target's folder and are flushed to the disk; a rename then gives it the target's
name.
"""

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from edgeae.errors import EdgeaeError


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


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a binary file for writing whose content becomes that of `path` when the block ends without an error.

    Missing parent folders are created. On any exception, KeyboardInterrupt included, the temporary file is removed and
    `path` keeps its content. A symbolic link stays a link, and its target is replaced. An existing file keeps its
    permissions. A device or a pipe is written to directly.

    Yields:
        The file, writable and seekable.

    Raises:
        EdgeaeError: for each OSError, such as a full disk, missing permission, or a folder of that name.
    """
    # A random name and exclusive creation: two processes that write the same path never share a temporary file.
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".edgeae-{secrets.token_hex(8)}.tmp")
    try:
        mode = _mode(target)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if mode and not stat.S_ISREG(mode):  # a device or a pipe, such as /dev/null, must not be replaced by a file
            with target.open("wb") as file:
                yield file
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("x+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if mode:
            with suppress(PermissionError):  # FAT has none to keep
                temporary.chmod(stat.S_IMODE(mode))
        temporary.replace(target)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise EdgeaeError(_sentence(path, error)) from error
        raise


def write_bytes_atomic(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` as the whole content of `path`, as `atomic_write` does."""
    with atomic_write(path) as file:
        file.write(data)


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
        errno.EMFILE: "the system allows no more open files; raise the limit with ulimit -n 1024",
        errno.ENAMETOOLONG: "its name is too long; give a shorter one",
    }
    reason = mends.get(error.errno or 0, f"{error.strerror or error}; write somewhere else")
    return f"{os.fspath(path)} cannot be written: {reason}."
