"""Holes filled smoothly from their edges, and results blended into the picture around them."""

import numpy as np
import pytest
from helpers import scene

from edgeae.images.damage.harmonic import blend_hole, smear_hole


@pytest.mark.parametrize("cast", [0.0, 0.1, -0.2])
def test_a_colour_cast_is_removed(cast: float) -> None:
    picture, hole = scene()
    result = blend_hole(picture + np.float32(cast), picture, hole)
    assert np.abs(result - picture)[hole].max() < 5e-3 if cast else np.array_equal(result, picture)


def test_the_correction_solves_laplaces_equation() -> None:
    """Compared with the exact solution of the system of equations."""
    size = 20
    rng = np.random.default_rng(0)
    known = rng.random((size, size, 1)).astype(np.float32) * 0.2 + 0.4
    hole = np.zeros((size, size), bool)
    hole[5:15, 6:13] = True
    result = np.full_like(known, 0.5)
    inside = [tuple(place) for place in np.argwhere(hole)]
    number = {place: i for i, place in enumerate(inside)}
    matrix, right = np.zeros((len(inside), len(inside))), np.zeros(len(inside))
    for (y, x), i in number.items():
        matrix[i, i] = 4
        for neighbour in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if neighbour in number:
                matrix[i, number[neighbour]] = -1
            else:
                right[i] += known[neighbour][0] - 0.5
    exact = 0.5 + np.linalg.solve(matrix, right)
    assert np.abs(blend_hole(result, known, hole)[hole][:, 0] - exact).max() < 0.02


def test_only_the_hole_is_changed_and_its_edge_is_soft() -> None:
    picture, hole = scene()
    network = np.full_like(picture, 0.9)
    result = blend_hole(network, picture, hole)
    assert np.array_equal(result[~hole], network[~hole])
    pasted = np.where(hole[..., None], result, picture)
    step = np.abs(np.diff(pasted, axis=1))[14:31].max()
    assert step < 0.03 < np.abs(np.diff(np.where(hole[..., None], network, picture), axis=1))[14:31].max()


@pytest.mark.parametrize("hole", ["nothing", "all", "a corner", "a pixel", "a row", "all but a pixel"])
def test_any_hole(hole: str) -> None:
    picture, mask = scene()
    mask[:] = hole.startswith("all")
    places = {"a corner": np.s_[:5, :5], "a pixel": np.s_[7, 9], "a row": np.s_[3], "all but a pixel": np.s_[4, 4]}
    if hole in places:
        mask[places[hole]] = not mask[0, 0]
    result = blend_hole(np.full_like(picture, 0.5), picture, mask)
    assert result.shape == picture.shape and np.isfinite(result).all() and 0 <= result.min() <= result.max() <= 1
    if hole in ("nothing", "all"):
        assert (result == 0.5).all()


@pytest.mark.parametrize("all_of_it", [False, True])
def test_smear_hole(all_of_it: bool) -> None:
    picture, hole = scene()
    hole |= all_of_it
    given = np.where(hole[..., None], np.float32(0.99), picture)
    result = smear_hole(given, hole)
    assert np.array_equal(result[~hole], picture[~hole])
    if all_of_it:
        assert np.array_equal(result, given)
    else:
        assert np.abs(result - picture).max() < 0.01  # the scene is harmonic but for its last channel
