"""Sources of images: folders, arrays, array files and built-in datasets, listed here and loaded on demand.

A listing has parts, each with the names of its images and a function that loads some of them: `all`, which
`open_dataset` splits at random, or `train` and `val` if the data are already split.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeae.data import array_files, downloads
from edgeae.data.folders import Loaded, decode, idx_files, list_folder, split_folders
from edgeae.errors import DataError, UsageError
from edgeae.images.files.kinds import is_dropping, read_suffixes
from edgeae.images.files.listing import ImageFile, Problem

BUILTIN_NAMES = ("faces", *downloads.DATASETS)
FACES_TRAIN, FACES_VAL = 2048, 256

Data = str | os.PathLike[str] | NDArray[Any]


@dataclass(frozen=True)
class Part:
    """Images that are not loaded yet.

    Attributes:
        names: of all images.
        load: loads the images of some rows.
    """

    names: list[str]
    load: Callable[[NDArray[np.intp]], Loaded]


@dataclass(frozen=True)
class DatasetListing:
    """The images of a dataset before they are loaded.

    Attributes:
        name: of the dataset, for reports.
        parts: `all`, or `train` and `val`.
        problems: images that cannot be used, with the reasons.
        ignored: number of files that are not images.
        notes: further sentences for the user.
        path: where the data are; None if they are built in or in memory.
        of_files: whether each image is a file of its own.
    """

    name: str
    parts: dict[str, Part]
    problems: list[Problem] = field(default_factory=list)
    ignored: int = 0
    notes: list[str] = field(default_factory=list)
    path: Path | None = None
    of_files: bool = False


def list_dataset(
    data: Data,
    size: int,
    channels: int,
    targets: str | os.PathLike[str] | None,
    seed: int,
    counts: dict[str, int | None],
) -> DatasetListing:
    """List the images of a dataset.

    Args:
        data, size, channels, targets, seed: those of `datasets.open_dataset`.
        counts: the most images that will be loaded of each part; None for all.

    Raises:
        DataError: the data cannot be used.
        UsageError: `targets` with a built-in set.
    """
    target_path = None if targets is None else Path(targets)
    if isinstance(data, np.ndarray):
        return _from_arrays("array", {"all": data}, target_path, size, channels)
    if isinstance(data, str) and data in BUILTIN_NAMES:
        if targets is not None:
            raise UsageError(f"`targets` cannot be used with the built-in set {data}: give a folder as `data`.")
        if data == "faces":
            listing = _generated_faces(size, channels, seed, counts)
        else:
            train, val = downloads.load(data)
            listing = _from_arrays(data, {"train": train, "val": val}, None, size, channels)
        if Path(data).exists():
            listing.notes.append(f"this is the built-in set; write ./{data} for what is here under that name")
        return listing
    path = Path(data)
    try:
        if path.is_dir():
            if idx := idx_files(path):
                arrays: dict[str, array_files.Images] = {part: array_files.read_idx(file) for part, file in idx.items()}
                if len(arrays) == 1:  # a single split is divided again
                    arrays = {"all": arrays.popitem()[1]}
                return replace(_from_arrays(path.resolve().name, arrays, target_path, size, channels), path=path)
            return _from_folder(path, target_path, size, channels)
        if not path.exists():
            known = ", ".join(BUILTIN_NAMES)
            raise DataError(f"{path} does not exist: give a folder, an array file or one of the built-in sets {known}.")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): check its permissions.") from error
    if path.suffix.lower() in read_suffixes():
        raise DataError(f"{path} is a single image: give the folder that holds the images.")
    return replace(_from_arrays(path.name, _read_array_file(path), target_path, size, channels), path=path)


def _from_folder(root: Path, targets: Path | None, size: int, channels: int) -> DatasetListing:
    listings, notes = list_folder(root, targets)
    parts = {}
    for part, listing in listings.items():

        def load(rows: NDArray[np.intp], files: list[ImageFile] = listing.files) -> Loaded:
            return decode([files[row] for row in rows], size, channels)

        parts[part] = Part([file.name for file in listing.files], load)
    return DatasetListing(
        root.resolve().name or str(root),
        parts,
        [problem for listing in listings.values() for problem in listing.problems],
        sum(listing.ignored for listing in listings.values()),
        _unused(root) + notes,
        root,
        of_files=True,
    )


def _unused(root: Path) -> list[str]:
    """A note if a folder that is split by sub-folders holds more than those two."""
    folders = split_folders(root)
    others = [path for path in root.iterdir() if not (path.name.startswith(".") or is_dropping(path.name))]
    if folders is None or all(path in folders for path in others):
        return []
    return [f"only its folders {folders[0].name} and {folders[1].name} are used, not what else is in it"]


def _read_array_file(path: Path) -> Mapping[str, array_files.Images]:
    if not path.is_file():
        raise DataError(f"{path} is not a regular file: give a folder of images, an .npy, .npz or IDX file.")
    if path.suffix.lower() == ".npz":
        return array_files.read_npz(path)
    return {"all": array_files.read_npy(path) if path.suffix.lower() == ".npy" else array_files.read_idx(path)}


def _from_arrays(
    name: str, arrays: Mapping[str, array_files.Images], targets: Path | None, size: int, channels: int
) -> DatasetListing:
    if targets is not None and not targets.is_file():
        raise DataError(
            f"`targets` {targets} is not a file: the inputs are arrays, so give an array file of as many rows."
        )
    target_name = f"`targets` {targets}"
    target_arrays: Mapping[str, array_files.Images] = {} if targets is None else _read_array_file(targets)
    if targets is not None and target_arrays.keys() != arrays.keys():
        raise DataError(f"{target_name} holds {', '.join(target_arrays)} and the inputs {', '.join(arrays)}.")
    parts = {}
    for part, array in arrays.items():
        what = name if part == "all" else f"{name} [{part}]"
        images = array_files.as_image_array(array, what)
        paired = array_files.as_image_array(target_arrays[part], target_name) if target_arrays else None
        if paired is not None and len(paired) != len(images):
            raise DataError(f"{target_name} holds {len(paired)} images and {what} {len(images)}: give pairs.")

        def load(
            rows: NDArray[np.intp],
            images: array_files.Images = images,
            paired: array_files.Images | None = paired,
            what: str = what,
        ) -> Loaded:
            inputs = array_files.fit_rows(images, rows, size, channels, what)
            outputs = None
            if paired is not None:
                outputs = array_files.fit_rows(paired, rows, size, paired.shape[3], target_name)
            height, width = images.shape[1:3]
            sizes = np.full((len(rows), 2), (width, height), dtype=np.int64)
            return Loaded(inputs, outputs, np.arange(len(rows)), sizes)

        parts[part] = Part([f"{what}[{row}]" for row in range(len(images))], load)
    return DatasetListing(name, parts)


def _generated_faces(size: int, channels: int, seed: int, counts: dict[str, int | None]) -> DatasetListing:
    def part(split: str, most: int, split_seed: int) -> Part:
        def load(rows: NDArray[np.intp]) -> Loaded:
            from edgeae.data.generated_faces import generate

            images = array_files.to_channels(generate(len(rows), size, split_seed)[0], channels)
            return Loaded(images, None, np.arange(len(rows)), np.full((len(rows), 2), size, dtype=np.int64))

        count = min(most, counts[split] or most)  # no more than needed are generated
        return Part([f"faces [{split}][{row}]" for row in range(count)], load)

    train_seed, val_seed = np.random.SeedSequence(seed).generate_state(2).tolist()
    return DatasetListing(
        "faces", {"train": part("train", FACES_TRAIN, train_seed), "val": part("val", FACES_VAL, val_seed)}
    )
