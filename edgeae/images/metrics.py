"""Measure how near an output is to its original (MSE, PSNR, SSIM) and how sharp it is.

Every metric takes one image (H, W, C) and returns a float, or a batch (N, H, W, C) and returns one float64 value for
each image, (N,). All arithmetic is float64.

Args of all metrics:
    a, b (`sharpness`: output, original): floats, or integers of any type, which are used as they are.
    data_range: the difference between black and white: 1 for floats, 255 for uint8.
    mask: bool, (H, W) or (N, H, W): only its True pixels count; an image without any gives NaN.

All raise ImageError for shapes that do not match, and for integers with a data_range of 1.
"""

import numpy as np

from edgeae.errors import ImageError
from edgeae.images.arrays import AnyImage, Bools, Doubles

_STRIP_VALUES = 1 << 15  # of a plane, that SSIM works on at a time: its temporary arrays stay in the CPU's cache


def mse(a: AnyImage, b: AnyImage, mask: Bools | None = None) -> float | Doubles:
    """Return the mean squared error over pixels and channels."""
    total, count = _squared_error(a, b, mask)
    return _result(_ratio(total, count), a)


def psnr(a: AnyImage, b: AnyImage, data_range: float = 1.0, mask: Bools | None = None) -> float | Doubles:
    """Return the peak signal-to-noise ratio in dB, 10·log10(data_range² / MSE), of each image; inf for equal images.

    The mean over a set of images flatters a model, as a few easy images raise it much: see `pooled_psnr`.
    """
    _check_range(a, data_range)
    return _result(_decibels(_ratio(*_squared_error(a, b, mask)), data_range), a)


def pooled_psnr(a: AnyImage, b: AnyImage, data_range: float = 1.0, mask: Bools | None = None) -> float:
    """Return one number for a set: the PSNR in dB of the MSE over all (masked) pixels of all images together."""
    _check_range(a, data_range)
    total, count = _squared_error(a, b, mask)
    return float(_decibels(_ratio(total.sum(), count.sum()), data_range))


def ssim(a: AnyImage, b: AnyImage, data_range: float = 1.0) -> float | Doubles:
    """Return the structural similarity, the mean over windows and channels; 1 for equal images.

    As in Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to structural similarity",
    IEEE Transactions on Image Processing 13 (4), 2004: Gaussian window of 11×11 with σ = 1.5, K1 = 0.01, K2 = 0.03,
    population covariance, only windows that lie wholly inside the image. If a side is shorter than 11 pixels, the
    window is cut to the largest odd size that fits it; with a side of 1 pixel only the brightness is compared.
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


def sharpness(output: AnyImage, original: AnyImage, mask: Bools | None = None) -> float | Doubles:
    """Return how much of the original's fine detail the output has: 1 as sharp, below 1 blurrier, 0 flat.

    sqrt(mean D(output)² / mean D(original)²), where D(x) = x - G(x) is what a Gaussian blur G of σ = 1 pixel removes
    (cut at 4 σ, borders mirrored) and the mean is over pixels and channels. Halving the contrast of every detail halves
    it. Noise and ringing count as detail, so read it beside the PSNR. NaN if the original is flat.
    """
    a4, b4 = _batches(output, original)
    detail_out, detail_in = _fine_detail(a4), _fine_detail(b4)
    energy_out, _ = _masked_sum(np.square(detail_out, out=detail_out), mask)
    energy_in, _ = _masked_sum(np.square(detail_in, out=detail_in), mask)
    return _result(np.sqrt(_ratio(energy_out, np.where(energy_in > 1e-20 * b4[0].size, energy_in, 0))), output)


def _ssim_map(x: Doubles, y: Doubles, window: Doubles, data_range: float) -> Doubles:
    """Return the SSIM of two planes (H, W) at every position of the window."""
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    # The formula needs only the sum of the two variances, so four filtered planes are enough.
    planes = np.stack([x, y, x * x + y * y, x * y])
    mean_x, mean_y, mean_squares, mean_xy = _correlate(_correlate(planes, window, 1), window, 2)
    product, squares = mean_x * mean_y, mean_x * mean_x + mean_y * mean_y
    covariance, variances = mean_xy - product, mean_squares - squares
    score: Doubles = (2 * product + c1) * (2 * covariance + c2) / ((squares + c1) * (variances + c2))
    return score


def _fine_detail(images: AnyImage) -> Doubles:
    x = np.asarray(images, np.float64)
    kernel = _gaussian(1.0, 4)
    mirrored = np.pad(x, ((0, 0), (4, 4), (4, 4), (0, 0)), mode="symmetric")
    return x - _correlate(_correlate(mirrored, kernel, 1), kernel, 2)


def _gaussian(sigma: float, radius: int) -> Doubles:
    weights: Doubles = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights /= weights.sum()
    return weights


def _correlate(x: Doubles, kernel: Doubles, axis: int) -> Doubles:
    """Correlate along `axis` with a symmetric kernel of odd length, at the positions where it lies inside (`valid`)."""
    radius = len(kernel) // 2
    length = x.shape[axis] - 2 * radius

    def shifted(offset: int) -> Doubles:
        return x[(slice(None),) * axis + (slice(offset, offset + length),)]

    total: Doubles = shifted(radius) * kernel[radius]
    pair = np.empty_like(total)
    for offset in range(radius):
        np.add(shifted(offset), shifted(2 * radius - offset), out=pair)
        pair *= kernel[offset]
        total += pair
    return total


def _squared_error(a: AnyImage, b: AnyImage, mask: Bools | None) -> tuple[Doubles, Doubles]:
    """Return the sum of squared differences of each image, and how many values went into it."""
    a4, b4 = _batches(a, b)
    difference = np.subtract(a4, b4, dtype=np.float64)
    return _masked_sum(np.square(difference, out=difference), mask)


def _masked_sum(values: Doubles, mask: Bools | None) -> tuple[Doubles, Doubles]:
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


def _ratio(total: Doubles, count: Doubles) -> Doubles:
    """Return total / count, NaN where the count is zero."""
    ratio: Doubles = np.divide(total, count, out=np.full(np.shape(total), np.nan), where=np.asarray(count) > 0)
    return ratio


def _decibels(error: Doubles, data_range: float) -> Doubles:
    with np.errstate(divide="ignore"):  # the error of equal images is 0, their PSNR infinite
        decibels: Doubles = -10 * np.log10(error / data_range**2)
    return decibels


def _batches(a: AnyImage, b: AnyImage) -> tuple[AnyImage, AnyImage]:
    """Return both as (N, H, W, C)."""
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape or a.ndim not in (3, 4) or 0 in a.shape:
        raise ImageError(
            f"Images of shapes {a.shape} and {b.shape} cannot be compared: "
            "both must be (H, W, C), or both (N, H, W, C), of one size and not empty."
        )
    if np.issubdtype(a.dtype, np.floating) != np.issubdtype(b.dtype, np.floating):
        raise ImageError(f"Images of types {a.dtype} and {b.dtype} cannot be compared: bring both to floats in [0, 1].")
    return (a, b) if a.ndim == 4 else (a[None], b[None])


def _check_range(image: AnyImage, data_range: float) -> None:
    if data_range == 1.0 and not np.issubdtype(np.asarray(image).dtype, np.floating):
        raise ImageError("Integer images cannot have a data_range of 1: give 255 for uint8, or floats in [0, 1].")


def _result(values: Doubles, like: AnyImage) -> float | Doubles:
    return values if np.ndim(like) == 4 else float(values[0])
