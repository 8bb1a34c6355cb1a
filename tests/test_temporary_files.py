"""Temporary files: without a name where there are such, else removed when their process is gone."""

import errno
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeae import temporary_files
from edgeae.errors import EdgeaeError
from edgeae.files import atomic_write, write_bytes_atomic
from edgeae.temporary_files import TemporaryFile, is_temporary, remove_stale

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX locks and modes")
DEAD = 2**22 + 5  # more than any process has as its number


def dead_pid() -> int:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def no_unnamed_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temporary_files, "_open_unnamed", lambda folder, mode: -1)


def no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: TemporaryFile, path: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(TemporaryFile, "_link", refuse)


SYSTEMS = [lambda patch: None, no_unnamed_files, no_links]
IDS = ["as the system has it", "named files alone", "links forbidden"]


@pytest.mark.parametrize("system", SYSTEMS, ids=IDS)
def test_content_modes_and_nothing_else(
    system: Callable[[pytest.MonkeyPatch], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system(monkeypatch)
    for data in (b"old" * 100_000, b"new"):  # made, then replaced
        with atomic_write(tmp_path / "x") as file:
            file.write(data)
            file.flush()
            waiting = [path for path in tmp_path.iterdir() if path.name != "x"]
            assert all(is_temporary(path.name) and stat.S_IMODE(path.stat().st_mode) == 0o600 for path in waiting)
        assert [path.name for path in tmp_path.iterdir()] == ["x"] and (tmp_path / "x").read_bytes() == data
    (tmp_path / "plain").touch()
    assert (tmp_path / "x").stat().st_mode == (tmp_path / "plain").stat().st_mode
    with pytest.raises(ValueError), atomic_write(tmp_path / "y") as file:
        file.write(bytes(100_000))
        raise ValueError
    assert not (tmp_path / "y").exists() and len(list(tmp_path.iterdir())) == 2


def test_a_job_that_waits_has_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_unnamed_files(monkeypatch)
    with atomic_write(tmp_path / "x") as file:
        file.write(b"a header of a few bytes")
        assert list(tmp_path.iterdir()) == []
        file.write(bytes(100_000))
        assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(EdgeaeError), atomic_write(tmp_path / "z") as file:
        file.write(b"what is in the buffer is thrown away")
        raise OSError(errno.EIO, "I/O error")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


KILLED = """
import sys, time
from edgeae import files, temporary_files
if sys.argv[2] == "named":
    temporary_files._open_unnamed = lambda folder, mode: -1
with files.atomic_write(sys.argv[1]) as file:
    file.write(bytes(1 << 20))
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("kind", ["unnamed", "named"])
def test_a_killed_process_leaves_nothing_for_long(kind: str, tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "x"), kind], stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == b"ready\n"
    assert remove_stale(tmp_path) == []  # it lives
    before = list(tmp_path.iterdir())
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert sorted(remove_stale(tmp_path)) == sorted(before)
    assert list(tmp_path.iterdir()) == []


def name(place: str | None, pid: int) -> str:
    return f".edgeae-{place}-{pid}-0123456789abcdef.tmp" if place else ".edgeae-0123456789abcdef.tmp"


@pytest.mark.parametrize(("place", "pid", "age_s", "stays"), [
    ("here", "dead", 0, False), ("here", "own", 10, True), ("here", "own", 100, False),
    ("00000000", "own", 3_700, True), ("00000000", "dead", 90_000, False),
    (None, "own", 10, True), (None, "own", 3_700, False), ("here", "impossible", 0, False),
], ids=[
    "its process is gone", "just made, not yet locked", "its number was given out again", "of another machine",
    "of another machine, a day ago", "of an earlier version, now", "of an earlier version, an hour ago",
    "a number that no process has",
])  # fmt: skip
def test_which_are_stale(tmp_path: Path, place: str | None, pid: str, age_s: int, stays: bool) -> None:
    number = {"dead": dead_pid, "own": os.getpid, "impossible": lambda: 10**30}[pid]()
    path = tmp_path / name(temporary_files._place() if place == "here" else place, number)
    path.touch()
    os.utime(path, (time.time() - age_s,) * 2)
    assert remove_stale(tmp_path) == ([] if stays else [path])


@pytest.mark.parametrize("place", ["here", "00000000", None])
def test_a_locked_one_stays_however_old(tmp_path: Path, place: str | None) -> None:
    path = tmp_path / name(temporary_files._place() if place == "here" else place, os.getpid())
    with path.open("wb") as file:
        os.utime(path, (0, 0))
        assert temporary_files.lock(file.fileno())
        assert remove_stale(tmp_path) == []
    assert remove_stale(tmp_path) == [path]


@pytest.mark.parametrize("other", [
    "photo.jpg", ".edgeae-notes.tmp", ".edgeae-0123456789abcdef.tmp.jpg", ".edgeae-0123456789ABCDEF.tmp", "link",
    "folder",
])  # fmt: skip
def test_nothing_else_is_removed(tmp_path: Path, other: str) -> None:
    path = tmp_path / (other if other not in ("link", "folder") else name(None, 0))
    if other == "link":
        (tmp_path / "photo.jpg").touch()
        path.symlink_to(tmp_path / "photo.jpg")
    elif other == "folder":
        path.mkdir()
    else:
        path.touch()
    os.utime(path, (0, 0))
    assert remove_stale(tmp_path) == [] and path.exists()
    assert remove_stale(tmp_path / "missing") == []


def test_no_more_files_can_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **more: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(temporary_files.os, "open", refuse)
    with pytest.raises(EdgeaeError, match="too many files open; raise its limit"):
        write_bytes_atomic(tmp_path / "x", b"data")
