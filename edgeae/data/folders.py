"""Folders of images: listing, splits by sub-folder, matching of inputs with targets, decoding in threads."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from edgeae.data.array_files import MIN_SIDE, require_memory
from edgeae.errors import DataError, ImageError
from edgeae.images.arrays import fit
from edgeae.images.files.array_io import read_image
from edgeae.images.files.listing import ImageFile, Listing, Problem, scan
from edgeae.runtime.threads import map_in_threads

# In order of preference: of a folder with train, val and test, val is the validation split.
_TRAIN_NAMES = ("train", "training")
_VAL_NAMES = ("val", "valid", "validation", "test", "testing")
_IDX_IMAGES = re.compile(r"(train|val|validation|t10k|test)-images[-.]idx[34]-ubyte(\.gz)?")
# The two images of a pair may differ in size, but in aspect ratio only by rounding.
_ASPECT_TOLERANCE = 0.02


@dataclass(frozen=True)
class Loaded:
    """Images that were loaded, without those that cannot be used.

    Attributes:
        inputs: uint8 (N, size, size, C).
        targets: uint8 (N, size, size, C_out) or None.
        kept: (N,), positions of these images among the requested ones.
        sizes: int64 (N, 2), original width and height in pixels.
        problems: why the others cannot be used.
    """

    inputs: NDArray[np.uint8]
    targets: NDArray[np.uint8] | None
    kept: NDArray[np.intp]
    sizes: NDArray[np.int64]
    problems: list[Problem] = field(default_factory=list)


def split_folders(root: Path) -> tuple[Path, Path] | None:
    """Return the sub-folders of training and validation images, or None unless `root` has both."""
    folders = {path.name.lower(): path for path in sorted(root.iterdir(), reverse=True) if path.is_dir()}
    train = next((folders[name] for name in _TRAIN_NAMES if name in folders), None)
    val = next((folders[name] for name in _VAL_NAMES if name in folders), None)
    return (train, val) if train and val else None


def idx_files(root: Path) -> dict[str, Path]:
    """Return the IDX image files directly in `root`, by `train` and `val`; either may be missing."""
    files: dict[str, Path] = {}
    for path in sorted(root.iterdir()):
        if match := _IDX_IMAGES.fullmatch(path.name):
            files.setdefault("train" if match[1] == "train" else "val", path)
    return files


def pair(inputs: Listing, targets: Listing) -> Listing:
    """Match inputs with targets by relative name without suffix; files without a partner become problems."""

    def stem(name: str) -> str:
        return str(PurePosixPath(name).with_suffix(""))

    by_stem: dict[str, ImageFile] = {}
    for file in targets.files:
        by_stem.setdefault(stem(file.name), file)
    paired: list[ImageFile] = []
    problems = inputs.problems + targets.problems
    for file in inputs.files:
        if target := by_stem.get(stem(file.name)):
            paired.append(file._replace(target=target.path))
        else:
            problems.append(Problem("unmatched", file.name, "has no target of that name"))
    used = {file.target for file in paired}
    problems += [
        Problem("unmatched", file.name, "is a target without an input of that name")
        for file in targets.files
        if file.path not in used
    ]
    return Listing(paired, problems, inputs.ignored + targets.ignored)


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
        except ImageError as error:
            return Problem("unreadable", name, str(error).removeprefix(f"{path} ").removesuffix("."))
        return None

    # Threads help because Pillow releases the interpreter's lock while it decodes and resizes.
    outcomes = map_in_threads(load, range(n), os.cpu_count() or 1)
    problems = [problem for problem in outcomes if problem is not None]
    kept = np.array([row for row, problem in enumerate(outcomes) if problem is None], dtype=np.intp)
    if problems:
        inputs, sizes = inputs[kept], sizes[kept]
        targets = targets[kept] if paired else targets
    if not paired:
        return Loaded(inputs, None, kept, sizes, problems)
    gray = bool((targets == targets[..., :1]).all())
    return Loaded(inputs, np.ascontiguousarray(targets[..., :1]) if gray else targets, kept, sizes, problems)


def list_folder(root: Path, targets: Path | None) -> dict[str, Listing]:
    """List the images of a folder.

    Args:
        root: the folder.
        targets: folder of the target images, with the same sub-folders; or None.

    Returns:
        {"train": …, "val": …} if the folder is split by sub-folders, otherwise {"all": …}.

    Raises:
        DataError: `targets` is not a folder, or lacks a sub-folder.
    """
    if targets is not None and not targets.is_dir():
        raise DataError(f"`targets` {targets} is not a folder: give the folder that holds a target for each image.")
    folders = split_folders(root)
    parts = {"train": folders[0], "val": folders[1]} if folders else {"all": root}
    listings = {part: scan(folder, root, targets) for part, folder in parts.items()}
    if targets is None:
        return listings
    if not folders:
        return {"all": pair(listings["all"], scan(targets, targets))}
    paired = {}
    for part, folder in parts.items():
        target_folder = targets / folder.name
        if not target_folder.is_dir():
            raise DataError(f"`targets` {targets} has no folder {folder.name}, which the inputs have: add it.")
        paired[part] = pair(listings[part], scan(target_folder, targets))
    return paired
