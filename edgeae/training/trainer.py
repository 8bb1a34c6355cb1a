"""The trainer: a network, its optimizer and its data.

`Trainer._train_step` is one optimizer step: losses (`network.models`), gradients, new weights (`optimizer`). tinygrad
records it once and replays it. `Trainer.run_epoch` takes a step for each batch (`data.batches`) and validates. The loop
over the epochs is in `loop`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing
from typing import Any

import numpy as np
import numpy.typing as npt
from tinygrad import Tensor, TinyJit

from edgeae.config import ModelConfig, TrainConfig
from edgeae.data.augment import Augment
from edgeae.data.batches import Batch, batches
from edgeae.data.datasets import Dataset
from edgeae.data.prefetch import prefetch
from edgeae.errors import TrainingError
from edgeae.images.damage.spec import parse
from edgeae.inference.session import Session
from edgeae.inference.tinygrad_engine import TinygradEngine
from edgeae.network.models import Autoencoder, build
from edgeae.network.parameters import parameters
from edgeae.network.weight_file import OPTIMIZER
from edgeae.runtime.input_buffers import Inputs
from edgeae.runtime.tinygrad_lock import tinygrad_on
from edgeae.runtime.turns import TINYGRAD
from edgeae.training.evaluation import MAX_VALIDATION_IMAGES, Evaluation, Trial
from edgeae.training.optimizer import AdamW
from edgeae.training.run_folder import Row

Array = npt.NDArray[Any]


class Trainer:
    """A network with its optimizer and data, which trains and validates one epoch at a time.

    Each method is inside the lock of tinygrad only while it uses tinygrad: other threads may run models between steps.

    Attributes:
        config, settings, dataset: what it was made from.
        steps: optimizer steps in an epoch.
        model: the network.
        session: the same network, for validation.
        trial: the validation images, damaged.
        restored: the network's output for `trial.inputs` at the last validation, (N, H, W, C) float32.
    """

    def __init__(self, config: ModelConfig, settings: TrainConfig, dataset: Dataset, names: tuple[str, ...]) -> None:
        # `names` are tinygrad devices. With several, each holds all weights and gets an equal share of every batch.
        if settings.batch % len(names):
            raise TrainingError(f"a batch of {settings.batch} cannot be shared by {len(names)} devices.")
        self.config, self.settings, self.dataset, self._names = config, settings, dataset, names
        self.steps = math.ceil(len(dataset.train) / settings.batch)
        self._corruption = parse(settings.corrupt)
        self.trial = Trial.prepare(dataset.val, settings.corrupt, settings.seed, MAX_VALIDATION_IMAGES)
        self.restored = self.trial.inputs[:0]
        with TINYGRAD.turn, self.inside_tinygrad():
            self._build(names)

    def _build(self, names: tuple[str, ...]) -> None:
        config, settings = self.config, self.settings
        self.model: Autoencoder = build(config, names[0], settings.seed)
        self._parameters: dict[str, Tensor] = {}
        for name, value, _ in parameters(self.model):
            if not isinstance(value, Tensor):
                raise TrainingError(f"{name} is quantized; train from a fp32 checkpoint.")
            self._parameters[name] = value.shard_(names) if len(names) > 1 else value.realize()
        self._optimizer = AdamW(self._parameters, settings.weight_decay)
        self._jitted_step, self._inputs = TinyJit(self._train_step), Inputs(names)
        # Validation runs on the first device: on the trained weights themselves or, with several devices, on a copy.
        validated = self.model if len(names) == 1 else build(config, names[0], settings.seed)
        self._copies = {
            name: value.realize()
            for name, value, _ in parameters(validated)
            if isinstance(value, Tensor) and len(names) > 1
        }
        self.session = Session(TinygradEngine(validated, config, names[0], min(32, settings.batch)))

    def inside_tinygrad(self) -> AbstractContextManager[None]:
        """Return what code that reads or writes this object's tensors enters after `TINYGRAD.turn`."""
        return tinygrad_on(self._names[0])

    # ---- the step ----------------------------------------------------------------------------------------------------

    def _train_step(self, x: Tensor, y: Tensor, schedule: Tensor, noise: Tensor | None = None) -> Tensor:
        """One optimizer step: forward, backward, new weights. `TinyJit` records it once and then replays it.

        Args:
            x: damaged images, (B, H, W, C_in) in [0, 1].
            y: clean images or targets, (B, H, W, C_out) in [0, 1].
            schedule: (2,), learning rate and β.
            noise: random numbers of the network, see `Autoencoder.draw_noise`.

        Returns:
            The losses in the order of `Autoencoder.losses`, realized together with the new weights.
        """
        self._optimizer.zero_grad()
        losses = self.model.losses(x, y, self.settings.loss, schedule[1], noise)
        losses["loss"].backward()
        # NOTE: realized after the step, the loss would be that of the updated weights.
        return Tensor.stack(*losses.values()).realize(*self._optimizer.schedule_step(schedule[0:1]))

    def train_batch(self, batch: Batch, schedule: Array, epoch: int, step: int) -> dict[str, float]:
        """Take one optimizer step.

        Args:
            batch: its images.
            schedule: float32 (2,), learning rate and β.
            epoch, step: from 0; they determine the random numbers.

        Returns:
            The losses before the step: `loss`, `recon` and, of a `vae`, `kl`.
        """
        counter = np.random.Philox(key=self.settings.seed, counter=(0, step, epoch, 0))
        noise = self.model.draw_noise(np.random.Generator(counter), len(batch.inputs), self.settings.skip_drop)
        arrays = [batch.inputs, batch.targets, schedule, *([] if noise is None else [noise])]
        with TINYGRAD.turn, self.inside_tinygrad(), Tensor.train():
            values = self._jitted_step(*self._inputs(*arrays)).numpy()
        return dict(zip(("loss", "recon", "kl"), (float(value) for value in values), strict=False))

    def schedule(self, step: int) -> tuple[float, float]:
        """Return learning rate and β at a step of the whole run: linear warm-up, then a cosine to 1% of the peak."""
        total = self.steps * self.settings.epochs
        warm = max(1, round(total * self.settings.warmup))
        done = min(1.0, max(0, step - warm) / max(1, total - warm))
        lr = self.settings.lr * min(1.0, (step + 1) / warm) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))
        beta_warm = max(1, round(total * self.settings.beta_warmup))
        return lr, self.settings.beta * min(1.0, (step + 1) / beta_warm)

    # ---- the epoch ---------------------------------------------------------------------------------------------------

    def run_epoch(self, epoch: int, on_step: Callable[[int, float], None]) -> Row:
        """Train for one epoch and validate.

        Args:
            epoch: from 0.
            on_step: called after each step with its number, from 1, and its loss.

        Returns:
            The epoch's row of metrics.csv.

        Raises:
            TrainingError: the loss or the network's output became NaN or infinite.
        """
        started = time.perf_counter()
        sums: dict[str, float] = {}
        lr = beta = 0.0
        stream = prefetch(self._batches(epoch))
        with closing(stream):
            for step, batch in enumerate(stream):
                lr, beta = self.schedule(epoch * self.steps + step)
                losses = self.train_batch(batch, np.array([lr, beta], np.float32), epoch, step)
                if not math.isfinite(losses["loss"]):
                    raise TrainingError(f"the loss became {losses['loss']} in epoch {epoch + 1}; lower `lr`.")
                sums = {key: sums.get(key, 0.0) + value for key, value in losses.items()}
                on_step(step + 1, losses["loss"])
        images_per_s = self.steps * self.settings.batch / (time.perf_counter() - started)
        scores = self.validate()
        if not math.isfinite(scores.output.mse):  # the last step's update broke the weights
            raise TrainingError(f"the network gives {scores.output.mse} after epoch {epoch + 1}; lower `lr`.")
        return {
            "epoch": epoch + 1,
            "lr": lr,
            "beta": beta,
            "loss": sums["loss"] / self.steps,
            "recon": sums["recon"] / self.steps,
            "kl": sums.get("kl", math.nan) / self.steps,
            "val_mse": scores.output.mse,
            "val_psnr": scores.output.psnr,
            "val_ssim": scores.output.ssim,
            "val_sharpness": scores.output.sharpness,
            "val_hole_psnr": math.nan if scores.output.hole_psnr is None else scores.output.hole_psnr,
            "damaged_psnr": scores.input.psnr if scores.input else math.nan,
            "images_per_s": images_per_s,
        }

    def _batches(self, epoch: int) -> Iterator[Batch]:
        settings = self.settings
        crop = self.config.size if settings.crop_from else None
        zoom = 1.0 if crop else settings.zoom  # squares cut from larger images are varied enough in scale and place
        return batches(
            self.dataset.train,
            settings.batch,
            epoch=epoch,
            seed=settings.seed,
            corrupt=self._corruption,
            augment=Augment(zoom=zoom, blend=settings.blend) if settings.augment else None,
            crop=crop,
        )

    def validate(self) -> Evaluation:
        """Score the network on the validation images, which are damaged the same way every time."""
        for name, copy in self._copies.items():
            with TINYGRAD.turn, self.inside_tinygrad():
                copy.assign(Tensor(self._parameters[name].numpy(), device=self._names[0])).realize()

        def run(x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
            self.restored = self.session.run_floats(x)
            return self.restored

        return self.trial.evaluate(run)

    # ---- weights and state -------------------------------------------------------------------------------------------

    def weights(self) -> dict[str, Array]:
        """Return the network's parameters, float32."""
        with TINYGRAD.turn, self.inside_tinygrad():
            return {name: value.numpy() for name, value in self._parameters.items()}

    def set_weight(self, name: str, value: Array) -> None:
        """Change a parameter between two steps, in the memory that the recorded step uses."""
        with TINYGRAD.turn, self.inside_tinygrad():
            self._parameters[name].assign(Tensor(np.ascontiguousarray(value), device=self._names[0])).realize()

    def state(self) -> dict[str, Tensor]:
        """Return all that is carried from step to step: parameters, and `optimizer.…` as weight files name it."""
        return self._parameters | {OPTIMIZER + name: value for name, value in self._optimizer.state().items()}

    def load(self, values: Mapping[str, Array]) -> None:
        """Replace parameters and optimizer state, by the names of `state`, before the first step."""
        state = self.state()
        with TINYGRAD.turn, self.inside_tinygrad():
            for name, value in values.items():
                tensor = Tensor(np.ascontiguousarray(value, np.float32), device=self._names[0])
                if len(self._names) > 1:
                    tensor = tensor.shard(self._names)
                state[name].replace(tensor.contiguous().realize())
