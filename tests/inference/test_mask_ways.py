"""One mask saved in many ways, with photos of many formats: the same picture each time."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import FileFactory
from helpers.masks import (
    CLEAN,
    DAMAGED,
    FULL,
    GRAY,
    HOLE,
    NOISE,
    PLAIN,
    RGB,
    ZERO,
    Way,
    palette,
    pixels,
    reopened,
    repair,
    save,
    stack,
)
from PIL import Image

from edgeae.inference.load import load
from edgeae.inference.photo import restore
from edgeae.inference.session import Session

STROKES, COLORS = "what is painted on its transparent layer", "all that is not black"
WAYS: dict[str, Way] = {
    "black is 1": Way(np.maximum(PLAIN, 1)),
    "black is 16 and white 235": Way(np.where(HOLE, 235, 16)),
    "white is 254": Way(np.minimum(PLAIN, 254)),
    "0 and 1": Way(HOLE * 1, says="1 is taken for the mask's white"),
    "1 and 2": Way(HOLE + 1, says="2 is taken"),
    "1 bit": Way(GRAY.convert("1")),
    "16 bits": Way(HOLE * np.uint16(65_535)),
    "16 bits of 0 and 1": Way(HOLE * np.uint16(1), says="1 is taken"),
    "16 bits of 0 and 255": Way(HOLE * np.uint16(255), says="255 is taken"),
    "16 bits of 0 and 4095": Way(HOLE * np.uint16(4095), says="4095 is taken"),
    "16-bit TIFF of 0 and 255": Way(HOLE * np.uint16(255), "tif", "255 is taken"),
    "32-bit TIFF of 0 and 255": Way(HOLE * np.int32(255), "tif", "255 is taken"),
    "float TIFF": Way(HOLE.astype(np.float32), "tif"),
    "RGB": Way(RGB),
    "CMYK": Way(RGB.convert("CMYK"), "tif"),
    "GIF": Way(GRAY, "gif"),
    "a palette of black and white": Way(palette((0, 0, 0), (255, 255, 255))),
    "a palette of indices": Way(palette((0, 0, 0), (1, 1, 1)), says="1 is taken"),
    "a palette of classes": Way(palette((0, 0, 0), (128, 0, 0)), says=COLORS),
    "a palette of red on white": Way(palette((255, 255, 255), (200, 0, 0)), says="what is colored"),
    "JPEG of quality 30": Way(GRAY, "jpg", options={"quality": 30}),
    "JPEG of quality 75 in color": Way(RGB, "jpg", options={"quality": 75}),
    "PNG of a JPEG": Way(reopened(GRAY, "JPEG", quality=30)),
    "lossy WebP": Way(RGB, "webp", options={"quality": 30}),
    "opaque": Way(stack(PLAIN, PLAIN, PLAIN, FULL)),
    "half opaque everywhere": Way(stack(PLAIN, PLAIN, PLAIN, FULL // 2)),
    "an alpha channel that is not used": Way(stack(PLAIN, PLAIN, PLAIN, ZERO)),
    "gray and opaque": Way(stack(PLAIN, FULL)),
    "white strokes": Way(stack(FULL, FULL, FULL, PLAIN), says=STROKES),
    "white strokes over black": Way(stack(PLAIN, PLAIN, PLAIN, PLAIN), says=STROKES),
    "black strokes": Way(stack(ZERO, ZERO, ZERO, PLAIN), says=STROKES),
    "red strokes": Way(stack(FULL, ZERO, ZERO, PLAIN), says=STROKES),
    "gray strokes with alpha": Way(stack(FULL // 2, PLAIN), says=STROKES),
    "strokes in a GIF": Way(Image.fromarray(stack(PLAIN, PLAIN, PLAIN, PLAIN)), "gif", STROKES),
    "strokes in a lossy WebP": Way(stack(FULL, ZERO, ZERO, PLAIN), "webp", STROKES, {"quality": 40}),
    "red on black": Way(stack(PLAIN, ZERO, ZERO), says=COLORS),
    "red on white": Way(stack(FULL, 255 - PLAIN, 255 - PLAIN), says="what is colored"),
    "a noisy scan": Way(np.clip(np.where(HOLE, 240, 14) + NOISE[..., 0] // 10 - 13, 0, 255)),
    "a transparent color": Way(palette((0, 0, 0), (0, 90, 200)), "png", STROKES, {"transparency": 0}),
    "strokes over a faint haze": Way(stack(FULL, ZERO, ZERO, np.maximum(PLAIN, 20)), says=STROKES),
    "strokes of two colors": Way(
        stack(np.where(np.arange(PLAIN.shape[1]) < 50, PLAIN, 0), ZERO, FULL, PLAIN), says=STROKES
    ),
    "strokes with a texture": Way(np.dstack([NOISE.astype(np.uint8), PLAIN]), says=STROKES),
    "damage that was cut out of the photo": Way(np.dstack([DAMAGED, PLAIN]), says=STROKES),
    "layers in a TIFF": Way(
        GRAY, "tif", "the first is taken", {"save_all": True, "append_images": [Image.fromarray(ZERO)]}
    ),
    "the photo with the damage erased": Way(np.dstack([DAMAGED, 255 - PLAIN]), says="what is transparent"),
    "the same, black under the transparency": Way(
        np.dstack([np.where(HOLE[..., None], 0, DAMAGED), 255 - PLAIN]), says="what is transparent"
    ),
    "a brighter copy with the damage erased": Way(
        np.dstack([np.minimum(DAMAGED * 1.3, 255), 255 - PLAIN]), says="what is transparent"
    ),
}
# Those that are tried with each format of photo; the others with PNG.
EVERYWHERE = [
    "black is 16 and white 235", "0 and 1", "1 bit", "16 bits of 0 and 255", "float TIFF", "CMYK",
    "a palette of classes", "JPEG of quality 30", "PNG of a JPEG", "lossy WebP", "white strokes", "black strokes",
    "red on white", "the photo with the damage erased",
]  # fmt: skip
PHOTOS: dict[str, dict[str, Any]] = {
    "png": {},
    "tif": {},
    "webp": {"lossless": True},
    "bmp": {},
    "jpg": {"quality": 90},
}


@pytest.fixture
def session(tiny_file: FileFactory, device: str) -> Session:
    """A random tiny `conv`, which no test here runs."""
    return load(tiny_file("conv", size=64), device)


def psnr(image: np.ndarray) -> float:
    """Of what is in the hole."""
    difference: float = np.square(image.astype(float) - CLEAN)[HOLE].mean()
    return 10 * np.log10(255**2 / difference)


@pytest.mark.parametrize(
    ("kind", "way"), [(kind, way) for way in WAYS for kind in PHOTOS if kind == "png" or way in EVERYWHERE]
)
def test_one_mask_in_many_ways(session: Session, kind: str, way: str, tmp_path: Path) -> None:
    """In the hole as with the plain mask, within 0.1 dB; what is outside stays bit for bit where the format can."""
    source = save(tmp_path / f"photo.{kind}", DAMAGED, **PHOTOS[kind])
    mask = save(tmp_path / f"mask.{WAYS[way].kind}", WAYS[way].image, **WAYS[way].options)
    plain = repair(session, source, save(tmp_path / "plain.png", PLAIN), tmp_path / f"a.{kind}")
    result = repair(session, source, mask, tmp_path / f"b.{kind}")
    before, expected, after = (pixels(path) for path in (source, tmp_path / f"a.{kind}", tmp_path / f"b.{kind}"))
    assert psnr(after) > psnr(expected) - 0.1 and psnr(expected) > psnr(before) + 10
    if kind != "jpg":
        assert np.array_equal(after[~HOLE], before[~HOLE])
    assert plain.note == "" and (WAYS[way].says in result.note if WAYS[way].says else result.note == "")


def test_with_a_trained_network(device: str, tmp_path: Path) -> None:
    trained = load("photos-residual", device)
    source = save(tmp_path / "photo.png", DAMAGED)
    restore(source, tmp_path / "a.png", trained, mask=save(tmp_path / "plain.png", PLAIN))
    for way in ("JPEG of quality 30", "white strokes", "the photo with the damage erased"):
        mask = save(tmp_path / f"mask.{WAYS[way].kind}", WAYS[way].image, **WAYS[way].options)
        restore(source, tmp_path / "b.png", trained, mask=mask)
        assert np.array_equal(pixels(tmp_path / "b.png"), pixels(tmp_path / "a.png"))
