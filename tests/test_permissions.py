"""Permissions of outputs: whatever the umask and groups, nobody can read more than of the input."""

import os
import stat
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeae.files import write_bytes_atomic

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
ROOT_ONLY = pytest.mark.skipif(sys.platform == "win32" or os.getuid() != 0, reason="changes groups")


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path: Path) -> str:
    return f"{stat.S_IMODE(path.stat().st_mode):03o}"


def made(path: Path, permissions: int, group: int | None = None) -> Path:
    path.write_bytes(b"photo")
    if group is not None:
        os.chown(path, -1, group)
    path.chmod(permissions)
    return path


@pytest.mark.parametrize(("photo", "mask", "expected"), [
    (0o600, 0o022, "600"), (0o644, 0o022, "644"), (0o400, 0o022, "600"), (0o444, 0o022, "644"), (0o640, 0o022, "640"),
    (0o604, 0o022, "604"), (0o777, 0o022, "644"), (0o666, 0o002, "664"), (0o644, 0o077, "600"), (0o660, 0o002, "660"),
    (0o600, 0o000, "600"), (0o000, 0o022, "600"),
])  # fmt: skip
def test_as_the_photo_and_the_umask_have_it(tmp_path: Path, umask: None, photo: int, mask: int, expected: str) -> None:
    os.umask(mask)
    write_bytes_atomic(tmp_path / "out", b"result", like=made(tmp_path / "photo", photo))
    assert mode(tmp_path / "out") == expected


@pytest.mark.parametrize(("existing", "expected"), [(0o644, "600"), (0o600, "600"), (0o666, "600")])
def test_an_output_that_exists(tmp_path: Path, existing: int, expected: str) -> None:
    photo = made(tmp_path / "photo", 0o600)
    write_bytes_atomic(made(tmp_path / "out", existing), b"result", like=photo)
    assert mode(tmp_path / "out") == expected


def test_several_photos_and_one_that_is_gone(tmp_path: Path, umask: None) -> None:
    open_one, private = made(tmp_path / "a", 0o644), made(tmp_path / "b", 0o640)
    write_bytes_atomic(tmp_path / "out", b"", like=[open_one, private])
    write_bytes_atomic(tmp_path / "gone", b"", like=[open_one, tmp_path / "nowhere"])
    write_bytes_atomic(tmp_path / "none", b"", like=[])
    assert [mode(tmp_path / name) for name in ("out", "gone", "none")] == ["640", "600", "644"]


@ROOT_ONLY
@pytest.mark.parametrize(("photo", "expected"), [
    (0o640, "600"), (0o644, "644"), (0o660, "600"), (0o604, "600"), (0o664, "644"),
])  # fmt: skip
def test_another_group(tmp_path: Path, umask: None, photo: int, expected: str) -> None:
    """Its members are others to the photo, and the photo's group are others to the output."""
    os.umask(0o002)
    write_bytes_atomic(tmp_path / "out", b"result", like=made(tmp_path / "photo", photo, group=12_345))
    assert mode(tmp_path / "out") == expected


@ROOT_ONLY
def test_a_folder_that_gives_its_group(tmp_path: Path, umask: None) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    os.chown(folder, -1, 12_345)
    folder.chmod(0o2775)
    write_bytes_atomic(folder / "out", b"result", like=made(tmp_path / "photo", 0o640))
    assert mode(folder / "out") == "600" and (folder / "out").stat().st_gid == 12_345


def acl(*entries: tuple[int, int, int]) -> bytes:
    """(tag, permissions, who): user 1, named user 2, group 4, mask 16, others 32."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


NOBODY = 0xFFFFFFFF


@pytest.mark.skipif(not hasattr(os, "setxattr"), reason="Linux's access lists")
@pytest.mark.parametrize("where", ["photo", "folder"])
def test_access_lists(tmp_path: Path, umask: None, where: str) -> None:
    photo = made(tmp_path / "photo", 0o640)
    entries = acl((1, 6, NOBODY), (2, 4, 54_321), (4, 0, NOBODY), (16, 4, NOBODY), (32, 0, NOBODY))
    try:
        if where == "photo":
            os.setxattr(photo, "system.posix_acl_access", entries)
        else:
            os.setxattr(tmp_path, "system.posix_acl_default", entries)
    except OSError:
        pytest.skip("this file system has none")
    write_bytes_atomic(tmp_path / "out", b"result", like=photo)
    assert mode(tmp_path / "out") == "600"  # the group's bits are also the most that anybody on the list gets
