"""Where images come from: a folder, an array or its file, a built-in name; listed here, loaded when asked.

A source has parts, each a list of names and a function that loads some of them: `all`, which is yet to be split at
random, or `train` and `val`, split by whoever made the data.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeae.data import array_files as arrayfiles
from edgeae.data import downloads
from edgeae.data.folders import Loaded, decode, idx_files, list_folder, split_folders
from edgeae.errors import DataError, UsageError
from edgeae.images.files.listing import IMAGE_SUFFIXES, ImageFile, Problem

BUILTIN_NAMES = ("faces", *downloads.DATASETS)
FACES_TRAIN, FACES_VAL = 2048, 256

Data = str | os.PathLike[str] | NDArray[Any]


@dataclass(frozen=True)
class Part:
    """Named images that are not loaded yet; `load` takes the rows that are wanted."""

    names: list[str]
    load: Callable[[NDArray[np.intp]], Loaded]


@dataclass(frozen=True)
class DatasetListing:
    """What a listing tells: parts named "all", or "train" and "val"."""

    name: str
    parts: dict[str, Part]
    problems: list[Problem] = field(default_factory=list)
    ignored: int = 0
    notes: list[str] = field(default_factory=list)


def list_dataset(
    data: Data,
    size: int,
    channels: int,
    targets: str | os.PathLike[str] | None,
    seed: int,
    counts: dict[str, int | None],
) -> DatasetListing:
    """List what `data` holds; the arguments are those of `datasets.open_dataset`, which documents them.

    counts: the most images each part will be asked for, None for all. Raises DataError, or UsageError for a
    combination that makes no sense.
    """
    target_path = None if targets is None else Path(targets)
    if isinstance(data, np.ndarray):
        return _from_arrays("array", {"all": data}, target_path, size, channels)
    if isinstance(data, str) and data in BUILTIN_NAMES:
        if targets is not None:
            raise UsageError(f"`targets` cannot be used with the built-in set {data}: give a folder as `data`.")
        if data == "faces":
            source = _generated_faces(size, channels, seed, counts)
        else:
            train, val = downloads.load(data)
            source = _from_arrays(data, {"train": train, "val": val}, None, size, channels)
        if Path(data).exists():
            source.notes.append(f"this is the built-in set; write ./{data} for what is here under that name")
        return source
    path = Path(data)
    try:
        if path.is_dir():
            if idx := idx_files(path):
                arrays = {part: arrayfiles.read_idx(file) for part, file in idx.items()}
                if len(arrays) == 1:  # one split alone is all there is
                    arrays = {"all": arrays.popitem()[1]}
                return _from_arrays(path.resolve().name, arrays, target_path, size, channels)
            return _from_folder(path, target_path, size, channels)
        if not path.exists():
            known = ", ".join(BUILTIN_NAMES)
            raise DataError(f"{path} does not exist: give a folder, an array file or one of the built-in sets {known}.")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): check its permissions.") from error
    if path.suffix.lower() in IMAGE_SUFFIXES:
        raise DataError(f"{path} is a single image: give the folder that holds the images.")
    return _from_arrays(path.name, _read_array_file(path), target_path, size, channels)


def _from_folder(root: Path, targets: Path | None, size: int, channels: int) -> DatasetListing:
    listings = list_folder(root, targets)
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
        _unused(root),
    )


def _unused(root: Path) -> list[str]:
    """A note when a folder split by sub-folders holds more than the two."""
    folders = split_folders(root)
    if folders is None or all(path in folders or path.name.startswith(".") for path in root.iterdir()):
        return []
    return [f"only its folders {folders[0].name} and {folders[1].name} are used, not what else is in it"]


def _read_array_file(path: Path) -> dict[str, NDArray[Any]]:
    if not path.is_file():
        raise DataError(f"{path} is not a regular file: give a folder of images, an .npy, .npz or IDX file.")
    if path.suffix.lower() == ".npz":
        return arrayfiles.read_npz(path)
    return {"all": arrayfiles.read_npy(path) if path.suffix.lower() == ".npy" else arrayfiles.read_idx(path)}


def _from_arrays(
    name: str, arrays: dict[str, NDArray[Any]], targets: Path | None, size: int, channels: int
) -> DatasetListing:
    if targets is not None and not targets.is_file():
        raise DataError(
            f"`targets` {targets} is not a file: the inputs are arrays, so give an array file of as many rows."
        )
    target_arrays = _read_array_file(targets) if targets is not None else {}
    if targets is not None and target_arrays.keys() != arrays.keys():
        raise DataError(f"`targets` {targets} holds {', '.join(target_arrays)} and the inputs {', '.join(arrays)}.")
    parts = {}
    for part, array in arrays.items():
        what = name if part == "all" else f"{name} [{part}]"
        images = arrayfiles.as_image_array(array, what)
        wanted = arrayfiles.as_image_array(target_arrays[part], f"`targets` {targets}") if target_arrays else None
        if wanted is not None and len(wanted) != len(images):
            raise DataError(f"`targets` {targets} holds {len(wanted)} images and {what} {len(images)}: give pairs.")

        def load(
            rows: NDArray[np.intp],
            images: NDArray[Any] = images,
            wanted: NDArray[Any] | None = wanted,
            what: str = what,
        ) -> Loaded:
            fitted = arrayfiles.fit_rows(images, rows, size, channels, what)
            fitted_targets = None
            if wanted is not None:
                fitted_targets = arrayfiles.fit_rows(wanted, rows, size, wanted.shape[3], f"`targets` {targets}")
            height, width = images.shape[1:3]
            sizes = np.full((len(rows), 2), (width, height), dtype=np.int64)
            return Loaded(fitted, fitted_targets, np.arange(len(rows)), sizes)

        parts[part] = Part([f"{what}[{row}]" for row in range(len(images))], load)
    return DatasetListing(name, parts)


def _generated_faces(size: int, channels: int, seed: int, counts: dict[str, int | None]) -> DatasetListing:
    def part(split: str, most: int, split_seed: int) -> Part:
        def load(rows: NDArray[np.intp]) -> Loaded:
            from edgeae.data.generated_faces import generate

            images = arrayfiles.to_channels(generate(len(rows), size, split_seed)[0], channels)
            return Loaded(images, None, np.arange(len(rows)), np.full((len(rows), 2), size, dtype=np.int64))

        count = min(most, counts[split] or most)  # only as many as are wanted are generated
        return Part([f"faces [{split}][{row}]" for row in range(count)], load)

    train_seed, val_seed = np.random.SeedSequence(seed).generate_state(2).tolist()
    return DatasetListing(
        "faces", {"train": part("train", FACES_TRAIN, train_seed), "val": part("val", FACES_VAL, val_seed)}
    )
