"""What a photo holds beside its pixels: orientation, resolution, and broken EXIF data, texts and profiles."""

import io
import struct
import zlib

import numpy as np
import pytest
from helpers import photo
from helpers.png_files import chunk, png
from PIL import Image, PngImagePlugin

from edgeae.images.files.reader import Photo


def file(picture: Image.Image, format: str, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, format, **options)
    return out.getvalue()


def picture(mode: str = "RGB", size: tuple[int, int] = (36, 24)) -> Image.Image:
    return Image.fromarray(photo(size[1], size[0])).convert(mode)


def block(kind: int, count: int, value: bytes) -> bytes:
    """EXIF data with an orientation."""
    return b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01" + struct.pack("<HI", kind, count) + value + bytes(4)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    ("exif", "xmp", "turn"),
    [
        (block(3, 1, b"\6\0\0\0"), b"", 6),
        (block(3, 1, b"\x09\0\0\0"), b"", 1),
        (block(3, 1, bytes(4)), b"", 1),
        (block(2, 4, b"six\0"), b"", 1),
        (b"", b'<a tiff:Orientation="6"/>', 6),
        (block(3, 1, b"\1\0\0\0"), b'<a tiff:Orientation="6"/>', 1),
    ],
)
def test_orientation_from_exif_or_xmp(format: str, exif: bytes, xmp: bytes, turn: int) -> None:
    texts = PngImagePlugin.PngInfo()
    texts.add_itxt("XML:com.adobe.xmp", xmp.decode())
    options = {"pnginfo": texts} if format == "PNG" else {"xmp": xmp}
    with Photo(file(picture(), format, exif=exif, **(options if xmp else {}))) as opened:
        assert opened.orientation == turn


def test_resolutions() -> None:
    def dpi(data: bytes) -> tuple[float, float] | None:
        with Photo(data) as opened:
            return opened.metadata.dpi

    assert dpi(file(picture(), "JPEG", dpi=(300, 72))) == (300, 72)
    assert dpi(file(picture(), "TIFF", dpi=(72.5, 300))) == (72.5, 300)
    assert dpi(file(picture(), "PNG", dpi=(300, 300))) == pytest.approx((300, 300), abs=0.01)
    assert dpi(file(picture(), "PNG")) is None
    for value in (0, 1e7):
        assert dpi(file(picture(), "TIFF", dpi=(value, value))) is None


@pytest.mark.parametrize(
    "chunks",
    [
        chunk(b"iCCP", b"broken\0\0not zlib"),
        chunk(b"iCCP", b"broken\0\7"),
        chunk(b"eXIf", b"broken"),
        chunk(b"zTXt", b"bomb\0\0" + zlib.compress(bytes(10**7))),
        chunk(b"pHYs", b"short"),
        chunk(b"tEXt", b"no end"),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(10**7))),
        chunk(b"eXIf", b"II*\0\xff\xff\xff\xff"),
    ],
)
def test_broken_texts_and_profiles_are_ignored(chunks: bytes) -> None:
    samples = photo(5, 4)
    with Photo(png(samples, 2, 8, before=chunks), "photo") as opened:
        np.testing.assert_array_equal(opened.read(5), samples)
        assert opened.orientation == 1


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"II",
        b"II*\0\x08\0\0\0",
        b"MM\0*\0\0\0\x08\xff\xff",
        b"II*\0\x08\0\0\0" + bytes(99),
        b"II*\0\x08\0\0\0\x01\0\x12\x01\x0c\0\xff\xff\xff\xff\0\0\0\0",
        b"?" * 50,
    ],
)
@pytest.mark.parametrize("format", ["JPEG", "WEBP"])
def test_broken_exif_data_are_ignored(block: bytes, format: str) -> None:
    with Photo(file(picture(), format, exif=b"Exif\0\0" + block), "photo") as opened:
        assert opened.orientation == 1
        assert opened.read(24).shape == (24, 36, 3)
