"""A training step from arrays in memory to the loss as a number, as `Trainer` does it with every batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from tinygrad import Tensor

from edgeae.config import TrainConfig
from edgeae.data.batches import Batch
from edgeae.data.datasets import Dataset, Split
from edgeae.data.report import Report
from edgeae.network.weight_file import WeightFile
from edgeae.runtime.tinygrad_lock import tinygrad_on
from edgeae.runtime.turns import TINYGRAD
from edgeae.training.trainer import Trainer

LEARNING_RATE, BETA = 1e-4, 0.1  # β is the weight of a vae's KL term

Floats = npt.NDArray[np.float32]


def make_settings(batch: int) -> TrainConfig:
    """Return the settings that every runtime trains with."""
    return TrainConfig("random numbers", batch=batch, corrupt="none")


def make_trainer(file: WeightFile, batch: int, device: str) -> Trainer:
    """Return the trainer of a weight file's network on a tinygrad device, which starts from the file's weights."""
    config, settings = file.config, make_settings(batch)
    split = Split(np.zeros((batch, config.size, config.size, config.in_channels), np.uint8), None, [""] * batch)
    dataset = Dataset(split, split, settings.data, Report(settings.data, config.size, batch, batch))
    with TINYGRAD.turn, tinygrad_on(device):
        trainer = Trainer(config, settings, dataset, (device,))
        for name, value in file.floats().items():
            trainer.set_weight(name, value)
    return trainer


def step_function(trainer: Trainer, images: Sequence[Floats], device: str) -> Callable[[int], float]:
    """Return a function of the step's number that trains on one of `images` in turn, and returns the loss before it.

    Args:
        trainer: see `make_trainer`.
        images: batches, (B, H, W, C) in [0, 1]; each is input and target.
        device: the trainer's.
    """
    no_mask = np.zeros(images[0].shape[:3], np.bool_)
    batches = [Batch(x, x, no_mask, np.arange(len(x)), len(x)) for x in images]
    schedule = np.array([LEARNING_RATE, BETA], np.float32)

    def step(number: int) -> float:
        with TINYGRAD.turn, tinygrad_on(device), Tensor.train():
            return trainer.train_batch(batches[number % len(batches)], schedule, 0, number)["loss"]

    return step
