"""Grids and comparisons of images."""

import numpy as np
import pytest
from helpers import photo

from edgeae.errors import ImageError
from edgeae.images.arrays import to_float
from edgeae.images.drawing.grids import comparison, film_strip, grid
from edgeae.images.drawing.text import text_font, text_size


def test_grid_places_every_image() -> None:
    images = np.stack([photo(4, 6, seed=seed) for seed in range(5)])
    picture = grid(images, columns=3, gap=2, background=9)
    assert picture.shape == (4 * 2 + 2, 6 * 3 + 4, 3)
    for index, image in enumerate(images):
        top, left = index // 3 * 6, index % 3 * 8
        np.testing.assert_array_equal(picture[top : top + 4, left : left + 6], image)
    assert np.all(picture[4:6] == 9)
    assert np.all(picture[6:, 16:] == 9)
    assert grid(images).shape == grid(list(to_float(images)), columns=3).shape
    np.testing.assert_array_equal(film_strip(images, gap=0), np.concatenate(images, axis=1))
    assert film_strip(images[..., :1]).shape == (4, 5 * 6 + 4 * 2, 1)
    with pytest.raises(ImageError, match="one shape"):
        grid([])


def test_comparison_shows_each_image_enlarged_by_a_whole_factor() -> None:
    face, other = photo(64, 64), photo(64, 64, 1, seed=1)
    picture = comparison([[face, other], [other, face]], ["original", "restored"])
    assert picture.dtype == np.uint8
    found = [
        (y, x)
        for y in range(picture.shape[0] - 127)
        for x in range(picture.shape[1] - 127)
        if np.array_equal(picture[y, x], face[0, 0])
        and np.array_equal(picture[y : y + 128, x : x + 128], face.repeat(2, 0).repeat(2, 1))
    ]
    (y0, x0), (y1, x1) = found
    assert y1 - y0 >= 128
    assert x1 - x0 >= 128
    titles = picture[: y0 - 1]
    assert titles.min() < 60  # dark text above the images
    assert np.all(picture[y0 + 128 : y1, :] == 255)
    assert comparison([[face, other]]).shape[0] < comparison([[face, other]], ["a", "b"]).shape[0]


def test_comparison_of_mixed_sizes_with_labels_and_short_rows() -> None:
    rows = [[photo(28, 28, 1), photo(200, 100), photo(900, 1200)], [photo(64, 64)], []]
    picture = comparison(
        rows, ["in", "a title wider than its image, and then some more of it", "out"], ["é.png\n1 dB", "b"]
    )
    assert picture.shape[2] == 3
    assert picture.shape[0] > 384 + 128
    assert (
        picture.shape[1]
        > 140 + text_size("a title wider than its image, and then some more of it", text_font(18))[0] + 512
    )
    narrow = comparison(rows, max_side=200)
    assert narrow.shape[1] < picture.shape[1]
    with pytest.raises(ImageError, match="at least one image"):
        comparison([[]], ["original"])
