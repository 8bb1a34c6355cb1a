"""Reading and writing images as arrays, against Pillow, OpenCV and NumPy."""

import io
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from helpers import photo
from PIL import Image, ImageOps

from edgeae.errors import EdgeaeError, ImageError, UsageError
from edgeae.images.files.array_io import encode_image, read_image, write_image


def saved(image: Image.Image, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.mark.parametrize(("extension", "tolerance"), [("png", 0), ("bmp", 0), ("tif", 0), ("webp", 20), ("jpg", 20)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_written_image_reads_back(tmp_path: Path, extension: str, tolerance: int, channels: int) -> None:
    image = photo(channels=channels)
    path = tmp_path / "new folder" / f"image.{extension}"
    write_image(image, path)
    read = read_image(path, channels)
    assert read.dtype == np.uint8
    assert read.shape == image.shape
    assert np.abs(read.astype(int) - image).max() <= tolerance
    assert names(path.parent) == [path.name]


def test_every_kind_of_source(tmp_path: Path) -> None:
    image = photo()
    data = encode_image(image, "png")
    path = tmp_path / "image.png"
    path.write_bytes(data)

    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.rest = data

        def read(self, size: int = -1) -> bytes:
            taken, self.rest = (self.rest, b"") if size < 0 else (self.rest[:size], self.rest[size:])
            return taken

        def seek(self, *_: int) -> int:
            raise io.UnsupportedOperation("seek")

    with path.open("rb") as file:
        for source in (path, str(path), data, bytearray(data), file, io.BytesIO(data), Pipe(), Image.fromarray(image)):
            np.testing.assert_array_equal(read_image(source), image)  # type: ignore[arg-type]
        file.seek(0)
        with Image.open(file) as lazy:
            np.testing.assert_array_equal(read_image(lazy), image)
            lazy.getpixel((0, 0))  # the caller's image stays open


def test_gray_from_colour_is_bt601() -> None:
    image = photo()
    expected = image @ np.array([0.299, 0.587, 0.114])
    assert np.abs(read_image(encode_image(image, "png"), 1)[..., 0] - expected).max() <= 0.51
    gray = read_image(encode_image(image[..., :1], "png"))
    np.testing.assert_array_equal(gray, np.repeat(image[..., :1], 3, axis=2))


def test_16_bit_images_are_scaled() -> None:
    rng = np.random.default_rng(3)
    gray = rng.integers(0, 65536, (20, 30), dtype=np.uint16)
    gray[0, :2] = 0, 65535
    for format in ("PNG", "TIFF"):
        data = saved(Image.fromarray(gray), format)
        np.testing.assert_array_equal(read_image(data, 1)[..., 0], np.rint(gray / 257))
        np.testing.assert_array_equal(read_image(data, 3), np.repeat(read_image(data, 1), 3, axis=2))

    for byteorder in ("<", ">"):
        file = io.BytesIO()
        tifffile.imwrite(file, gray, byteorder=byteorder)
        np.testing.assert_array_equal(read_image(file.getvalue(), 1)[..., 0], np.rint(gray / 257))
    colour = rng.integers(0, 65536, (20, 30, 3), dtype=np.uint16)
    file = io.BytesIO()
    tifffile.imwrite(file, colour, photometric="rgb")
    assert np.abs(read_image(file.getvalue()) - colour / 257).max() <= 1  # Pillow keeps the high bytes


def test_pil_images_with_more_than_8_bits() -> None:
    for values in (np.array([[0, 300, 65535]], np.uint16), np.array([[0, 300, 65535]], np.int32)):
        np.testing.assert_array_equal(read_image(Image.fromarray(values), 1)[..., 0], [[0, 1, 255]])
    floats = Image.fromarray(np.array([[0, 0.5, 1]], np.float32))
    np.testing.assert_array_equal(read_image(floats, 1)[..., 0], [[0, 128, 255]])
    for bad, says in (([[0, 70000]], "more than 16 bits"), ([[-1, 5]], "pixels below 0")):
        with pytest.raises(ImageError, match=says):
            read_image(Image.fromarray(np.array(bad, np.int32)))
    for bad_float in (2.0, -0.5, math.nan):
        with pytest.raises(ImageError, match="outside 0 to 1"):
            read_image(Image.fromarray(np.array([[0, bad_float]], np.float32)))


def test_transparency_is_laid_on_white() -> None:
    rgb, alpha = photo(), photo(channels=1, seed=1)
    rgba = Image.fromarray(np.concatenate([rgb, alpha], axis=2))
    expected = rgb * (alpha / 255) + 255 * (1 - alpha / 255)
    for data in (saved(rgba, "PNG"), saved(rgba, "TIFF"), saved(rgba, "WEBP", lossless=True, exact=True)):
        assert np.abs(read_image(data) - expected).max() <= 1
    gray = rgba.convert("LA")
    expected = np.asarray(gray)[..., :1] * (alpha / 255) + 255 * (1 - alpha / 255)
    assert np.abs(read_image(saved(gray, "PNG"), 1) - expected).max() <= 1

    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.putdata([0, 1])
    np.testing.assert_array_equal(read_image(saved(palette, "PNG", transparency=1))[0], [[10, 20, 30], [255, 255, 255]])
    np.testing.assert_array_equal(
        read_image(saved(palette, "PNG", transparency=bytes([255, 0])))[0], [[10, 20, 30], [255, 255, 255]]
    )
    np.testing.assert_array_equal(read_image(saved(palette, "GIF"))[0], [[10, 20, 30], [200, 100, 50]])


@pytest.mark.parametrize("format", ["TIFF", "JPEG"])
def test_cmyk(format: str) -> None:
    cmyk = np.tile(np.array([0, 80, 160, 40], np.uint8), (16, 16, 1))
    expected = (255 - cmyk[0, 0, :3].astype(int)) * (255 - 40) / 255
    data = saved(Image.fromarray(cmyk, "CMYK"), format)
    assert np.abs(read_image(data) - expected).max() <= 2
    assert np.abs(read_image(data, 1) - expected @ [0.299, 0.587, 0.114]).max() <= 2


def test_one_bit_and_other_modes() -> None:
    bits = np.random.default_rng(0).random((9, 13)) < 0.5
    for format in ("PNG", "TIFF", "BMP", "GIF"):
        np.testing.assert_array_equal(read_image(saved(Image.fromarray(bits), format), 1)[..., 0], bits * np.uint8(255))
    image = Image.fromarray(photo())
    for mode in ("YCbCr", "HSV", "RGBX"):
        assert np.abs(read_image(image.convert(mode)).astype(int) - photo()).max() <= 8
    with pytest.raises(ImageError, match="LAB"):
        read_image(Image.new("LAB", (2, 2)))
    with pytest.raises(ImageError, match="no pixels"):
        read_image(Image.new("RGB", (0, 2)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation(orientation: int) -> None:
    image = Image.fromarray(photo())
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(saved(image, "PNG", exif=exif)))))
    for format in ("PNG", "TIFF"):
        np.testing.assert_array_equal(read_image(saved(image, format, exif=exif)), upright)
    jpeg = saved(image, "JPEG", exif=exif, quality=95)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(jpeg))))
    np.testing.assert_array_equal(read_image(jpeg), expected)
    assert read_image(jpeg, 1).shape == (*upright.shape[:2], 1)


@pytest.mark.parametrize("extension", ["png", "bmp", "tif", "webp", "jpg"])
def test_opencv_sees_the_same(tmp_path: Path, extension: str) -> None:
    cv2 = pytest.importorskip("cv2")
    path = tmp_path / f"image.{extension}"
    write_image(photo(), path)
    assert np.abs(cv2.imread(str(path), cv2.IMREAD_COLOR_RGB).astype(int) - read_image(path)).max() <= 3
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photo()).save(tmp_path / "turned.jpg", exif=exif)
    turned = cv2.imread(str(tmp_path / "turned.jpg"), cv2.IMREAD_COLOR_RGB)
    assert np.abs(turned.astype(int) - read_image(tmp_path / "turned.jpg")).max() <= 3


def test_broken_exif_does_not_hide_a_sound_image() -> None:
    data = saved(Image.fromarray(photo()), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f garbage")
    assert read_image(data).shape == (24, 36, 3)


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for format in ("GIF", "PNG", "TIFF"):
        data = saved(frames[0], format, save_all=True, append_images=frames[1:])
        np.testing.assert_array_equal(read_image(data)[0, 0], [255, 0, 0])


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("not an image")
    (tmp_path / "cut.jpg").write_bytes(encode_image(photo(200, 200), "jpg")[:2000])
    (tmp_path / "cut.png").write_bytes(encode_image(photo(200, 200), "png")[:2000])
    (tmp_path / "vector.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n")
    for name, reason in [
        ("none.png", "does not exist"),
        ("", "is a folder"),
        ("empty.png", "is not an image"),
        ("text.jpg", "is not an image"),
        ("vector.eps", "is not an image"),
        ("cut.jpg", "cut short"),
        ("cut.png", "cut short"),
    ]:
        with pytest.raises(ImageError, match=reason) as caught:
            read_image(tmp_path / name)
        assert str(caught.value).startswith(str(tmp_path / name))
    with pytest.raises(ImageError, match="in memory"):
        read_image(b"")
    with pytest.raises(ImageError, match="ndarray"):
        read_image(photo())  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="4 channels"):
        read_image(tmp_path / "cut.jpg", 4)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path: Path) -> None:
    path = tmp_path / "secret.png"
    write_image(photo(), path)
    path.chmod(0)
    with pytest.raises(ImageError, match="cannot be opened"):
        read_image(path)


def test_decompression_bombs(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode_image(photo(100, 100), "png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 6000)
    assert read_image(data).shape == (100, 100, 3)  # Pillow warns; nobody hears it
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4000)
    with pytest.raises(ImageError, match="million pixels"):
        read_image(data)


@pytest.mark.parametrize("extension", ["png", "jpg", "webp", "tif", "bmp", "gif"])
def test_damaged_files_end_in_an_array_or_an_image_error(extension: str) -> None:
    rng = np.random.default_rng(7)
    sound = encode_image(photo(), extension)
    for _ in range(150):
        data = bytearray(sound[: rng.integers(len(sound)) if rng.random() < 0.3 else len(sound)])
        for _ in range(rng.integers(1, 6)):
            if data:
                data[rng.integers(min(len(data), 200))] = rng.integers(256)
        try:
            image = read_image(bytes(data))
        except ImageError as error:
            assert str(error).startswith("The image in memory")
        else:
            assert image.dtype == np.uint8
            assert image.shape[2] == 3


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for array in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(ImageError, match="not an image"):
            write_image(array, tmp_path / "a.png")
    for extension in ("jpg", "webp", "gif"):
        with pytest.raises(ImageError, match=r"use \.png"):
            write_image(np.zeros((1, 70_000, 3), np.uint8), tmp_path / f"long.{extension}")
    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", lambda *_, **__: (_ for _ in ()).throw(OSError("encoder error -2")))
        with pytest.raises(ImageError, match=r"as TIFF \(encoder error -2\)"):
            write_image(photo(), tmp_path / "a.tif")
    assert names(tmp_path) == []
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(EdgeaeError, match="it is a folder"):
        write_image(photo(), tmp_path / "folder.png")
