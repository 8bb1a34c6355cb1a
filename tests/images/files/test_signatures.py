"""Files that are no picture to be read: each is named by what it is, whatever its extension; raw files above all."""

import base64
import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers import photo
from PIL import Image

from edgeae.errors import ImageError
from edgeae.images.files import exif
from edgeae.images.files.reader import Photo

RAW = "is a raw file: develop it first (export it as TIFF or JPEG)."


def saved(format: str, **options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(photo()).save(out, format, **options)
    return out.getvalue()


def zipped(*names: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return out.getvalue()


def media(brand: bytes, *more: bytes) -> bytes:
    return struct.pack(">I", 16 + 4 * len(more)) + b"ftyp" + brand + bytes(4) + b"".join(more) + bytes(200)


def read(data: bytes, name: str = "photo.jpg") -> str:
    """What opening and reading a file says; the name is first."""
    with pytest.raises(ImageError) as caught, Photo(data, name) as opened:
        opened.read(opened.height)
    assert str(caught.value).startswith(f"{name} ") and str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{name} ")


NAMED = {
    "jpeg-2000": (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(99), "JPEG 2000"),
    "jpeg-2000-stream": (b"\xff\x4f\xff\x51" + bytes(99), "JPEG 2000"),
    "jpeg-xl": (b"\xff\x0a" + bytes(99), "JPEG XL"),
    "jpeg-xl-box": (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(99), "JPEG XL"),
    "jpeg-xr": (b"II\xbc\1" + bytes(99), "JPEG XR"),
    "photoshop": (b"8BPS\0\1" + bytes(99), "Photoshop"),
    "gimp": (b"gimp xcf v011" + bytes(99), "GIMP"),
    "svg": (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
    "svg-plain": (b"<svg width='9'/>", "SVG"),
    "pdf": (b"%PDF-1.7\n" + bytes(99), "PDF"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n", "PostScript"),
    "mp4": (media(b"isom", b"mp41"), "video (MP4)"),
    "mov": (media(b"qt  "), "video (QuickTime)"),
    "avi": (b"RIFF\x99\0\0\0AVI LIST" + bytes(99), "video (AVI)"),
    "mkv": (b"\x1aE\xdf\xa3" + bytes(99), "video (Matroska"),
    "icon": (b"\0\0\1\0\1\0" + bytes(99), "icon (ICO)"),
    "web-page": (b"<!DOCTYPE html><html><body>404</body></html>", "web page"),
    "web-page-later": (b"\xef\xbb\xbf\n  <html>\n", "web page"),
    "text": (b"hello\nworld\n", "a text"),
    "empty": (b"", "empty file"),
    "zeros": (bytes(5000), "zeros"),
    "zip": (zipped("a.jpg"), "ZIP archive"),
    "krita": (b"PK\3\4" + bytes(26) + b"mimetypeapplication/x-kritaPK", "Krita document: open it"),
    "openraster": (b"PK\3\4" + bytes(26) + b"mimetypeimage/openrasterPK", "OpenRaster document: open it"),
    "labelme": (b'{\n  "version": "5.2.1", "shapes": []}', "JSON document, as annotation tools write: export"),
    "coco-list": (b'\xef\xbb\xbf [{"segmentation": []}]', "JSON document"),
    "gzip": (b"\x1f\x8b\x08" + bytes(99), "packed with gzip"),
    "git-lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
    "thumbs.db": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99), "Thumbs.db"),
    "resource-fork": (b"\0\5\x16\7" + bytes(99), "resource fork"),
    "openexr": (b"v/1\1" + bytes(99), "OpenEXR"),
    "pnm": (b"P6\n2 2\n255\n" + bytes(12), "PNM"),
    "dicom": (bytes(128) + b"DICM" + bytes(99), "DICOM"),
    "jpeg-begun": (saved("JPEG")[:100], "damaged or cut short"),
    "gif-no-frame": (b"GIF89a\4\0\4\0\0\0\0;", "only the beginning of a GIF"),
    "jpeg-12-bits": (saved("JPEG").replace(b"\xff\xc0\0\x11\x08", b"\xff\xc1\0\x11\x0c"), "JPEG of 12 bits"),
    "jpeg-ls": (b"\xff\xd8\xff\xf7\0\x0b\x08" + bytes(99), "JPEG-LS"),
    "behind-an-http-head": (b"HTTP/1.1 200 OK\r\n\r\n" + saved("JPEG"), "JPEG behind 19 other bytes"),
    "behind-a-bom": (b"\xef\xbb\xbf" + saved("PNG"), "PNG behind 3 other bytes"),
    "base64": (base64.b64encode(saved("JPEG")), "base64"),
    "data-address": (b"data:image/png;base64," + base64.b64encode(saved("PNG")), "base64"),
    "changed-as-text": (saved("JPEG").decode("latin-1").encode(), "as if it were text"),
    "web-page-utf-16": ("<html>404</html>".encode("utf-16"), "web page"),
    "webp-begun": (saved("WEBP")[:14], "WebP"),
    "bmp-2-bits": (
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 94, 0, 0, 70, 40, 4, 4, 1, 2, 0, 16, 0, 0, 4, 0) + bytes(32),
        "BMP that cannot be read",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMED)
def test_a_file_is_named_by_what_it_is(name: str) -> None:
    data, words = NAMED[name]
    assert words in read(data)


def test_avif_and_heic_of_which_only_the_head_came() -> None:
    for brands in ((b"heic", b"mif1"), (b"mif1", b"heic"), (b"heix",), (b"msf1", b"hevc")):
        assert "HEIC" in read(media(*brands)) or "damaged" in read(media(*brands))
    assert read(media(b"avif", b"mif1"))


def test_a_heic_picture_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    for name in ("IMG_1.HEIC", "IMG_1.jpg"):
        assert read(media(b"heic", b"mif1"), name) == "is a HEIC picture: pip install 'edgeae[heif]' to read it."


# ---- raw files -------------------------------------------------------------------------------------------------------


def longs(*values: int) -> exif.Field:
    return exif.Field(exif.LONG, len(values), struct.pack(f"<{len(values)}I", *values))


def tiff(*pictures: tuple[int, int, dict[int, exif.Field]], beside: bool = True) -> bytes:
    """A TIFF of grey pictures (width, height, more tags): the first, and the others as its SubIFDs or pages."""
    out = b"II*\0" + bytes(4)
    made = []
    for width, height, more in pictures:
        tags = {
            256: longs(width),
            257: longs(height),
            258: longs(8),
            259: longs(1),
            262: longs(1),
            273: longs(len(out)),
        }
        made.append({**tags, 277: longs(1), 278: longs(height), 279: longs(width * height), **more})
        out += bytes(np.arange(width * height) % 251) + bytes(width * height % 2)
    places = []
    for tags in reversed(made):
        if beside and tags is made[0] and len(made) > 1:
            tags[330] = longs(*places)
        table = exif.pack_tags(tags, len(out))
        if not beside and places:
            at = 2 + 12 * len(tags)
            table = table[:at] + struct.pack("<I", places[-1]) + table[at + 4 :]
        places.append(len(out))
        out += table + bytes(len(table) % 2)
    return out[:4] + struct.pack("<I", places[-1]) + out[8:]


SENSOR = {262: longs(32803)}
DNG = {50706: exif.Field(exif.BYTE, 4, b"\1\4\0\0")}
SMALL = {254: longs(1)}
RAWS: dict[str, tuple[bytes, str]] = {
    "dng": (tiff((16, 12, DNG | SMALL), (64, 48, SENSOR)), "a.dng"),
    "dng-named-tif": (tiff((16, 12, DNG | SMALL), (64, 48, SENSOR)), "a.tif"),
    "dng-linear": (tiff((64, 48, DNG | {262: longs(34892)})), "a.dng"),
    "nef": (tiff((16, 12, SMALL), (64, 48, {**SENSOR, 259: longs(34713)})), "a.nef"),
    "nef-named-jpg": (tiff((16, 12, SMALL), (64, 48, SENSOR)), "a.jpg"),
    "arw": (tiff((16, 12, SMALL), (64, 48, {259: longs(32767)})), "a.arw"),
    "pef": (tiff((64, 48, {**SENSOR, 259: longs(65535)})), "a.pef"),
    "srw": (tiff((16, 12, {}), (64, 48, {259: longs(32770)}), beside=False), "a.srw"),
    "3fr-by-extension": (tiff((16, 12, SMALL), (64, 48, {})), "a.3fr"),
    "cr2": (b"II*\0\x10\0\0\0CR\2\0" + bytes(99), "a.cr2"),
    "cr3": (media(b"crx ", b"isom"), "a.cr3"),
    "raf": (b"FUJIFILMCCD-RAW 0201" + bytes(99), "a.raf"),
    "orf": (b"IIRO\x08\0\0\0" + bytes(99), "a.orf"),
    "rw2": (b"IIU\0\x18\0\0\0" + bytes(99), "a.rw2"),
    "x3f": (b"FOVb\0\0\2\0" + bytes(99), "a.x3f"),
    "mrw": (b"\0MRM" + bytes(99), "a.mrw"),
    "crw": (b"II\x1a\0\0\0HEAPCCDR" + bytes(99), "a.crw"),
    "iiq-by-extension": (np.random.default_rng(0).bytes(999), "a.IIQ"),
}


@pytest.mark.parametrize("name", RAWS)
def test_raw_files_are_refused_by_name(name: str) -> None:
    data, file_name = RAWS[name]
    assert read(data, file_name) == RAW


@pytest.mark.parametrize("name", ["a.dng", "a.nef", "a.cr2", "a.jpg"])
def test_a_plain_tiff_with_another_extension_is_read(name: str) -> None:
    for data in (saved("TIFF"), saved("TIFF", big_tiff=True), saved("TIFF", compression="tiff_lzw")):
        with Photo(data, name) as opened:
            np.testing.assert_array_equal(opened.read(24), photo())


@pytest.mark.parametrize("make", [
    lambda: tiff((16, 12, SMALL), (64, 48, {})),
    lambda: tiff((16, 12, {}), (64, 48, {})),
    lambda: tiff((16, 12, SMALL), (64, 48, {}), beside=False),
])  # fmt: skip
def test_a_small_preview_before_the_picture_is_no_photo(make: Callable[[], bytes]) -> None:
    assert "small preview first" in read(make(), "a.tif")


# ---- TIFFs of unusual pixels -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({258: longs(64), 339: longs(3)}, "1 channel of 64 bits, float grey"),
        ({258: longs(16, 16, 16), 262: longs(8), 277: longs(3)}, "3 channels of 16 bits, CIE L*a*b*"),
        ({258: longs(*[8] * 7), 262: longs(2), 277: longs(7), 339: longs(2)}, "7 channels of 8 bits, signed RGB"),
        ({258: longs(24)}, "1 channel of 24 bits, grey"),
        (
            {258: longs(16, 16, 16), 262: longs(2), 277: longs(3), 339: longs(3, 3, 3)},
            "3 channels of 16 bits, float RGB",
        ),
        ({258: longs(32), 262: longs(32844), 259: longs(34676)}, "SGI Log"),
        ({258: longs(8), 259: longs(52546)}, "JPEG XL"),
    ],
    ids=["float64", "lab16", "7-channels", "24-bits", "half-float", "log", "jxl"],
)
def test_a_tiff_says_which_pixels_it_has(tags: dict[int, exif.Field], words: str) -> None:
    assert words in read(tiff((16, 12, tags)), "a.tif")


def test_a_path_is_named(tmp_path: Path) -> None:
    path = tmp_path / "IMG_1.NEF"
    path.write_bytes(RAWS["nef"][0])
    assert read(path.read_bytes(), str(path)) == RAW
