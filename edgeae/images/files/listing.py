"""List the image files under a folder."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif"))


class Problem(NamedTuple):
    """A file that is left out, and why."""

    kind: Literal["too small", "unreadable", "unmatched"]
    name: str
    reason: str


class ImageFile(NamedTuple):
    """An image to load: its name relative to the dataset, its path, and its target's where it has one."""

    name: str
    path: Path
    target: Path | None = None


@dataclass(frozen=True)
class Listing:
    """The image files under a folder, sorted by name; `ignored` counts the others."""

    files: list[ImageFile]
    problems: list[Problem] = field(default_factory=list)
    ignored: int = 0


def scan(root: Path, base: Path, skip: Path | None = None) -> Listing:
    """Every image file under `root`, sub-folders and links included, named relative to `base`.

    A folder is listed once, however many links lead to it, so a loop of links ends. Hidden files and folders are
    passed over, and so is the folder `skip`. Raises nothing: a folder that cannot be listed is a problem in the answer.
    """
    files: list[ImageFile] = []
    problems: list[Problem] = []
    ignored = 0

    def unlistable(error: OSError) -> None:
        problems.append(Problem("unreadable", os.path.relpath(error.filename, base), f"{error.strerror}"))

    seen: set[tuple[int, int]] = set()
    if skip is not None and not skip.samefile(root):
        seen.add((skip.stat().st_dev, skip.stat().st_ino))
    for folder, subfolders, names in os.walk(root, followlinks=True, onerror=unlistable):
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
