"""Scores of a model on a dataset, the same for `train`, `evaluate` and `export`."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeae.config import IMAGE_TO_IMAGE, UPDATE, task_of
from edgeae.data.batches import batches
from edgeae.data.datasets import Split, open_dataset
from edgeae.data.report import Report
from edgeae.errors import DataError, UsageError, WeightsError
from edgeae.formatting import json_ready
from edgeae.images.damage.spec import parse
from edgeae.images.scores import Scores, score
from edgeae.inference.session import Session
from edgeae.training.rate_distortion import RatePoint, measure_rate_distortion

Floats = npt.NDArray[np.float32]

MAX_VALIDATION_IMAGES = 512  # that `train` and `export` score on


@dataclass(frozen=True)
class Evaluation:
    """Scores of a model on some images.

    Attributes:
        images: how many.
        corrupt: the damage that was added to them.
        input: scores of the damaged images themselves; None if they have another number of channels than the targets.
        output: scores of what the model made of them.
        rates: bytes and PSNR of the undamaged images as codes of the model and as WebP and JPEG files.
    """

    images: int
    corrupt: str
    input: Scores | None
    output: Scores
    rates: tuple[RatePoint, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the scores for JSON; infinity, as the PSNR of a perfect output, becomes None."""
        document: dict[str, Any] = json_ready(self)
        return document


@dataclass(frozen=True)
class Trial:
    """Images with fixed damage, on which networks are compared.

    Attributes:
        inputs: the damaged images, float32 (N, H, W, C) in [0, 1].
        clean: what the output is scored against, float32 (N, H, W, C_out) in [0, 1].
        mask: where the damage is, bool (N, H, W).
        corrupt: the damage, as a specification.
    """

    inputs: Floats
    clean: Floats
    mask: npt.NDArray[np.bool_]
    corrupt: str

    @classmethod
    def prepare(cls, split: Split, corrupt: str, seed: int, limit: int | None = None) -> Trial:
        """Damage the images of a split.

        Args:
            split: the images.
            corrupt: damage specification.
            seed: of the damage. The damage of an image does not depend on `limit`.
            limit: use at most this many images, the first ones.
        """
        count = len(split.inputs) if limit is None else min(limit, len(split.inputs))
        targets = None if split.targets is None else split.targets[:count]
        first = Split(split.inputs[:count], targets, list(split.names[:count]))
        damage = parse(corrupt)
        batch = next(iter(batches(first, count, epoch=0, seed=seed, corrupt=damage, augment=None, shuffle=False)))
        return cls(batch.inputs, batch.targets, batch.mask, str(damage))

    def evaluate(self, run: Callable[[Floats], Floats]) -> Evaluation:
        """Score `run`, a function from damaged images to restored ones."""
        comparable = self.inputs.shape == self.clean.shape
        return Evaluation(
            images=len(self.inputs),
            corrupt=self.corrupt,
            input=score(self.inputs, self.clean, self.mask) if comparable else None,
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
    on_report: Callable[[Report], None] | None = None,
) -> Evaluation:
    """Score a loaded model on a dataset.

    Args:
        session: what `load` returned.
        data: a folder, array file or built-in name, see `open_dataset`. If it has a validation split, that split is
            used, otherwise all of it.
        corrupt: damage specification. None takes what the model was trained on, or no damage if there are `targets`.
        targets: folder or array file of the correct outputs, matched by name or row.
        seed: of the damage, 0 or more.
        limit: use at most this many images; None uses all.
        size: height and width in pixels that images are fitted to; None takes the model's training size.
        on_report: called once with the report on the data.

    Returns:
        The scores. Without `targets`, `rates` compares the model's codes with WebP and JPEG; it is empty for a model
        whose code alone does not determine the image.

    Raises:
        DataError: the data cannot be used, or the targets have another number of channels than the model's output.
        WeightsError: a later version made the model, to undo damage that this one does not know.
        UsageError: the model was trained on pairs of images and `targets` is missing, the damage is not a valid
            specification, or `size` is set for a `vae`, which has one size.
    """
    config = session.config
    if not config.takes_any_size and size not in (None, config.size):
        raise UsageError(f"a vae has one size: leave out `size` {size}, its images have {config.size} pixels a side.")
    task = task_of(session.metadata)
    if task == IMAGE_TO_IMAGE and targets is None:
        raise UsageError("this model was trained on pairs of images: give the wanted outputs with `targets`.")
    dataset = open_dataset(
        data,
        size=size or config.size,
        channels=config.in_channels,
        targets=targets,
        limit=limit,
        val_fraction=1,
        target_channels=config.out_channels,
        report=on_report,
    )
    if corrupt is None:
        corrupt = "none" if targets is not None else task
        try:
            parse(corrupt)
        except UsageError:
            what = reprlib.repr(task)
            raise WeightsError(
                f"the model was trained to undo {what}, unknown here: give `corrupt`, or {UPDATE}."
            ) from None
    trial = Trial.prepare(dataset.val, corrupt, seed)
    channels = trial.clean.shape[-1]
    if channels != config.out_channels:
        raise DataError(f"the targets have {channels} channels, but the model gives {config.out_channels}.")
    evaluation = trial.evaluate(session.run_floats)
    if targets is not None:
        return evaluation
    return replace(evaluation, rates=tuple(measure_rate_distortion(session, trial.clean)))
