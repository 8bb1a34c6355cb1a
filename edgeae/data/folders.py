"""Folders of images: listing, splits by sub-folder, decoding in threads."""

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeae.data.array_files import MIN_SIDE, require_memory
from edgeae.data.fingerprint import digest_file
from edgeae.data.layout import TRAIN_NAMES, VAL_NAMES, describe_layout
from edgeae.data.pairs import pair
from edgeae.errors import DataError, ImageError
from edgeae.images.arrays import fit
from edgeae.images.files.array_io import read_image
from edgeae.images.files.listing import ImageFile, Listing, Problem, scan
from edgeae.runtime.threads import map_in_threads

_IDX_IMAGES = re.compile(r"(train|val|validation|t10k|test)-images[-.]idx[34]-ubyte(\.gz)?")
# The two images of a pair may differ in size, but in aspect ratio only by rounding.
_ASPECT_TOLERANCE = 0.02
RUN_PICTURES = frozenset(("preview.png", "curves.png"))
_CONFIG_BYTES = 1 << 20  # a run's config.json has 2 kB


@dataclass(frozen=True)
class Loaded:
    """Images that were loaded, without those that cannot be used.

    Attributes:
        inputs: uint8 (N, size, size, C).
        targets: uint8 (N, size, size, C_out) or None.
        kept: (N,), positions of these images among the requested ones.
        sizes: int64 (N, 2), original width and height in pixels.
        problems: why the others cannot be used.
        digests: N digests of the files, or none if the images are not from files.
        gray_as_rgb: whether targets in gray have three equal channels, as their files do not tell how many are meant.
    """

    inputs: NDArray[np.uint8]
    targets: NDArray[np.uint8] | None
    kept: NDArray[np.intp]
    sizes: NDArray[np.int64]
    problems: list[Problem] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    gray_as_rgb: bool = False


def split_folders(root: Path) -> tuple[Path, Path] | None:
    """Return the sub-folders of training and validation images, or None unless `root` has both."""
    folders = {path.name.lower(): path for path in sorted(root.iterdir(), reverse=True) if path.is_dir()}
    train = next((folders[name] for name in TRAIN_NAMES if name in folders), None)
    val = next((folders[name] for name in VAL_NAMES if name in folders), None)
    return (train, val) if train and val else None


def idx_files(root: Path) -> dict[str, Path]:
    """Return the IDX image files directly in `root`, by `train` and `val`; either may be missing."""
    files: dict[str, Path] = {}
    for path in sorted(root.iterdir()):
        if (match := _IDX_IMAGES.fullmatch(path.name)) and path.is_file():  # reading from a pipe would never end
            files.setdefault("train" if match[1] == "train" else "val", path)
    return files


def _read(path: Path, channels: int) -> NDArray[np.uint8]:
    if not path.is_file():  # reading from a pipe would never end
        raise ImageError(f"{path} is not a regular file.")
    return read_image(path, channels=channels)


def decode(files: list[ImageFile], size: int, channels: int) -> Loaded:
    """Decode, centre-crop and resize image files, in as many threads as there are cores.

    Args:
        files: the images; either all have a target or none.
        size: side of the result in pixels.
        channels: of the inputs, 1 or 3.

    Raises:
        DataError: the result would not fit into memory.
    """
    n = len(files)
    paired = n > 0 and files[0].target is not None
    require_memory(n * size * size * (channels + 3 * paired), f"{n:,} images of {size}×{size}")
    inputs = np.empty((n, size, size, channels), dtype=np.uint8)
    targets = np.empty((n if paired else 0, size, size, 3), dtype=np.uint8)
    sizes = np.zeros((n, 2), dtype=np.int64)
    digests = [""] * n

    def load(row: int) -> Problem | None:
        name, path, target_path = files[row]
        try:
            image = _read(path, channels)
            height, width = image.shape[:2]
            if min(width, height) < MIN_SIDE:
                return Problem("too small", name, f"{width}×{height} pixels; it takes {MIN_SIDE} a side")
            if target_path is not None:
                target = _read(target_path, 3)
                if abs(width / height * target.shape[0] / target.shape[1] - 1) > _ASPECT_TOLERANCE:
                    reason = f"{width}×{height}, its target {target.shape[1]}×{target.shape[0]}: another shape"
                    return Problem("unmatched", name, reason)
                targets[row] = fit(target, (size, size))
            inputs[row] = fit(image, (size, size))
            sizes[row] = width, height
            digests[row] = "-".join(digest_file(file) for file in (path, target_path) if file is not None)
        except ImageError as error:
            return Problem("unreadable", name, str(error).removeprefix(f"{path} ").removesuffix("."))
        except OSError as error:  # it went away between reading and digesting
            return Problem("unreadable", name, f"cannot be read ({error.strerror})")
        return None

    # Threads help because Pillow releases the interpreter's lock while it decodes and resizes.
    outcomes = map_in_threads(load, range(n), os.cpu_count() or 1)
    problems = [problem for problem in outcomes if problem is not None]
    kept = np.array([row for row, problem in enumerate(outcomes) if problem is None], dtype=np.intp)
    if problems:
        inputs, sizes = inputs[kept], sizes[kept]
        targets = targets[kept] if paired else targets
    return Loaded(
        inputs, targets if paired else None, kept, sizes, problems, [digests[row] for row in kept], gray_as_rgb=paired
    )


def list_folder(root: Path, targets: Path | None) -> tuple[dict[str, Listing], list[str]]:
    """List the images of a folder, without the pictures that trainings left in it.

    Args:
        root: the folder.
        targets: folder of the target images, with the same sub-folders; or None.

    Returns:
        {"train": …, "val": …} if the folder is split by sub-folders, otherwise {"all": …}; and sentences for the user.

    Raises:
        DataError: `targets` is not a folder, is `root`, or lacks a sub-folder.
    """
    if targets is not None and not targets.is_dir():
        raise DataError(f"`targets` {targets} is not a folder: give the folder that holds a target for each image.")
    if targets is not None and targets.samefile(root):
        raise DataError(f"`targets` {targets} is the folder of the inputs itself: give the folder of the targets.")
    notes: list[str] = []
    folders = split_folders(root)
    parts = {"train": folders[0], "val": folders[1]} if folders else {"all": root}
    listings = {part: _without_runs(scan(folder, root, targets), root, notes) for part, folder in parts.items()}
    if not folders:
        notes += describe_layout(root, [file.name for file in listings["all"].files])
    if targets is None:
        return listings, notes
    for part, folder in parts.items():
        target_folder = targets / folder.name if folders else targets
        if not target_folder.is_dir():
            raise DataError(f"`targets` {targets} has no folder {folder.name}, which the inputs have: add it.")
        skip = root if root.resolve().is_relative_to(target_folder.resolve()) else None
        listings[part] = pair(listings[part], _without_runs(scan(target_folder, targets, skip), targets, notes))
    return listings, notes


def _without_runs(listing: Listing, base: Path, notes: list[str]) -> Listing:
    """Leave out what lies in run folders: a training must not learn from its own previews and curves."""
    runs: dict[Path, bool] = {}

    def is_left_out(file: ImageFile) -> bool:
        # The folder itself may be a run too, if `-o` is the data; then only the run's pictures are no data.
        folders = [folder for folder in file.path.parents if folder != base and folder.is_relative_to(base)]
        if file.path.parent == base and file.name in RUN_PICTURES:
            folders.append(base)
        return any(runs.setdefault(folder, is_run_folder(folder)) for folder in folders)

    left_out = [file for file in listing.files if is_left_out(file)]
    if not left_out:
        return listing
    names = sorted(path.relative_to(base).as_posix() for path, is_run in runs.items() if is_run)
    count = f"{len(left_out)} picture{'s' * (len(left_out) > 1)} of training runs"
    notes.append(f"{count} ({', '.join(names[:3])}{', …' * (len(names) > 3)}) passed over")
    files = [file for file in listing.files if file not in set(left_out)]
    return Listing(files, listing.problems, listing.ignored + len(left_out))


def is_run_folder(folder: Path) -> bool:
    """Return whether a training writes to this folder (training/run_folder.py)."""
    path = folder / "config.json"
    try:
        if not path.is_file() or path.stat().st_size > _CONFIG_BYTES:
            return False
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(document, dict) and {"model", "train"} <= document.keys()
