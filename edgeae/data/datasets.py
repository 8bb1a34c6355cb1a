"""Datasets in memory: uint8 images in a training and a validation split, with a report on the data.

`open_dataset` is the entry: it lists the images (`sources`), draws and loads them, and splits them.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeae.config import ModelConfig, TrainConfig
from edgeae.data.array_files import MIN_SIDE
from edgeae.data.fingerprint import Member, choose_validation, describe_duplicates, digest_images, draw
from edgeae.data.folders import Loaded
from edgeae.data.report import Report
from edgeae.data.sources import Data, DatasetListing, list_dataset
from edgeae.errors import DataError, UsageError

MIN_IMAGES = 2
_LABELS = 16  # targets whose values are all below this are numbers of classes


@dataclass(frozen=True)
class Split:
    """The training or the validation images.

    Attributes:
        inputs: uint8 (N, size, size, C).
        targets: uint8 (N, size, size, C_out), or None if the inputs are their own targets. Targets in gray alone have
            one channel.
        names: N names for reports and previews.
        digests: N digests of their files; empty if they are not from files.
    """

    inputs: NDArray[np.uint8]
    targets: NDArray[np.uint8] | None
    names: list[str]
    digests: list[str] = dataclasses.field(default_factory=list)

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass(frozen=True)
class Dataset:
    """A training and a validation split, the name of the data, and the report on it.

    Attributes:
        path: of the folder or file, or None.
        members: of both splits, by which a later session tells whether the data changed; empty for evaluation and for
            built-in data.
    """

    train: Split
    val: Split
    name: str
    report: Report
    path: Path | None = None
    members: tuple[Member, ...] = ()


def open_dataset(
    data: Data,
    *,
    size: int,
    channels: int = 3,
    targets: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    val_fraction: float = 0.1,
    seed: int = 0,
    by_position: bool = False,
    known: Mapping[str, bool] | None = None,
    target_channels: int | None = None,
    report: Callable[[Report], None] | None = None,
) -> Dataset:
    """Load images into memory, fitted to one size, as a training and a validation split.

    Images that cannot be used are left out and listed in the report.

    Args:
        data: one of
            a folder of images, with its sub-folders; if it has both `train` and `val` (or `validation`, `test`), those
                are the splits;
            a folder that holds IDX files, `train-images-idx3-ubyte` and `val-` or `t10k-` likewise;
            an `.npy` or `.npz` file (see `array_files`) or an IDX file, plain or `.gz`;
            an array, uint8 or float in [0, 1], (N, H, W) or (N, H, W, C);
            a name in BUILTIN_NAMES. Such a string always means the built-in set, so that a command does the same in
                every folder; write `./faces`, or pass a `Path`, for a folder of that name.
        size: side in pixels, at least 8. Smaller images are enlarged.
        channels: 1 or 3.
        targets: folder (or array file) of target images, matched by relative name without suffix (or by row).
        limit: use at most this many images in all, drawn at random before any is decoded; at least 2, or 1 for
            evaluation.
        val_fraction: share of validation images, above 0 to 1, for data without splits of its own and for dividing
            `limit`. Each split gets at least one image. Of a folder each file's content decides where it goes, so that
            others may come and go; the share then holds on average. 1 is for evaluation: `train` is empty, and `val` is
            the data's validation split if it has one, otherwise everything.
        seed: of the draw, of the split and of the generated faces, at least 0.
        by_position: draw and split files by their places in the sorted list, as versions before 0.2 did.
        known: for digests of files (`Dataset.members`), whether they validate; other files are split by their content.
        target_channels: of the network that the targets are for, if there is one: 3 takes gray targets of a folder as
            RGB. None lets the targets decide, all of them together.
        report: called once with the report, also if there turn out to be too few images.

    Raises:
        DataError: the data cannot be used.
        UsageError: an argument is out of range.
    """
    _check_arguments(size, channels, limit, val_fraction)
    for_evaluation = val_fraction == 1
    counts = _shares(limit, val_fraction)
    listing = list_dataset(data, size, channels, targets, seed, counts)
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence(seed)))

    stable = listing.of_files and not by_position
    parts: dict[str, tuple[Split, Loaded]] = {}
    for name, part in listing.parts.items():
        if name == "train" and for_evaluation:
            continue
        rows = _draw(part.names, counts[name], rng, seed if stable else None)
        loaded = part.load(rows)
        names = [part.names[row] for row in rows[loaded.kept]]
        parts[name] = Split(loaded.inputs, loaded.targets, names, loaded.digests), loaded
    splits = _with_equal_channels(parts, target_channels)
    if "all" in splits:
        train, val = _split(splits["all"], val_fraction, rng, seed if stable else None, known)
    else:
        val = splits["val"]
        train = splits["train"] if "train" in splits else _rows(val, np.arange(0))

    members, notes = ((), []) if for_evaluation else _compare(listing, train, val)
    notes += _describe_targets(listing, train, val)
    summary = _summarize(listing, [loaded for _, loaded in parts.values()], size, len(train), len(val), notes)
    if report is not None:
        report(summary)
    _require_enough(summary, for_evaluation)
    return Dataset(train, val, listing.name, summary, listing.path, members)


def _with_equal_channels(parts: dict[str, tuple[Split, Loaded]], channels: int | None) -> dict[str, Split]:
    """Give the targets of all parts one number of channels: one if all of them are gray, else three."""
    targets = [split.targets for split, _ in parts.values() if split.targets is not None and len(split)]
    by_content = any(loaded.gray_as_rgb for _, loaded in parts.values())
    if by_content:
        gray = channels != 3 and all(bool((part == part[..., :1]).all()) for part in targets)
    else:
        gray = all(part.shape[3] == 1 for part in targets)
    count = 1 if gray else 3

    def convert(split: Split) -> Split:
        if split.targets is None or split.targets.shape[3] == count:
            return split
        converted = split.targets[..., :1] if count == 1 else np.repeat(split.targets, 3, axis=3)
        return dataclasses.replace(split, targets=np.ascontiguousarray(converted))

    return {name: convert(split) for name, (split, _) in parts.items()}


def _compare(listing: DatasetListing, train: Split, val: Split) -> tuple[tuple[Member, ...], list[str]]:
    """Return what identifies the images, and sentences on those that occur more than once."""
    pixels = {"train": digest_images(train.inputs), "val": digest_images(val.inputs)}
    notes = describe_duplicates(train.names, val.names, pixels["train"], pixels["val"])
    if listing.path is None:
        return (), notes
    members = []
    for part, split in (("train", train), ("val", val)):
        # Rows of an array have no files: their pixels identify them, and their places are their names.
        rows = (f"{part}[{row}]" for row in range(len(split))) if not split.digests else iter(split.names)
        digests = split.digests
        if not digests:
            digests = pixels[part]
            if split.targets is not None:
                digests = [f"{a}-{b}" for a, b in zip(digests, digest_images(split.targets), strict=True)]
        members += [Member(part, name, digest) for name, digest in zip(rows, digests, strict=True)]
    return tuple(members), notes


def _describe_targets(listing: DatasetListing, train: Split, val: Split) -> list[str]:
    """A sentence if the targets of a folder are numbers of classes rather than pictures."""
    largest = max((int(s.targets.max()) for s in (train, val) if s.targets is not None and len(s)), default=255)
    if not listing.of_files or largest >= _LABELS:
        return []
    return [f"the targets are almost black, their brightest value is {largest} of 255: save masks as 0 and 255"]


def open_training_data(
    model: ModelConfig,
    settings: TrainConfig,
    report: Callable[[Report], None] | None = None,
    *,
    by_position: bool = False,
    known: Mapping[str, bool] | None = None,
    target_channels: int | None = None,
) -> Dataset:
    """Load the data of a training run, fitted to its network.

    `report`, `by_position`, `known`, `target_channels` and the errors are those of `open_dataset`.
    """
    return open_dataset(
        settings.data,
        size=settings.crop_from or model.size,
        channels=model.in_channels,
        targets=settings.targets,
        limit=settings.limit,
        seed=settings.seed,
        by_position=by_position,
        known=known,
        target_channels=target_channels,
        report=report,
    )


def _check_arguments(size: int, channels: int, limit: int | None, val_fraction: float) -> None:
    if size < MIN_SIDE:
        raise UsageError(f"`size` {size} is too small: give {MIN_SIDE} or more.")
    if channels not in (1, 3):
        raise UsageError(f"channels={channels} is not possible: give 1 (grey) or 3 (RGB).")
    if not 0 < val_fraction <= 1:
        raise UsageError(f"val_fraction={val_fraction} is out of range: give a number above 0, at most 1.")
    if limit is not None and limit < (1 if val_fraction == 1 else MIN_IMAGES):
        raise UsageError(f"limit={limit} is too small: give {MIN_IMAGES} or more.")


def _shares(limit: int | None, val_fraction: float) -> dict[str, int | None]:
    """The most images that each part may contribute."""
    if limit is None:
        return {"all": None, "train": None, "val": None}
    val = limit if val_fraction == 1 else min(limit - 1, max(1, round(limit * val_fraction)))
    return {"all": limit, "train": limit - val, "val": val}


def _draw(names: list[str], most: int | None, rng: np.random.Generator, seed: int | None) -> NDArray[np.intp]:
    """Choose rows: by name if there is a `seed`, otherwise by place."""
    if most is None or most >= len(names):
        return np.arange(len(names))
    return draw(names, most, seed) if seed is not None else np.sort(rng.choice(len(names), most, replace=False))


def _rows(images: Split, rows: NDArray[np.intp]) -> Split:
    targets = None if images.targets is None else images.targets[rows]
    digests = [images.digests[row] for row in rows] if images.digests else []
    return Split(images.inputs[rows], targets, [images.names[row] for row in rows], digests)


def _split(
    images: Split, val_fraction: float, rng: np.random.Generator, seed: int | None, known: Mapping[str, bool] | None
) -> tuple[Split, Split]:
    """Split by content if there is a `seed`, otherwise by place."""
    n = len(images)
    if seed is not None and val_fraction < 1:
        chosen = choose_validation(images.digests, val_fraction, seed, known)
        return _rows(images, np.flatnonzero(~chosen)), _rows(images, np.flatnonzero(chosen))
    n_val = n if val_fraction == 1 else max(0, min(n - 1, max(1, round(n * val_fraction))))
    order = rng.permutation(n)
    return _rows(images, np.sort(order[n_val:])), _rows(images, np.sort(order[:n_val]))


def _summarize(
    listing: DatasetListing, loaded: list[Loaded], size: int, train: int, val: int, notes: list[str]
) -> Report:
    problems = listing.problems + [problem for part in loaded for problem in part.problems]
    sizes = np.concatenate([part.sizes for part in loaded])
    columns = [(int(column.min()), int(np.median(column)), int(column.max())) for column in sizes.T if column.size]

    def of_kind(kind: str) -> tuple[tuple[str, str], ...]:
        return tuple((problem.name, problem.reason) for problem in problems if problem.kind == kind)

    return Report(
        name=listing.name,
        size=size,
        train=train,
        val=val,
        enlarged=int((sizes.min(axis=1, initial=size) < size).sum()),
        ignored=listing.ignored,
        widths=columns[0] if columns else (0, 0, 0),
        heights=columns[1] if columns else (0, 0, 0),
        too_small=of_kind("too small"),
        unreadable=of_kind("unreadable"),
        unmatched=of_kind("unmatched"),
        notes=(*listing.notes, *notes),
    )


def _require_enough(report: Report, for_evaluation: bool) -> None:
    left_out = [*report.unreadable, *report.too_small, *report.unmatched]
    why = f" ({left_out[0][0]}: {left_out[0][1]})" if left_out else ""
    if for_evaluation:
        if report.val == 0:
            raise DataError(f"{report.name} has no usable image{why}: give a folder or file that has some.")
    elif report.usable < MIN_IMAGES:
        raise DataError(
            f"{report.name} has {report.usable} usable images{why} and training needs at least {MIN_IMAGES}: add some."
        )
    elif report.train == 0 or report.val == 0:
        empty = "train" if report.train == 0 else "val"
        raise DataError(f"{report.name} has no usable image for {empty}{why}: add some to its {empty} part.")
