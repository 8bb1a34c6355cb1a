"""Written PNG files, read back by Pillow and OpenCV."""

import io
import zlib

import numpy as np
import pytest
from helpers import photo
from helpers.png_files import (
    chunks_of,
    opencv,
    pillow,
    read,
    write,
)
from PIL import Image

from edgeae.errors import ImageError
from edgeae.images.files.png_writer import PngWriter

MODES = ("L", "LA", "RGB", "RGBA")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (61, 47)])
def test_pillow_and_opencv_read_written_files(mode: str, dtype: type, size: tuple[int, int]) -> None:
    image = photo(*size, len(mode)).astype(dtype) if min(size) > 1 else np.full((*size, len(mode)), 7, dtype)
    if dtype == np.uint16:
        image = image * 251 + np.random.default_rng(0).integers(0, 250, image.shape, dtype)
    for rows in (1, 7, 100):
        data = write(image, mode, rows)
        np.testing.assert_array_equal(read(data), image)
        if dtype == np.uint8:
            np.testing.assert_array_equal(pillow(data, mode), image)
        elif mode != "LA":
            np.testing.assert_array_equal(opencv(data), image)
    with Image.open(io.BytesIO(data)) as picture:
        picture.verify()


@pytest.mark.parametrize("level", range(10))
def test_every_level_and_strips_in_which_the_strategy_changes(level: int, monkeypatch) -> None:
    """Strips alternate between noise and a pattern that repeats at a distance."""
    monkeypatch.setattr("edgeae.images.files.png_writer.STRIP_BYTES", 3 * 128 * 40)
    noise = np.random.default_rng(0).integers(0, 256, (40, 128, 3), np.uint8)
    pattern = np.tile(noise[:, :16], (1, 8, 1))
    image = np.concatenate((noise, pattern, pattern, noise, pattern, noise))
    data = write(image, "RGB", level=level)
    np.testing.assert_array_equal(pillow(data, "RGB"), image)
    if level >= 6:
        assert len(data) < 0.75 * image.nbytes  # the patterns, a half of the picture, are found


def test_files_are_about_as_large_as_pillows() -> None:
    data = pytest.importorskip("skimage.data")
    for image in (data.astronaut(), data.chelsea(), data.camera()[..., None]):
        file = io.BytesIO()
        Image.fromarray(image.squeeze()).save(file, "PNG")
        assert len(write(image, "RGB" if image.shape[2] == 3 else "L")) < 1.03 * file.tell()


def test_a_row_filter_is_the_one_with_the_least_sum() -> None:
    """For each filter a row of which it leaves nothing."""
    flat = np.zeros((4, 64, 1), np.uint8)
    flat[0] = 9  # left
    flat[1] = np.random.default_rng(0).integers(0, 256, (64, 1))
    flat[2] = flat[1]  # above
    data = write(flat, "L")
    raw = zlib.decompress(b"".join(body for kind, body in chunks_of(data) if kind == b"IDAT"))
    assert raw[0] == 1
    assert raw[2 * 65] == 2
    assert raw[2 * 65 + 1 : 3 * 65] == bytes(64)


def test_unsupported_sizes_types_and_rows_are_refused() -> None:
    for size in ((0, 1), (1, 0), (-1, 1), (2**31, 1), (1, 2**31), (2**24 + 1, 1)):
        with pytest.raises(ImageError, match="choose another size"):
            PngWriter(io.BytesIO(), *size, "L", np.uint8)
    for mode, dtype in (("P", np.uint8), ("RGB", np.float32), ("L", np.int16)):
        with pytest.raises(ImageError, match="use L, LA, RGB or RGBA"):
            PngWriter(io.BytesIO(), 1, 1, mode, dtype)
    writer = PngWriter(io.BytesIO(), 4, 3, "RGB", np.uint8)
    for shape, dtype in (((1, 5, 3), np.uint8), ((1, 4, 1), np.uint8), ((1, 4, 3), np.uint16), ((4, 4, 3), np.uint8)):
        with pytest.raises(ImageError, match="do not fit"):
            writer.write(np.zeros(shape, dtype))
    writer.write(np.zeros((2, 4, 3), np.uint8))
    with pytest.raises(ImageError, match="lacks 1 of its rows"):
        writer.close()
