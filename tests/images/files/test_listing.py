"""Listing folders: what is taken, what is left out and why, links, and what systems leave."""

import os
import socket
from pathlib import Path

import pytest

from edgeae.images.files import listing
from edgeae.images.files.kinds import is_dropping, read_suffixes
from edgeae.images.files.listing import LeftOut, read_folder, scan

JPEG = b"\xff\xd8\xff\xe0" + bytes(20)


def make(path: Path, content: bytes = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def left_out(root: Path) -> dict[str, LeftOut]:
    return {Path(one.path).relative_to(root).as_posix(): one for one in scan(root, root).left_out}


DROPPINGS = [
    "@eaDir/a.jpg/SYNOPHOTO_THUMB_XL.jpg", "#recycle/a.jpg", "@Recycle/a.jpg", ".@__thumb/a.jpg", "__MACOSX/._a.jpg",
    "._a.jpg", ".thumbnails/a.jpg", ".Trash-1000/files/a.jpg", ".Trashes/a.jpg", "$RECYCLE.BIN/a.jpg",
    "System Volume Information/a.jpg", "lost+found/a.jpg", "Thumbs.db", "THUMBS.DB", "ehthumbs_vista.db", ".DS_Store",
    "desktop.ini", ".picasaoriginals/a.jpg", ".picasa.ini", ".dtrash/a.jpg", ".git/a.jpg", "Photos.lrdata/a.jpg",
    ".edgeae-0123456789abcdef.tmp", "~$a.jpg", ".stversions/a.jpg", "@sharebin/a.jpg",
    "Photos Library.photoslibrary/resources/derivatives/a.jpg", "old.aplibrary/Thumbnails/a.jpg",
]  # fmt: skip


@pytest.mark.parametrize("name", DROPPINGS)
def test_droppings_are_passed_over(tmp_path: Path, name: str) -> None:
    make(tmp_path / "sub" / name, JPEG)
    make(tmp_path / "sub" / "photo.jpg", JPEG)
    found = scan(tmp_path, tmp_path)
    assert [file.name for file in found.files] == ["sub/photo.jpg"]
    assert found.left_out == [] and found.ignored == 0 and found.problems == []


@pytest.mark.parametrize("name", ["eaDir", "recycle.jpg", "thumbs.jpg", "_a.jpg", "Trash", "git", "lost and found"])
def test_names_that_only_look_like_droppings(name: str) -> None:
    assert not is_dropping(name)


@pytest.mark.parametrize(("name", "content", "words", "missed"), [
    ("a.HEIC", b"", "heif", True), ("a.avif", b"", "AVIF", True), ("a.jxl", b"", "JPEG XL", True),
    ("a.jp2", b"", "JPEG 2000", True), ("a.DNG", b"", "develop", True), ("a.cr3", b"", "develop", True),
    ("a.psd", b"", "editor", True), ("a.mpo", b"", "rename it to .jpg", True), ("a.exr", b"", "another kind", True),
    ("IMG_1", JPEG, "JPEG picture without", True), ("a.jpg~", JPEG, "JPEG picture without", True),
    ("a.jpg.part", b"", "not copied or downloaded", True), ("a.jpg.crdownload", JPEG, "not copied", True),
    ("IMG.filepart", JPEG, "not copied", True), ("b.png.tmp", bytes(9), "not copied", True),
    ("notes.tmp", b"text", "not a picture", False), ("a.tar.gz", b"", "unpack", False), ("a.zip", b"", "unpack", False),
    ("PXL_1.MP", b"", "video", False), ("IMG.insp", JPEG, "rename it to .jpg", True),
    ("a.jpg(1)", b"\x89PNG\r\n\x1a\n" + bytes(9), "PNG picture without", True),
    (".a.HEIC.icloud", b"bplist", "iCloud", True), (".notes.txt.icloud", b"bplist", "", False),
    ("a.mov", b"", "video", False), ("a.xmp", b"", "data about", False), ("a.jpg.json", b"", "data about", False),
    ("a.txt", b"", "not a picture", False), ("README", b"text", "not a picture", False),
    ("a.dat", b"", "not a pic", False),
    (".a.jpg", JPEG, "hidden", False), (".bashrc", b"", "", False), (".hidden/a.jpg", JPEG, "hidden", False),
], ids=lambda value: value if isinstance(value, str) else "")  # fmt: skip
def test_reasons(tmp_path: Path, name: str, content: bytes, words: str, missed: bool) -> None:
    if Path(name).suffix.lower() in read_suffixes() and not name.startswith("."):
        pytest.skip("it can be read here")
    make(tmp_path / name, content)
    found = scan(tmp_path, tmp_path)
    assert found.files == [] and [one.missed for one in found.left_out] == ([missed] if words else [])
    assert all(words in one.reason and name not in one.reason for one in found.left_out)
    assert bool(found.problems) == missed


@pytest.mark.parametrize("end", ["_original", "~", ".bak", ".orig"])
def test_an_earlier_copy_beside_its_photo_is_not_missed(tmp_path: Path, end: str) -> None:
    make(tmp_path / "a.jpg", JPEG)
    make(tmp_path / f"a.jpg{end}", JPEG)
    [one] = scan(tmp_path, tmp_path).left_out
    assert "earlier copy" in one.reason and not one.missed


def test_broken_links(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.heic", "album", "c.txt", "loop.png"):
        (tmp_path / name).symlink_to(tmp_path / (name if name == "loop.png" else "nowhere"))
    found = left_out(tmp_path)
    assert {name: one.missed for name, one in found.items()} == {
        "a.jpg": True, "b.heic": True, "album": True, "c.txt": False, "loop.png": True,
    }  # fmt: skip
    assert all("link" in one.reason for one in found.values())


def test_links_come_after_what_they_lead_to(tmp_path: Path) -> None:
    """However links are named: a folder is listed under its own name, and from outside under the first link's."""
    root = tmp_path / "in"
    make(root / "m" / "a.png")
    make(tmp_path / "outside" / "b.png")
    (root / "album").symlink_to(root / "m")
    (root / "m" / "up").symlink_to(root)
    (root / "one").symlink_to(tmp_path / "outside")
    (root / "two").symlink_to(tmp_path / "outside")
    found = scan(root, root)
    names = [file.name for file in found.files]
    assert names[0] == "m/a.png" and names[1] in ("one/b.png", "two/b.png") and len(names) == 2
    assert len(found.left_out) == 3 and not any(one.missed for one in found.left_out)


def test_a_root_that_is_a_link_and_one_to_skip(tmp_path: Path) -> None:
    make(tmp_path / "in" / "a.png")
    make(tmp_path / "in" / "out" / "b.png")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    for skip in (tmp_path / "in" / "out", tmp_path / "link" / "out", tmp_path / "in" / "." / "out"):
        assert [file.name for file in scan(tmp_path / "link", tmp_path / "link", skip).files] == ["a.png"]
    assert len(scan(tmp_path / "in", tmp_path / "in", tmp_path / "in").files) == 2


def test_folders_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As root every folder can be, so the error is made."""
    make(tmp_path / "open" / "a.png")
    make(tmp_path / "locked" / "b.png")
    make(tmp_path / "vanished" / "c.png")

    def read(folder: Path) -> listing.FolderContent:
        if folder.name == "locked":
            raise PermissionError(13, "Permission denied")
        if folder.name == "vanished":
            raise FileNotFoundError(2, "No such file or directory")
        return read_folder(folder)

    monkeypatch.setattr(listing, "read_folder", read)
    found = scan(tmp_path, tmp_path)
    assert [file.name for file in found.files] == ["open/a.png"]
    assert [(problem.name, "listed" in problem.reason) for problem in found.problems] == [
        ("locked", True), ("vanished", True),
    ]  # fmt: skip


def test_pipes_and_sockets_do_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tmp_path / "socket"))
        assert {name: one.missed for name, one in left_out(tmp_path).items()} == {"pipe": False, "socket": False}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_names_of_any_bytes(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff\xfe.png")
    make(tmp_path / name)
    assert [file.path.name for file in scan(tmp_path, tmp_path).files] == [name]
