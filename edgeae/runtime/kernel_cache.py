"""Keep compiled kernels on disk, in place of tinygrad's own cache.

tinygrad keeps what it compiles in a database of pickles, and loading a pickle runs what is in it. Here an entry is a
file of raw bytes, named after the SHA-256 of its key, which says all that the code depends on:

    16 bytes   MAGIC
    32 bytes   SHA-256 of the name and the code
    the rest   the code

A file that is damaged, or that anybody else could have written, is a miss. So is every failure of the disk: the cache
may cost time, but never the result.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import secrets
import stat
import tempfile
import time
from pathlib import Path
from typing import Any

from edgeae._version import __version__
from edgeae.cache_folder import ELSEWHERE, cache_folder, find_intruder, make_private, may_others_write
from edgeae.errors import UsageError
from edgeae.files import is_file, is_folder

MAGIC = b"edgeae kernel 1\n"
MAX_BYTES = 64 << 20  # of the folder; past it the entries that were used least lately go
MAX_ENTRY_BYTES = 16 << 20
_MEMORY_BYTES = 32 << 20
_ANEW = "Each run compiles its kernels anew, which takes seconds: "
_FULL = (errno.ENOSPC, errno.EDQUOT)
_BLOCK_BYTES = 4096  # what a small file takes of a disk
_DAY_S, _HOUR_S = 86400.0, 3600.0


class KernelCache:
    """A folder of compiled kernels, and in memory those that it cannot take.

    Args:
        folder: its absolute path; made when the first kernel is put. None for memory alone.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.size_bytes = MAX_BYTES  # of what is in the folder, at most: the first put measures it
        self.memory: dict[str, bytes] = {}
        self._is_checked = False
        self._is_writable = True
        self._told: set[str] = set()

    def get(self, key: str) -> bytes | None:
        """Return the code of a key; None if there is none that can be trusted."""
        name = _hash(key)
        if (code := self.memory.get(name)) is not None:
            return code
        folder = self._find_safe_folder()
        if folder is None:
            return None
        path = folder / name
        try:
            code = _read(path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            _pass_on(error)
            self._tell(f"Compiling kernels anew whose files in {folder} are damaged or not this user's own.")
            return None
        with contextlib.suppress(OSError):  # so that `_shrink` finds out what is used
            if time.time() - path.stat().st_mtime > _DAY_S:
                os.utime(path)
        return code

    def put(self, key: str, code: bytes) -> None:
        """Keep the code of a key: on disk, or where that fails, until the process ends."""
        name = _hash(key)
        if self._is_writable and (folder := self._find_safe_folder()) is not None:
            try:
                self._write(folder / name, code)
                return
            except OSError as error:
                _pass_on(error)
                self._is_writable = False
                mend = f"free some space, or {ELSEWHERE}" if error.errno in _FULL else ELSEWHERE
                self._tell(_ANEW + f"{folder} cannot be written ({error.strerror or error}); {mend}.")
        self.memory[name] = code
        excess = sum(map(len, list(self.memory.values()))) - _MEMORY_BYTES
        for oldest in list(self.memory):  # copies: other threads may put at the same time
            if excess <= 0:
                break
            excess -= len(self.memory.pop(oldest, b""))

    def _find_safe_folder(self) -> Path | None:
        """Return the folder if nobody else can write to it; it is looked at until it exists."""
        folder = self.folder  # another thread may give it up meanwhile
        if folder is None or self._is_checked:
            return folder
        if is_file(folder):
            with contextlib.suppress(OSError):
                folder.replace(folder.with_name(f"{folder.name}.damaged"))
                self._tell(f"{folder} was not a folder; what it was is {folder}.damaged now.")
        if intruder := find_intruder(folder):
            self._give_up(intruder)
            return None
        self._is_checked = is_folder(folder)
        return folder

    def _write(self, path: Path, code: bytes) -> None:
        if not is_folder(path.parent):  # never made, or deleted meanwhile
            make_private(path.parent)
            self._is_checked = False
            if self._find_safe_folder() is None:  # somebody was faster
                raise PermissionError(0, "others may write to it")
        entry = MAGIC + _digest(path.name, code) + code
        temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}.tmp")
        try:
            # No fsync: the digest finds an entry that a power cut left half written.
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _O_FLAGS, 0o600), "wb") as file:
                file.write(entry)
            if path.is_dir() and not path.is_symlink():
                path.rename(path.with_name(f"{path.name}.{secrets.token_hex(8)}.damaged"))
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        self.size_bytes += max(len(entry), _BLOCK_BYTES)
        if self.size_bytes > MAX_BYTES:
            self.size_bytes = _shrink(path.parent)

    def _give_up(self, reason: str) -> None:
        self.folder = None
        self._tell(_ANEW + f"{reason}.")

    def _tell(self, sentence: str) -> None:
        if sentence not in self._told:
            self._told.add(sentence)
            # Not a warning, which Python prints with a line of code of this file.
            import logging

            logging.getLogger("edgeae").warning(sentence)


_O_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def _pass_on(error: Exception) -> None:
    """Raise an error that is not the disk's: a time limit of the caller's, which Python counts as an OSError."""
    if isinstance(error, TimeoutError) and error.errno is None:
        raise error


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()


def _digest(name: str, code: bytes) -> bytes:
    return hashlib.sha256(name.encode() + code).digest()


def _read(path: Path) -> bytes:
    """Return the code of an entry.

    Raises:
        OSError: there is none, or it is a link, or cannot be read.
        ValueError: it is damaged, too large, no file, or anybody else may write to it.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _O_FLAGS)  # a pipe does not wait for a writer
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_ENTRY_BYTES:
            raise ValueError("no file of ours")
        if hasattr(os, "geteuid") and (found.st_uid != os.geteuid() or may_others_write(found)):
            raise ValueError("others may write to it")
        entry = file.read(MAX_ENTRY_BYTES + 1)
    start = len(MAGIC) + hashlib.sha256().digest_size
    code = entry[start:]
    if not code or entry[:start] != MAGIC + _digest(path.name, code):
        raise ValueError("damaged")
    return code


def _shrink(folder: Path) -> int:
    """Remove what killed processes left and, past MAX_BYTES, the oldest quarter; return the bytes that are left."""
    entries = []
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            found = path.lstat()
            if path.suffix == ".tmp" and time.time() - found.st_mtime > _HOUR_S:
                path.unlink()
            else:
                entries.append((found.st_mtime, max(found.st_size, _BLOCK_BYTES), path))
    total = sum(size for _, size, _ in entries)
    limit = MAX_BYTES * 3 // 4 if total > MAX_BYTES else MAX_BYTES
    for _, size, path in sorted(entries):
        if total <= limit:
            break
        with contextlib.suppress(OSError):
            path.unlink()
            total -= size
    return total


@functools.cache
def open_cache() -> KernelCache:
    """Return the cache of this process; without a folder where CCACHE or CACHELEVEL is 0, as tinygrad has it."""
    if "0" in (os.environ.get("CCACHE"), os.environ.get("CACHELEVEL")):
        return KernelCache(None)
    try:
        return KernelCache(cache_folder() / "kernels")
    except UsageError as error:
        cache = KernelCache(None)
        cache._give_up(str(error).removesuffix("."))
        return cache


def replace_tinygrads_cache() -> None:
    """Keep what tinygrad compiles here, too; its own cache is never opened."""
    from tinygrad import helpers
    from tinygrad.device import Compiler

    if Compiler.compile_cached is _compile_cached:
        return
    helpers.CACHELEVEL.value = 0
    helpers.cache_dir = _folder_for_tinygrad()
    Compiler.compile_cached = _compile_cached


def _folder_for_tinygrad() -> str:
    """Return where tinygrad may put the rest: firmware of GPUs, and modules of Metal's compiler."""
    with contextlib.suppress(UsageError):
        folder = cache_folder() / "tinygrad"
        if not find_intruder(folder):
            return str(folder)
    with contextlib.suppress(OSError):
        return str(Path(tempfile.gettempdir()) / f"edgeae-{secrets.token_hex(16)}")
    return str(Path(os.devnull) / "edgeae")  # nothing can be put there


def _compile_cached(compiler: Any, source: str) -> Any:
    """Compile a kernel of tinygrad, or find it in the cache; takes the place of a method of its `Compiler`."""
    from tinygrad import helpers

    if compiler.cachekey is None:
        return compiler.compile(source)
    key = f"edgeae {__version__}, tinygrad {helpers.VERSION}\n{compiler.cachekey}\n{source}"
    code = open_cache().get(key)
    if code is None:
        code = compiler.compile(source)
        if isinstance(code, bytes):
            open_cache().put(key, code)
    return code
