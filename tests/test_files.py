"""Atomic writes: what is on the disk after success, failure, an interrupt and a race."""

import errno
import os
import stat
import sys
import threading
from pathlib import Path

import pytest

from edgeae.errors import EdgeaeError
from edgeae.files import atomic_write, write_bytes_atomic

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions and devices")


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_writes_and_replaces_and_makes_parents(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "weights.bin"
    write_bytes_atomic(path, b"one")
    write_bytes_atomic(str(path), b"two!")
    assert path.read_bytes() == b"two!"
    assert names(path.parent) == ["weights.bin"]


def test_the_file_can_be_read_and_sought_while_open(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "x") as file:
        file.write(b"hello world")
        file.seek(6)
        assert file.read() == b"world"
        file.seek(0)
        file.write(b"J")
    assert (tmp_path / "x").read_bytes() == b"Jello world"


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, ValueError, MemoryError])
def test_an_exception_leaves_the_old_content_and_no_temporary_file(tmp_path: Path, stop: type[BaseException]) -> None:
    path = tmp_path / "best.safetensors"
    path.write_bytes(b"old")
    with pytest.raises(stop), atomic_write(path) as file:
        file.write(b"half of the n")
        raise stop
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["best.safetensors"]


@pytest.mark.parametrize(
    ("code", "mend"), [(errno.ENOSPC, "disk is full"), (errno.EACCES, "permission is denied"), (errno.EIO, "error")]
)
def test_an_os_error_becomes_a_sentence_naming_the_file(tmp_path: Path, code: int, mend: str) -> None:
    path = tmp_path / "out.png"
    with pytest.raises(EdgeaeError, match=mend) as caught, atomic_write(path):
        raise OSError(code, os.strerror(code))
    assert str(path) in str(caught.value)
    assert names(tmp_path) == []


def test_folders_and_files_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"kept")
    for path, mend in [
        (tmp_path, "it is a folder"),
        (tmp_path / "file" / "x", "not a folder"),
        (tmp_path / "file" / "y" / "x", "not a folder"),
        (tmp_path / ("n" * 300), "too long"),
    ]:
        with pytest.raises(EdgeaeError, match=mend):
            write_bytes_atomic(path, b"new")
    assert (tmp_path / "file").read_bytes() == b"kept"
    assert names(tmp_path) == ["file"]


@posix_only
def test_permissions_and_links_are_kept(tmp_path: Path) -> None:
    write_bytes_atomic(tmp_path / "new", b"x")
    (tmp_path / "plain").write_bytes(b"x")
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "plain").stat().st_mode

    secret = tmp_path / "secret"
    secret.write_bytes(b"old")
    secret.chmod(0o600)
    (tmp_path / "link").symlink_to(secret)
    write_bytes_atomic(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert secret.read_bytes() == b"new"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600


@posix_only
def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_bytes()), daemon=True)
    reader.start()
    write_bytes_atomic(tmp_path / "pipe", b"through")
    reader.join(5)
    assert read == [b"through"]
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_writers_of_one_path_never_mix(tmp_path: Path) -> None:
    path = tmp_path / "shared"
    contents = [bytes([value]) * 100_000 for value in range(8)]
    threads = [threading.Thread(target=write_bytes_atomic, args=(path, content)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in contents
    assert names(tmp_path) == ["shared"]
