"""Sum up in a few numbers how near a set of images is to the clean ones: MSE, PSNR, SSIM, sharpness."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgeae.images import metrics
from edgeae.images.arrays import Bools, Floats


@dataclass(frozen=True)
class Scores:
    """How near a set of images is to the clean ones.

    Attributes:
        mse: mean squared error over all pixels of all images, which are in [0, 1].
        psnr: of that error, in dB (`metrics.pooled_psnr`).
        ssim: mean structural similarity, at most 1.
        hole_psnr: PSNR in dB over the pixels that the damage replaced; None when it replaced none or all.
        sharpness: fine detail relative to the clean images (metrics.sharpness), 1 for as sharp.
    """

    mse: float
    psnr: float
    ssim: float
    hole_psnr: float | None
    sharpness: float


def score(images: Floats, clean: Floats, mask: Bools | None = None) -> Scores:
    """Compare images with the clean ones.

    Args:
        images: (N, H, W, C) in [0, 1].
        clean: the same.
        mask: (N, H, W), True where the damage replaced pixels; None leaves `hole_psnr` out.
    """
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
