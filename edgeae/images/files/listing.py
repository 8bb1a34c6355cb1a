"""List the image files under a folder, and say what is left out."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from edgeae.images.files.kinds import HIDDEN, is_dropping, read_suffixes, why_broken, why_left_out, why_unlisted

TWICE = "link to a folder that is taken under its own name"


class Problem(NamedTuple):
    """A file that is left out of a dataset, and why.

    Attributes:
        kind: "unmatched" is a file without a target, or the other way round.
        name: relative to the folder that was listed.
        reason: in words.
    """

    kind: Literal["too small", "unreadable", "unmatched"]
    name: str
    reason: str


@dataclass(frozen=True, order=True)
class LeftOut:
    """A file or folder that is left out, and why.

    Attributes:
        path: of the file or folder.
        reason: in words, without the path.
        missed: whether it is a photo, or may hold photos, that somebody will miss.
    """

    path: str
    reason: str
    missed: bool


class ImageFile(NamedTuple):
    """An image file of a folder.

    Attributes:
        name: relative to the folder, with `/` on every system.
        path: where it is.
        target: in a paired dataset, the image that a network learns to make of it.
    """

    name: str
    path: Path
    target: Path | None = None


@dataclass(frozen=True)
class Listing:
    """The image files under a folder.

    Attributes:
        files: sorted by name.
        problems: the photos among `left_out`, for the report of a dataset.
        ignored: how many files there are that are not pictures.
        left_out: what is left out, sorted by path; leftovers of systems (see `kinds`) are not named.
    """

    files: list[ImageFile]
    problems: list[Problem] = field(default_factory=list)
    ignored: int = 0
    left_out: list[LeftOut] = field(default_factory=list)


class Subfolder(NamedTuple):
    """A folder in a folder."""

    path: Path
    is_link: bool


@dataclass
class FolderContent:
    """What is directly in a folder.

    Attributes:
        files: image files, each with its number in the file system, which a newer file of that name does not have.
        subfolders: folders, and links to folders.
        left_out: the rest.
    """

    files: dict[Path, int] = field(default_factory=dict)
    subfolders: list[Subfolder] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)


def read_folder(folder: Path) -> FolderContent:
    """List what is directly in a folder.

    Raises:
        OSError: it cannot be listed.
    """
    content, suffixes = FolderContent(), read_suffixes()
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_dropping(entry.name, folder.name):
                continue
            path, hidden = folder / entry.name, entry.name.startswith(".")
            if _is_folder(entry):
                if hidden:
                    content.left_out.append(LeftOut(str(path), HIDDEN, False))
                else:
                    content.subfolders.append(Subfolder(path, entry.is_symlink()))
            elif path.suffix.lower() not in suffixes or hidden:
                reason = why_broken(path) if _is_broken(entry) else why_left_out(path)
                if reason.text != HIDDEN or path.suffix.lower() in suffixes:  # not each .bashrc
                    content.left_out.append(LeftOut(str(path), *reason))
            elif _is_broken(entry):
                content.left_out.append(LeftOut(str(path), *why_broken(path)))
            else:
                content.files[path] = entry.inode()
    return content


def walk(
    root: Path,
    skip: Path | None = None,
    read: Callable[[Path, os.stat_result], FolderContent] = lambda folder, status: read_folder(folder),
) -> Iterator[tuple[Path, FolderContent]]:
    """Yield each folder under a folder, and what is in it.

    A folder comes once, under its own name before those of links to it, so a loop of links ends. What cannot be listed
    is among what is left out of it.

    Args:
        root: the folder.
        skip: a folder under `root` to pass over.
        read: lists a folder; by default `read_folder`.
    """
    seen: set[tuple[int, int]] = set()
    skipped = None if skip is None else identify(skip)
    skipped = None if skipped == identify(root) else skipped
    folders, links = [root], list[Path]()
    while folders or links:
        folder = (folders or links).pop()
        try:
            status = folder.stat()
            identity = status.st_dev, status.st_ino
            if identity == skipped:
                continue
            if identity in seen:
                yield folder, FolderContent(left_out=[LeftOut(str(folder), TWICE, False)])
                continue
            seen.add(identity)
            content = read(folder, status)
        except OSError as error:
            yield folder, FolderContent(left_out=[LeftOut(str(folder), *why_unlisted(error))])
            continue
        for subfolder in sorted(content.subfolders, reverse=True):
            (links if subfolder.is_link else folders).append(subfolder.path)
        yield folder, content


def scan(root: Path, base: Path, skip: Path | None = None) -> Listing:
    """List every image file under a folder, sub-folders and links included.

    Leftovers of systems and network drives are passed over, and hidden files and folders.

    Args:
        root: the folder.
        base: what names are relative to.
        skip: a folder under `root` to pass over.
    """
    files: list[ImageFile] = []
    left_out: list[LeftOut] = []
    for _, content in walk(root, skip):
        files += [ImageFile(path.relative_to(base).as_posix(), path) for path in content.files]
        left_out += content.left_out
    problems = [
        Problem("unreadable", os.path.relpath(one.path, base), one.reason) for one in sorted(left_out) if one.missed
    ]
    ignored = sum(not one.missed and one.reason != HIDDEN for one in left_out)
    return Listing(sorted(files), problems, ignored, sorted(left_out))


def identify(folder: Path) -> tuple[int, int] | None:
    """Return what tells a folder from every other one, by whatever name; None if it is not there."""
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_broken(entry: os.DirEntry[str]) -> bool:
    return entry.is_symlink() and not os.path.exists(entry.path)  # noqa: PTH110 - for any text
