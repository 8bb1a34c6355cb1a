"""Fine-tuning for quantization: a few more epochs of a run, in which the network works with its rounded weights.

Each step runs on the rounded weights, and its update goes to the float32 weights behind them (straight-through
estimator, Bengio et al. 2013), so that many small updates can move a weight to the next integer. int4 recovers most of
what rounding cost; int8 loses little to begin with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from edgeae.config import ModelConfig, TrainConfig
from edgeae.data.datasets import open_training_data
from edgeae.network import quantize
from edgeae.network.weight_file import Array
from edgeae.runtime import devices
from edgeae.training.trainer import Trainer

LEARNING_RATES = {"int8": 0.02, "int4": 0.2}  # relative to the run's own


def tune(
    floats: Mapping[str, Array],
    model: ModelConfig,
    settings: TrainConfig,
    scheme: str,
    epochs: int,
    device: str | None = None,
    on_epoch: Callable[[int, float], None] | None = None,
) -> dict[str, Array]:
    """Train weights further so that their rounded form restores well.

    Args:
        floats: float32 weights by name.
        model, settings: of the run that trained them; its data must still exist.
        scheme: `int8` or `int4`.
        epochs: at least 1.
        device: tinygrad device to train on; None chooses the best one.
        on_epoch: called after each epoch, from 1, with the PSNR in dB on the validation images; with 0 before the
            first.

    Returns:
        The float32 weights of the epoch whose rounded form has the smallest error on the validation images; the
        original ones if no epoch is better.

    Raises:
        DataError: the data cannot be used.
        TrainingError: the loss became NaN or infinite.
    """
    name = devices.resolve(device)
    dataset = open_training_data(model, settings)
    settings = replace(settings, epochs=epochs, lr=settings.lr * LEARNING_RATES[scheme], beta_warmup=0.0)
    report = on_epoch or (lambda epoch, psnr: None)
    trainer = Trainer(model, settings, dataset, (name,))
    exact = dict(floats)  # the float32 weights that the updates are added to
    rounded: dict[str, Array] = {}  # the weights that the network works with

    def set_rounded() -> None:
        for key, value in exact.items():
            rounded[key] = quantize.round_trip(key, value, scheme)
            trainer.set_weight(key, rounded[key])

    def move_update(step: int, loss: float) -> None:
        for key, value in trainer.weights().items():
            exact[key] = exact[key] + (value - rounded[key])
        set_rounded()

    set_rounded()
    scores = trainer.validate().output
    best, best_mse = dict(exact), scores.mse
    report(0, scores.psnr)
    for epoch in range(epochs):
        row = trainer.run_epoch(epoch, move_update)
        report(epoch + 1, row["val_psnr"])
        if row["val_mse"] < best_mse:
            best, best_mse = dict(exact), row["val_mse"]
    return best
