"""Generated faces: reproducible, varied, and drawn as their factors say."""

import dataclasses

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgeae.data.generated_faces import FACTORS, Face, generate, random_face, render
from edgeae.errors import UsageError

SIGNED = ("yaw", "pitch", "roll", "part", "smile", "brow", "gaze", "light")
RANGES = {name: (-1.0 if name in SIGNED else 0.0, 1.0) for name in FACTORS}


@pytest.fixture(scope="module")
def faces():
    return generate(700, 32, seed=1)


def with_(face=None, **factors):
    return dataclasses.replace(face or Face(), **factors)


def difference(one, other, size=64):
    """Mean absolute difference over colours, (size, size), in 8-bit levels."""
    return np.abs(render(one, size).astype(np.float32) - render(other, size)).mean(axis=2)


def test_generate_returns_images_and_their_factors():
    images, factors = generate(5, 48, seed=7)
    assert images.shape == (5, 48, 48, 3) and images.dtype == np.uint8
    assert factors.shape == (5, len(FACTORS)) and factors.dtype == np.float32
    again, factors_again = generate(5, 48, seed=7)
    assert np.array_equal(images, again) and np.array_equal(factors, factors_again)
    for image, row in zip(images, factors, strict=True):
        close = render(Face(*row.astype(float)), 48).astype(int) - image
        assert np.abs(close).mean() < 0.1, "the returned factors draw the returned face"


def test_a_longer_set_starts_with_the_shorter_one():
    few, few_factors = generate(3, 32, seed=2)
    many, many_factors = generate(8, 32, seed=2)
    assert np.array_equal(many[:3], few) and np.array_equal(many_factors[:3], few_factors)
    assert generate(0)[0].shape == (0, 64, 64, 3) and generate(0)[1].shape == (0, len(FACTORS))


def test_faces_are_distinct_and_differ_by_seed(faces):
    images, factors = faces
    assert len({image.tobytes() for image in images}) == len(images)
    assert len({row.tobytes() for row in factors}) == len(factors)
    assert not np.array_equal(generate(2, 32, seed=2)[0], images[:2])
    pairs = np.abs(images[::2].astype(np.float32) - images[1::2]).mean(axis=(1, 2, 3))
    assert pairs.min() > 5


def test_random_factors_fill_their_ranges(faces):
    factors = dict(zip(FACTORS, faces[1].T, strict=True))
    for name, (low, high) in RANGES.items():
        assert factors[name].min() >= low and factors[name].max() <= high
        assert factors[name].max() - factors[name].min() > 0.9 * (high - low), name
    assert set(np.unique(factors["glasses"])) == {0, 1}
    assert np.mean(factors["glasses"]) == pytest.approx(0.25, abs=0.06)
    assert np.mean(factors["beard"] > 0) == pytest.approx(0.25, abs=0.06)
    correlation = np.corrcoef(faces[1].T) - np.eye(len(FACTORS))
    assert np.abs(correlation).max() < 0.2, "factors are independent"


@pytest.mark.parametrize("size", [16, 32, 33, 100, 256])
def test_any_size_shows_the_same_face(size):
    image = render(Face(), size)
    assert image.shape == (size, size, 3) and image.dtype == np.uint8
    blocks = [
        np.asarray(Image.fromarray(picture).resize((8, 8), Image.Resampling.BOX), dtype=np.float32)
        for picture in (image, render(Face(), 128))
    ]
    assert np.abs(blocks[0] - blocks[1]).mean() < 4


@settings(max_examples=60, deadline=None)
@given(st.tuples(*(st.floats(low, high) for low, high in RANGES.values())))
def test_every_factor_in_range_can_be_drawn(values):
    image = render(Face(*values), 32)
    assert image.std() > 2


@settings(max_examples=20, deadline=None)
@given(st.sets(st.sampled_from(FACTORS)))
def test_extreme_corners_of_the_ranges_can_be_drawn(highs):
    render(Face(*(RANGES[name][name in highs] for name in FACTORS)), 32)


@pytest.mark.parametrize("name", FACTORS)
def test_each_factor_changes_the_picture(name):
    base = with_(mouth_open=0.3, wave=0.6, hair_length=0.5)
    low, high = RANGES[name]
    # Hues come round to where they began, so their ends are the same picture.
    high = 0.5 if name.endswith("hue") else high
    changed = difference(with_(base, **{name: low}), with_(base, **{name: high}))
    assert (changed > 12).sum() >= 12, "at least a dozen of the 64 x 64 pixels"
    middle = difference(with_(base, **{name: low}), with_(base, **{name: (low + high) / 2}))
    assert middle.max() > 0 or name == "glasses"


@pytest.mark.parametrize(
    ("name", "rows", "columns"),
    [
        ("smile", slice(35, 53), slice(18, 46)),
        ("mouth_open", slice(35, 53), slice(18, 46)),
        ("eye_open", slice(22, 37), slice(16, 48)),
        ("gaze", slice(22, 37), slice(16, 48)),
        ("eye_tone", slice(22, 37), slice(16, 48)),
        ("brow", slice(18, 32), slice(14, 50)),
        ("clothes_hue", slice(48, 64), slice(0, 64)),
    ],
)
def test_local_factors_change_their_own_region(name, rows, columns):
    low, high = RANGES[name]
    changed = difference(with_(**{name: low}), with_(**{name: 0.5 if name == "clothes_hue" else high}))
    assert changed[rows, columns].sum() > 0.95 * changed.sum()


def test_the_corners_show_the_background():
    brightness = np.linspace(0, 1, 9)
    corners = [render(with_(background_brightness=b))[:4, :4].max(axis=2).mean() / 255 for b in brightness]
    slope, offset = np.polyfit(brightness, corners, 1)
    np.testing.assert_allclose(np.polyval([slope, offset], brightness), corners, atol=0.03)
    assert slope > 0.5
    red, green, blue = (render(with_(background_hue=hue))[:4, :4].mean(axis=(0, 1)) for hue in (0, 1 / 3, 2 / 3))
    assert [red.argmax(), green.argmax(), blue.argmax()] == [0, 1, 2]


def test_features_move_where_the_docstrings_say():
    def centre(face):
        """Where the mouth is: the middle of what opening it changes, (row, column)."""
        changed = difference(face, with_(face, mouth_open=1.0), 96)
        return np.array([(changed.sum(axis=1 - i) * np.arange(96)).sum() / changed.sum() for i in (0, 1)])

    base = with_(mouth_open=0.0)
    assert centre(with_(base, yaw=1.0))[1] > centre(base)[1] + 6 > centre(with_(base, yaw=-1.0))[1] + 12
    assert centre(with_(base, pitch=1.0))[0] > centre(base)[0] > centre(with_(base, pitch=-1.0))[0]
    crown = render(with_(roll=1.0, hair_tone=0.0))[:14].mean(axis=(0, 2))
    assert crown[32:].mean() < crown[:32].mean(), "dark hair leans to the right"
    left, right = render(with_(light=-1.0))[30:44, 22:42].mean(axis=(0, 2)).reshape(2, 10).mean(axis=1)
    assert left > right + 10, "light from the left"


@pytest.mark.parametrize("yaw", [-0.8, 0.8])
def test_turning_foreshortens_the_far_side(yaw):
    blink = difference(with_(yaw=yaw, eye_open=0.0), with_(yaw=yaw, eye_open=1.0), 128).sum(axis=0)
    parts, count = scipy.ndimage.label(blink > 0.1 * blink.max())
    assert count == 2, "two eyes"
    left, right = (parts == 1).sum(), (parts == 2).sum()
    assert left >= right + 3 if yaw > 0 else right >= left + 3


def test_factors_can_be_read_back_from_the_pixels(faces):
    """A linear map fitted on some faces predicts the factors of others."""
    images, factors = faces
    pixels = images.reshape(len(images), 16, 2, 16, 2, 3).mean(axis=(2, 4)).reshape(len(images), -1) / 255 - 0.5
    train, test = slice(0, 550), slice(550, None)
    mean = factors[train].mean(axis=0)
    gram = pixels[train] @ pixels[train].T + 3.0 * np.eye(550)
    predicted = pixels[test] @ (pixels[train].T @ np.linalg.solve(gram, factors[train] - mean)) + mean
    residual = ((predicted - factors[test]) ** 2).mean(axis=0)
    r2 = dict(zip(FACTORS, 1 - residual / factors[test].var(axis=0), strict=True))
    for name in ("background_brightness", "skin", "yaw", "roll", "light", "hair_length", "hair_tone"):
        assert r2[name] > 0.6, (name, r2)


def test_brightness_falls_monotonically_with_the_skin_factor():
    brightness = [render(with_(skin=s))[36:40, 30:34].mean() for s in np.linspace(0, 1, 6)]
    assert np.all(np.diff(brightness) < 0)


def test_bad_arguments_are_named():
    for size in (15, 1025, 0, -3):
        with pytest.raises(UsageError, match="16 to 1024"):
            render(Face(), size)
    for count, seed in ((-1, 0), (1, -1)):
        with pytest.raises(UsageError, match="not negative"):
            generate(count, 32, seed)
    with pytest.raises(UsageError, match="16 to 1024"):
        generate(1, -2)


def test_random_face_takes_any_generator():
    assert random_face(np.random.default_rng(3)) == random_face(np.random.default_rng(3))
    assert random_face(np.random.default_rng(3)) != random_face(np.random.default_rng(4))
