"""A GIF's 256 colors: pixels that a restoration leaves alone keep theirs exactly."""

import io

import numpy as np
import pytest
from helpers import photo
from PIL import Image

from edgeae.images.files.gif_palette import with_palette
from edgeae.images.files.reader import Photo
from edgeae.images.files.writer import Writer

HEIGHT, WIDTH = 60, 80


def gif(colors: int, transparent: bool = False, mode: str = "P") -> bytes:
    """A GIF that uses all of its colors."""
    picture = Image.fromarray(photo(HEIGHT, WIDTH)).quantize(colors, Image.Quantize.MAXCOVERAGE)
    assert len(picture.getcolors()) == colors
    file = io.BytesIO()
    picture = picture if mode == "P" else picture.convert(mode)
    picture.save(file, "GIF", **({"transparency": int(picture.getpixel((40, 20)))} if transparent else {}))
    return file.getvalue()


def paint(data: bytes, hole: np.ndarray, fill: np.ndarray) -> bytes:
    """Write a GIF again with the pixels of a hole, (H, W), replaced."""
    file = io.BytesIO()
    with Photo(data, "photo.gif") as opened:
        rows = opened.read(opened.height)
        if opened.mode == "RGBA":
            hole = hole & (rows[..., 3] > 0)  # colors that nobody sees are never changed
        channels = 1 if opened.mode == "L" else 3
        rows[hole, :channels] = fill[hole, :channels]
        writer = Writer(file, "GIF", opened, opened.mode, keep=True)
        writer.write(rows)
        writer.close()
    assert writer.note == ""
    return file.getvalue()


def pixels(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image.convert("RGBA")).astype(int)


def rectangle(top: int, bottom: int, left: int, right: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top:bottom, left:right] = True
    return mask


SMALL, LARGE = rectangle(10, 30, 20, 50), rectangle(1, HEIGHT, 0, WIDTH)


@pytest.mark.parametrize(
    ("data", "hole"),
    [
        (gif(256), SMALL),
        (gif(255), SMALL),
        (gif(200), SMALL),
        (gif(16), SMALL),
        (gif(2), SMALL),
        (gif(256), LARGE),
        (gif(256), rectangle(5, 6, 5, 6)),
        (gif(256), rectangle(0, 0, 0, 0)),
        (gif(256, transparent=True), SMALL),
        (gif(256, transparent=True), LARGE),
        (gif(100, mode="L"), SMALL),
    ],
    ids=["256 colors", "255 colors", "200 colors", "16 colors", "2 colors", "a row is left", "one pixel", "no hole",
         "transparent", "transparent, a row is left", "gray"],
)  # fmt: skip
def test_outside_the_hole_no_pixel_changes(data: bytes, hole: np.ndarray) -> None:
    before = pixels(data)
    fill = photo(HEIGHT, WIDTH, seed=9)
    after = pixels(paint(data, hole, fill))
    assert np.array_equal(after[~hole], before[~hole])
    assert np.array_equal(after[..., 3], before[..., 3])  # what was hidden is, and nothing else
    if hole.sum() > 1 and len(np.unique(before.reshape(-1, 4), axis=0)) <= 200 and data != gif(100, mode="L"):
        shown = hole & (after[..., 3] > 0)
        assert np.abs(after[shown, :3] - fill[shown]).mean() < 12  # free entries of the palette go to the hole


def test_everything_new_is_reduced_as_without_a_photo() -> None:
    picture, before = (Image.fromarray(photo(HEIGHT, WIDTH, seed=seed)) for seed in (1, 2))
    reduced, index = with_palette(picture, Image.eval(picture, lambda value: 255 - value))
    assert index is None and reduced.tobytes() == with_palette(picture)[0].tobytes()
    assert with_palette(picture, before)[0].mode == "P"


def test_few_colors_stay_exact() -> None:
    picture = Image.open(io.BytesIO(gif(40))).convert("RGB")
    assert np.array_equal(np.array(with_palette(picture)[0].convert("RGB")), np.array(picture))
