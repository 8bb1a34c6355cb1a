"""The data of a run: found again from any folder, and compared with what the run began with."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from edgeae.config import DataRecord, ModelConfig, TrainConfig
from edgeae.data.datasets import Dataset, open_training_data
from edgeae.data.fingerprint import combine, describe_changes
from edgeae.data.folders import is_run_folder
from edgeae.data.report import Report
from edgeae.data.sources import BUILTIN_NAMES
from edgeae.errors import DataError
from edgeae.training.run_folder import read_files, read_record, read_run


@dataclass(frozen=True)
class RunData:
    """The data of a run, loaded.

    Attributes:
        dataset: the images.
        record: what the run keeps of them from now on.
        changes: what changed since the run began, in words; empty if nothing did.
        validation_changed: whether the scores so far are of other images.
        is_recorded: False for a run of a version that kept no record: then `changes` is not known.
        notes: sentences for the user.
    """

    dataset: Dataset
    record: DataRecord
    changes: str = ""
    validation_changed: bool = False
    is_recorded: bool = True
    notes: tuple[str, ...] = ()


def open_new(
    folder: Path, model: ModelConfig, settings: TrainConfig, report: Callable[[Report], None] | None = None
) -> RunData:
    """Load the data of a run that begins."""
    dataset = open_training_data(model, settings, report)
    return RunData(dataset, _describe(folder, settings, dataset, "file", 0))


def reopen(
    folder: Path,
    model: ModelConfig,
    settings: TrainConfig,
    report: Callable[[Report], None] | None = None,
) -> RunData:
    """Load the data of a run that exists, wherever the current folder is, and see what changed.

    Args:
        folder: of the run.
        model: its network, with the channels that it was trained for.
        settings: its settings; `data` and `targets` may name other places than its config.json.
        report: called with the report on the data.

    Raises:
        DataError: the data are gone, or cannot be used.
    """
    _, stored = read_run(folder)
    record = read_record(folder)
    located = locate(folder, stored, settings, record)
    split = record.split if record else "position"
    files = read_files(folder)
    known = {file.digest: file.part == "val" for file in files}
    by_position = split == "position"
    try:
        dataset = open_training_data(
            model, located, report, by_position=by_position, known=known, target_channels=model.out_channels
        )
    except DataError as error:  # such as the empty folder that a disk is mounted at
        began = f"{folder} began with {record.images:,} images" if record else f"they are those of {folder}"
        raise DataError(
            f"{str(error).removesuffix('.')}; {began}: if they are elsewhere, name them with `data`."
        ) from None
    channels = (dataset.train.inputs if dataset.train.targets is None else dataset.train.targets).shape[-1]
    if channels != model.out_channels:
        raise DataError(
            f"{dataset.name}: the targets have {channels} channels and the network of {folder} gives "
            f"{model.out_channels}: take the targets that it was trained on, or start a new run."
        )
    after = _describe(folder, located, dataset, split, record.best_after if record else 0)
    if record is None:
        note = f"{folder} does not say where its data are, as an older edgeae made it; it takes {located.data}"
        return RunData(dataset, after, is_recorded=False, notes=(note,) if after.path else ())
    if record.path != after.path and None in (record.path, after.path):
        return RunData(dataset, after, f"{located.data} instead of {stored.data}", True)
    if after.digest == record.digest:
        return RunData(dataset, after)
    changes = describe_changes(files, dataset.members) if files else ""
    if not changes:
        is_same_count = after.images == record.images
        changes = "other images" if is_same_count else f"{after.images:,} images instead of {record.images:,}"
    if after.content == record.content:
        return RunData(dataset, after, notes=(f"the data are the same under other names: {changes}",))
    return RunData(dataset, after, changes, after.validation != record.validation)


def locate(folder: Path, stored: TrainConfig, settings: TrainConfig, record: DataRecord | None) -> TrainConfig:
    """Return settings that name the data and targets of a run as they can be opened from here.

    Args:
        folder: of the run.
        stored: the settings in its config.json.
        settings: the same, or with other places of the data.
        record: what it keeps of its data.

    Raises:
        DataError: the data or targets are gone.
    """
    data, targets, known = settings.data, settings.targets, record or DataRecord()
    if data == stored.data and data not in BUILTIN_NAMES:
        data = _find(folder, data, known.path, known.near_path, "data")
    if targets is not None and targets == stored.targets:
        targets = _find(folder, targets, known.targets, known.near_targets, "targets")
    return replace(settings, data=data, targets=targets)


def _find(folder: Path, text: str, path: str | None, near: str | None, argument: str) -> str:
    places = [Path(path)] if path else [Path(text)]
    if near:
        places.append(folder.absolute() / near)
    elif not path:  # an older version kept what the user wrote, who was most often in a folder above the run
        places += [parent / text for parent in folder.absolute().parents]
        places.sort(key=is_run_folder)  # last, as runs are often called like their data
    found = next((place for place in places if _exists(place)), None)
    if found is None:
        raise DataError(
            f"the {argument} of {folder}, {places[0].absolute()}, cannot be found: name it with `{argument}`."
        )
    return str(found.absolute())


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


def _describe(folder: Path, settings: TrainConfig, dataset: Dataset, split: str, best_after: int) -> DataRecord:
    path = None if settings.data in BUILTIN_NAMES else str(Path(settings.data).absolute())
    targets = None if settings.targets is None else str(Path(settings.targets).absolute())
    members = dataset.members
    return DataRecord(
        path=path,
        targets=targets,
        near_path=_relative(path, folder),
        near_targets=_relative(targets, folder),
        images=len(dataset.train) + len(dataset.val),
        digest=combine(members) if members else "",
        content=combine(members, named=False) if members else "",
        validation=combine([m for m in members if m.part == "val"], named=False) if members else "",
        split=split,
        best_after=best_after,
    )


def _relative(path: str | None, folder: Path) -> str | None:
    try:
        return None if path is None else os.path.relpath(path, folder.absolute())
    except ValueError:  # on another drive of Windows
        return None
