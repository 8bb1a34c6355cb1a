"""Conversion between bytes and floats, and resizing."""

import numpy as np
import pytest
from helpers import photo
from skimage.transform import downscale_local_mean

from edgeae.errors import ImageError, UsageError
from edgeae.images.arrays import fit, resize, to_float, to_uint8


def test_floats_and_bytes() -> None:
    every = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(to_float(every), (every / 255).astype(np.float32))
    np.testing.assert_array_equal(to_uint8(to_float(every)), every)
    halves = np.array([-1, 0.5 / 255, 1.5 / 255, 2.5 / 255, 0.2, 7, np.inf])
    np.testing.assert_array_equal(to_uint8(halves), [0, 0, 2, 2, 51, 255, 255])
    assert to_float(np.array([1.001, -0.001])).tolist() == [1, 0]
    assert to_float(np.array([0.25])).dtype == np.float32
    for bad, word in [(np.array([0.5, 255.0]), "0 to 1"), (np.array([np.nan]), "0 to 1"), (np.array([1]), "int64")]:
        with pytest.raises(ImageError, match=word):
            to_float(bad)
    for bad, word in [
        (np.array([0.5, np.nan]), "NaN"),
        (np.array([True]), "bool"),
        (np.array([1], np.uint16), "uint16"),
    ]:
        with pytest.raises(ImageError, match=word):
            to_uint8(bad)


@pytest.mark.parametrize("channels", [1, 3])
def test_resize_keeps_the_mean_and_does_not_alias(channels: int) -> None:
    image = photo(64, 96, channels)
    small = resize(image, (24, 16))
    assert small.shape == (16, 24, channels)
    assert np.abs(small - downscale_local_mean(image, (4, 4, 1))).mean() <= 2
    checks = np.indices((64, 64)).sum(0)[..., None] % 2 * 255.0 / 255
    assert np.ptp(resize(checks, (20, 20))[2:-2, 2:-2]) <= 8  # a checkerboard turns into even gray
    assert resize(to_float(image), (24, 16)).tolist() == small.tolist()
    assert resize(image, (100, 10)).shape == (10, 100, channels)


def test_fit_crops_about_the_centre() -> None:
    image = photo(40, 100)
    np.testing.assert_array_equal(fit(image, (40, 40)), image[:, 30:70])
    np.testing.assert_array_equal(fit(image, (100, 20)), image[10:30])
    assert np.abs(fit(image, (20, 20)).astype(int) - resize(image[:, 30:70], (20, 20))).max() <= 1
    assert fit(photo(5, 3, 1), (64, 32)).shape == (32, 64, 1)
    for size in ((0, 5), (5, -1)):
        with pytest.raises(UsageError, match="at least 1"):
            fit(image, size)
