"""Datasets in memory: uint8 images in a training and a validation split, with a report on the data.

`open_dataset` is the entry: it lists the images (`sources`), draws and loads them, and splits them.
"""

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeae.config import ModelConfig, TrainConfig
from edgeae.data.array_files import MIN_SIDE
from edgeae.data.folders import Loaded
from edgeae.data.sources import Data, DatasetListing, list_dataset
from edgeae.errors import DataError, UsageError

MIN_IMAGES = 2


@dataclass(frozen=True)
class Split:
    """The training or the validation images.

    Attributes:
        inputs: uint8 (N, size, size, C).
        targets: uint8 (N, size, size, C_out), or None if the inputs are their own targets. Targets in gray alone have
            one channel.
        names: N names for reports and previews.
    """

    inputs: NDArray[np.uint8]
    targets: NDArray[np.uint8] | None
    names: list[str]

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass(frozen=True)
class Report:
    """What a dataset holds, and what of it is not used.

    Attributes:
        name: of the dataset.
        size: side in pixels that images are fitted to.
        train, val: number of usable images.
        enlarged: how many of them are smaller than `size`.
        ignored: number of files that are not images.
        widths, heights: smallest, median and largest of the usable images before fitting, in pixels.
        too_small, unreadable, unmatched: (name, reason) of each image that was left out.
        notes: further sentences for the user.
    """

    name: str
    size: int
    train: int
    val: int
    enlarged: int = 0
    ignored: int = 0
    widths: tuple[int, int, int] = (0, 0, 0)
    heights: tuple[int, int, int] = (0, 0, 0)
    too_small: tuple[tuple[str, str], ...] = ()
    unreadable: tuple[tuple[str, str], ...] = ()
    unmatched: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def usable(self) -> int:
        return self.train + self.val

    def as_dict(self) -> dict[str, Any]:
        """Return the report for JSON."""
        return {"usable": self.usable, **dataclasses.asdict(self)}

    def table(self, examples: int = 5) -> str:
        """Return a compact table without empty rows, with at most `examples` files of each kind of problem."""
        low, middle, high = (f"{w}×{h}" for w, h in zip(self.widths, self.heights, strict=True))
        sizes = low if low == high else f"{low} to {high}, median {middle}"
        rows = [("usable", f"{self.usable:,} (train {self.train:,}, val {self.val:,})")]
        if self.usable:
            rows.append(("image size", f"{sizes}; fitted to {self.size}×{self.size}"))
        if self.enlarged:
            rows.append(("enlarged", f"{self.enlarged:,}, smaller than that"))
        for label, left_out in (
            ("too small", self.too_small),
            ("unreadable", self.unreadable),
            ("unmatched", self.unmatched),
        ):
            if left_out:
                rows.append((label, f"{len(left_out):,}, left out"))
                rows += [("", f"{name}: {reason}") for name, reason in left_out[:examples]]
                if len(left_out) > examples:
                    rows.append(("", f"… and {len(left_out) - examples:,} more"))
        if self.ignored:
            rows.append(("ignored", f"{self.ignored:,} files that are no images"))
        rows += [("note", note) for note in self.notes]
        return "\n".join([f"dataset {self.name}", *(f"  {label:<12}{text}".rstrip() for label, text in rows)])


@dataclass(frozen=True)
class Dataset:
    """A training and a validation split, the name of the data, and the report on it."""

    train: Split
    val: Split
    name: str
    report: Report


def open_dataset(
    data: Data,
    *,
    size: int,
    channels: int = 3,
    targets: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    val_fraction: float = 0.1,
    seed: int = 0,
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
            `limit`. Each split gets at least one image. 1 is for evaluation: `train` is empty, and `val` is the data's
            validation split if it has one, otherwise everything.
        seed: of the draw, of the split and of the generated faces, at least 0.
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

    parts: dict[str, tuple[Split, Loaded]] = {}
    for name, part in listing.parts.items():
        if name == "train" and for_evaluation:
            continue
        rows = _draw(len(part.names), counts[name], rng)
        loaded = part.load(rows)
        parts[name] = Split(loaded.inputs, loaded.targets, [part.names[row] for row in rows[loaded.kept]]), loaded
    if "all" in parts:
        train, val = _split(parts["all"][0], val_fraction, rng)
    else:
        val = parts["val"][0]
        train = parts["train"][0] if "train" in parts else _rows(val, np.arange(0))

    summary = _summarize(listing, [loaded for _, loaded in parts.values()], size, len(train), len(val))
    if report is not None:
        report(summary)
    _require_enough(summary, for_evaluation)
    return Dataset(train, val, listing.name, summary)


def open_training_data(
    model: ModelConfig, settings: TrainConfig, report: Callable[[Report], None] | None = None
) -> Dataset:
    """Load the data of a training run, fitted to its network. `report` and the errors are those of `open_dataset`."""
    return open_dataset(
        settings.data,
        size=settings.crop_from or model.size,
        channels=model.in_channels,
        targets=settings.targets,
        limit=settings.limit,
        seed=settings.seed,
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


def _draw(n: int, most: int | None, rng: np.random.Generator) -> NDArray[np.intp]:
    if most is None or most >= n:
        return np.arange(n)
    return np.sort(rng.choice(n, most, replace=False))


def _rows(images: Split, rows: NDArray[np.intp]) -> Split:
    targets = None if images.targets is None else images.targets[rows]
    return Split(images.inputs[rows], targets, [images.names[row] for row in rows])


def _split(images: Split, val_fraction: float, rng: np.random.Generator) -> tuple[Split, Split]:
    n = len(images)
    n_val = n if val_fraction == 1 else max(0, min(n - 1, max(1, round(n * val_fraction))))
    order = rng.permutation(n)
    return _rows(images, np.sort(order[n_val:])), _rows(images, np.sort(order[:n_val]))


def _summarize(listing: DatasetListing, loaded: list[Loaded], size: int, train: int, val: int) -> Report:
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
        notes=tuple(listing.notes),
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
