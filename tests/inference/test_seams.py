"""What a network is given in holes."""

import numpy as np
import pytest
from helpers import scene

from edgeae.config import ModelConfig
from edgeae.images.damage.harmonic import smear_hole
from edgeae.images.damage.kinds import FILL
from edgeae.inference.inpainting import Learned, prepared


def test_large_holes_get_their_colour_and_thin_ones_a_membrane() -> None:
    picture, hole = scene()
    hole[2:4, 5:40] = hole[40:46, 2] = True
    damaged = np.where(hole[..., None], np.float32(0.99), picture)
    given = prepared(damaged, hole, Learned(64))
    assert np.array_equal(given[~hole], picture[~hole])
    assert (given[14:31, 10:37] == FILL).all()
    thin = hole.copy()
    thin[14:31, 10:37] = False
    assert np.abs(given - picture)[thin].max() < 0.01  # the scene is harmonic but for its last channel


def test_a_network_that_knows_smears_gets_them() -> None:
    picture, hole = scene()
    damaged = np.where(hole[..., None], np.float32(0.99), picture)
    given = prepared(damaged, hole, Learned(64, smeared=True))
    assert np.array_equal(given, smear_hole(damaged, hole))
    guess = np.full_like(picture, 0.2)
    assert (prepared(damaged, hole, Learned(4, smeared=True), guess)[18:28, 14:33] == 0.2).all()


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
    learned = Learned.of(ModelConfig("conv", size=64), task)
    assert learned == Learned(64, knows) and learned.large == (128 if knows else 40)
