"""Some 80 kinds of TIFF, PNG, BMP, WebP, GIF, AVIF and HEIC at strength 0: all of it comes back, or is refused by name.

Pixels are compared with an independent reader (Pillow, tifffile) or with the array that the file was made of; every
field of the metadata with what Pillow reads before and after.
"""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers import photo
from helpers.exif import long_exif
from helpers.png_files import CHANNELS, KINDS, SIGNATURE, chunk, header, packed, png
from PIL import ExifTags, Image, features

from edgeae.config import ModelConfig
from edgeae.errors import ImageError
from edgeae.images.files.photoshop import to_profile
from edgeae.images.files.reader import Photo
from edgeae.inference.photo import Options, restore

SESSION = SimpleNamespace(config=ModelConfig("conv", size=16, widths=(8, 16), code=4, context=1), metadata={})
HEIGHT, WIDTH = 24, 36
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a dc:title="\xc3\xa9t\xc3\xa9"/></x:xmpmeta>'
CAPTIONS = b"8BIM\x04\x04\0\0\0\0\0\x08\x1c\x02x\0\x03sea"
DPI = (300.0, 150.0)


def icc(mode: str) -> bytes:
    space = {"L": b"GRAY", "1": b"GRAY", "I": b"GRAY", "F": b"GRAY", "C": b"CMYK"}.get(mode[0], b"RGB ")
    return struct.pack(">I", 128) + bytes(12) + space + bytes(16) + b"acsp" + bytes(88)


def samples(channels: int, dtype: str = "u1", seed: int = 0) -> np.ndarray:
    x = photo(HEIGHT, WIDTH, channels, seed)
    if dtype == "u2":
        return x.astype(np.uint16) * 257 ^ np.random.default_rng(seed).integers(0, 256, x.shape, np.uint16)
    return (x / 255).astype(dtype) if dtype.startswith("f") else x


def picture(mode: str) -> Image.Image:
    if mode in ("1", "P"):
        return Image.fromarray(samples(3)).convert(mode)
    if mode in ("I;16", "I;16B"):
        return Image.frombytes(
            mode, (WIDTH, HEIGHT), samples(1, "u2").astype(">u2" if mode[-1] == "B" else "<u2").tobytes()
        )
    if mode == "F":
        return Image.fromarray(samples(1, "f4")[..., 0])
    return Image.frombytes(mode, (WIDTH, HEIGHT), samples({"LA": 2}.get(mode, len(mode))).tobytes())


def saved(format: str, mode: str, **options: Any) -> Callable[[], bytes]:
    def make() -> bytes:
        more: dict[str, Any] = {"icc_profile": icc(mode), "dpi": DPI}
        if format in ("WEBP", "TIFF", "AVIF"):
            more["exif"] = long_exif(50, 20, 1)
            if options.get("compression", "raw") != "raw":
                del more["exif"][ExifTags.IFD.Exif]
        if format in ("WEBP", "AVIF"):
            more["xmp"] = XMP
        if format == "TIFF":
            more["tiffinfo"] = {270: "Grandmother 1931", 315: "Anna", 33432: "(c) Anna", 700: XMP, 34377: CAPTIONS}
        if format in ("BMP", "GIF"):
            more.pop("icc_profile")
        out = io.BytesIO()
        picture(mode).save(out, format, **more | options)
        return out.getvalue()

    return make


def deep(channels: int, dtype: str, **options: Any) -> Callable[[], bytes]:
    def make() -> bytes:
        tifffile = pytest.importorskip("tifffile")
        out = io.BytesIO()
        defaults: dict[str, Any] = {
            "photometric": "rgb" if channels > 2 else "minisblack",
            "description": "Grandmother",
        }
        if channels in (2, 4) and "photometric" not in options:
            defaults["extrasamples"] = ["unassalpha"]
        x = samples(channels, dtype)
        x = x[..., 0] if channels == 1 else x
        if options.get("planarconfig") == "separate":
            x = np.ascontiguousarray(np.moveaxis(x, 2, 0))
        space = {"separated": "C"}.get(options.get("photometric", ""), "L" if channels < 3 else "R")
        more = {"resolution": DPI, "iccprofile": icc(space), "metadata": None}
        tags = [
            (700, "B", len(XMP), XMP, True),
            (315, "s", 0, "Anna", True),
            (34377, "B", len(CAPTIONS), CAPTIONS, True),
        ]
        tifffile.imwrite(out, x, extratags=tags, **defaults | more | options)
        return out.getvalue()

    return make


def png_of(colour: int, depth: int, interlaced: bool = False) -> Callable[[], bytes]:
    def make() -> bytes:
        x = np.random.default_rng(0).integers(0, 2**depth, (HEIGHT, WIDTH, CHANNELS[colour]))
        before = chunk(b"iCCP", b"p\0\0" + zlib.compress(icc("L" if colour in (0, 4) else "R")))
        before += chunk(b"pHYs", struct.pack(">IIB", 11811, 5906, 1)) + chunk(
            b"eXIf", long_exif(50, 20, 1).tobytes()[6:]
        )
        before += chunk(b"tEXt", b"Title\0Lions") + chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)
        before += chunk(b"zTXt", b"Raw profile type iptc\0\0" + zlib.compress(to_profile("iptc", CAPTIONS)))
        before += chunk(b"PLTE", photo(1, 2**depth).tobytes()) if colour == 3 else b""
        if not interlaced:
            return png(x, colour, depth, before=before)
        passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
        parts = (x[top::down, left::across] for left, top, across, down in passes)
        rows = b"".join(b"".join(b"\0" + row for row in packed(part, depth)) for part in parts if part.size)
        start = SIGNATURE + header(WIDTH, HEIGHT, depth, colour, 0, 0, 1)
        return start + before + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND")

    return make


def bmp_of(bits: int, masks: tuple[int, ...], version: int = 4, *, top_down: bool = False) -> Callable[[], bytes]:
    """A BMP of 16 or 32 bits with masks for its channels, or without (BI_RGB) if there are none."""

    def make() -> bytes:
        words = np.zeros((HEIGHT, WIDTH), np.uint64)
        for mask, values in zip(
            masks or (0xFF0000, 0xFF00, 0xFF, 0xFF000000), np.moveaxis(samples(4), 2, 0), strict=False
        ):
            shift = (mask & -mask).bit_length() - 1
            words |= ((values.astype(np.uint64) * (mask >> shift) + 127) // 255) << np.uint64(shift)
        if bits == 32:
            words[:3] |= np.uint64(masks[3] if len(masks) > 3 else 0 if masks else 0xFF000000)
        data = words.astype(f"<u{bits // 8}")[:: 1 if top_down else -1].tobytes()
        size = {3: 40, 4: 108, 5: 124}[version]
        fields = struct.pack(
            "<iiHHIIiiII",
            WIDTH,
            -HEIGHT if top_down else HEIGHT,
            1,
            bits,
            3 if masks else 0,
            len(data),
            11811,
            5906,
            0,
            0,
        )
        more = struct.pack(f"<{len(masks)}I", *masks)
        body = (struct.pack("<I", size) + fields + more).ljust(size, b"\0")
        start = 14 + len(body)
        return struct.pack("<2sIHHI", b"BM", start + len(data), 0, 0, start) + body + data

    return make


def heic_of(mode: str, dtype: str) -> Callable[[], bytes]:
    def make() -> bytes:
        pillow_heif = pytest.importorskip("pillow_heif")
        out = io.BytesIO()
        name = mode + (";16" if dtype == "u2" else "")
        more = {"exif": long_exif(50, 20, 1).tobytes(), "xmp": XMP, "icc_profile": icc("R")}
        data = samples(len(mode), dtype).tobytes()
        pillow_heif.encode(name, (WIDTH, HEIGHT), data, out, quality=95, **more)
        return out.getvalue()

    return make


ALPHA32, ALPHA16 = (0xFF0000, 0xFF00, 0xFF, 0xFF000000), (0xF00, 0xF0, 0xF, 0xF000)
TIFF_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I;16B", "F")
COMPRESSIONS = ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
LOSSY = {"TIFF-jpeg", "WEBP-lossy", "WEBP-lossy-alpha", "AVIF", "AVIF-alpha", "HEIC", "HEIC-alpha", "HEIC-10-bits"}
KEPT: dict[str, Callable[[], bytes]] = {
    **{f"TIFF-{mode.replace(';', '')}": saved("TIFF", mode) for mode in TIFF_MODES},
    **{f"TIFF-{name}": saved("TIFF", "RGB", compression=name) for name in COMPRESSIONS},
    "TIFF-fax": saved("TIFF", "1", compression="group4"),
    "TIFF-bigtiff": saved("TIFF", "RGB", big_tiff=True),
    "TIFF-I16-lzw": saved("TIFF", "I;16", compression="tiff_lzw"),
    "TIFF-F-deflate": saved("TIFF", "F", compression="tiff_adobe_deflate"),
    "TIFF-48-bits": deep(3, "u2"),
    "TIFF-48-bits-big-endian": deep(3, "u2", byteorder=">"),
    "TIFF-48-bits-bigtiff": deep(3, "u2", bigtiff=True),
    "TIFF-48-bits-deflate": deep(3, "u2", compression="zlib"),
    "TIFF-48-bits-planes": deep(3, "u2", planarconfig="separate"),
    "TIFF-48-bits-tiles": deep(3, "u2", tile=(16, 16)),
    "TIFF-64-bits-alpha": deep(4, "u2"),
    "TIFF-32-bits-gray-alpha": deep(2, "u2"),
    "TIFF-64-bits-inks": deep(4, "u2", photometric="separated"),
    "TIFF-float-colour": deep(3, "f4"),
    "TIFF-float-colour-deflate": deep(3, "f4", compression="zlib"),
    "TIFF-tiles": deep(3, "u1", tile=(16, 32)),
    "TIFF-planes": deep(3, "u1", planarconfig="separate"),
    "TIFF-white-is-zero": deep(1, "u1", photometric="miniswhite"),
    "TIFF-big-endian-bigtiff": deep(3, "u1", byteorder=">", bigtiff=True),
    **{f"PNG-{colour}-{depth}": png_of(colour, depth) for colour, depth in KINDS},
    **{f"PNG-{colour}-{depth}-interlaced": png_of(colour, depth, True) for colour, depth in KINDS},
    **{f"BMP-{mode}": saved("BMP", mode) for mode in ("1", "L", "P", "RGB")},
    "BMP-v4-alpha": bmp_of(32, ALPHA32),
    "BMP-v5-alpha": bmp_of(32, ALPHA32, 5),
    "BMP-v5-alpha-top-down": bmp_of(32, ALPHA32, 5, top_down=True),
    "BMP-plain-alpha": bmp_of(32, (), 3),
    "BMP-plain-alpha-top-down": bmp_of(32, (), 3, top_down=True),
    "BMP-alpha-rgba-order": bmp_of(32, (0xFF, 0xFF00, 0xFF0000, 0xFF000000), 5),
    "BMP-565": bmp_of(16, (0xF800, 0x7E0, 0x1F)),
    "BMP-4444": bmp_of(16, ALPHA16),
    "BMP-61754": bmp_of(32, (0x3F, 0x40, 0xFE000, 0xF0000000)),
    "WEBP-lossless": saved("WEBP", "RGB", lossless=True),
    "WEBP-lossless-alpha": saved("WEBP", "RGBA", lossless=True, exact=True),
    "WEBP-lossy": saved("WEBP", "RGB", quality=80),
    "WEBP-lossy-alpha": saved("WEBP", "RGBA", quality=80),
    **{f"GIF-{mode}": saved("GIF", mode, comment=b"by the sea") for mode in ("1", "L", "P")},
    "GIF-transparent": saved("GIF", "P", transparency=3),
    "GIF-interlaced": saved("GIF", "P", interlace=1),
    "AVIF": saved("AVIF", "RGB", quality=90),
    "AVIF-alpha": saved("AVIF", "RGBA", quality=90),
    "HEIC": heic_of("RGB", "u1"),
    "HEIC-alpha": heic_of("RGBA", "u1"),
    "HEIC-10-bits": heic_of("RGB", "u2"),
}  # fmt: skip


def fields(data: bytes) -> dict[str, object]:
    """Every field of the metadata: as this package reads it, and, where Pillow opens the file, as Pillow does."""
    with Photo(data, "photo") as opened:
        metadata = opened.metadata
        known: dict[str, object] = {
            "format": opened.format,
            "size": (opened.width, opened.height),
            "mode": opened.mode,
            "dtype": opened.dtype,
            "orientation": opened.orientation,
            "icc": metadata.icc,
            "dpi": metadata.dpi and tuple(round(value) for value in metadata.dpi),
            "xmp": metadata.xmp,
            "captions": metadata.resources,
            "exif": metadata.exif if opened.format != "TIFF" else b"",
        }
    try:
        image = Image.open(io.BytesIO(data))
        image.getexif()
    except (OSError, UserWarning):  # not even the kinds that Pillow should know
        return known
        known |= {f"info:{key}": image.info.get(key) for key in ("Title", "comment", "icc_profile", "transparency")}
        del known["info:transparency"]  # of a palette's own order
        tags = image.getexif()
        known["tags"] = {tag: tags.get(tag) for tag in (270, 271, 315, 33432, 700, 33723)}
        known["camera"] = dict(tags.get_ifd(ExifTags.IFD.Exif))
    return known


def pixels(data: bytes) -> np.ndarray:
    if data.startswith(b"GIF"):
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))
    with Photo(data, "photo") as opened:
        return opened.read(opened.height)


@pytest.mark.parametrize("kind", KEPT)
def test_all_comes_back(kind: str, tmp_path: Path) -> None:
    if kind.startswith("AVIF") and not features.check("avif"):
        pytest.skip("Pillow without AVIF")
    data = KEPT[kind]()
    out = io.BytesIO()
    note = restore(data, out, SESSION, Options(strength=0), name="photo", network=lambda piece: piece).note
    result = out.getvalue()
    assert note == ""
    before, after = fields(data), fields(result)
    if kind.startswith("TIFF"):  # captions are written as all resources, and alone, so that all readers find them
        for known in (before, after):
            known["captions"] = bool(known["captions"])
            known.get("tags", {}).pop(33723, None)  # type: ignore[attr-defined]
    if kind.startswith("GIF"):
        del before["mode"], after["mode"]  # its palette may hold grey or colours
    assert {key: after[key] for key in before} == before
    error = np.abs(pixels(result).astype(float) - pixels(data))
    if kind in LOSSY:
        assert error.mean() < (600 if "10-bits" in kind else 4)
    else:
        assert error.max() == 0


def test_enough_kinds() -> None:
    assert len(KEPT) >= 42 and {name.split("-")[0] for name in KEPT} >= {"TIFF", "PNG", "BMP", "WEBP", "GIF"}


@pytest.mark.parametrize("kind", [name for name in KEPT if name.startswith(("BMP", "TIFF-4", "TIFF-6", "TIFF-32"))])
def test_pixels_are_those_of_another_reader(kind: str) -> None:
    data = KEPT[kind]()
    found = pixels(data)
    if kind.startswith("TIFF"):
        tifffile = pytest.importorskip("tifffile")
        expected = tifffile.imread(io.BytesIO(data))
        expected = np.moveaxis(expected, 0, 2) if "planes" in kind else expected
    elif kind in ("BMP-4444", "BMP-61754", "BMP-alpha-rgba-order") or "plain-alpha" in kind:
        x = samples(4)
        steps = {"BMP-4444": 17, "BMP-61754": 255}.get(kind, 1)  # the coarsest channel's
        np.testing.assert_allclose(found[3:].astype(int), x[3:], atol=steps / 2 + 0.51)
        return
    else:
        image = Image.open(io.BytesIO(data))
        expected = np.asarray(image.convert({"1": "L", "P": "RGB"}.get(image.mode, image.mode)))
    np.testing.assert_array_equal(found.squeeze(), expected.squeeze())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (deep(3, "f8"), "64 bits, float RGB"),
        (deep(3, "f2"), "16 bits, float RGB"),
        (deep(3, "u1", photometric="cielab"), r"LAB \(CIE"),
        (deep(3, "u2", photometric="cielab"), r"16 bits, CIE L\*a\*b\*"),
        (bmp_of(32, (0x3FF00000, 0xFFC00, 0x3FF)), "`allow_loss`"),
    ],
    ids=["float64", "float16", "lab", "lab16", "bmp-10-bits"],
)
def test_what_cannot_be_kept_is_refused_by_name(make: Callable[[], bytes], words: str) -> None:
    with pytest.raises(ImageError, match=words):
        restore(make(), io.BytesIO(), SESSION, Options(strength=0), name="photo", network=lambda piece: piece)
