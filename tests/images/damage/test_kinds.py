"""What each kind of damage does to pixels, against SciPy, scikit-image, OpenCV and Pillow."""

import io
import re

import numpy as np
import pytest
import scipy.ndimage
import skimage.transform
from PIL import Image

from edgeae.cli.main import main
from edgeae.images.damage import spec
from edgeae.images.damage.kinds import FILL, KINDS, move
from edgeae.images.damage.spec import parse

HOLES = [name for name, kind in KINDS.items() if kind.makes_holes]


def noise_image(height=64, width=64, channels=3, seed=0):
    return np.random.default_rng(seed).random((height, width, channels), dtype=np.float32)


def smooth_image(size=64):
    y, x = np.mgrid[:size, :size] / size
    return np.stack([0.5 + 0.3 * np.sin(4 * x + c) * np.cos(3 * y) for c in range(3)], axis=-1).astype(np.float32)


def damage(text, image, seed=0):
    return parse(text)(image, np.random.default_rng(seed))


def test_holes_are_smeared() -> None:
    image = noise_image() * np.float32(0.2) + np.float32(0.7)
    (plain, holes), (smooth, same) = damage("occlude:0.1", image), damage("occlude:0.1+smear", image)
    assert np.array_equal(holes, same) and np.array_equal(plain[~holes], smooth[~holes])
    assert (plain[holes] == FILL).all() and np.abs(smooth[holes] - 0.8).max() < 0.15
    half = damage("occlude:0.1+smear:0.5", image)[0]
    np.testing.assert_allclose(half, (plain + smooth) / 2, atol=1e-6)
    assert np.array_equal(damage("smear", image)[0], image)


@pytest.mark.parametrize("name", HOLES)
def test_holes_are_exactly_the_mask(name):
    image = noise_image()
    for seed in range(20):
        damaged, mask = damage(name, image, seed)
        assert mask.any() and not mask.all()
        assert np.array_equal(damaged[~mask], image[~mask])
        assert np.all(damaged[mask] == FILL)
    assert np.rint(FILL * 255) / np.float32(255) == FILL  # an 8-bit file keeps it


@pytest.mark.parametrize("size", [(64, 64), (48, 160)])
@pytest.mark.parametrize(
    ("name", "share"),
    [("occlude", 0.02), ("occlude", 0.0625), ("occlude", 0.25), ("occlude", 0.5), ("occlude", 0.9),
     ("scratch", 0.02), ("scratch", 0.05), ("scratch", 0.3), ("pixels", 0.1), ("pixels", 0.9)],
)  # fmt: skip
def test_holes_cover_their_share(name, share, size):
    image = np.zeros((*size, 1), np.float32)
    shares = [damage(f"{name}:{share}", image, seed)[1].mean() for seed in range(40)]
    assert np.mean(shares) == pytest.approx(share, rel=0.08)
    assert np.all(np.abs(np.array(shares) - share) < 0.3 * share)


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.low == 0 and name != "smear"])
def test_zero_strength_changes_nothing(name):
    image = noise_image()
    damaged, mask = damage(f"{name}:0", image)
    np.testing.assert_allclose(damaged, image, atol=1e-6)
    assert not mask.any() if name in HOLES else mask.all()


def test_occlusions_are_one_to_three_rectangles_in_varied_places():
    counts, hit = [], np.zeros((64, 64), dtype=bool)
    for seed in range(60):
        mask = damage("occlude:0.1", noise_image(), seed)[1]
        parts, count = scipy.ndimage.label(mask)
        boxes = scipy.ndimage.find_objects(parts)
        counts.append(count)
        hit |= mask
        if count == 3:  # none touches another, so each one fills its bounding box
            assert all(mask[box].all() for box in boxes)
    assert set(counts) == {1, 2, 3}
    assert hit.mean() > 0.9


def test_scratches_are_thin():
    masks = [damage("scratch", noise_image(), seed)[1] for seed in range(10)]
    eroded = [scipy.ndimage.binary_erosion(mask, np.ones((5, 5))).sum() / mask.sum() for mask in masks]
    assert np.mean(eroded) < 0.02


def test_noise_has_its_sigma():
    image = np.full((200, 200, 3), 0.5, np.float32)
    for sigma in (0.02, 0.1):
        noise = damage(f"noise:{sigma}", image)[0] - image
        assert noise.std() == pytest.approx(sigma, rel=0.02)
        assert abs(noise.mean()) < 0.02 * sigma
        assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.02


@pytest.mark.parametrize(("size", "sigma"), [((64, 64), 1.5), ((128, 96), 2.0), ((20, 9), 4.0), ((5, 5), 8.0)])
def test_blur_equals_scipys(size, sigma):
    image = noise_image(*size)
    expected = scipy.ndimage.gaussian_filter(
        image.astype(np.float64), sigma * min(size) / 64, mode="nearest", truncate=3, axes=(0, 1)
    )
    np.testing.assert_allclose(damage(f"blur:{sigma}", image)[0], expected, atol=2e-6)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("quality", [1, 15, 95])
def test_jpeg_equals_pillows(channels, quality):
    levels = np.random.default_rng(0).integers(0, 256, (40, 56, channels), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(levels.squeeze()).save(file, "JPEG", quality=quality)
    damaged = damage(f"jpeg:{quality}", levels.astype(np.float32) / 255)[0]
    assert np.array_equal(np.rint(damaged * 255).squeeze(), np.asarray(Image.open(file)))


def test_gray_is_bt601_luma():
    cv2 = pytest.importorskip("cv2")
    image = noise_image()
    luma = 0.299 * image[..., 0] + 0.587 * image[..., 1] + 0.114 * image[..., 2]
    np.testing.assert_allclose(damage("gray", image)[0], np.repeat(luma[..., None], 3, axis=2), atol=1e-6)
    np.testing.assert_allclose(luma, cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), atol=1e-6)
    half = damage("gray:0.5", image)[0]
    np.testing.assert_allclose(half, (image + luma[..., None]) / 2, atol=1e-6)
    one = noise_image(channels=1)
    assert np.array_equal(damage("gray", one)[0], one)


@pytest.mark.parametrize("size", [(32, 32), (24, 41), (1, 7)])
def test_move_equals_scikit_images_warp(size):
    image = noise_image(*size)
    height, width = size
    down, right, angle = 3.3, -2.6, 0.4
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    forward = (
        skimage.transform.EuclideanTransform(translation=-centre)
        + skimage.transform.EuclideanTransform(rotation=angle)
        + skimage.transform.EuclideanTransform(translation=centre + np.array([right, down]))
    )
    expected = skimage.transform.warp(image.astype(np.float64), forward.inverse, order=1, mode="symmetric")
    np.testing.assert_allclose(move(image, down, right, angle), expected, atol=1e-5)
    assert np.array_equal(move(image, 0, 0, 0), image)


def test_move_mirrors_at_the_edges():
    image = noise_image(16, 12)
    padded = np.pad(image, ((20, 20), (20, 20), (0, 0)), mode="symmetric")
    assert np.array_equal(move(image, 5, -7, 0.0), padded[20 - 5 : 36 - 5, 20 + 7 : 32 + 7])


def test_shift_is_undone_by_the_inverse_motion():
    image = smooth_image()
    for seed in range(10):
        damaged = damage("shift:0.05", image, seed)[0]
        down, right, turn = np.random.default_rng(seed).uniform(-0.05, 0.05, 3)
        assert np.abs(damaged - image).mean() > 2e-3
        unturned = move(move(damaged, -down * 64, -right * 64, 0), 0, 0, -2 * turn)
        np.testing.assert_allclose(unturned[12:-12, 12:-12], image[12:-12, 12:-12], atol=3e-3)


def test_shift_moves_the_centre_by_at_most_its_strength():
    point = np.zeros((65, 65, 1), np.float32)
    point[30:35, 30:35] = 1
    for seed in range(20):
        damaged = damage("shift:0.2", point, seed)[0][..., 0]
        moved = np.array(scipy.ndimage.center_of_mass(damaged)) - 32
        assert np.all(np.abs(moved) <= 0.2 * 65 + 0.1)


def test_joined_masks():
    image = smooth_image()
    hole = damage("occlude:0.1", image, 5)[1]
    damaged, mask = damage("occlude:0.1+noise:0.1", image, 5)
    assert np.array_equal(mask, hole) and damaged[hole].std() > 0.05

    rng = np.random.default_rng(5)
    first, second = parse("occlude:0.1")(image, rng)[1], parse("pixels:0.1")(image, rng)[1]
    assert np.array_equal(damage("occlude:0.1+pixels:0.1", image, 5)[1], first | second)

    moved, moved_mask = damage("occlude:0.1+shift:0.2", image, 5)
    rng = np.random.default_rng(5)
    parse("occlude:0.1")(image, rng)
    plain = parse("shift:0.2")(image, rng)[0]
    assert np.array_equal(moved_mask, np.any(np.abs(moved - plain) > 1e-4, axis=-1)), "the mask follows the hole"


def test_every_kind_is_documented() -> None:
    """The table in `spec` gives each kind's range and default, and `edgeae corrupt --help` its name."""
    table = {}
    for line in (spec.__doc__ or "").splitlines():
        if row := re.fullmatch(r"(\w+) +\S.*\S +(\S+)\.\.(\S+) +(\S+)", line):
            table[row[1]] = tuple(map(float, row.groups()[1:]))
    assert table == {name: (kind.low, kind.high, kind.default) for name, kind in KINDS.items()}
    text = main.commands["corrupt"].help or ""
    assert set(spec.NAMES) <= set(re.findall(r"\w+", text)), "the help of `edgeae corrupt` lacks a kind"
