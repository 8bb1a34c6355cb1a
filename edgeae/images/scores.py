"""Score a set of images against clean ones: MSE, PSNR, SSIM, sharpness."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeae.images import metrics

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Scores:
    """Scores of one set of images against the clean ones.

    Attributes:
        mse: mean squared error over all pixels of all images, in [0, 1] units.
        psnr: of that error, in dB. (The mean of each image's own PSNR would flatter.)
        ssim: mean structural similarity, at most 1.
        hole_psnr: PSNR in dB over the pixels that the damage replaced; None when it replaced none or all.
        sharpness: fine detail relative to the clean images (metrics.sharpness), 1 for as sharp.
    """

    mse: float
    psnr: float
    ssim: float
    hole_psnr: float | None
    sharpness: float


def score(images: Floats, clean: Floats, mask: npt.NDArray[np.bool_] | None = None) -> Scores:
    """Scores of (N, H, W, C) float images in [0, 1] against clean ones; `mask` (N, H, W) is True in the holes."""
    error = float(np.mean(metrics.mse(images, clean)))
    partial = mask is not None and mask.any() and not mask.all()
    sharp = np.atleast_1d(metrics.sharpness(images, clean))
    return Scores(
        mse=error,
        psnr=metrics.pooled_psnr(images, clean),
        ssim=float(np.mean(metrics.ssim(images, clean))),
        hole_psnr=metrics.pooled_psnr(images, clean, mask=mask) if partial else None,
        sharpness=float(np.nanmean(sharp)) if np.isfinite(sharp).any() else math.nan,
    )
