"""The SPEC of a damage: parsing, ranges and choices, error messages, and what every damage has in common."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeae.errors import ImageError, UsageError
from edgeae.images.damage.kinds import KINDS
from edgeae.images.damage.spec import NAMES, Corruption, Step, parse

HOLES = [name for name, kind in KINDS.items() if kind.makes_holes]


def noise_image(height=64, width=64, channels=3, seed=0):
    return np.random.default_rng(seed).random((height, width, channels), dtype=np.float32)


def damage(spec, image, seed=0):
    return parse(spec)(image, np.random.default_rng(seed))


@st.composite
def steps(draw):
    name = draw(st.sampled_from(tuple(KINDS)))
    kind = KINDS[name]
    number = st.integers(int(kind.low), int(kind.high)) if kind.whole else st.floats(kind.low, kind.high)
    return Step(name, *sorted(draw(st.lists(number, min_size=1, max_size=2))))


choices = st.lists(st.lists(steps(), max_size=3).map(tuple), min_size=1, max_size=3)
corruptions = choices.map(lambda drawn: Corruption(tuple(drawn)))


def test_names_and_defaults():
    assert ("none", *KINDS) == NAMES
    assert {"occlude", "scratch", "pixels", "smear", "noise", "blur", "jpeg", "gray", "shift"} <= set(KINDS)
    for name, kind in KINDS.items():
        assert parse(name) == parse(f"{name}:{kind.default}")
        assert kind.low <= kind.default <= kind.high
    assert str(parse(" Occlude : 0.20 + noise:1e-1+JPEG+none")) == "occlude:0.2+noise:0.1+jpeg:15"
    assert str(parse("none")) == "none" == str(Corruption())
    assert parse("pixels:-0") == parse("pixels:0") and str(parse("pixels:-0")) == "pixels:0"


@given(corruptions)
def test_canonical_spec_parses_to_an_equal_object(corruption):
    assert parse(str(corruption)) == corruption
    assert str(parse(str(corruption))) == str(corruption)


def test_choices_are_equally_likely() -> None:
    image, rng = noise_image(), np.random.default_rng(0)
    corruption = parse("none, pixels:1e-9 ,occlude:0.2..0.4")
    assert str(corruption) == "none,pixels:1e-09,occlude:0.2..0.4"
    shares = np.array([corruption(image, rng)[1].mean() for _ in range(600)])
    assert 0.28 < np.mean(shares > 0) < 0.39
    covered = shares[shares > 0]
    assert 0.15 < covered.min() < 0.23 and 0.37 < covered.max() < 0.45
    assert covered.mean() == pytest.approx(0.3, abs=0.02)


def test_strengths_are_drawn_from_their_range() -> None:
    step = parse("jpeg:5..7").steps[0]
    rng = np.random.default_rng(0)
    assert {step.draw(rng) for _ in range(60)} == {5.0, 6.0, 7.0}
    before = rng.bit_generator.state
    assert parse("noise:0.2").steps[0].draw(rng) == 0.2
    assert rng.bit_generator.state == before


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("noise:0.2..0.1", "smaller number first"),
        ("noise:0..2", "from 0 to 1"),
        ("noise:0..", "give a number"),
        ("jpeg:5..7.5", "whole number"),
        ("noise:0..0.1..0.2", "give a number"),
        ("blur,,noise", "part without a name"),
        ("none," * 16 + "none", "16 steps are the most"),
        ("blur+" * 16 + "blur", "has 17 parts"),
    ],
)
def test_bad_ranges_and_choices(spec: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse(spec)


@pytest.mark.parametrize(
    "spec", ["", "+", "noise+", "+noise", "noise++blur", ":0.2", "oclude", "ocludé:0.2", "blur noise"]
)
def test_bad_names_list_the_valid_ones(spec):
    with pytest.raises(UsageError) as caught:
        parse(spec)
    assert all(name in str(caught.value) for name in NAMES)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("text", ["", "x", "nan", "inf", "-inf", "below", "above", "1e99", "0.2:0.3"])
def test_bad_strengths_name_the_range(name, text):
    kind = KINDS[name]
    text = {"below": f"{kind.low - 0.1}", "above": f"{kind.high + 1}"}.get(text, text)
    with pytest.raises(UsageError) as caught:
        parse(f"{name}:{text}")
    assert name in str(caught.value) and f"from {kind.low:g} to {kind.high:g}" in str(caught.value)


def test_other_bad_strengths():
    for spec in ("jpeg:50.5", "jpeg:0", "none:0.2", "none:"):
        with pytest.raises(UsageError):
            parse(spec)
    with pytest.raises(UsageError):
        Step("noise", math.nan)


@settings(max_examples=60, deadline=None)
@given(corruptions, st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3]), st.integers(0, 2**32))
def test_any_corruption_keeps_shape_range_input_and_is_deterministic(corruption, height, width, channels, seed):
    image = noise_image(height, width, channels, seed)
    before = image.copy()
    damaged, mask = corruption(image, np.random.default_rng(seed))
    assert damaged.shape == image.shape and damaged.dtype == np.float32
    assert mask.shape == (height, width) and mask.dtype == np.bool_
    assert damaged.min() >= 0 and damaged.max() <= 1
    assert np.array_equal(image, before) and not np.shares_memory(damaged, image)
    again, mask_again = corruption(image, np.random.default_rng(seed))
    assert np.array_equal(damaged, again) and np.array_equal(mask, mask_again)


@pytest.mark.parametrize("array", [np.zeros((8, 8, 3)), np.zeros((8, 8), np.float32), np.zeros((8, 8, 4), np.float32),
                                   np.zeros((0, 8, 3), np.float32), np.zeros((8, 8, 3), np.uint8)])  # fmt: skip
def test_other_arrays_are_refused(array):
    with pytest.raises(ImageError):
        damage("noise", array)


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if not kind.makes_holes and name != "smear"])
def test_global_damage_masks_everything(name):
    assert damage(name, noise_image())[1].all()
    assert not damage("none", noise_image())[1].any()
