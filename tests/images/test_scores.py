"""Scores of a set of images, against scikit-image and NumPy."""

import math

import numpy as np
import pytest
from helpers import photo
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity

from edgeae.images.scores import score


def pair(n: int = 4, size: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Images and noisy ones, the noise of each stronger than that of the one before."""
    clean = np.stack([photo(size, size, seed=seed) for seed in range(n)]).astype(np.float32) / 255
    noise = np.random.default_rng(1).normal(0, 0.05, clean.shape) * np.arange(1, n + 1)[:, None, None, None]
    return np.clip(clean + noise, 0, 1).astype(np.float32), clean


def test_scores_agree_with_scikit_image() -> None:
    noisy, clean = pair()
    found = score(noisy, clean)
    assert found.mse == pytest.approx(mean_squared_error(clean, noisy), rel=1e-6)
    # Of all pixels together; the mean of each image's own would be higher.
    assert found.psnr == pytest.approx(peak_signal_noise_ratio(clean, noisy, data_range=1), rel=1e-6)
    own = [peak_signal_noise_ratio(a, b, data_range=1) for a, b in zip(clean, noisy, strict=True)]
    assert np.mean(own) > found.psnr + 0.5
    expected = [
        structural_similarity(
            a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, channel_axis=-1, data_range=1
        )
        for a, b in zip(clean, noisy, strict=True)
    ]
    assert found.ssim == pytest.approx(np.mean(expected), abs=1e-5)
    assert found.hole_psnr is None
    assert found.sharpness > 1  # noise counts as detail


def test_hole_psnr_counts_the_pixels_of_the_holes() -> None:
    noisy, clean = pair()
    mask = np.zeros(clean.shape[:3], bool)
    mask[0, 2:9, 3:6] = mask[2, :5] = True
    expected = -10 * math.log10(np.mean((noisy[mask].astype(float) - clean[mask]) ** 2))
    assert score(noisy, clean, mask).hole_psnr == pytest.approx(expected, rel=1e-9)
    assert score(noisy, clean, mask).psnr == score(noisy, clean).psnr
    assert score(noisy, clean, np.zeros_like(mask)).hole_psnr is None
    assert score(noisy, clean, np.ones_like(mask)).hole_psnr is None


def test_flat_images_have_no_sharpness() -> None:
    flat = np.full((2, 16, 16, 3), 0.5, np.float32)
    assert math.isnan(score(flat, flat).sharpness)
    _, clean = pair(1, 16)
    mixed = np.concatenate([flat, clean])  # the mean goes over those that have one
    assert score(mixed, mixed).sharpness == pytest.approx(1)
