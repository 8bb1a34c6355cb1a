"""Filling holes: how they are prepared for the network, and large ones from coarse to fine."""

import numpy as np
import pytest
from helpers import photo, scene
from PIL import Image

from edgeae.config import ModelConfig
from edgeae.images.damage.harmonic import halve, smear_hole
from edgeae.images.damage.kinds import FILL
from edgeae.inference import inpainting
from edgeae.inference.inpainting import HoleTraining, prepare_holes


def hole_in(shape: tuple[int, int], place: tuple[slice, slice]) -> np.ndarray:
    hole = np.zeros(shape, bool)
    hole[place] = True
    return hole


def test_a_network_meets_only_holes_of_its_size() -> None:
    """At the coarsest scale large holes have the colour of holes; at finer ones they are filled already."""
    image = np.float32(photo(256, 320) / 255)
    hole = hole_in((256, 320), np.s_[60:180, 90:230])
    met: list[tuple[tuple[int, ...], int]] = []

    def network(x: np.ndarray) -> np.ndarray:
        met.append((x.shape[:2], int((x == FILL).all(axis=-1).sum())))
        return np.full_like(x, 0.3)

    result = inpainting.fill_holes(image, hole, network, HoleTraining(40))
    assert [shape for shape, _ in met] == [(32, 40), (64, 80), (128, 160), (256, 320)][-len(met) :] and len(met) >= 3
    painted = [count / (shape[0] * shape[1]) for shape, count in met]
    assert painted[0] > 0.1 and max(painted[1:]) < 0.02
    assert result.shape == image.shape and np.isfinite(result).all()


def test_small_holes_need_one_scale() -> None:
    image = np.float32(photo(128, 128) / 255)
    calls = []
    inpainting.fill_holes(
        image, hole_in((128, 128), np.s_[50:70, 50:70]), lambda x: calls.append(1) or x, HoleTraining(64)
    )  # type: ignore[func-returns-value]
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("size", "factor"), [((64, 64), 2), ((1024, 1024), 2), ((1025, 1024), 4), ((4000, 3000), 8), ((20000, 15000), 64)]
)
def test_coarse_factor(size: tuple[int, int], factor: int) -> None:
    assert inpainting.coarse_factor(*size) == factor
    assert size[0] * size[1] / factor**2 <= inpainting.COARSE_PIXELS


@pytest.mark.parametrize("strip", [1, 7, 64])
@pytest.mark.parametrize("factor", [2, 4, 16])
def test_reducer(strip: int, factor: int) -> None:
    """Means over blocks of what is known, in any strips, and of halves what `halve` gives."""
    image, hole = np.float32(photo(45, 70) / 255), np.random.default_rng(0).random((45, 70)) < 0.4
    hole[:20, :40] = True
    reducer = inpainting.Reducer(factor, 70)
    for top in range(0, 45, strip):
        reducer.add(image[top : top + strip], hole[top : top + strip])
    small, lost = reducer.result()
    for y, x in np.ndindex(lost.shape):
        block = np.s_[y * factor : (y + 1) * factor, x * factor : (x + 1) * factor]
        assert lost[y, x] == hole[block].all()
        if not lost[y, x]:
            assert small[y, x] == pytest.approx(image[block][~hole[block]].mean(axis=0), abs=1e-5)
    if factor == 2:
        values, still = halve(image, hole)
        assert np.array_equal(still, lost) and np.abs(values - small)[~lost].max() < 1e-5


@pytest.mark.parametrize("factor", [2, 8])
def test_enlarged_strips_are_the_enlarged_picture(factor: int) -> None:
    coarse = np.float32(photo(20, 30) / 255)
    height, width = 20 * factor - 1, 30 * factor - 3
    whole = inpainting.enlarge(coarse, factor, 0, height, width)
    for i in range(3):
        expected = Image.fromarray(coarse[..., i]).resize(
            (width, 20 * factor), Image.Resampling.BICUBIC, (0, 0, width / factor, 20)
        )
        assert np.array_equal(whole[..., i], np.clip(np.asarray(expected), 0, 1)[:height])
    strips = [inpainting.enlarge(coarse, factor, top, min(top + 24, height), width) for top in range(0, height, 24)]
    assert np.abs(np.concatenate(strips) - whole).max() < 1e-6
    assert inpainting.enlarge(coarse, factor, 8, 8, width).shape == (0, width, 3)


# ---- prepare_holes -------------------------------------------------------------------------------------------------


def test_large_holes_get_their_colour_and_thin_ones_a_membrane() -> None:
    picture, hole = scene()
    hole[2:4, 5:40] = hole[40:46, 2] = True
    damaged = np.where(hole[..., None], np.float32(0.99), picture)
    given = prepare_holes(damaged, hole, HoleTraining(64))
    assert np.array_equal(given[~hole], picture[~hole])
    assert (given[14:31, 10:37] == FILL).all()
    thin = hole.copy()
    thin[14:31, 10:37] = False
    assert np.abs(given - picture)[thin].max() < 0.01  # the scene is harmonic but for its last channel


def test_a_network_that_knows_smears_gets_them() -> None:
    picture, hole = scene()
    damaged = np.where(hole[..., None], np.float32(0.99), picture)
    given = prepare_holes(damaged, hole, HoleTraining(64, smeared=True))
    assert np.array_equal(given, smear_hole(damaged, hole))
    guess = np.full_like(picture, 0.2)
    assert (prepare_holes(damaged, hole, HoleTraining(4, smeared=True), guess)[18:28, 14:33] == 0.2).all()


@pytest.mark.parametrize(
    ("task", "knows"),
    [
        ("occlude", False),
        ("none,occlude:0.1..0.2+smear", True),
        ("image-to-image", False),
        ("rust+smear", False),
        ("", False),
    ],
)
def test_what_was_learned_is_read_from_the_task(task: str, knows: bool) -> None:
    learned = HoleTraining.of(ModelConfig("conv", size=64), task)
    assert learned == HoleTraining(64, knows) and learned.large == (128 if knows else 40)
