"""List the image files under a folder."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif"))


class Problem(NamedTuple):
    """A file that is left out, and why.

    Attributes:
        kind: "unmatched" is a file without a target, or the other way round.
        name: relative to the folder that was listed.
        reason: in words.
    """

    kind: Literal["too small", "unreadable", "unmatched"]
    name: str
    reason: str


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
        problems: what could not be listed.
        ignored: how many other files there are.
    """

    files: list[ImageFile]
    problems: list[Problem] = field(default_factory=list)
    ignored: int = 0


def scan(root: Path, base: Path, skip: Path | None = None) -> Listing:
    """List every image file under a folder, sub-folders and links included.

    A folder is listed once, however many links lead to it, so a loop of links ends. Hidden files and folders are
    passed over. A folder that cannot be listed is among the problems of the result.

    Args:
        root: the folder.
        base: what names are relative to.
        skip: a folder under `root` to pass over.
    """
    files: list[ImageFile] = []
    problems: list[Problem] = []
    ignored = 0

    def add_problem(error: OSError) -> None:
        problems.append(Problem("unreadable", os.path.relpath(error.filename, base), f"{error.strerror}"))

    seen: set[tuple[int, int]] = set()
    if skip is not None and not skip.samefile(root):
        seen.add((skip.stat().st_dev, skip.stat().st_ino))
    for folder, subfolders, names in os.walk(root, followlinks=True, onerror=add_problem):
        status = Path(folder).stat()
        identity = (status.st_dev, status.st_ino)
        if identity in seen:
            subfolders.clear()
            continue
        seen.add(identity)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in names:
            path = Path(folder, name)
            if name.startswith(".") or path.suffix.lower() not in IMAGE_SUFFIXES:
                ignored += not name.startswith(".")
            else:
                files.append(ImageFile(path.relative_to(base).as_posix(), path))
    return Listing(sorted(files), sorted(problems), ignored)
