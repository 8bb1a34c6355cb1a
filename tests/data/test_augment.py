"""Augmentation against its formulas and PyTorch."""

import numpy as np
import pytest

from edgeae.data.augment import Augment, augment, resample_windows
from edgeae.errors import UsageError


def rngs(n: int) -> list[np.random.Generator]:
    return [np.random.default_rng(i) for i in range(n)]


def test_windows_are_sampled_as_pytorch_does() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    images = rng.random((6, 12, 20, 3), dtype=np.float32)
    sides = rng.uniform(0.5, 1, 6).astype(np.float32)
    starts = (rng.random((6, 2)) * (1 - sides)[:, None]).astype(np.float32)
    flips = np.array([True, False] * 3)
    # grid_sample's coordinates run from -1 to 1 over the image's edges
    theta = torch.zeros(6, 2, 3)
    for i in range(6):
        sign = -1 if flips[i] else 1
        theta[i, 0] = torch.tensor([sign * sides[i], 0, 2 * starts[i, 1] + sides[i] - 1])
        theta[i, 1] = torch.tensor([0, sides[i], 2 * starts[i, 0] + sides[i] - 1])
    grid = torch.nn.functional.affine_grid(theta, [6, 3, 12, 20], align_corners=False)
    source = torch.from_numpy(images).permute(0, 3, 1, 2)
    expected = torch.nn.functional.grid_sample(source, grid, padding_mode="border", align_corners=False)
    varied = resample_windows(images, starts, sides, flips)
    np.testing.assert_allclose(varied, expected.permute(0, 2, 3, 1).numpy(), atol=2e-6)


def test_flip_is_exact_and_has_its_probability() -> None:
    images = np.random.default_rng(0).random((200, 8, 8, 3), dtype=np.float32)
    varied, _ = augment(images, rngs(200), Augment(flip=0.3, zoom=1, brightness=0, contrast=0))
    flipped = (varied == images[:, :, ::-1]).all(axis=(1, 2, 3))
    kept = (varied == images).all(axis=(1, 2, 3))
    assert (flipped ^ kept).all()
    assert 0.2 < flipped.mean() < 0.4


def test_brightness_and_contrast_follow_the_formula() -> None:
    images = np.random.default_rng(0).random((5, 8, 8, 3), dtype=np.float32)
    varied, _ = augment(images, rngs(5), Augment(flip=0, zoom=1, brightness=0.2, contrast=0.5))
    for image, result, rng in zip(images, varied, rngs(5), strict=True):
        draws = rng.random(6)
        offset, gain = (2 * draws[4] - 1) * 0.2, 1 + (2 * draws[5] - 1) * 0.5
        np.testing.assert_allclose(
            result, np.clip((image - image.mean()) * gain + image.mean() + offset, 0, 1), atol=1e-6
        )


def test_targets_get_the_geometry_and_keep_their_light() -> None:
    images = np.random.default_rng(0).random((8, 16, 16, 1), dtype=np.float32)
    moved, targets = augment(images, rngs(8), Augment(flip=0.5, zoom=0.5, brightness=0.3, contrast=0), images)
    assert targets is not None
    dark = augment(images, rngs(8), Augment(flip=0.5, zoom=0.5, brightness=0, contrast=0))[0]
    np.testing.assert_array_equal(targets, dark)
    inside = (moved > 0) & (moved < 1)
    difference = np.where(inside, moved - targets, np.nan)
    assert np.nanmax(np.nanmax(difference, axis=(1, 2, 3)) - np.nanmin(difference, axis=(1, 2, 3))) < 1e-5


def test_blends_lie_between_an_image_and_its_neighbour() -> None:
    images = np.random.default_rng(0).random((400, 4, 4, 3), dtype=np.float32)
    settings = Augment(flip=0, zoom=1, brightness=0, contrast=0, blend=0.4)
    varied, targets = augment(images, rngs(400), settings, 1 - images)
    other = np.roll(images, 1, axis=0)
    shares = ((varied - images) * (other - images)).sum((1, 2, 3)) / np.square(other - images).sum((1, 2, 3))
    np.testing.assert_allclose(varied, images + shares[:, None, None, None] * (other - images), atol=1e-6)
    np.testing.assert_allclose(targets, 1 - varied, atol=1e-6)
    mixed = shares[shares > 0]
    assert 0.3 < len(mixed) / 400 < 0.5
    assert mixed.min() < 0.1 and mixed.max() > 0.9 and abs(mixed.mean() - 0.5) < 0.1


def test_values_stay_in_range_and_arguments_are_not_changed() -> None:
    images = np.random.default_rng(0).integers(0, 2, (16, 8, 8, 3)).astype(np.float32)
    before = images.copy()
    varied, _ = augment(images, rngs(16), Augment(zoom=0.3, brightness=1, contrast=1))
    assert varied.dtype == np.float32
    assert varied.min() >= 0
    assert varied.max() <= 1
    np.testing.assert_array_equal(images, before)
    same, _ = augment(images, rngs(16), Augment.off())
    assert same is images


@pytest.mark.parametrize("strengths", [{"flip": 1.1}, {"zoom": 0}, {"brightness": -0.1}, {"contrast": float("nan")}])
def test_a_strength_out_of_range_is_refused(strengths: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(strengths))):
        Augment(**strengths)
