"""How well a model restores: the same scores for training, `evaluate` and `export`."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import numpy as np
import numpy.typing as npt

from edgeae.data.batches import Split, batches, open_dataset
from edgeae.errors import DataError, UsageError
from edgeae.images.damage.spec import parse
from edgeae.images.scores import Scores, score
from edgeae.inference.session import Session
from edgeae.training.rate_distortion import Rate, rates

Floats = npt.NDArray[np.float32]

MAX_VALIDATION_IMAGES = 512  # that training and export measure on


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` finds on `images` images.

    input, output: scores of what the model was given, damaged, and of what it made of it. rates: what the undamaged
    images cost as codes, and as files of as many bytes (rates.py).
    """

    images: int
    corrupt: str
    input: Scores | None
    output: Scores
    rates: tuple[Rate, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """For JSON, which has no infinity and no NaN: such a score, as the PSNR of a perfect output, is None."""
        found = asdict(self)
        for scores in (found["input"], found["output"]):
            for key, value in (scores or {}).items():
                if value is not None and not math.isfinite(value):
                    scores[key] = None
        return found


@dataclass(frozen=True)
class Trial:
    """A split, damaged once and for all: `inputs`, `clean` (N, H, W, C) float32 and `mask` (N, H, W)."""

    inputs: Floats
    clean: Floats
    mask: npt.NDArray[np.bool_]
    corrupt: str

    @classmethod
    def prepare(cls, split: Split, corrupt: str, seed: int, limit: int | None = None) -> Trial:
        """Damage the first `limit` images of a split, the same for the same seed."""
        count = len(split.inputs) if limit is None else min(limit, len(split.inputs))
        first = Split(
            split.inputs[:count], None if split.targets is None else split.targets[:count], list(split.names[:count])
        )
        damage = parse(corrupt)
        batch = next(iter(batches(first, count, epoch=0, seed=seed, corrupt=damage, augment=None, shuffle=False)))
        return cls(batch.inputs, batch.targets, batch.mask, str(damage))

    def evaluate(self, run: Callable[[Floats], Floats]) -> Evaluation:
        """Score `run`, a function from damaged to restored images."""
        same_kind = self.inputs.shape == self.clean.shape
        return Evaluation(
            images=len(self.inputs),
            corrupt=self.corrupt,
            input=score(self.inputs, self.clean, self.mask) if same_kind else None,
            output=score(run(self.inputs), self.clean, self.mask),
        )


def evaluate(
    session: Session,
    data: str | os.PathLike[str],
    *,
    corrupt: str | None = None,
    targets: str | os.PathLike[str] | None = None,
    seed: int = 0,
    limit: int | None = None,
    size: int | None = None,
) -> Evaluation:
    """Score a loaded model on a dataset.

    Args:
        session: what `load` returned.
        data, targets, limit: see `open_dataset`; of data with a validation split that split is taken, else all of it.
        corrupt: the damage to undo; None is what the model was trained on. With `targets`, none is added.
        seed: of the damage.
        size: height and width in pixels that images are fitted to; None is what the model was trained on.

    Raises:
        DataError: the data cannot be used, or its targets have another number of channels than the model gives.
        UsageError: the model was trained on pairs of images, and there are no `targets`; or a `size` for a `vae`.
    """
    config = session.config
    if not config.takes_any_size and size not in (None, config.size):
        raise UsageError(f"a vae has one size: leave out --size {size}, its images have {config.size} pixels a side.")
    task = session.metadata.get("task", "none")
    if task == "image-to-image" and targets is None:
        raise UsageError("this model was trained on pairs of images: give the wanted outputs with --targets.")
    dataset = open_dataset(
        data, size=size or config.size, channels=config.in_channels, targets=targets, limit=limit, val_fraction=1
    )
    if corrupt is None:
        corrupt = "none" if targets is not None else task
    trial = Trial.prepare(dataset.val, corrupt, seed)
    if trial.clean.shape[-1] != config.out_channels:
        found = trial.clean.shape[-1]
        raise DataError(f"the targets have {found} channels, but the model gives {config.out_channels}.")
    found = trial.evaluate(session.run_floats)
    return found if targets is not None else replace(found, rates=tuple(rates(session, trial.clean)))
