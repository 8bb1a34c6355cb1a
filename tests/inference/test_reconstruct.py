"""`Session.reconstruct` beside `photo.restore`: the same pixels, in the kind of image that was given."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import photo
from helpers.engines import Blur
from PIL import Image

from edgeae.config import ModelConfig
from edgeae.errors import ImageError, UsageError
from edgeae.inference.photo import Options, restore
from edgeae.inference.session import Session

H, W = 24, 36


@pytest.fixture
def session(tiny_config: Callable[..., ModelConfig]) -> Session:
    return Session(Blur(tiny_config("conv"), 64 << 20), {"task": "occlude"})


def picture(mode: str) -> Image.Image:
    """A picture of a PIL mode, partly transparent where it can be."""
    image = Image.fromarray(photo(H, W))
    if mode in ("LA", "RGBA", "La", "RGBa"):
        image.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, W).astype(np.uint8), (H, 1))))
        image = image.convert("LA") if mode in ("LA", "La") else image
    if mode == "I;16":
        return Image.fromarray(photo(H, W, 1)[..., 0].astype(np.uint16) * 257 + 3)
    if mode == "F":
        return Image.fromarray(photo(H, W, 1)[..., 0].astype(np.float32) / 255)
    if mode == "I":
        return picture("I;16").convert("I")
    return image.convert(mode)


MASK = np.zeros((H, W), np.uint8)
MASK[5:9, 10:20] = 255


@pytest.mark.parametrize(
    "mode", ["L", "LA", "RGB", "RGBA", "La", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "I;16", "I", "F"]
)
@pytest.mark.parametrize("masked", [False, True])
def test_a_pil_image_keeps_its_mode(session: Session, mode: str, masked: bool) -> None:
    image = picture(mode)
    image.info |= {"icc_profile": b"profile", "dpi": (300, 300), "comment": b"no"}
    out = session.reconstruct(image, mask=Image.fromarray(MASK) if masked else None)
    assert (out.mode, out.size) == (mode, image.size)
    assert out.info == {"icc_profile": b"profile", "dpi": (300, 300)}
    before, after = np.asarray(image), np.asarray(out)
    assert (before != after).any()
    if masked and mode not in ("HSV", "YCbCr", "La", "RGBa"):  # which PIL itself rounds on the way to and from RGB
        np.testing.assert_array_equal(after[MASK == 0], before[MASK == 0])
    if mode in ("LA", "RGBA"):
        np.testing.assert_array_equal(after[..., -1], before[..., -1])


@pytest.mark.parametrize(("mode", "expected"), [("P", "RGB"), ("1", "L"), ("PA", "RGBA")])
def test_what_pil_cannot_hold_becomes_rgb_or_gray(session: Session, mode: str, expected: str) -> None:
    image = picture("RGBA").convert("PA") if mode == "PA" else picture("RGB").convert(mode)
    assert session.reconstruct(image).mode == expected


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("L", "png"), ("LA", "png"), ("RGB", "png"), ("RGBA", "png"), ("I;16", "png"), ("CMYK", "tif"), ("F", "tif"),
     ("RGB", "bmp")],
)  # fmt: skip
@pytest.mark.parametrize("how", [{}, {"strength": 0.5}, {"mask": True}, {"mask": True, "strength": 0.25}])
def test_it_gives_the_pixels_of_the_command(
    session: Session, mode: str, suffix: str, how: dict[str, Any], tmp_path: Path
) -> None:
    source, result, mask = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}", tmp_path / "mask.png"
    picture(mode).save(source)
    Image.fromarray(MASK).save(mask)
    chosen = mask if how.get("mask") else None
    strength = how.get("strength", 1.0)
    out = session.reconstruct(source, mask=chosen, strength=strength)
    restore(source, result, session, Options(strength), mask=chosen)
    with Image.open(result) as written:
        np.testing.assert_array_equal(np.asarray(out), np.asarray(written))


def test_a_turned_photo_comes_back_upright(session: Session) -> None:
    image, file = picture("RGB"), io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(file, "PNG", exif=exif)
    out = session.reconstruct(file.getvalue(), strength=0)
    np.testing.assert_array_equal(np.asarray(out), np.rot90(np.asarray(image), -1))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64, np.float16])
@pytest.mark.parametrize("many", [False, True])
def test_an_array_keeps_what_lies_outside_the_mask_bit_for_bit(session: Session, dtype: type, many: bool) -> None:
    pixels = photo(H, W)
    image = pixels if dtype is np.uint8 else (np.random.default_rng(1).random((H, W, 3)) * 0.9).astype(dtype)
    given = np.stack([image, image[::-1]]) if many else image
    out = session.reconstruct(given, mask=MASK)
    assert (out.dtype, out.shape) == (given.dtype, given.shape)
    np.testing.assert_array_equal(out[..., MASK == 0, :], given[..., MASK == 0, :])
    assert (out[..., MASK > 0, :] != given[..., MASK > 0, :]).any()


def test_strength_mixes_arrays(session: Session) -> None:
    image = np.random.default_rng(2).random((H, W, 3), np.float32)
    whole = session.reconstruct(image)
    np.testing.assert_allclose(session.reconstruct(image, strength=0.25), image + 0.25 * (whole - image), atol=1e-6)
    np.testing.assert_array_equal(session.reconstruct(image, strength=0), image)


def test_a_vae_has_no_mask_but_a_strength(tiny_config: Callable[..., ModelConfig]) -> None:
    config = tiny_config("vae")
    session = Session(Blur(config), {"task": "none"})
    for image in (picture("RGB"), photo(H, W)):
        with pytest.raises(UsageError, match="a vae changes the whole picture"):
            session.reconstruct(image, mask=MASK)
    kept = session.reconstruct(picture("RGB"), strength=0)
    assert kept.size == (config.size, config.size)
    np.testing.assert_array_equal(np.asarray(kept), session.reconstruct(photo(H, W), strength=0))


@pytest.mark.parametrize("strength", [-0.1, 1.5, float("nan")])
def test_strength_has_a_range(session: Session, strength: float) -> None:
    for image in (picture("RGB"), photo(H, W)):
        with pytest.raises(UsageError, match="`strength` must be between 0 and 1"):
            session.reconstruct(image, strength=strength)


def test_a_mask_of_another_size_is_refused(session: Session) -> None:
    for image in (picture("RGB"), photo(H, W)):
        with pytest.raises(ImageError, match=f"{W}×{H}"):
            session.reconstruct(image, mask=Image.new("L", (W + 5, H)))
