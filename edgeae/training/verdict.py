"""Tell in one sentence if a finished run learned nothing, or lost what it had learned."""

from __future__ import annotations

import math

import numpy as np

from edgeae.config import ModelConfig, TrainConfig
from edgeae.images.metrics import pooled_psnr
from edgeae.training.evaluation import Trial
from edgeae.training.run_folder import Row

FALL_DB = 3.0  # from the best epoch to the last
MARGIN_DB = 0.3  # above what costs nothing to reach
# A run that did less than both of these has not failed yet: it is only short.
HIGH_RATE, LONG_RUN_STEPS = 0.01, 500


def judge(model: ModelConfig, settings: TrainConfig, trial: Trial, rows: list[Row], steps: int) -> str | None:
    """Return the sentence, or None if nothing is wrong.

    Args:
        model, settings: of the run.
        trial: its validation images.
        rows: of its epochs.
        steps: of an epoch.
    """
    best, last = max(row["val_psnr"] for row in rows), rows[-1]["val_psnr"]
    rate = f"lower `lr` {settings.lr:g}"
    mean = np.mean(trial.clean, axis=(0, 1, 2), dtype=np.float64).astype(np.float32)
    trivial, what = pooled_psnr(np.broadcast_to(mean, trial.clean.shape), trial.clean), "one flat colour"
    starts_as_input = model.arch == "residual" and model.image_skip and model.in_channels == model.out_channels
    damaged = rows[-1]["damaged_psnr"]
    if starts_as_input and trivial < damaged < math.inf:  # such a network begins with the input itself
        trivial, what = damaged, "the damaged input itself"
    is_blamed = settings.lr >= HIGH_RATE or len(rows) * steps >= LONG_RUN_STEPS
    if is_blamed and best < trivial + MARGIN_DB and math.isfinite(trivial):
        return f"the network learned nothing: its best PSNR is {best:.1f} dB, that of {what} {trivial:.1f} dB; {rate}."
    collapsed = is_blamed and last < trivial + MARGIN_DB  # after a start that was better
    if last < best - FALL_DB or collapsed:
        return (
            f"the score fell from {best:.1f} dB to {last:.1f} dB, so the network lost what it had learned; {rate}. "
            "best.safetensors has the weights from before."
        )
    return None
