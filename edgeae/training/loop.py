"""Training runs: `train`, the loop over the epochs.

All random numbers come from (seed, epoch, image or step), and an epoch's files are written whole. A run that is resumed
after any kind of end therefore has, on the same backend, the weights of a run that was never stopped, bit for bit.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from edgeae.config import ModelConfig, TrainConfig
from edgeae.data.datasets import Report, open_training_data
from edgeae.errors import TrainingError
from edgeae.runtime import devices
from edgeae.training import checkpoint
from edgeae.training.run_folder import Row, best_row, lock_run, write_config
from edgeae.training.trainer import Trainer


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
    """What `train` returns: the run folder, its rows of metrics, and the best epoch's row."""

    run: Path
    rows: list[Row]
    best: Row


def train(
    model: ModelConfig,
    settings: TrainConfig,
    run: str | os.PathLike[str],
    *,
    device: str | None = None,
    threads: int | None = None,
    resume: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
    on_report: Callable[[Report], None] | None = None,
) -> TrainResult:
    """Train a network, or continue a run that was stopped.

    Args:
        model: sizes of the network; its `out_channels` is replaced by the number of channels of the targets.
        settings: data, damage, epochs and everything else that determines the result. To resume, pass the `model` and
            `settings` that `run_folder.read_run` returns.
        run: the run folder, created if needed; without `resume` it must not hold a run yet.
        device: tinygrad device, or several of one backend (`CUDA:0,CUDA:1`) that share each batch; None chooses the
            best one.
        threads: CPU threads; None uses all.
        resume: continue after the last epoch in the folder.
        on_progress: called after every step and after every epoch.
        on_report: called once with the report on the data.

    Returns:
        The metrics of all epochs. The run folder holds the weights: see `run_folder`.

    Raises:
        DataError: the data cannot be used.
        TrainingError: the folder already holds a run, another process trains into it, the loss became NaN or infinite,
            or `settings` do not fit the network.
        DeviceError: the device cannot be used, or failed.
    """
    if settings.crop_from and (not model.takes_any_size or settings.crop_from < model.size):
        raise TrainingError(
            f"squares of {model.size} pixels cannot be cut from {settings.crop_from} for a "
            f"{model.arch}: give a larger side, and none for a vae."
        )
    names = devices.resolve_many(device)
    devices.set_threads(threads)
    folder = Path(run)
    with lock_run(folder):
        if not resume and (folder / "last.safetensors").exists():
            raise TrainingError(f"{folder} holds a run already; go on with `resume` {folder} or choose another `run`.")
        dataset = open_training_data(model, settings, on_report)
        targets = dataset.train.inputs if dataset.train.targets is None else dataset.train.targets
        model = replace(model, out_channels=targets.shape[-1])
        trainer = Trainer(model, settings, dataset, names)
        rows = checkpoint.restore(trainer, folder) if resume else []
        if settings.start is not None and not rows:
            checkpoint.load_start(trainer, settings.start)
        return _run_epochs(trainer, folder, rows, on_progress or (lambda progress: None))


def _run_epochs(
    trainer: Trainer, folder: Path, rows: list[Row], on_progress: Callable[[Progress], None]
) -> TrainResult:
    """Run the epochs that `rows` does not have yet, writing the run folder after each."""
    settings, steps = trainer.settings, trainer.steps
    write_config(folder, trainer.config, settings)
    for epoch in range(len(rows), settings.epochs):
        started = time.perf_counter()

        def on_step(step: int, loss: float, epoch: int = epoch, started: float = started) -> None:
            seconds = (time.perf_counter() - started) / step
            left = seconds * (steps * settings.epochs - epoch * steps - step)
            on_progress(Progress(epoch + 1, settings.epochs, step, steps, loss, settings.batch / seconds, left))

        row = trainer.run_epoch(epoch, on_step)
        rows.append(row)
        checkpoint.save(trainer, folder, rows)
        gc.collect()  # automatic collection is off while tinygrad is locked (runtime.guard)
        left = (time.perf_counter() - started) * (settings.epochs - epoch - 1)
        on_progress(Progress(epoch + 1, settings.epochs, steps, steps, row["loss"], row["images_per_s"], left, row))
    return TrainResult(folder, rows, best_row(rows))
