"""How near an output is to its original (MSE, PSNR, SSIM) and how sharp it is. NumPy only.

Every metric takes one image (H, W, C) and gives a float, or a batch (N, H, W, C) and gives one float64 value an image,
(N,). Images are floats with `data_range` between black and white, 1.0 as everywhere in edgeae. Integer images are used
as they are and need their own `data_range`, 255 for uint8. All arithmetic is float64. Raises ImageError for shapes that
do not match.

A `mask` is bool, (H, W) or (N, H, W), and limits a metric to its True pixels; an image without any gives NaN.
"""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from edgeae.errors import ImageError

Images: TypeAlias = npt.NDArray[np.number[Any]]
Mask: TypeAlias = npt.NDArray[np.bool_]
Scores: TypeAlias = npt.NDArray[np.float64]

_STRIP_VALUES = 1 << 15  # values of a plane that SSIM works on at a time: what it needs then stays in the CPU's cache


def mse(a: Images, b: Images, mask: Mask | None = None) -> float | Scores:
    """Mean squared error over pixels and channels."""
    total, count = _squared_error(a, b, mask)
    return _result(_ratio(total, count), a)


def psnr(a: Images, b: Images, data_range: float = 1.0, mask: Mask | None = None) -> float | Scores:
    """Peak signal-to-noise ratio in dB, 10·log10(data_range² / MSE), for each image; inf where the two are equal.

    The mean of these over a set flatters a model: a few easy images raise it much. See `pooled_psnr`.
    """
    _check_range(a, data_range)
    return _result(_decibels(_ratio(*_squared_error(a, b, mask)), data_range), a)


def pooled_psnr(a: Images, b: Images, data_range: float = 1.0, mask: Mask | None = None) -> float:
    """PSNR in dB of the MSE over all (masked) pixels of all images together: one number for a set."""
    _check_range(a, data_range)
    total, count = _squared_error(a, b, mask)
    return float(_decibels(_ratio(total.sum(), count.sum()), data_range))


def ssim(a: Images, b: Images, data_range: float = 1.0) -> float | Scores:
    """Structural similarity, the mean over windows and channels; 1 means equal.

    Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to structural similarity", IEEE
    Transactions on Image Processing 13 (4), 2004: Gaussian window of 11×11 with σ = 1.5, K1 = 0.01, K2 = 0.03,
    population covariance, only windows that lie wholly inside the image. Where a side is shorter than 11 pixels the
    window is cut to the largest odd size that fits the shorter side; a side of 1 leaves the brightness to compare.
    """
    _check_range(a, data_range)
    a4, b4 = _batches(a, b)
    height, width = a4.shape[1:3]
    window = _gaussian(1.5, min(5, (min(height, width) - 1) // 2))
    margin = len(window) - 1
    rows = max(1, _STRIP_VALUES // width)  # window positions, from top to bottom, in one strip
    scores = np.zeros(len(a4))
    for n, c in np.ndindex(len(a4), a4.shape[3]):
        for top in range(0, height - margin, rows):
            strip = slice(top, min(top + rows, height - margin) + margin)
            x, y = (images[n, strip, :, c].astype(np.float64) for images in (a4, b4))
            scores[n] += _ssim_map(x, y, window, data_range).sum()
    return _result(scores / ((height - margin) * (width - margin) * a4.shape[3]), a)


def sharpness(output: Images, original: Images, mask: Mask | None = None) -> float | Scores:
    """How much of the original's fine detail the output has, in amplitude: 1 as sharp, below 1 blurrier, 0 flat.

    sqrt(mean D(output)² / mean D(original)²), where D(x) = x - G(x) is what a Gaussian blur G of σ = 1 pixel takes away
    (cut at 4 σ, borders mirrored) and the mean goes over pixels and channels. Halving the contrast of every detail
    halves it. Noise and ringing count as detail: read it beside PSNR. NaN where the original is flat.
    """
    a4, b4 = _batches(output, original)
    detail_out, detail_in = _fine_detail(a4), _fine_detail(b4)
    energy_out, _ = _masked_sum(np.square(detail_out, out=detail_out), mask)
    energy_in, _ = _masked_sum(np.square(detail_in, out=detail_in), mask)
    return _result(np.sqrt(_ratio(energy_out, np.where(energy_in > 1e-20 * b4[0].size, energy_in, 0))), output)


def _ssim_map(x: Scores, y: Scores, window: Scores, data_range: float) -> Scores:
    """SSIM of two planes (H, W) at every position of the window."""
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    # The formula needs the two variances only as a sum, so four filtered planes do.
    planes = np.stack([x, y, x * x + y * y, x * y])
    mean_x, mean_y, mean_squares, mean_xy = _correlate(_correlate(planes, window, 1), window, 2)
    product, squares = mean_x * mean_y, mean_x * mean_x + mean_y * mean_y
    covariance, variances = mean_xy - product, mean_squares - squares
    score: Scores = (2 * product + c1) * (2 * covariance + c2) / ((squares + c1) * (variances + c2))
    return score


def _fine_detail(images: Images) -> Scores:
    x = np.asarray(images, np.float64)
    kernel = _gaussian(1.0, 4)
    mirrored = np.pad(x, ((0, 0), (4, 4), (4, 4), (0, 0)), mode="symmetric")
    return x - _correlate(_correlate(mirrored, kernel, 1), kernel, 2)


def _gaussian(sigma: float, radius: int) -> Scores:
    weights: Scores = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights /= weights.sum()
    return weights


def _correlate(x: Scores, kernel: Scores, axis: int) -> Scores:
    """Correlate along `axis` with a symmetric kernel of odd length, at the positions where it lies inside (`valid`)."""
    radius = len(kernel) // 2
    length = x.shape[axis] - 2 * radius

    def shifted(offset: int) -> Scores:
        return x[(slice(None),) * axis + (slice(offset, offset + length),)]

    total: Scores = shifted(radius) * kernel[radius]
    pair = np.empty_like(total)
    for offset in range(radius):
        np.add(shifted(offset), shifted(2 * radius - offset), out=pair)
        pair *= kernel[offset]
        total += pair
    return total


def _squared_error(a: Images, b: Images, mask: Mask | None) -> tuple[Scores, Scores]:
    """Sum of squared differences, and how many values went into it, for each image."""
    a4, b4 = _batches(a, b)
    difference = np.subtract(a4, b4, dtype=np.float64)
    return _masked_sum(np.square(difference, out=difference), mask)


def _masked_sum(values: Scores, mask: Mask | None) -> tuple[Scores, Scores]:
    n, height, width, channels = values.shape
    if mask is None:
        return values.sum(axis=(1, 2, 3)), np.full(n, float(height * width * channels))
    mask = np.asarray(mask)
    if mask.dtype != np.bool_ or mask.shape not in ((height, width), (n, height, width)):
        raise ImageError(
            f"A mask of type {mask.dtype} and shape {mask.shape} does not fit {n} image(s) of {height}×{width}: "
            f"give a bool array of shape ({height}, {width}) or ({n}, {height}, {width})."
        )
    mask = np.broadcast_to(mask, (n, height, width))
    return values.sum(axis=3).sum(axis=(1, 2), where=mask), mask.sum(axis=(1, 2)) * float(channels)


def _ratio(total: Scores, count: Scores) -> Scores:
    """total / count, NaN where the count is zero."""
    ratio: Scores = np.divide(total, count, out=np.full(np.shape(total), np.nan), where=np.asarray(count) > 0)
    return ratio


def _decibels(error: Scores, data_range: float) -> Scores:
    with np.errstate(divide="ignore"):  # equal images: infinitely many decibels
        decibels: Scores = -10 * np.log10(error / data_range**2)
    return decibels


def _batches(a: Images, b: Images) -> tuple[Images, Images]:
    """Both as (N, H, W, C)."""
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape or a.ndim not in (3, 4) or 0 in a.shape:
        raise ImageError(
            f"Images of shapes {a.shape} and {b.shape} cannot be compared: "
            "both must be (H, W, C), or both (N, H, W, C), of one size and not empty."
        )
    if np.issubdtype(a.dtype, np.floating) != np.issubdtype(b.dtype, np.floating):
        raise ImageError(f"Images of types {a.dtype} and {b.dtype} cannot be compared: bring both to floats in [0, 1].")
    return (a, b) if a.ndim == 4 else (a[None], b[None])


def _check_range(image: Images, data_range: float) -> None:
    if data_range == 1.0 and not np.issubdtype(np.asarray(image).dtype, np.floating):
        raise ImageError("Integer images cannot have a data_range of 1: give 255 for uint8, or floats in [0, 1].")


def _result(values: Scores, like: Images) -> float | Scores:
    return values if np.ndim(like) == 4 else float(values[0])
