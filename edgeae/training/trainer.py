"""Training: one jitted step and the loop around it.

Everything random comes from (seed, epoch, image or step), and runs.py writes what an epoch leaves whole, so that a run
that is resumed after any kind of end gives, on the same backend, the weights of one that was never stopped.
"""

from __future__ import annotations

import gc
import importlib.metadata
import math
import os
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tinygrad import Tensor, TinyJit

from edgeae._version import __version__
from edgeae.config import ModelConfig, TrainConfig
from edgeae.data.augment import Augment
from edgeae.data.batches import Batch, Dataset, Report, batches, open_run, prefetch
from edgeae.errors import TrainingError
from edgeae.images.damage.spec import parse
from edgeae.images.drawing import grids as pictures
from edgeae.images.drawing.charts import curves
from edgeae.images.files.array_io import write_image
from edgeae.inference import golden
from edgeae.inference.session import Session
from edgeae.inference.tinygrad_engine import TinygradEngine
from edgeae.network import weight_file as weights
from edgeae.network.models import Autoencoder, build
from edgeae.network.parameters import parameters
from edgeae.network.shipped import find_model
from edgeae.runtime import devices
from edgeae.runtime.input_buffers import Inputs
from edgeae.runtime.tinygrad_lock import tinygrad_on
from edgeae.training.evaluation import MAX_VALIDATION_IMAGES, Evaluation, Trial
from edgeae.training.optimizer import AdamW
from edgeae.training.run_folder import Row, best, locked, panels, read_metrics, write_config, write_metrics

PREVIEW_IMAGES = 8

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Progress:
    """Where a run is.

    Attributes:
        epoch, epochs: the one under way, from 1, and how many in all.
        step, steps: of this epoch.
        loss: of the last step.
        images_per_s: in this epoch so far.
        seconds_left: to the end of the run, at that rate; NaN while it is unknown.
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
    """Train a network, or go on with a run that was stopped.

    Args:
        model, settings: what to train and how; `out_channels` follows the targets. With `resume` the run folder's own
            are meant: see `read_run`.
        run: the run folder; it must not hold a run yet, unless `resume`.
        device: tinygrad device, or several of one backend (`CUDA:0,CUDA:1`) that share each batch.
        threads: CPU threads; None is all.
        on_progress: called after every step and every epoch.
        on_report: called once with what the check of the data found.

    Raises:
        DataError: the data cannot be used.
        TrainingError: the folder holds a run already, or another training writes to it, or the loss became NaN.
        DeviceError: the device is not usable, or failed.
    """
    if settings.crop_from and (not model.takes_any_size or settings.crop_from < model.size):
        raise TrainingError(
            f"squares of {model.size} pixels cannot be cut from {settings.crop_from} for a "
            f"{model.arch}: give a larger side, and none for a vae."
        )
    names = devices.resolve_many(device)
    devices.set_threads(threads)
    folder = Path(run)
    with locked(folder):
        if not resume and (folder / "last.safetensors").exists():
            raise TrainingError(f"{folder} holds a run already; go on with --resume {folder} or choose another -o.")
        dataset = open_run(model, settings, on_report)
        wanted = dataset.train.inputs if dataset.train.targets is None else dataset.train.targets
        model = replace(model, out_channels=wanted.shape[-1])
        with tinygrad_on(names[0]):
            trainer = Trainer(model, settings, dataset, names)
            rows = trainer.restore(folder) if resume else []
            if settings.start is not None and not rows:
                trainer.start(settings.start)
            return _loop(trainer, folder, rows, on_progress or (lambda progress: None))


# ---- the step ----------------------------------------------------------------------------------------------------


class Trainer:
    """A network with its optimizer and data: runs epochs, and saves and restores itself."""

    def __init__(self, config: ModelConfig, settings: TrainConfig, dataset: Dataset, names: tuple[str, ...]) -> None:
        self.config, self.settings, self.dataset, self._names = config, settings, dataset, names
        if settings.batch % len(names):
            raise TrainingError(f"a batch of {settings.batch} cannot be shared by {len(names)} devices.")
        self.steps = math.ceil(len(dataset.train) / settings.batch)
        self.model: Autoencoder = build(config, names[0], settings.seed)
        self._parameters: dict[str, Tensor] = {}
        for name, value, _ in parameters(self.model):
            if not isinstance(value, Tensor):
                raise TrainingError(f"{name} is quantized; train from a fp32 checkpoint.")
            self._parameters[name] = value.shard_(names) if len(names) > 1 else value.realize()
        self._optimizer = AdamW(self._parameters, settings.weight_decay)
        self._step, self._inputs = TinyJit(self._one_step), Inputs(names)
        self.trial = Trial.prepare(dataset.val, settings.corrupt, settings.seed, MAX_VALIDATION_IMAGES)
        self.damage = parse(settings.corrupt)
        # Validation runs on the first device: with the weights themselves, or where these lie on several with a copy.
        validated = self.model if len(names) == 1 else build(config, names[0], settings.seed)
        self._copies = {
            name: value.realize()
            for name, value, _ in parameters(validated)
            if isinstance(value, Tensor) and len(names) > 1
        }
        self.session = Session(TinygradEngine(validated, config, names[0], min(32, settings.batch)))
        self._restored = self.trial.inputs[:0]

    def _one_step(self, x: Tensor, y: Tensor, schedule: Tensor, noise: Tensor | None = None) -> Tensor:
        """One optimizer step; returns its losses, realized together with the new weights."""
        self._optimizer.zero_grad()
        losses = self.model.losses(x, y, self.settings.loss, schedule[1], noise)
        losses["loss"].backward()
        # NOTE: realized after the step, the loss would be that of the updated weights.
        return Tensor.stack(*losses.values()).realize(*self._optimizer.schedule_step(schedule[0:1]))

    def schedule(self, step: int) -> tuple[float, float]:
        """Learning rate and β at a step of the whole run: linear warm-up, then a cosine to 1% of the peak."""
        total = self.steps * self.settings.epochs
        warm = max(1, round(total * self.settings.warmup))
        done = min(1.0, max(0, step - warm) / max(1, total - warm))
        lr = self.settings.lr * min(1.0, (step + 1) / warm) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))
        beta_warm = max(1, round(total * self.settings.beta_warmup))
        return lr, self.settings.beta * min(1.0, (step + 1) / beta_warm)

    def epoch(self, epoch: int, on_step: Callable[[int, float], None]) -> Row:
        """Train for one epoch (from 0) and validate; returns its row of metrics.csv."""
        started = time.perf_counter()
        sums: dict[str, float] = {}
        crop = self.config.size if self.settings.crop_from else None
        zoom = 1.0 if crop else self.settings.zoom
        augment = Augment(zoom=zoom, blend=self.settings.blend) if self.settings.augment else None
        stream = prefetch(
            batches(
                self.dataset.train,
                self.settings.batch,
                epoch=epoch,
                seed=self.settings.seed,
                corrupt=self.damage,
                augment=augment,
                crop=crop,
            )
        )
        lr = beta = 0.0
        with Tensor.train(), closing(stream):
            for i, batch in enumerate(stream):
                lr, beta = self.schedule(epoch * self.steps + i)
                losses = self._losses(batch, np.array([lr, beta], np.float32), epoch, i)
                if not math.isfinite(losses["loss"]):
                    raise TrainingError(f"the loss became {losses['loss']} in epoch {epoch + 1}; lower --lr.")
                sums = {key: sums.get(key, 0.0) + value for key, value in losses.items()}
                on_step(i + 1, losses["loss"])
        rate = self.steps * self.settings.batch / (time.perf_counter() - started)
        means = {key: value / self.steps for key, value in sums.items()}
        found = self.validate()
        if not math.isfinite(found.output.mse):  # the last step's update broke the weights
            raise TrainingError(f"the network gives {found.output.mse} after epoch {epoch + 1}; lower --lr.")
        return {
            "epoch": epoch + 1,
            "lr": lr,
            "beta": beta,
            "loss": means["loss"],
            "recon": means["recon"],
            "kl": means.get("kl", math.nan),
            "val_mse": found.output.mse,
            "val_psnr": found.output.psnr,
            "val_ssim": found.output.ssim,
            "val_sharpness": found.output.sharpness,
            "val_hole_psnr": math.nan if found.output.hole_psnr is None else found.output.hole_psnr,
            "damaged_psnr": found.input.psnr if found.input else math.nan,
            "images_per_s": rate,
        }

    def _losses(self, batch: Batch, schedule: Array, epoch: int, step: int) -> dict[str, float]:
        counter = np.random.Philox(key=self.settings.seed, counter=(0, step, epoch, 0))
        noise = self.model.draw_noise(np.random.Generator(counter), len(batch.inputs), self.settings.skip_drop)
        arrays = [batch.inputs, batch.targets, schedule, *([] if noise is None else [noise])]
        values = self._step(*self._inputs(*arrays)).numpy()
        return dict(zip(("loss", "recon", "kl"), (float(value) for value in values), strict=False))

    def validate(self) -> Evaluation:
        """Scores on the validation images, damaged the same way every time."""
        for name, copy in self._copies.items():
            copy.assign(Tensor(self._parameters[name].numpy(), device=self._names[0])).realize()
        return self.trial.evaluate(self._restore_images)

    def _restore_images(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        self._restored = self.session.run_floats(x)  # kept for the preview
        return self._restored

    def start(self, model: str) -> None:
        """Take the weights of a file, of any quantization."""
        file = weights.read(find_model(model))
        if replace(file.config, size=self.config.size) != self.config:
            raise TrainingError(f"{model} cannot be the start: it is another network, {file.config.to_json()}.")
        for name, value in file.floats().items():
            self._put(self._parameters[name], value)

    # ---- saving and restoring ------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, Array]:
        """The network's parameters, float32."""
        return {name: value.numpy() for name, value in self._parameters.items()}

    def put(self, name: str, array: Array) -> None:
        """Set a parameter between two steps."""
        self._parameters[name].assign(Tensor(np.ascontiguousarray(array), device=self._names[0])).realize()

    def _state(self) -> dict[str, Tensor]:
        """What the optimizer remembers."""
        return {weights.OPTIMIZER + name: value for name, value in self._optimizer.state().items()}

    def _put(self, tensor: Tensor, array: Array) -> None:
        value = Tensor(np.ascontiguousarray(array, np.float32), device=self._names[0])
        if len(self._names) > 1:
            value = value.shard(self._names)
        tensor.replace(value.contiguous().realize())

    def metadata(self, row: Row) -> dict[str, str]:
        """What the weight files of this run say of themselves after the epoch of `row`."""
        paired = self.settings.targets is not None
        return {
            "format_version": weights.FORMAT_VERSION,
            "edgeae_version": __version__,
            "tinygrad_version": importlib.metadata.version("tinygrad"),
            "arch": self.config.arch,
            "config": self.config.to_json(),
            "quantize": "none",
            "task": "image-to-image" if paired else str(self.damage),
            "train_data": self.settings.source or self.dataset.name,
            "licence": self.settings.licence,
            "seed": str(self.settings.seed),
            "epoch": str(int(row["epoch"])),
            "psnr": f"{row['val_psnr']:.3f}",
            "ssim": f"{row['val_ssim']:.4f}",
        }

    def save(self, folder: Path, rows: list[Row]) -> None:
        """Write the run folder's files for the epoch that the last of `rows` describes, just validated."""
        last = rows[-1]
        tensors, metadata = self.tensors(), self.metadata(last)
        if last is best(rows):
            best_metadata = metadata | {"golden": golden.make_golden(self.session)}
            weights.write(folder / "best.safetensors", tensors, best_metadata)
        write_metrics(folder / "metrics.csv", rows)
        write_image(curves(panels(rows), [row["epoch"] for row in rows]), folder / "curves.png")
        self._write_preview(folder / "preview.png")
        state = {name: value.numpy() for name, value in self._state().items()}
        weights.write(folder / "last.safetensors", {**tensors, **state}, metadata)

    def _write_preview(self, path: Path) -> None:
        columns = {"original": self.trial.clean, "damaged": self.trial.inputs, "output": self._restored}
        if self.settings.targets is not None:
            columns = {"input": self.trial.inputs, "target": self.trial.clean, "output": self._restored}
        rows = [list(row) for row in zip(*columns.values(), strict=True)][:PREVIEW_IMAGES]
        write_image(pictures.comparison(rows, list(columns)), path)

    def restore(self, folder: Path) -> list[Row]:
        """Take weights and optimizer state from the run folder; returns its rows up to that epoch."""
        path = folder / "last.safetensors"
        if not path.exists():
            return []  # stopped in its first epoch
        file = weights.read(path)
        if file.config != self.config:
            raise TrainingError(f"{path} does not belong to this run: it holds another network than config.json says.")
        state = self._state()
        for name, tensor in {**self._parameters, **state}.items():
            stored = file.tensors.get(name)
            if stored is None or stored.shape != tensor.shape or stored.dtype != np.float32:
                raise TrainingError(f"{path} does not belong to this run: {name} is missing or has another shape.")
            self._put(tensor, stored)
        done = file.metadata.get("epoch", "")
        rows = read_metrics(folder / "metrics.csv")[: int(done) if done.isdecimal() else 0]
        if not rows or [row["epoch"] for row in rows] != list(range(1, len(rows) + 1)) or str(len(rows)) != done:
            raise TrainingError(f"{folder / 'metrics.csv'} does not hold the epochs of {path.name}; start a new run.")
        return rows


# ---- the loop ----------------------------------------------------------------------------------------------------


def _loop(trainer: Trainer, folder: Path, rows: list[Row], on_progress: Callable[[Progress], None]) -> TrainResult:
    settings, steps = trainer.settings, trainer.steps
    write_config(folder, trainer.config, settings)
    for epoch in range(len(rows), settings.epochs):
        started = time.perf_counter()

        def on_step(step: int, loss: float, epoch: int = epoch, started: float = started) -> None:
            seconds = (time.perf_counter() - started) / step
            left = seconds * (steps * settings.epochs - epoch * steps - step)
            on_progress(Progress(epoch + 1, settings.epochs, step, steps, loss, settings.batch / seconds, left))

        row = trainer.epoch(epoch, on_step)
        rows.append(row)
        trainer.save(folder, rows)
        gc.collect()  # `guard` has it rest within
        left = (time.perf_counter() - started) * (settings.epochs - epoch - 1)
        on_progress(Progress(epoch + 1, settings.epochs, steps, steps, row["loss"], row["images_per_s"], left, row))
    return TrainResult(folder, rows, best(rows))
