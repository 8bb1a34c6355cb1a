"""Photos row by row against Pillow's whole pictures; what belongs to them; damaged, hostile and missing files."""

import io
import os
import struct
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL
import pytest
from helpers import photo
from helpers.png_files import SIGNATURE, chunk, header
from PIL import ExifTags, Image, ImageOps

from edgeae.errors import ImageError
from edgeae.images.files import reader
from edgeae.images.files.reader import Photo
from edgeae.images.files.turns import to_stored, to_upright

SENTENCE = r"^photo [^\n]*[a-z][^\n]*\.$"


def file(picture: Image.Image, format: str, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, format, **options)
    return out.getvalue()


def picture(mode: str = "RGB", size: tuple[int, int] = (36, 24)) -> Image.Image:
    return Image.fromarray(photo(size[1], size[0])).convert(mode)


def wide(dtype: str = "<u2") -> np.ndarray:
    return photo(24, 36, 1)[..., 0].astype(dtype) * 257


def whole(data: bytes) -> np.ndarray:
    with Photo(data, "photo") as opened:
        return opened.read(opened.height)


FILES = {
    "png": file(picture(), "PNG"),
    "png-interlaced": SIGNATURE
    + header(4, 2, 8, 0, 0, 0, 1)
    + chunk(b"IDAT", zlib.compress(b"".join(b"\0" + bytes(n) for n in (1, 1, 2, 4))))
    + chunk(b"IEND"),
    "jpeg": file(picture(), "JPEG"),
    "jpeg-progressive": file(picture(), "JPEG", progressive=True, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"),
    "inks": file(picture("CMYK"), "JPEG"),
    "webp": file(picture("RGBA"), "WEBP"),
    "webp-lossless": file(picture(), "WEBP", lossless=True),
    "tiff": file(picture(), "TIFF"),
    "tiff-lzw": file(picture("L"), "TIFF", compression="tiff_lzw"),
    "tiff-16": file(Image.fromarray(wide()), "TIFF", compression="tiff_adobe_deflate"),
    "tiff-float": file(Image.fromarray(wide().astype(np.float32) / 65535), "TIFF"),
    "tiff-fax": file(picture("1"), "TIFF", compression="group4"),
    "bmp": file(picture(), "BMP"),
    "gif": file(picture("P"), "GIF"),
}


# ---- rows ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("count", [1, 7, 1000])
def test_strips_of_any_size_give_the_whole_picture(name: str, count: int) -> None:
    expected = whole(FILES[name])
    with Photo(FILES[name], "photo") as opened:
        assert expected.shape == (opened.height, opened.width, len(opened.mode))
        assert expected.dtype == opened.dtype
        strips = []
        while len(strip := opened.read(count)):
            strips.append(strip)
        assert strip.shape == (0, opened.width, len(opened.mode))
        assert [len(strip) for strip in strips[:-1]] == [count] * (len(strips) - 1)
    np.testing.assert_array_equal(np.concatenate(strips), expected)


@pytest.mark.parametrize("name", FILES)
def test_pixels_equal_those_of_pillow(name: str) -> None:
    with Image.open(io.BytesIO(FILES[name])) as image:
        if image.mode in ("1", "P"):
            image = image.convert({"1": "L", "P": "RGB"}[image.mode])
        np.testing.assert_array_equal(whole(FILES[name]).squeeze(), np.asarray(image))


@pytest.mark.parametrize("turn", range(1, 9))
def test_orientations(turn: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = turn
    for format in ("JPEG", "PNG", "WEBP", "TIFF"):
        data = file(picture(), format, exif=exif)
        with Photo(data) as opened, Image.open(io.BytesIO(data)) as image:
            rows = opened.read(opened.height)
            assert opened.orientation == turn
            assert (opened.width, opened.height) == (36, 24)
            np.testing.assert_array_equal(to_upright(rows, turn), np.asarray(ImageOps.exif_transpose(image)))
            np.testing.assert_array_equal(to_stored(to_upright(rows, turn), turn), rows)
            assert opened.shown_size == ImageOps.exif_transpose(image).size


@pytest.mark.parametrize(("bits", "kind"), [("<u2", "I;16"), (">u2", "I;16B")])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_16_bits_of_either_order(bits: str, kind: str, compression: str) -> None:
    image = Image.frombytes(kind, (36, 24), wide(bits).tobytes())
    rows = whole(file(image, "TIFF", compression=compression))
    assert rows.dtype == np.uint16
    np.testing.assert_array_equal(rows[..., 0], wide())


def tiff(
    pixels: bytes,
    bits: tuple[int, ...],
    photometric: int,
    *more: tuple[int, int, int, int],
    size: tuple[int, int] = (36, 24),
) -> bytes:
    """An uncompressed file that Pillow would not write; `more` are entries (tag, type, count, value)."""
    entries = [
        (256, 4, 1, size[0]),
        (257, 4, 1, size[1]),
        (259, 3, 1, 1),
        (262, 3, 1, photometric),
        (273, 4, 1, 8),
        (277, 3, 1, len(bits)),
        (278, 4, 1, size[1]),
        (279, 4, 1, len(pixels)),
        *more,
    ]
    body = pixels + b"".join(bit.to_bytes(2, "little") for bit in bits)
    inline = int.from_bytes(body[len(pixels) :][:4], "little")
    entries.append((258, 3, len(bits), inline if len(bits) <= 2 else 8 + len(pixels)))
    table = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    body += bytes(len(body) % 2)
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + struct.pack("<H", len(entries)) + table + bytes(4)


def test_white_is_zero_with_16_bits_and_with_floats() -> None:
    """Pillow returns such pictures as negatives."""
    np.testing.assert_array_equal(whole(tiff((65535 - wide()).tobytes(), (16,), 0))[..., 0], wide())
    floats = (wide() / 65535).astype(np.float32)
    rows = whole(tiff((1 - floats).tobytes(), (32,), 0, (339, 3, 1, 3)))
    np.testing.assert_allclose(rows[..., 0], floats, atol=1e-7)


needs_pillow_13 = pytest.mark.skipif(int(PIL.__version__.split(".")[0]) < 13, reason="older Pillow reads it wrongly")


@needs_pillow_13
def test_premultiplied_gray() -> None:
    gray = photo(24, 36, 2)
    gray[..., 0] = np.minimum(gray[..., 0], gray[..., 1])  # premultiplied
    rows = whole(tiff(gray.tobytes(), (8, 8), 1, (338, 3, 1, 1)))
    np.testing.assert_array_equal(rows[..., 1], gray[..., 1])
    some = gray[..., 1] > 0
    straight = gray[..., 0][some] * 255.0 / gray[..., 1][some]
    np.testing.assert_allclose(rows[..., 0][some], straight, atol=1)


def test_unusual_pixels() -> None:
    colour = photo(24, 36, 4)  # the fourth is told to be nothing
    np.testing.assert_array_equal(whole(tiff(colour.tobytes(), (8,) * 4, 2, (338, 3, 1, 0))), colour[..., :3])
    deep = photo(24, 36).astype("<u2") * 257
    with Photo(tiff(deep.tobytes(), (16,) * 3, 2)) as opened:
        np.testing.assert_array_equal(opened.read(24), deep)
        assert opened.note == ""
    for white in (0, 1):
        np.testing.assert_array_equal(
            whole(file(picture("1"), "TIFF", tiffinfo={262: white}))[..., 0], np.asarray(picture("1").convert("L"))
        )


@needs_pillow_13
def test_transparent_gray_of_one_bit() -> None:
    data = SIGNATURE + header(8, 1, 1, 0, 0, 0, 1) + chunk(b"tRNS", b"\0\1")
    rows = b"".join(b"\0" + row for row in (b"\x80", b"\0", b"\x80", b"\xf0"))
    data += chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND")
    pixels = whole(data)
    assert pixels.shape == (1, 8, 2)
    np.testing.assert_array_equal(pixels[..., 1], 255 - pixels[..., 0])


# ---- metadata --------------------------------------------------------------------------------------------------------


def test_notes_on_what_is_not_read() -> None:
    first, second = picture(), picture().transpose(Image.Transpose.ROTATE_180)
    for format, note in (
        ("GIF", "it has 2 frames, of which the first is restored"),
        ("WEBP", "it has 2 frames, of which the first is restored"),
        ("PNG", "it is an animation, of which the first frame is restored"),
        ("TIFF", "it has 2 pages, of which the first is restored; the other is copied"),
    ):
        with Photo(file(first, format, save_all=True, append_images=[second])) as opened:
            assert opened.note == note
    interlaced = SIGNATURE + header(1, 1, 16, 2, 0, 0, 1) + chunk(b"IDAT", zlib.compress(bytes(7))) + chunk(b"IEND")
    with Photo(interlaced) as opened:
        assert (opened.note, opened.dtype) == ("", np.uint16)
    for name in FILES:
        with Photo(FILES[name]) as opened:
            assert opened.note == ""


def test_opening_a_path(tmp_path: Path) -> None:
    path = tmp_path / "a photo.png"
    path.write_bytes(FILES["png"])
    for source in (path, str(path)):
        with Photo(source) as opened:
            assert opened.name == str(path)
            assert opened.format == "PNG"
            opened.load()
            np.testing.assert_array_equal(opened.read(24), np.asarray(picture()))
    with Photo(FILES["jpeg"]) as opened:
        assert opened.name == "The image in memory"
        assert opened.format == "JPEG"
    path.unlink()  # on Windows only of a file that was let go


# ---- what cannot be read ---------------------------------------------------------------------------------------------


def refused(source: bytes | Path, match: str = "[a-z]", name: str | None = "photo") -> str:
    with pytest.raises(ImageError, match=match) as caught, Photo(source, name) as opened:
        opened.load()
        while len(opened.read(5)):
            pass
    return str(caught.value)


def test_missing_files_folders_and_permissions(tmp_path: Path) -> None:
    assert refused(tmp_path / "no.png", name=None) == f"{tmp_path / 'no.png'} does not exist: check the path."
    assert refused(tmp_path, name=None) == f"{tmp_path} is a folder: name an image file in it."
    assert refused(tmp_path / "no.png" / "a.png", "^photo does not exist: check the path.$")
    if os.name == "posix" and os.geteuid():
        (tmp_path / "mine.png").write_bytes(FILES["png"])
        (tmp_path / "mine.png").chmod(0)
        refused(tmp_path / "mine.png", r"^photo cannot be opened \(Permission denied\): check the path and its perm")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"GIF89a",
        b"<svg/>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
        b"RIFF\0\0\0\0WEBP",
        SIGNATURE,
        b"II*\0",
        b"BM",
        b"\xff\xd8\xff",
        bytes(1000),
        b"\xff" * 1000,
    ],
)
def test_data_that_are_no_image(data: bytes) -> None:
    assert len(refused(data, SENTENCE)) < 200


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (tiff(wide().tobytes()[:1296], (12,), 1), "12 bits a pixel: save it with 8 or 16"),
        (tiff((wide().astype("<u4") << 8).tobytes(), (32,), 1), "more than 16 bits a pixel"),
        (tiff((wide().astype("<i4") - 9).tobytes(), (32,), 1, (339, 3, 1, 2)), "more than 16 bits a pixel"),
        (
            tiff((wide() / np.float32(2)).astype("<f4").tobytes(), (32,), 1, (339, 3, 1, 3)),
            "float pixels outside 0 to 1",
        ),
        (tiff(np.full((24, 36), np.nan, "<f4").tobytes(), (32,), 1, (339, 3, 1, 3)), "float pixels outside 0 to 1"),
        (tiff(wide().astype("<f8").tobytes(), (64,), 1, (339, 3, 1, 3)), "not an image that can be read"),
        (tiff(photo(24, 36).tobytes(), (8, 8, 8), 8), "pixels of the kind LAB .*: save it as RGB or grey"),
        (tiff(photo(24, 36, 2).astype("<u2").tobytes(), (16, 16), 1, (266, 3, 1, 2)), "2 channels of 16 bits, grey"),
        (tiff(b"", (8,), 1, size=(0, 5)), "[a-z]"),
        (tiff(b"", (8,), 1, size=(2**31 - 1, 2**31 - 1)), "more than 178 million pixels"),
    ],
)
def test_unsupported_pixels(data: bytes, match: str) -> None:
    assert refused(data, match).count("photo") == 1


def test_decompression_bombs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused by the size in the header, before any memory is taken."""
    gif = b"GIF89a\xff\xff\xff\xff\x00\x00\x00,\0\0\0\0\xff\xff\xff\xff\0\x02\0\0;"
    bmp = b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0)
    tracemalloc.start()
    try:
        for data in (gif, bmp):
            refused(data, "^photo has more than 178 million pixels: make it smaller first.$")
        assert tracemalloc.get_traced_memory()[1] < 10**7
    finally:
        tracemalloc.stop()
    monkeypatch.setattr(reader, "MAX_PIXELS", 36 * 24 - 1)
    for name in ("png", "jpeg"):
        refused(FILES[name], "^photo has more than 0 million pixels")
    monkeypatch.setattr(reader, "MAX_PIXELS", 36 * 24)
    assert whole(FILES["png"]).shape == (24, 36, 3)


def damaged(sound: bytes, seed: int, count: int) -> Iterator[bytes]:
    rng = np.random.default_rng(seed)
    for share in np.linspace(0, 0.99, 20):
        yield sound[: int(len(sound) * share)]
    for _ in range(count):
        data = bytearray(sound)
        for place in rng.integers(0, len(sound) if rng.random() < 0.5 else min(len(sound), 300), rng.integers(1, 5)):
            data[place] = rng.integers(0, 256)
        yield bytes(data)


@pytest.mark.parametrize("name", FILES)
def test_damaged_files_give_one_sentence_or_a_picture(name: str) -> None:
    """A warning would fail the test as well."""
    for data in damaged(FILES[name], 0, 100):
        try:
            rows = whole(data)
        except ImageError as error:
            assert str(error).startswith("photo ")
            assert str(error).endswith(".")
            assert "\n" not in str(error)
        else:
            assert rows.ndim == 3


@pytest.mark.parametrize("name", ["tiff", "jpeg", "png", "webp", "gif", "bmp"])
def test_files_cut_short_are_refused(name: str) -> None:
    for share in (0.1, 0.5, 0.9):
        refused(FILES[name][: int(len(FILES[name]) * share)], SENTENCE)


def test_a_refused_photo_closes_its_file(tmp_path: Path) -> None:
    """A ResourceWarning would fail the test."""
    (tmp_path / "photo.tif").write_bytes(tiff(b"", (12,), 1))
    for _ in range(3):
        refused(tmp_path / "photo.tif")
