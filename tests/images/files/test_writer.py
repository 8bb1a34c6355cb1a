"""Files written in a photo's place: every format and mode, rows in any strips, and metadata up to their limits."""

import io
import struct

import numpy as np
import pytest
from helpers import photo
from helpers.exif import long_exif
from helpers.png_files import png
from helpers.png_files import read as read_png
from PIL import ExifTags, Image

from edgeae.errors import ImageError
from edgeae.images import colours
from edgeae.images.files.reader import Photo
from edgeae.images.files.writer import Writer

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")
LOSSLESS = ("PNG", "TIFF", "BMP")
MODES = ("L", "LA", "RGB", "RGBA", "CMYK")
HEIGHT, WIDTH = 19, 23


def file(picture: Image.Image, format: str, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, format, **options)
    return out.getvalue()


def picture(mode: str = "RGB") -> Image.Image:
    return Image.frombytes(mode, (WIDTH, HEIGHT), pixels(mode).tobytes())


def pixels(mode: str) -> np.ndarray:
    x = photo(HEIGHT, WIDTH, len(mode))
    if mode.endswith("A"):
        x[3:6, 4:9, -1] = 0
    return x


def source(mode: str, **options: object) -> bytes:
    """A photo with pixels of some mode."""
    return file(picture(mode), "TIFF", **options)


def written(data: bytes, kind: str, rows: np.ndarray | None = None, mode: str = "", count: int = 1000) -> bytes:
    """Write the photo's rows, or others, to a file of the format `kind`."""
    out = io.BytesIO()
    with Photo(data, "photo") as opened:
        rows = opened.read(opened.height) if rows is None else rows
        writer = Writer(out, kind, opened, mode or opened.mode)
        for start in range(0, len(rows), count):
            writer.write(rows[start : start + count])
        writer.close()
    return out.getvalue()


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


# ---- pixels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("turn", [1, 6])
def test_rows_in_any_strips_give_the_same_file(kind: str, mode: str, turn: int) -> None:
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = turn
    data = source(mode, exif=tags)
    whole = written(data, kind)
    image = opened(whole)
    assert image.format == kind
    assert image.size == ((HEIGHT, WIDTH) if turn == 6 else (WIDTH, HEIGHT))
    for count in (1, 7):
        strips = written(data, kind, count=count)
        if kind == "PNG" and turn == 1:  # its pieces follow the strips
            np.testing.assert_array_equal(read_png(strips), read_png(whole))
        else:
            assert strips == whole


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_in_every_format(kind: str, mode: str) -> None:
    image = opened(written(source(mode), kind))
    found = image.convert("RGBA") if kind == "GIF" else image
    with Photo(source(mode)) as opened_photo:
        writer = Writer(io.BytesIO(), kind, opened_photo, mode)
    held = colours.convert(pixels(mode), mode, writer.mode)
    if kind != "GIF":
        assert image.mode == writer.mode
    assert ("A" in mode) == ("A" in writer.mode) or kind in ("JPEG", "GIF")
    error = np.abs(np.asarray(found, float).reshape(HEIGHT, WIDTH, -1)[..., : held.shape[2]] - held)
    if kind in LOSSLESS:
        assert error.max() == 0
    else:
        seen = held[..., -1:] > 128 if kind == "GIF" and writer.mode == "RGBA" else np.ones_like(held[..., :1], bool)
        assert error[..., : min(3, held.shape[2])][seen[..., 0]].mean() < 9


@pytest.mark.parametrize(("mode", "asked"), [("L", "RGB"), ("LA", "RGBA"), ("RGB", "L"), ("RGBA", "LA")])
def test_rows_of_another_mode(mode: str, asked: str) -> None:
    """As of a network that colours gray photos, or one that makes gray of all."""
    for kind in LOSSLESS[:2]:
        image = opened(written(source(mode), kind, pixels(asked), asked))
        assert image.mode == asked
        np.testing.assert_array_equal(np.asarray(image).reshape(HEIGHT, WIDTH, -1), pixels(asked))


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_depths(dtype: type) -> None:
    rng = np.random.default_rng(0)
    x = rng.random((HEIGHT, WIDTH), np.float32)
    x = x if dtype == np.float32 else np.rint(x * 65535).astype(dtype)
    data = file(Image.fromarray(x), "TIFF")
    np.testing.assert_array_equal(np.asarray(opened(written(data, "TIFF"))), x)
    wide = x if dtype == np.uint16 else np.rint(x * 65535).astype(np.uint16)
    np.testing.assert_array_equal(read_png(written(data, "PNG"))[..., 0], wide)
    for kind in ("BMP", "JPEG"):
        error = np.asarray(opened(written(data, kind)), float) - wide / 257
        assert np.abs(error).mean() < (0.51 if kind == "BMP" else 6)


def test_16_bit_colour_from_a_png_file() -> None:
    x = np.random.default_rng(0).integers(0, 65536, (HEIGHT, WIDTH, 4))
    data = png(x, 6, 16)
    np.testing.assert_array_equal(read_png(written(data, "PNG")), x)
    tiff = written(data, "TIFF")
    np.testing.assert_array_equal(np.asarray(opened(tiff)), x >> 8)  # by Pillow, which reads 8 of the 16 bits
    with Photo(tiff) as photo_of_it:
        np.testing.assert_array_equal(photo_of_it.read(HEIGHT), x)


# ---- GIF -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 255, 256])
@pytest.mark.parametrize("transparent", [False, True])
def test_up_to_256_colours_are_exact(count: int, transparent: bool) -> None:
    rng = np.random.default_rng(count)
    palette = np.unique(rng.integers(0, 256, (400, 3), np.uint8), axis=0)[:count]
    x = np.full((HEIGHT, WIDTH, 4), 255, np.uint8)
    x[..., :3] = palette[np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % count]
    if transparent:
        x[0, :5] = [9, 8, 7, 0]
        x[..., :3][(x[..., :3] == palette[-1]).all(axis=2)] = palette[0]  # one colour less
    found = np.asarray(opened(written(file(Image.fromarray(x), "PNG"), "GIF")).convert("RGBA"))
    np.testing.assert_array_equal(found, x)


def test_more_than_256_colours_with_transparency() -> None:
    x = np.dstack([photo(60, 80), np.full((60, 80), 255, np.uint8)])
    x[:20, :30, 3] = 127
    x[20:30, :30, 3] = 128
    x[40:, :, :3] = 0
    found = np.asarray(opened(written(file(Image.fromarray(x), "PNG"), "GIF")).convert("RGBA"))
    np.testing.assert_array_equal(found[..., 3], np.where(x[..., 3] < 128, 0, 255))
    np.testing.assert_array_equal(found[40:, :, :3], 0)
    seen = x[..., 3] >= 128
    assert np.abs(found[seen].astype(float) - x[seen])[:, :3].mean() < 8
    opaque = opened(written(file(Image.fromarray(x[..., :3]), "PNG"), "GIF"))
    assert "transparency" not in opaque.info


def test_a_wholly_transparent_picture() -> None:
    x = np.dstack([photo(9, 8), np.zeros((9, 8), np.uint8)])
    assert not np.asarray(opened(written(file(Image.fromarray(x), "PNG"), "GIF")).convert("RGBA"))[..., 3].any()


# ---- metadata --------------------------------------------------------------------------------------------------------


def profile(space: bytes) -> bytes:
    return bytes(16) + space + bytes(12) + b"acsp" + bytes(92)


@pytest.mark.parametrize(
    ("mode", "space", "kind", "asked", "kept"),
    [
        ("RGB", b"RGB ", "PNG", "RGB", True),
        ("RGB", b"RGB ", "PNG", "L", False),
        ("RGB", b"RGB ", "TIFF", "L", False),
        ("L", b"GRAY", "TIFF", "L", True),
        ("L", b"GRAY", "WEBP", "L", False),
        ("L", b"GRAY", "PNG", "RGB", False),
        ("L", b"RGB ", "TIFF", "L", True),
        ("L", b"RGB ", "PNG", "L", False),
        ("L", b"RGB ", "WEBP", "L", True),
        ("CMYK", b"CMYK", "JPEG", "CMYK", True),
        ("CMYK", b"CMYK", "PNG", "CMYK", False),
        ("RGBA", b"RGB ", "JPEG", "RGBA", True),
        ("RGB", b"", "PNG", "RGB", False),
    ],
)
def test_a_profile_is_kept_for_its_colour_space(mode: str, space: bytes, kind: str, asked: str, kept: bool) -> None:
    """And in the photo's own format whenever the kind of pixels stays, whatever the profile says."""
    icc = profile(space) if space else b"short"
    data = source(mode, icc_profile=icc)
    image = opened(written(data, kind, pixels(asked), asked))
    assert image.info.get("icc_profile") == (icc if kept else None)


def test_a_gray_result_loses_the_rgb_profile() -> None:
    data = file(picture(), "PNG", icc_profile=profile(b"RGB "), dpi=(300, 300))
    gray = opened(written(data, "PNG", pixels("L"), "L"))
    assert "icc_profile" not in gray.info
    assert gray.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    assert opened(written(data, "PNG")).info["icc_profile"] == profile(b"RGB ")


@pytest.mark.parametrize(
    ("notes", "comment", "make", "iso"), [(60_000, 0, "Edge", 100), (70_000, 0, "Edge", 100), (0, 70_000, "Edge", None)]
)
def test_exif_data_too_long_for_a_jpeg_lose_the_least(notes: int, comment: int, make: str, iso: int | None) -> None:
    for turn in (1, 6):
        data = source("RGB", exif=long_exif(notes, comment, turn))
        for kind in ("PNG", "WEBP", "TIFF"):
            table = opened(written(data, kind)).getexif().get_ifd(ExifTags.IFD.Exif)
            assert len(table.get(ExifTags.Base.MakerNote, b"")) == notes
        tags = opened(written(data, "JPEG")).getexif()
        assert tags.get(ExifTags.Base.Orientation, 1) == 1
        assert tags.get(ExifTags.Base.Make) == make
        assert tags.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.ISOSpeedRatings) == iso
        assert (ExifTags.Base.MakerNote in tags.get_ifd(ExifTags.IFD.Exif)) == (notes == 60_000)


def segments(block: bytes) -> bytes:
    """A JPEG file with EXIF data in several segments."""
    parts = [b"Exif\0\0" + block[start : start + 60_000] for start in range(0, len(block), 60_000)]
    extra = b"".join(b"\xff\xe1" + (len(part) + 2).to_bytes(2, "big") + part for part in parts)
    return file(picture(), "JPEG", extra=extra)


def test_the_orientation_survives_too_long_exif_data() -> None:
    data = segments(long_exif(80_000, 0, 6).tobytes()[6:])
    tags = opened(written(data, "JPEG")).getexif()
    assert tags[ExifTags.Base.Orientation] == 6
    assert tags[ExifTags.Base.Make] == "Edge"
    upright = opened(written(data, "PNG"))
    assert upright.size == (HEIGHT, WIDTH)
    assert upright.getexif()[ExifTags.Base.Orientation] == 1


def test_a_picture_loses_its_thumbnail() -> None:
    block = (
        b"MM\0*\0\0\0\x08\0\2"
        + struct.pack(">HHI4s", 271, 2, 3, b"Ed\0\0")
        + struct.pack(">HHIHH", 274, 3, 1, 6, 0)
        + struct.pack(">I", 38)
        + b"\0\1"
        + struct.pack(">HHI4s", 270, 2, 3, b"no\0\0")
        + bytes(4)
    )
    data = file(picture(), "JPEG", exif=b"Exif\0\0" + block)
    assert opened(data).getexif().get_ifd(ExifTags.IFD.IFD1) == {270: "no"}
    for kind in ("JPEG", "PNG", "WEBP"):
        tags = opened(written(data, kind)).getexif()
        assert (tags[271], tags[274]) == ("Ed", 6 if kind == "JPEG" else 1)
        assert tags.get_ifd(ExifTags.IFD.IFD1) == {}


@pytest.mark.parametrize("block", [b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff\1\x12", b"?"])
@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "PNG", "WEBP"])
@pytest.mark.parametrize("turn", [b"", b'<a tiff:Orientation="6"/>'])
def test_writing_with_broken_exif_data(block: bytes, kind: str, turn: bytes) -> None:
    """In the same format they are copied; in another the orientation is that of the XMP data, if Pillow reads it."""
    turn = turn if len(block) > 1 else b""
    data = file(picture(), "JPEG", exif=b"Exif\0\0" + block, **({"xmp": turn} if turn else {}))
    image = Image.open(io.BytesIO(written(data, kind)))
    if kind == "JPEG":
        assert image.info["exif"] == b"Exif\0\0" + block
    else:
        assert image.size == ((HEIGHT, WIDTH) if turn else (WIDTH, HEIGHT))
        assert image.info.get("xmp", b"") == turn.replace(b"6", b"1")


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "packbits", "tiff_adobe_deflate", "tiff_deflate"])
def test_exif_data_in_a_compressed_tiff(compression: str) -> None:
    """Pillow cannot write directories of tags with libtiff. Written twice, as the result is a source as well."""
    with_camera = written(file(picture(), "JPEG", exif=long_exif(500, 20, 6)), "TIFF")
    data = source("RGB", compression=compression)
    with Photo(data) as plain, Photo(with_camera) as taken:
        taken.metadata.options = plain.metadata.options
        out = io.BytesIO()
        writer = Writer(out, "TIFF", taken, "RGB")
        writer.write(taken.read(taken.height))
        writer.close()
    once, twice = out.getvalue(), written(out.getvalue(), "TIFF")
    for result in (once, twice):
        image = opened(result)
        wanted = {"tiff_deflate": "tiff_adobe_deflate"}.get(compression, compression)
        assert image.info["compression"] == wanted
        assert image.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.MakerNote] == bytes(500)
    assert once == twice


def test_compressed_tiffs_use_the_predictor() -> None:
    x = photo(200, 300)
    plain = file(Image.fromarray(x), "TIFF", compression="tiff_adobe_deflate")
    assert len(written(plain, "TIFF")) < 0.8 * len(plain)


def test_xmp_moves_between_formats() -> None:
    xmp = '<x tiff:Orientation="1" title="été"/>'.encode()
    image = opened(written(file(picture(), "WEBP", xmp=xmp), "PNG"))
    assert image.info["xmp"] == xmp
    long = b"<" + b"x" * 70_000 + b">"
    data = file(picture(), "WEBP", xmp=long)
    assert opened(written(data, "WEBP")).info["xmp"] == long
    assert opened(written(data, "TIFF")).info["xmp"] == long
    assert "xmp" not in opened(written(data, "JPEG")).info  # too long for a segment


def test_lossy_webp_files_do_not_grow_much() -> None:
    """A file of quality 75 is written with 90, so that a second loss does not show."""
    image = Image.fromarray(photo(400, 600))
    data = file(image, "WEBP", quality=75)
    assert len(written(data, "WEBP")) < 2 * len(data)


# ---- what cannot be written ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_too_few_rows_and_too_many(kind: str, mode: str) -> None:
    with Photo(source(mode), "photo") as opened_photo:
        rows = opened_photo.read(HEIGHT)
        writer = Writer(io.BytesIO(), kind, opened_photo, mode)
        writer.write(rows[:-2])
        with pytest.raises(ImageError, match=r"^The result of photo lacks 2 of its rows: write them all\.$"):
            writer.close()
        with pytest.raises(ImageError, match=rf"^The result of photo has more rows than it: write {HEIGHT}\.$"):
            writer.write(rows[:3])
        writer.write(rows[-2:])
        writer.close()


def test_sizes_that_a_format_cannot_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    with Photo(file(Image.new("L", (16_384, 1)), "PNG"), "photo") as wide:
        with pytest.raises(ImageError, match=r"^An image of 16384×1 pixels is too large for WEBP: use .png\.$"):
            Writer(io.BytesIO(), "WEBP", wide, "L")
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 8000)
        with pytest.raises(ImageError, match=r"^An image of 16384×1 pixels is too large for TIFF: use .png\.$"):
            Writer(io.BytesIO(), "TIFF", wide, "L")
        Writer(io.BytesIO(), "PNG", wide, "L")
        monkeypatch.setattr("edgeae.images.files.png_writer.ROW_BYTES", 1000)
        with pytest.raises(ImageError, match=r"^The result of photo cannot be a PNG of 16384×1 pixels"):
            Writer(io.BytesIO(), "PNG", wide, "L")


def test_an_encoder_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def save(*_: object, **__: object) -> None:
        raise OSError("no encoder")

    monkeypatch.setattr(Image.Image, "save", save)
    with pytest.raises(ImageError, match=r"^An image cannot be written as WEBP \(no encoder\): use .png\.$"):
        written(png(pixels("RGB"), 2, 8), "WEBP")
