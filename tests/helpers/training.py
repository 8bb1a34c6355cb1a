"""Small trainings on generated faces, which compile in seconds."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from edgeae.config import ModelConfig, TrainConfig
from edgeae.data.datasets import open_training_data
from edgeae.training.trainer import Trainer

EPOCHS = 4
# 13 images for training, so that a step is filled up from the start, and 1 for validation.
SETTINGS = TrainConfig("faces", epochs=EPOCHS, batch=8, lr=3e-3, limit=14, beta=0.5, skip_drop=0.3, licence="CC0-1.0")
FEWER_LAYERS: dict[str, dict[str, Any]] = {
    "conv": {"widths": (8,), "context": 0},
    "residual": {"context": 0},
    "vae": {"widths": (4,)},
}


def settings_for(arch: str, **changes: Any) -> TrainConfig:
    return replace(SETTINGS, loss="bce" if arch == "vae" else "mse", **changes)


def small_config(tiny_config: Callable[..., ModelConfig], arch: str) -> ModelConfig:
    """A network smaller still than that of other tests, as compiling a training step takes seconds."""
    return tiny_config(arch, **FEWER_LAYERS[arch])


def make_trainer(config: ModelConfig, device: str, **changes: Any) -> Trainer:
    """A trainer without a run folder."""
    settings = settings_for(config.arch, **changes)
    return Trainer(config, settings, open_training_data(config, settings), (device,))
