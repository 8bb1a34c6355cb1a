"""Weights used to being rounded: a few epochs more of a run, in which the network works with what a file would hold.

Each step runs on the rounded weights, and its update goes to the float32 ones behind them (straight-through estimator,
Bengio et al. 2013), so that many small updates move a weight to the next integer. int4, which rounds by a tenth of what
weights are, gains most of what it lost; int8 has little to gain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from edgeae.config import ModelConfig, TrainConfig
from edgeae.data.datasets import open_training_data
from edgeae.network import quantize
from edgeae.network.weight_file import Array
from edgeae.runtime import devices
from edgeae.runtime.tinygrad_lock import tinygrad_on
from edgeae.training.trainer import Trainer

LEARNING_RATES = {"int8": 0.02, "int4": 0.2}  # as shares of the run's own


def tuned(
    floats: Mapping[str, Array],
    model: ModelConfig,
    settings: TrainConfig,
    scheme: str,
    epochs: int,
    device: str | None = None,
    on_epoch: Callable[[int, float], None] | None = None,
) -> dict[str, Array]:
    """The float32 weights whose rounded form is best on the validation images.

    Args:
        floats: float32 weights by name, of a network that `settings` trained.
        model, settings: of the run; its data must still be there.
        scheme: `int8` or `int4`.
        epochs: how many more.
        device: where to train.
        on_epoch: called with each epoch, from 1, and its PSNR on the validation images in dB; 0 is before any.

    Raises:
        DataError: the data cannot be used.
        TrainingError: the loss became NaN.
    """
    name = devices.resolve(device)
    dataset = open_training_data(model, settings)
    briefly = replace(settings, epochs=epochs, lr=settings.lr * LEARNING_RATES[scheme], beta_warmup=0.0)
    told = on_epoch or (lambda epoch, psnr: None)
    with tinygrad_on(name):
        trainer = Trainer(model, briefly, dataset, (name,))
        behind = dict(floats)  # the rounded weights
        rounded: dict[str, Array] = {}

        def put() -> None:
            for key, value in behind.items():
                rounded[key] = quantize.round_trip(key, value, scheme)
                trainer.set_weight(key, rounded[key])

        def follow(step: int, loss: float) -> None:
            for key, value in trainer.weights().items():
                behind[key] = behind[key] + (value - rounded[key])
            put()

        put()
        first = trainer.validate().output
        best, least = dict(behind), first.mse
        told(0, first.psnr)
        for epoch in range(epochs):
            row = trainer.run_epoch(epoch, follow)
            told(epoch + 1, row["val_psnr"])
            if row["val_mse"] < least:
                best, least = dict(behind), row["val_mse"]
    return best
