"""Metrics against scikit-image, SciPy and the formulas written out."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity

from edgeae.errors import ImageError
from edgeae.images.metrics import mse, pooled_psnr, psnr, sharpness, ssim


def pair(*shape: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A smooth image with some texture, and a noisy copy with another brightness."""
    rng = np.random.default_rng(seed)
    a = gaussian_filter(rng.random(shape), sigma=[0] * (len(shape) - 3) + [1, 1, 0])
    b = np.clip(0.9 * a + 0.1 * rng.random(shape), 0, 1)
    return a, b


def skimage_ssim(a: np.ndarray, b: np.ndarray, data_range: float = 1.0) -> float:
    return structural_similarity(
        a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, channel_axis=-1, data_range=data_range
    )


def test_mse_and_psnr_agree_with_skimage() -> None:
    a, b = pair(40, 30, 3)
    assert mse(a, b) == pytest.approx(mean_squared_error(a, b), rel=1e-12)
    assert psnr(a, b) == pytest.approx(peak_signal_noise_ratio(a, b, data_range=1), rel=1e-12)
    a8, b8 = np.uint8(a * 255), np.uint8(b * 255)
    assert psnr(a8, b8, data_range=255) == pytest.approx(peak_signal_noise_ratio(a8, b8), rel=1e-12)


def test_batches_give_one_value_an_image() -> None:
    a, b = pair(5, 24, 32, 3)
    for metric in (mse, psnr, ssim, sharpness):
        values = metric(a, b)
        assert isinstance(values, np.ndarray)
        assert values.shape == (5,)
        assert values.dtype == np.float64
        singles = [metric(x, y) for x, y in zip(a, b, strict=True)]
        assert all(type(single) is float for single in singles)
        np.testing.assert_allclose(values, singles, rtol=1e-12)


@pytest.mark.parametrize("shape", [(11, 11, 1), (12, 40, 3), (64, 64, 3), (300, 200, 3)])
def test_ssim_agrees_with_skimage(shape: tuple[int, int, int]) -> None:
    a, b = pair(*shape)
    assert ssim(a, b) == pytest.approx(skimage_ssim(a, b), abs=1e-9)
    assert ssim(a * 255, b * 255, data_range=255) == pytest.approx(ssim(a, b), abs=1e-9)
    a32, b32 = a.astype(np.float32), b.astype(np.float32)
    assert ssim(a32, b32) == pytest.approx(skimage_ssim(a32.astype(float), b32.astype(float)), abs=1e-6)


def test_ssim_of_a_large_image_is_summed_over_strips() -> None:
    a, b = pair(700, 150, 1)  # three strips
    assert ssim(a, b) == pytest.approx(skimage_ssim(a, b), abs=1e-9)


def test_ssim_of_equal_and_inverted_images() -> None:
    a, _ = pair(32, 32, 3)
    assert ssim(a, a) == pytest.approx(1, abs=1e-12)
    assert ssim(a, 1 - a) < 0


def test_ssim_of_images_smaller_than_the_window() -> None:
    a, b = pair(7, 9, 2)
    x, y = a[:, :7], b[:, :7]
    weights = np.exp(-(np.arange(-3, 4) ** 2) / (2 * 1.5**2))
    weights = np.outer(weights, weights)[..., None] / np.sum(weights) ** 2
    mean_x, mean_y = np.sum(weights * x, (0, 1)), np.sum(weights * y, (0, 1))
    var_x, var_y = np.sum(weights * (x - mean_x) ** 2, (0, 1)), np.sum(weights * (y - mean_y) ** 2, (0, 1))
    covariance = np.sum(weights * (x - mean_x) * (y - mean_y), (0, 1))
    expected = (2 * mean_x * mean_y + 1e-4) * (2 * covariance + 9e-4)
    expected /= (mean_x**2 + mean_y**2 + 1e-4) * (var_x + var_y + 9e-4)
    assert ssim(x, y) == pytest.approx(expected.mean(), abs=1e-12)
    assert 0 < ssim(a, b) < 1
    assert ssim(a[:1], b[:1]) == pytest.approx(np.mean((2 * a * b + 1e-4)[0] / (a * a + b * b + 1e-4)[0]), abs=1e-12)


def test_masked_psnr_sees_the_masked_pixels_only() -> None:
    a, b = pair(4, 16, 20, 3)
    rng = np.random.default_rng(1)
    masks = rng.random((4, 16, 20)) < 0.3
    expected = [-10 * np.log10(np.mean((x[m] - y[m]) ** 2)) for x, y, m in zip(a, b, masks, strict=True)]
    np.testing.assert_allclose(psnr(a, b, mask=masks), expected, rtol=1e-12)
    np.testing.assert_allclose(
        psnr(a, b, mask=masks[0]), [psnr(x, y, mask=masks[0]) for x, y in zip(a, b, strict=True)]
    )
    assert pooled_psnr(a, b, mask=masks) == pytest.approx(-10 * np.log10(np.mean((a[masks] - b[masks]) ** 2)))
    np.testing.assert_allclose(mse(a, b, mask=np.ones((16, 20), bool)), mse(a, b))


def test_pooled_psnr_is_that_of_the_pooled_error() -> None:
    a, b = pair(4, 16, 16, 3)
    b[0] = a[0] + 0.001
    assert pooled_psnr(a, b) == pytest.approx(peak_signal_noise_ratio(a, b, data_range=1))
    assert pooled_psnr(a, b) < np.mean(psnr(a, b)) - 3  # the easy first image flatters the mean
    assert pooled_psnr(a[1], b[1]) == pytest.approx(psnr(a[1], b[1]))


def test_equal_images_and_empty_masks() -> None:
    a, b = pair(2, 8, 8, 3)
    assert np.all(np.isposinf(psnr(a, a)))
    assert pooled_psnr(a, a) == np.inf
    mask = np.zeros((2, 8, 8), bool)
    mask[1] = True
    assert np.isnan(psnr(a, b, mask=mask)).tolist() == [True, False]
    assert np.isnan(sharpness(a, b, mask=mask)).tolist() == [True, False]
    assert pooled_psnr(a, b, mask=mask) == pytest.approx(psnr(a[1], b[1]))
    assert np.isnan(pooled_psnr(a, b, mask=~np.ones((8, 8), bool)))


def test_sharpness_follows_its_formula_and_orders_blurs() -> None:
    original, other = pair(48, 40, 3)

    def detail(x: np.ndarray) -> np.ndarray:
        return x - gaussian_filter(x, sigma=(1, 1, 0), mode="reflect", truncate=4)

    expected = np.sqrt(np.mean(detail(other) ** 2) / np.mean(detail(original) ** 2))
    assert sharpness(other, original) == pytest.approx(expected, rel=1e-9)
    mask = np.random.default_rng(2).random((48, 40)) < 0.5
    expected = np.sqrt(np.mean(detail(other)[mask] ** 2) / np.mean(detail(original)[mask] ** 2))
    assert sharpness(other, original, mask=mask) == pytest.approx(expected, rel=1e-9)

    assert sharpness(original, original) == 1
    assert sharpness(0.5 * original + 0.2, original) == pytest.approx(0.5)
    blurred = [sharpness(gaussian_filter(original, (s, s, 0)), original) for s in (0.5, 1, 2, 4)]
    assert blurred == sorted(blurred, reverse=True)
    assert sharpness(np.full_like(original, 0.5), original) == pytest.approx(0, abs=1e-12)
    assert np.isnan(sharpness(original, np.full_like(original, 0.3)))
    assert sharpness(original[:2, :3], original[:2, :3]) == 1  # smaller than the blur


@pytest.mark.parametrize(
    ("a", "b", "word"),
    [
        (np.zeros((8, 8, 3)), np.zeros((8, 9, 3)), "shapes"),
        (np.zeros((8, 8)), np.zeros((8, 8)), "shapes"),
        (np.zeros((0, 8, 8, 3)), np.zeros((0, 8, 8, 3)), "not empty"),
        (np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8, 3), np.uint8), "255"),
        (np.zeros((8, 8, 3)), np.zeros((8, 8, 3), np.uint8), "types"),
    ],
)
def test_images_that_cannot_be_compared(a: np.ndarray, b: np.ndarray, word: str) -> None:
    for metric in (psnr, pooled_psnr, ssim):
        with pytest.raises(ImageError, match=word):
            metric(a, b)


@pytest.mark.parametrize(
    "mask", [np.ones((8, 8)), np.ones((9, 8), bool), np.ones((3, 8, 8), bool), np.ones((8, 8, 3), bool)]
)
def test_masks_that_do_not_fit(mask: np.ndarray) -> None:
    a, b = pair(2, 8, 8, 3)
    with pytest.raises(ImageError, match="mask"):
        psnr(a, b, mask=mask)
