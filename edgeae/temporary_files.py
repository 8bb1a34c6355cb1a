"""Temporary files that become outputs: without a name where the system has such files, removed when they are stale.

1. Linux makes a file without a name (O_TMPFILE), which vanishes with its process and gets its name when it is whole.
2. Elsewhere (network shares, FAT, macOS) the file is called `.edgeae-PLACE-PID-RANDOM.tmp`. PLACE stands for this start
   of this machine. Its process holds a lock on it (flock), so another one can see whether it is still in use.
3. `remove_stale` removes the second kind when its process is gone.
"""

import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

if sys.platform != "win32":
    import fcntl

_NAME = re.compile(r"\.edgeae-(?:([0-9a-f]{8})-([0-9]+)-)?[0-9a-f]{16}\.tmp")
_NEW_S = 60  # a file may be this old before its process has locked it
_UNKNOWN_S = 3600  # after this time without a write, a file that names no process is stale
_ELSEWHERE_S = 86_400  # and one that names another machine, or this one before it started


def is_temporary(name: str) -> bool:
    """Return whether a file's name is that of a temporary file, of this or an earlier version."""
    return _NAME.fullmatch(name) is not None


class TemporaryFile:
    """A new file in a folder, open for reading and writing, that `become` gives its place.

    Attributes:
        fd: its descriptor, which belongs to the caller.
        mode: permissions that a file made with `mode` has here, by the process's umask and the folder's own rules.
    """

    def __init__(self, folder: Path, mode: int) -> None:
        """Make the file. Until it is whole, its owner alone may open it.

        Args:
            folder: where it will stay.
            mode: the most permissions that it will have.

        Raises:
            OSError: it cannot be made.
        """
        self._folder = folder
        self._path: Path | None = None
        self.fd = _open_unnamed(folder, mode)
        try:
            if self.fd < 0:
                self._path = self._new_path()
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
                self.fd = os.open(self._path, flags, mode)
            self.mode = stat.S_IMODE(os.fstat(self.fd).st_mode)
            change_mode(self.fd, stat.S_IRUSR | stat.S_IWUSR)
            lock(self.fd)
        except BaseException:
            self.remove()
            raise

    def become(self, target: Path) -> None:
        """Give the file the name `target`, in its folder, and replace what has that name.

        Raises:
            OSError: it cannot be named.
        """
        if self._path is None:
            try:
                self._link(target)
                return
            except OSError as error:
                self._path = self._new_path()
                if error.errno == errno.EEXIST:  # a link cannot replace a file, a rename can
                    self._link(self._path)
                else:  # a sandbox may forbid links of this kind
                    self._copy(self._path)
        self._path.replace(target)
        self._path = None

    def remove(self) -> None:
        """Remove the file unless it has its place. The descriptor stays open."""
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink()

    def _new_path(self) -> Path:
        return self._folder / f".edgeae-{_place()}-{os.getpid()}-{secrets.token_hex(8)}.tmp"

    def _link(self, path: Path) -> None:
        # With `src_dir_fd` Python calls linkat, which can follow the link in /proc to the file; link(2) cannot.
        os.link(_proc_path(self.fd), path, src_dir_fd=self.fd, follow_symlinks=True)

    def _copy(self, path: Path) -> None:
        with open(path, "xb", opener=partial(os.open, mode=0o600)) as copy, open(self.fd, "rb", closefd=False) as whole:
            whole.seek(0)
            shutil.copyfileobj(whole, copy)
            copy.flush()
            change_mode(copy.fileno(), stat.S_IMODE(os.fstat(self.fd).st_mode))
            os.fsync(copy.fileno())


def remove_stale(folder: Path) -> list[Path]:
    """Remove temporary files that processes which were killed have left in a folder, and return their paths.

    One that a process may still write to stays: it holds a lock, its process lives, or it was written to not long ago.
    """
    removed = []
    with suppress(OSError), os.scandir(folder) as entries:
        for path in [Path(entry.path) for entry in entries if is_temporary(entry.name)]:
            with suppress(OSError):
                if _is_stale(path):
                    path.unlink()
                    removed.append(path)
    return removed


def change_mode(fd: int, mode: int) -> None:
    """Set the permissions of an open file, where its file system has any."""
    if hasattr(os, "fchmod"):
        with suppress(PermissionError, OSError):  # FAT and some network shares have none
            os.fchmod(fd, mode)


def lock(fd: int) -> bool | None:
    """Take the lock of an open file without waiting: True if it was free, False if not, None where there are none."""
    if sys.platform == "win32":
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in (errno.EWOULDBLOCK, errno.EACCES) else None
    return True


def _open_unnamed(folder: Path, mode: int) -> int:
    """Open a file without a name; -1 where the system or the folder's file system has none."""
    if not hasattr(os, "O_TMPFILE"):
        return -1
    try:
        fd = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, mode)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise
        return -1
    if not Path(_proc_path(fd)).exists():  # without /proc it could not get a name
        os.close(fd)
        return -1
    return fd


def _proc_path(fd: int) -> str:
    return f"/proc/self/fd/{fd}"


def _is_stale(path: Path) -> bool:
    match = _NAME.fullmatch(path.name)
    status = path.lstat()
    if match is None or not stat.S_ISREG(status.st_mode):
        return False
    age_s = time.time() - status.st_mtime
    place, pid = match.groups()
    if place == _place() and not _lives(int(pid)):
        return True  # certain: only this start of this machine gives out this number
    patience_s = _NEW_S if place == _place() else _ELSEWHERE_S if place else _UNKNOWN_S
    if age_s < patience_s:
        return False
    # O_RDWR: network shares give locks of this kind only to those who may write.
    fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC) if hasattr(os, "O_NOFOLLOW") else -1
    try:
        free = lock(fd) if fd >= 0 else None
    finally:
        if fd >= 0:
            os.close(fd)
    return bool(free) or (free is None and age_s >= _ELSEWHERE_S)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # someone else's, or a number that no process can have
        return pid < 1 << 31
    return True


def _place() -> str:
    """Return 8 hex digits for this machine since its start, and for this container, by whose numbers processes go."""
    told = [os.uname().nodename if hasattr(os, "uname") else ""]
    with suppress(OSError):
        told.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with suppress(OSError):
        told.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:8]
