"""Conversion between the pixels of files and of networks, against formulas written out here."""

import numpy as np
import pytest
from PIL import Image

from edgeae.errors import ImageError
from edgeae.images import colours

MODES = ("L", "LA", "RGB", "RGBA", "CMYK")
TYPES = (np.uint8, np.uint16, np.float32)
rng = np.random.default_rng(0)


def rows(mode: str, dtype: type, height: int = 31, width: int = 29, seed: int = 0) -> np.ndarray:
    """Random pixels with all extremes, some fully transparent and some without light."""
    x = np.random.default_rng(seed).random((height, width, len(mode)))
    x[:4] = np.round(x[:4])
    x[4:8, :, -1] = 0
    x[8:12, :, -1] = 1
    return x.astype(np.float32) if dtype == np.float32 else np.rint(x * np.iinfo(dtype).max).astype(dtype)


def top(dtype: type) -> float:
    return 1 if dtype == np.float32 else float(np.iinfo(dtype).max)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("channels", [1, 3])
def test_unchanged_pixels_come_back_bit_for_bit(mode: str, dtype: type, channels: int) -> None:
    if channels < colours.CHANNELS[mode]:
        return
    x = rows(mode, dtype)
    result = colours.from_floats(colours.to_floats(x, mode, channels), x, mode, mode)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, x)


@pytest.mark.parametrize(("dtype", "mode"), [(np.uint8, "L"), (np.uint8, "RGB"), (np.uint16, "L")])
def test_every_value_comes_back(dtype: type, mode: str) -> None:
    values = np.arange(np.iinfo(dtype).max + 1, dtype=dtype).reshape(1, -1, 1).repeat(len(mode), axis=2)
    for channels in (1, 3):
        floats = colours.to_floats(values, mode, channels)
        np.testing.assert_allclose(floats[..., 0], values[..., 0] / top(dtype), rtol=1e-7)
        np.testing.assert_array_equal(colours.from_floats(floats, values, mode, mode), values)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", TYPES)
def test_input_of_a_network(mode: str, dtype: type) -> None:
    """One channel is BT.601 luma, 0.299 R + 0.587 G + 0.114 B; fully transparent pixels are white."""
    x = rows(mode, dtype)
    unit = x / np.float64(top(dtype))
    if mode == "CMYK":
        colour = (1 - unit[..., :3]) * (1 - unit[..., 3:])
    else:
        colour = unit[..., : colours.CHANNELS[mode]].copy()
        if "A" in mode:
            colour[x[..., -1] == 0] = 1
    colour = np.repeat(colour, 3, axis=2) if colour.shape[2] == 1 else colour
    np.testing.assert_allclose(colours.to_floats(x, mode, 3), colour, atol=1e-6)
    luma = colour @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(colours.to_floats(x, mode, 1)[..., 0], luma, atol=1e-6)
    assert colours.to_floats(x, mode, 1).dtype == colours.to_floats(x, mode, 3).dtype == np.float32


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("mode", "target"),
    [
        ("L", "RGB"),
        ("RGB", "L"),
        ("LA", "RGBA"),
        ("RGBA", "LA"),
        ("RGBA", "RGB"),
        ("CMYK", "L"),
        ("RGBA", "RGBA"),
        ("RGB", "RGB"),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_output_of_a_network_in_the_mode_of_a_file(mode: str, target: str, dtype: type, channels: int) -> None:
    x, result = rows(mode, dtype), rng.random((31, 29, channels), np.float32) * 1.2 - 0.1  # networks overshoot
    done = colours.from_floats(result, x, mode, target)
    assert done.shape == (31, 29, len(target))
    assert done.dtype == dtype
    colour = np.clip(result, 0, 1).astype(np.float64)
    colour = colour @ [0.299, 0.587, 0.114] if channels == 3 and target in ("L", "LA") else colour
    colour = np.broadcast_to(colour.reshape(31, 29, -1), (31, 29, colours.CHANNELS[target]))
    found = done[..., : colours.CHANNELS[target]] / np.float64(top(dtype))
    if target.endswith("A"):
        np.testing.assert_array_equal(done[..., -1], x[..., -1])
        seen = x[..., -1] != 0
        np.testing.assert_allclose(found[seen], colour[seen], atol=0.51 / top(dtype) + 1e-6)
        if mode == target:
            np.testing.assert_array_equal(done[~seen], x[~seen])
    else:
        np.testing.assert_allclose(found, colour, atol=0.51 / top(dtype) + 1e-6)


@pytest.mark.parametrize("dtype", TYPES)
def test_inks_for_a_colour_keep_the_black(dtype: type) -> None:
    x = rows("CMYK", dtype)
    wanted = rng.random((31, 29, 3), np.float32)
    wanted[16:] = colours.to_floats(x, "CMYK", 3)[16:]
    done = colours.from_floats(wanted, x, "CMYK", "CMYK")
    np.testing.assert_array_equal(done[16:], x[16:])
    np.testing.assert_allclose(colours.to_floats(done, "CMYK", 3), wanted, atol=1.5 / top(dtype) + 1e-6)
    black, before = done[:16, ..., 3] / top(dtype), x[:16, ..., 3] / top(dtype)
    lightest = wanted[:16].max(axis=2)
    np.testing.assert_allclose(black, np.minimum(before, 1 - lightest), atol=0.51 / top(dtype) + 1e-6)
    nothing = colours.from_floats(np.zeros_like(wanted), x, "CMYK", "CMYK")
    assert (colours.to_floats(nothing, "CMYK", 3) < 1e-3).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_nan_and_infinity_are_refused(value: float, mode: str) -> None:
    result = np.zeros((31, 29, 3), np.float32)
    result[30, 28, 2] = value
    with pytest.raises(ImageError, match=r"^A result has NaN pixels: .*\.$"):
        colours.from_floats(result, rows(mode, np.uint8), mode, mode)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("target", MODES[:4])
def test_conversion_between_modes(mode: str, target: str, dtype: type) -> None:
    x = rows(mode, dtype)
    done = colours.convert(x, mode, target)
    assert done.dtype == dtype
    assert done.shape[2] == len(target)
    if mode == target:
        np.testing.assert_array_equal(done, x)
        return
    colour = colours.to_floats(x, mode, colours.CHANNELS[target]).astype(np.float64)
    alpha = x[..., -1:] / top(dtype) if "A" in mode else np.ones((31, 29, 1))
    if "A" in target:
        np.testing.assert_allclose(done[..., -1:] / top(dtype), alpha, atol=1e-7)
    else:
        colour = colour * alpha + 1 - alpha  # on white
    found = done[..., : colours.CHANNELS[target]] / np.float64(top(dtype))
    np.testing.assert_allclose(found, colour, atol=0.51 / top(dtype) + 1e-6)


@pytest.mark.parametrize("mode", ["LA", "RGBA", "CMYK"])
def test_opaque_pictures_equal_those_of_pillow(mode: str) -> None:
    x = rows(mode, np.uint8)
    image = Image.frombytes(mode, (29, 31), x.tobytes())
    if mode == "CMYK":
        image = image.convert("RGB")
    else:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA")).convert("RGB")
    np.testing.assert_allclose(colours.convert(x, mode, "RGB"), np.asarray(image), atol=1)


def test_depths() -> None:
    every = np.arange(256, dtype=np.uint8).reshape(1, -1, 1)
    np.testing.assert_array_equal(colours.to_depth(every, np.uint16), every.astype(np.uint16) * 257)
    for dtype in TYPES[1:]:
        np.testing.assert_array_equal(colours.to_depth(colours.to_depth(every, dtype), np.uint8), every)
    wide = np.arange(65536, dtype=np.uint16).reshape(1, -1, 1)
    np.testing.assert_array_equal(colours.to_depth(wide, np.uint8), (wide.astype(np.uint32) + 128) // 257)
    np.testing.assert_array_equal(colours.to_depth(colours.to_depth(wide, np.float32), np.uint16), wide)
    assert colours.to_depth(every, np.uint8) is every
    assert [colours.white_level(np.dtype(dtype)) for dtype in TYPES] == [255, 65535, 1]
