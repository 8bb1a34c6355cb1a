"""Training runs: `train`, the loop over the epochs.

All random numbers come from (seed, epoch, image or step), and an epoch's files are written whole. A run that is resumed
after any kind of end therefore has, on the same backend, the weights of a run that was never stopped, bit for bit.
"""

from __future__ import annotations

import gc
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path

from edgeae.config import ModelConfig, TrainConfig
from edgeae.data.report import Report
from edgeae.errors import TrainingError, UsageError
from edgeae.files import write_bytes_atomic
from edgeae.images.metrics import pooled_psnr
from edgeae.runtime import devices
from edgeae.training import checkpoint
from edgeae.training.run_data import RunData, open_new, reopen
from edgeae.training.run_folder import (
    Row,
    best_row,
    find_run,
    lock_run,
    read_record,
    read_run,
    write_config,
    write_files,
)
from edgeae.training.trainer import Trainer
from edgeae.training.verdict import judge

SAME_SCORE_DB = 0.01  # the damaged images' score differs by less from one version to another


@dataclass(frozen=True)
class Progress:
    """Where a run is.

    Attributes:
        epoch, epochs: the current epoch, from 1, and how many there are in all.
        step, steps: the same within the epoch.
        loss: of the last step.
        images_per_s: in this epoch so far.
        seconds_left: to the end of the run at that rate.
        row: the finished epoch's row of metrics.csv, or None within an epoch.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    images_per_s: float
    seconds_left: float
    row: Row | None = None


@dataclass(frozen=True)
class TrainResult:
    """What `train` returns.

    Attributes:
        run: the run folder.
        rows: its rows of metrics.
        best: that of the epoch whose weights are the best.
        notes: sentences about the run for the user.
    """

    run: Path
    rows: list[Row]
    best: Row
    notes: tuple[str, ...] = ()


def train(
    model: ModelConfig,
    settings: TrainConfig,
    run: str | os.PathLike[str],
    *,
    device: str | None = None,
    threads: int | None = None,
    resume: bool = False,
    changed_data: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
    on_report: Callable[[Report], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> TrainResult:
    """Train a network, or continue a run that was stopped.

    Args:
        model: sizes of the network; its `out_channels` is replaced by the number of channels of the targets.
        settings: data, damage, epochs and everything else that determines the result. To resume, pass the `model` and
            `settings` that `run_folder.read_run` returns; of them only `epochs` may be changed, and `data` and
            `targets` if these were moved. With other `epochs` the learning rate follows the schedule of so many from
            then on, so that it rises again in a run that was finished.
        run: the run folder, created if needed; without `resume` it must not hold a run yet. To resume, also a file in
            it.
        device: tinygrad device, or several of one backend (`CUDA:0,CUDA:1`) that share each batch; None chooses the
            best one.
        threads: CPU threads; None uses all.
        resume: continue after the last epoch in the folder.
        changed_data: resume although the data are not those that the run began with.
        on_progress: called after every step and after every epoch.
        on_report: called once with the report on the data.
        on_note: called with each sentence for the user as it arises.

    Returns:
        The metrics of all epochs. The run folder holds the weights: see `run_folder`.

    Raises:
        DataError: the data cannot be used.
        TrainingError: the folder already holds a run, another process trains into it, the data changed, the loss became
            NaN or infinite, or `settings` do not fit the network.
        UsageError: `settings` contradict those of the run that is resumed.
        DeviceError: the device cannot be used, or failed.
    """
    if settings.crop_from and (not model.takes_any_size or settings.crop_from < model.size):
        raise TrainingError(
            f"squares of {model.size} pixels cannot be cut from {settings.crop_from} for a "
            f"{model.arch}: give a larger side, and none for a vae."
        )
    folder = find_run(run) if resume else Path(run)
    notes = _Notes(on_note)
    if resume:
        _, rows = _read_stored(folder, model, settings)
        if len(rows) >= settings.epochs:  # neither the device nor the data are needed
            done = len(rows)
            notes.add(f"{folder} has all its {done} epochs; `epochs` {done + max(1, done // 3)} goes on")
            return TrainResult(folder, rows, _best(folder, rows), tuple(notes))
    names = devices.resolve_many(device)
    devices.set_threads(threads)
    with lock_run(folder):
        if not resume and (folder / "last.safetensors").exists():
            raise TrainingError(f"{folder} holds a run already; go on with `resume` {folder} or choose another `run`.")
        if resume:
            model, rows = _read_stored(folder, model, settings)  # again, now that nobody else writes
            data = reopen(folder, model, settings, on_report)
        else:
            rows, data = [], open_new(folder, model, settings, on_report)
            dataset = data.dataset
            targets = dataset.train.inputs if dataset.train.targets is None else dataset.train.targets
            model = replace(model, out_channels=targets.shape[-1])
        for sentence in data.notes:
            notes.add(sentence)
        if data.changes and not changed_data:
            raise TrainingError(
                f"the data of {folder} changed ({data.changes}): go on with `changed_data`, or start anew."
            )
        trainer = Trainer(model, settings, data.dataset, names)
        if resume:
            data = _compare_scores(data, trainer, rows, folder, changed_data)
            checkpoint.restore(trainer, folder)
        if settings.start is not None and not rows:
            checkpoint.load_start(trainer, settings.start)
        if data.changes:
            notes.add(f"the data changed ({data.changes}); the run goes on with them")
        if data.validation_changed and rows:
            data = _reset_best(data, folder, rows, notes)
        return _run_epochs(trainer, folder, rows, data, notes, on_progress or (lambda progress: None))


class _Notes(list[str]):
    """Sentences for the user, which are also passed on as they arise."""

    def __init__(self, on_note: Callable[[str], None] | None) -> None:
        super().__init__()
        self._on_note = on_note

    def add(self, sentence: str) -> None:
        self.append(sentence)
        if self._on_note is not None:
            self._on_note(sentence)


def _read_stored(folder: Path, model: ModelConfig, settings: TrainConfig) -> tuple[ModelConfig, list[Row]]:
    """Return the network of a run and the rows of its epochs; check that the arguments agree with it."""
    stored_model, stored = read_run(folder)
    if replace(model, out_channels=stored_model.out_channels) != stored_model:
        raise UsageError(f"`model` is another network than that of {folder}: pass what `read_run` returns.")
    for field in fields(settings):
        before, now = getattr(stored, field.name), getattr(settings, field.name)
        if before != now and field.name not in ("data", "targets", "epochs"):
            raise UsageError(f"`{field.name}` {now} contradicts {folder}, which has {before}: start a new run for it.")
    _, rows = checkpoint.read_last(folder, stored_model)
    return stored_model, rows


def _best(folder: Path, rows: list[Row]) -> Row:
    record = read_record(folder)
    return best_row(rows, record.best_after if record else 0)


def _compare_scores(data: RunData, trainer: Trainer, rows: list[Row], folder: Path, allowed: bool) -> RunData:
    """For a run without a record of its data: see from the score of the damaged images whether they are the same."""
    if data.is_recorded or not rows or math.isnan(before := rows[-1]["damaged_psnr"]):
        return data
    now = pooled_psnr(trainer.trial.inputs, trainer.trial.clean)
    if now == before or abs(now - before) < SAME_SCORE_DB:
        return data
    changes = (
        f"{data.record.path} has other validation images: damaged, they score {now:.2f} dB instead of {before:.2f}"
    )
    if not allowed:
        raise TrainingError(
            f"the data of {folder} changed ({changes}): give `data`, go on with `changed_data`, or start anew."
        )
    return replace(data, changes=changes, validation_changed=True)


def _reset_best(data: RunData, folder: Path, rows: list[Row], notes: _Notes) -> RunData:
    """Keep the best weights so far under another name, as scores on other images cannot be compared with theirs."""
    best, kept = folder / "best.safetensors", folder / f"best-until-{len(rows)}.safetensors"
    if best.exists():
        write_bytes_atomic(kept, best.read_bytes())
    notes.add(
        f"the validation images changed, so that scores before and after epoch {len(rows)} cannot be compared: "
        f"{best.name} begins again, and {kept.name} keeps the best until then"
    )
    return replace(data, record=replace(data.record, best_after=len(rows)))


def _run_epochs(
    trainer: Trainer,
    folder: Path,
    rows: list[Row],
    data: RunData,
    notes: _Notes,
    on_progress: Callable[[Progress], None],
) -> TrainResult:
    """Run the epochs that `rows` does not have yet, writing the run folder after each."""
    settings, steps, best_after = trainer.settings, trainer.steps, data.record.best_after
    if data.dataset.train.digests:
        write_files(folder, data.dataset.members)
    write_config(folder, trainer.config, settings, data.record)
    for epoch in range(len(rows), settings.epochs):
        started = time.perf_counter()

        def on_step(step: int, loss: float, epoch: int = epoch, started: float = started) -> None:
            seconds = (time.perf_counter() - started) / step
            left = seconds * (steps * settings.epochs - epoch * steps - step)
            on_progress(Progress(epoch + 1, settings.epochs, step, steps, loss, settings.batch / seconds, left))

        row = trainer.run_epoch(epoch, on_step)
        rows.append(row)
        checkpoint.save(trainer, folder, rows, best_after)
        gc.collect()  # automatic collection is off while tinygrad is locked (runtime.guard)
        left = (time.perf_counter() - started) * (settings.epochs - epoch - 1)
        on_progress(Progress(epoch + 1, settings.epochs, steps, steps, row["loss"], row["images_per_s"], left, row))
    if sentence := judge(trainer.config, settings, trainer.trial, rows[best_after:], steps):
        notes.add(sentence)
    return TrainResult(folder, rows, best_row(rows, best_after), tuple(notes))
