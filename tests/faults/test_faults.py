"""Hostile and broken images, arrays, weight files and options, over every command: one sentence, nothing half written.

Folders, disks and the environment are in test_faults_files.py, signals in test_faults_signals.py.
"""

import io
import json
import struct
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner
from helpers import faults, photo, weight_files
from helpers.faults import Case, check, table
from PIL import Image

import edgeae
from edgeae.cli.main import main


@pytest.fixture
def shelf(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Its networks are loaded once for all tests."""
    monkeypatch.setattr("edgeae.inference.load.load", faults.sharing(shelf))
    return shelf


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two good pictures of 24×20 and a data file, in a folder of the test's own."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.delenv("EDGEAE_DEVICE", raising=False)
    Path("a.png").write_bytes(GOOD["png"])
    Path("b.png").write_bytes(GOOD["png"])
    Path("photos.npz").write_bytes(DATA)


def encoded(kind: str, picture: Image.Image, **options: Any) -> bytes:
    """The bytes of an image file."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def npz(**arrays: Any) -> bytes:
    """The bytes of an .npz file."""
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def npy(array: Any, **options: Any) -> bytes:
    """The bytes of an .npy file."""
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


PICTURE = Image.fromarray(photo(20, 24))
GOOD = {
    "png": encoded("PNG", PICTURE),
    "jpg": encoded("JPEG", PICTURE, quality=90),
    "webp": encoded("WEBP", PICTURE),
    "tif": encoded("TIFF", PICTURE, compression="tiff_adobe_deflate"),
    "gif": encoded("GIF", PICTURE),
    "bmp": encoded("BMP", PICTURE),
}
DATA = npz(images=np.stack([photo(16, 16, seed=seed) for seed in range(4)]))


# ---- images that cannot be used ----------------------------------------------------------------------------------


def chunk(kind: bytes, data: bytes = b"", length: int | None = None, crc: int | None = None) -> bytes:
    """A chunk of a PNG file, which may lie about its length and its sum."""
    return (
        struct.pack(">I", len(data) if length is None else length)
        + kind
        + data
        + struct.pack(">I", zlib.crc32(kind + data) if crc is None else crc)
    )


def png(
    width: int = 8,
    height: int = 8,
    depth: int = 8,
    colour: int = 0,
    methods: tuple[int, int, int] = (0, 0, 0),
    idat: bytes | None = None,
    before: bytes = b"",
    end: bytes = chunk(b"IEND"),
) -> bytes:
    """A PNG file with any header, pixel data and chunks."""
    rows = zlib.compress(bytes(9 * 8)) if idat is None else idat
    header = struct.pack(">IIBBBBB", width, height, depth, colour, *methods)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before + chunk(b"IDAT", rows) + end


def bomb(size: int) -> bytes:
    """So many zero bytes, deflated as far as it goes; after a full flush each MiB becomes the same bytes."""
    deflater, zeros = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS), bytes(1 << 20)
    parts = [deflater.compress(zeros) + deflater.flush(zlib.Z_FULL_FLUSH) for _ in range(2)]
    end = deflater.flush() + (size % 65_521 << 16 | 1).to_bytes(4, "big")  # Adler-32
    return b"\x78\xda" + parts[0] + parts[1] * ((size >> 20) - 1) + end


def tiff(*entries: tuple[int, int, int, int], after: int = 0, start: int = 8, data: bytes = bytes(256)) -> bytes:
    """A little-endian TIFF file of one directory: (tag, type, count, value)."""
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<I", start) + directory + struct.pack("<I", after) + data


def grey_tiff(
    width: int = 8, height: int = 8, place: int = 120, count: int = 64, bits: int = 8, **directory: int
) -> bytes:
    """An uncompressed grey TIFF file with one strip."""
    return tiff(
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, bits),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, 4, 1, place),
        (277, 3, 1, 1),
        (278, 4, 1, height),
        (279, 4, 1, count),
        **directory,
    )


def bmp(width: int, height: int, bits: int = 24, offset: int = 54, compression: int = 0) -> bytes:
    """A BMP file with any header."""
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, 0, 2835, 2835, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 192, 0, 0, offset) + header + bytes(192)


def gif(width: int, height: int, frame: tuple[int, int, int, int] = (0, 0, 8, 8), bits: int = 2) -> bytes:
    """A GIF file with any sizes, and a few bytes of pixels."""
    return (
        b"GIF89a"
        + struct.pack("<HH", width, height)
        + b"\x80\0\0"
        + bytes(6)
        + b","
        + struct.pack("<HHHH", *frame)
        + bytes([0, bits])
        + b"\x02\x4c\x01\0;"
    )


def with_jpeg(width: int, height: int) -> bytes:
    """The good JPEG file, with another size in its frame header."""
    place = GOOD["jpg"].index(b"\xff\xc0") + 5
    return GOOD["jpg"][:place] + struct.pack(">HH", height, width) + GOOD["jpg"][place + 4 :]


def without_segment(marker: bytes) -> bytes:
    """The good JPEG file without the first segment of that marker."""
    place = GOOD["jpg"].index(marker)
    length = int.from_bytes(GOOD["jpg"][place + 2 : place + 4], "big")
    return GOOD["jpg"][:place] + GOOD["jpg"][place + 2 + length :]


def webp_canvas(width: int, height: int) -> bytes:
    """A WebP file that claims a canvas and holds the good picture."""
    sizes = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + sizes + GOOD["webp"][12:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


UNKNOWN, DAMAGED, LARGE = "is not an image that can be read", "is damaged or cut short", "million pixels: make it small"

# name: (the bytes of a file, what is said of it; None where decoders may also make the best of it)
HOSTILE: dict[str, tuple[bytes, str | None]] = {
    # not an image at all
    **{f"empty.{kind}": (b"", UNKNOWN) for kind in GOOD},
    **{f"magic.{kind}": (GOOD[kind][:8], "") for kind in GOOD},
    "text.jpg": (b"hello\n", UNKNOWN),
    "page.png": (b"<!doctype html><html></html>", UNKNOWN),
    "zeros.bmp": (bytes(4096), UNKNOWN),
    "noise.webp": (np.random.default_rng(0).bytes(4096), UNKNOWN),
    "postscript.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", UNKNOWN),
    "document.tif": (b"%PDF-1.7\n" + bytes(99), UNKNOWN),
    "drawing.gif": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', UNKNOWN),
    "archive.png": (npz(images=np.zeros(4)), UNKNOWN),
    "array.png": (npy(np.zeros((8, 8), np.uint8)), UNKNOWN),
    "icon.bmp": (b"\0\0\1\0\1\0" + bytes(64), UNKNOWN),
    # PNG
    "bomb.png": (png(60_000, 60_000, 1, idat=bomb(430 << 20)), LARGE),
    "bomb-inflated.png": (png(1000, 1000, idat=bomb(64 << 20)), None),
    "bomb-interlaced.png": (png(60_000, 60_000, methods=(0, 0, 1), idat=bomb(1 << 20)), LARGE),
    "bomb-largest.png": (png(2**31 - 1, 2**31 - 1), DAMAGED),
    "claims-more.png": (png(8000, 8000), DAMAGED),
    "past-the-largest.png": (png(2**32 - 1, 1), DAMAGED),
    "wide.png": (png(17_000_000, 1, idat=bomb(18 << 20)), "rows of more than 16 MiB"),
    "no-width.png": (png(0, 8), DAMAGED),
    "no-height.png": (png(8, 0), DAMAGED),
    "depth.png": (png(depth=3), DAMAGED),
    "colour.png": (png(colour=5), DAMAGED),
    "compression.png": (png(methods=(1, 0, 0)), DAMAGED),
    "filters.png": (png(methods=(0, 1, 0)), DAMAGED),
    "interlace.png": (png(methods=(0, 0, 2)), DAMAGED),
    "filter-9.png": (png(idat=zlib.compress(b"\x09" + bytes(71))), DAMAGED),
    "no-pixels.png": (png(idat=b""), DAMAGED),
    "few-pixels.png": (png(idat=zlib.compress(bytes(30))), DAMAGED),
    "not-deflated.png": (png(idat=b"\xff" * 99), DAMAGED),
    "wrong-sum.png": (png(before=chunk(b"tEXt", b"a\0b", crc=0)), DAMAGED),
    "wrong-header-sum.png": (GOOD["png"][:29] + b"\0\0\0\0" + GOOD["png"][33:], DAMAGED),
    "wrong-pixel-sum.png": (GOOD["png"][:-16] + b"\0\0\0\0" + GOOD["png"][-12:], DAMAGED),
    "no-end.png": (png(end=b""), DAMAGED),
    "two-headers.png": (png(before=png()[8:33]), DAMAGED),
    "unknown-critical.png": (png(before=chunk(b"HURT", b"me")), DAMAGED),
    "unspeakable-chunk.png": (png(before=chunk(b"\0\1\2\3", b"me")), DAMAGED),
    "scattered-pixels.png": (png(end=chunk(b"tEXt", b"a\0b") + chunk(b"IDAT", b"more") + chunk(b"IEND")), DAMAGED),
    "no-palette.png": (png(colour=3), DAMAGED),
    "palette-of-2-bytes.png": (png(colour=3, before=chunk(b"PLTE", b"ab")), DAMAGED),
    "two-palettes.png": (png(colour=3, before=2 * chunk(b"PLTE", b"abc")), DAMAGED),
    "long-key.png": (png(before=chunk(b"tRNS", bytes(9))), DAMAGED),
    "long-text.png": (png(before=chunk(b"tEXt", b"a\0" + bytes(17 << 20))), None),
    "many-texts.png": (png(before=chunk(b"tEXt", b"a\0") * 150_000), None),
    **{
        f"length-lies-{name}.png": (png(before=chunk(b"tEXt", b"a\0b", length=length)), DAMAGED)
        for name, length in (("0", 0), ("short", 2), ("long", 9), ("past-end", 10**6), ("negative", 2**32 - 1))
    },
    **{
        f"pixel-length-lies-{length}.png": (
            png(idat=b"", end=chunk(b"IDAT", zlib.compress(bytes(72)), length=length)),
            DAMAGED,
        )
        for length in (0, 1, 2**31, 2**32 - 12)
    },
    # the others
    "bomb.gif": (gif(65_535, 65_535), LARGE),
    "frame-outside.gif": (gif(8, 8, (60_000, 60_000, 5000, 5000)), ""),
    "no-size.gif": (gif(0, 0, (0, 0, 0, 0)), ""),
    "code-size.gif": (gif(8, 8, bits=255), ""),
    "bomb.tif": (grey_tiff(60_000, 60_000), LARGE),
    "bomb-largest.tif": (grey_tiff(2**32 - 1, 2**32 - 1), ""),
    "bomb-wide.tif": (grey_tiff(2**31 - 1, 1), LARGE),
    "no-size.tif": (grey_tiff(0, 0), ""),
    "strip-outside.tif": (grey_tiff(place=2**31), ""),
    "strip-claims.tif": (grey_tiff(width=8000, height=8000, count=2**32 - 1), ""),
    "directory-outside.tif": (grey_tiff(start=2**31), ""),
    "bits.tif": (grey_tiff(bits=65_535), ""),
    "bits-12.tif": (grey_tiff(bits=12), "has 12 bits a pixel"),
    "endless-tags.tif": (tiff((256, 4, 2**32 - 1, 8), (257, 4, 2**32 - 1, 8)), ""),
    "no-tags.tif": (tiff(), ""),
    "kind-of-tag.tif": (tiff((256, 99, 1, 8), (257, 99, 1, 8)), ""),
    "bomb.bmp": (bmp(60_000, 60_000), LARGE),
    "bomb-largest.bmp": (bmp(2**31 - 1, -(2**31)), ""),
    "backwards.bmp": (bmp(-8, 8), ""),
    "offset-outside.bmp": (bmp(8, 8, offset=2**32 - 1), ""),
    "bits.bmp": (bmp(8, 8, bits=7), ""),
    "compression.bmp": (bmp(8, 8, compression=99), ""),
    "bomb.jpg": (with_jpeg(65_500, 65_500), LARGE),
    "claims-more.jpg": (with_jpeg(900, 900), None),
    "no-size.jpg": (with_jpeg(0, 0), ""),
    "no-tables.jpg": (without_segment(b"\xff\xdb"), ""),
    "no-frame.jpg": (without_segment(b"\xff\xc0"), ""),
    "adobe-short.jpg": (GOOD["jpg"][:2] + b"\xff\xee\0\x07Adobe" + GOOD["jpg"][2:], None),
    "no-scan.jpg": (GOOD["jpg"][: GOOD["jpg"].index(b"\xff\xda")] + b"\xff\xd9", ""),
    "bomb.webp": (webp_canvas(1 << 24, 1 << 24), ""),
    "canvas-lies.webp": (webp_canvas(16_000, 10_000), ""),
    "riff-lies.webp": (GOOD["webp"][:4] + b"\xff\xff\xff\xff" + GOOD["webp"][8:], ""),
    "chunk-lies.webp": (GOOD["webp"][:16] + b"\xff\xff\xff\x7f" + GOOD["webp"][20:], ""),
}

# What each command is tried with; IMAGE stands for the hostile file.
USES = {
    "run": "run IMAGE -m faces-conv -o out/IMAGE",
    "run-vae": "run IMAGE -m faces-vae -o x.png",
    "mask": "run a.png -m faces-conv -o out --mask IMAGE",
    "corrupt": "corrupt IMAGE -o x.png --corrupt noise",
    "interpolate": "interpolate a.png IMAGE -o x.gif --steps 2",
    "evaluate": "evaluate faces-conv --data folder",
}


def write(name: str, data: bytes) -> None:
    """A file of that name, in a folder that need not exist."""
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_bytes(data)


def image_cases() -> list[Case]:
    """Every hostile image in every use."""
    cases = []
    for name, (data, says) in HOSTILE.items():
        for use, line in USES.items():
            strict = says is not None and use in ("run", "run-vae", "corrupt")
            make = partial(write, f"folder/{name}" if use == "evaluate" else name, data)
            cases.append(
                Case(
                    f"{name}-{use}",
                    line.replace("IMAGE", name),
                    (says or "") if strict else "",
                    1 if strict else None,
                    make,
                )
            )
    return cases


# One reader opens the images of all commands: each image once, and a few in every command.
FEW = [*HOSTILE][::32]


@table(image_cases(), short=lambda case: case.name.endswith("-run") or case.name.rpartition("-")[0] in FEW)
def test_hostile_images(case: Case, shelf: Path) -> None:
    check(case, shelf)


def test_hostile_images_in_one_folder(shelf: Path) -> None:
    """The good ones are restored, used for training and scored; each of the others is told of, one sentence each."""
    Path("all/good").mkdir(parents=True)
    for name, (data, _) in HOSTILE.items():
        Path("all", name).write_bytes(data)
    for kind, data in GOOD.items():
        Path("all/good", f"a.{kind}").write_bytes(data)
    result = CliRunner().invoke(main, ["run", "all", "-m", "faces-conv", "-o", "out", "--json"])
    assert result.exit_code == 3, result.output
    document = json.loads(result.stdout)
    done = {Path(entry["source"]).relative_to("all").as_posix() for entry in document["done"]}
    assert {f"good/a.{kind}" for kind in GOOD} <= done
    assert done <= {f"good/a.{kind}" for kind in GOOD} | {name for name, (_, says) in HOSTILE.items() if says is None}
    assert len(done) + len(document["failed"]) == len(GOOD) + len(HOSTILE)
    for entry in document["failed"]:
        assert entry["reason"].startswith(entry["source"]) and entry["reason"].endswith(".")
    for path in Path("out").rglob("*.*"):
        faults.whole(path)

    result = CliRunner().invoke(main, ["evaluate", "faces-conv", "--data", "all", "--json"])
    assert result.exit_code == 0 and json.loads(result.stdout)["images"] >= len(GOOD), result.output
    line = "train conv --data all --size 16 --widths 4 --code 4 --epochs 1 --batch 4 -o run -q"
    result = CliRunner().invoke(main, line.split())
    assert result.exit_code == 0 and result.output == ""


# ---- images cut short --------------------------------------------------------------------------------------------


def check_cut(kind: str, percent: int, result: Path) -> None:
    """Where a file that is cut short has a result, only its end marker was missing: every pixel is there."""
    if result.exists():
        assert percent >= 95, result
        with Image.open(result) as image, Image.open(io.BytesIO(GOOD[kind])) as expected:
            assert np.array_equal(image.convert("RGB"), expected.convert("RGB")) or kind == "jpg"


@pytest.mark.parametrize("kind", GOOD)
def test_images_cut_short(kind: str, shelf: Path) -> None:
    """At every percent of their length: `corrupt` one by one, `run` as a folder; a sentence each, or every pixel."""
    Path("cut").mkdir()
    for percent in range(100):
        name = f"cut/{percent:02}.{kind}"
        Path(name).write_bytes(GOOD[kind][: len(GOOD[kind]) * percent // 100])
        check(Case(kind, f"corrupt {name} -o x.png --corrupt none", name, None), shelf)
        check_cut(kind, percent, Path("x.png"))
        Path("x.png").unlink(missing_ok=True)
    result = CliRunner().invoke(main, ["run", "cut", "-m", "faces-conv", "--strength", "0", "-o", "out", "--json"])
    document = json.loads(result.stdout)
    assert result.exit_code == (3 if document["done"] else 1), result.output
    assert len(document["done"]) + len(document["failed"]) == 100
    for failed in document["failed"]:
        assert failed["reason"].startswith(failed["source"]) and failed["reason"].endswith(".")
    for percent in range(100):
        check_cut(kind, percent, Path("out", f"{percent:02}.{kind}"))


# ---- images that are odd, and fine -------------------------------------------------------------------------------


def with_segment(marker: int, data: bytes) -> bytes:
    """The good JPEG file with one more segment at its beginning."""
    return GOOD["jpg"][:2] + bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data + GOOD["jpg"][2:]


def with_chunk(kind: bytes, data: bytes) -> bytes:
    """The good PNG file with one more chunk after its header."""
    return GOOD["png"][:33] + chunk(kind, data) + GOOD["png"][33:]


NOISE = np.random.default_rng(1).bytes(500)
ODD: dict[str, bytes] = {
    "1x1.png": encoded("PNG", Image.new("RGB", (1, 1))),
    "1x1.gif": encoded("GIF", Image.new("L", (1, 1))),
    "1x1.jpg": encoded("JPEG", Image.new("L", (1, 1))),
    "1x20000.png": encoded("PNG", Image.new("RGB", (1, 20_000))),
    "20000x1.png": encoded("PNG", Image.new("RGB", (20_000, 1))),
    "20000x1.jpg": encoded("JPEG", Image.new("RGB", (20_000, 1))),
    "1x20000.tif": encoded("TIFF", Image.new("L", (1, 20_000))),
    "exif-noise.jpg": with_segment(0xE1, b"Exif\0\0" + NOISE),
    "exif-empty.jpg": with_segment(0xE1, b"Exif\0\0"),
    "exif-loop.jpg": with_segment(0xE1, b"Exif\0\0" + tiff((0x8769, 4, 1, 8), (274, 3, 1, 6), after=8, data=b"")),
    "exif-turn.jpg": with_segment(0xE1, b"Exif\0\0" + tiff((274, 3, 1, 99))),
    "exif-turn-text.jpg": with_segment(0xE1, b"Exif\0\0" + tiff((274, 2, 4, 0x61616161))),
    "exif-counts.jpg": with_segment(0xE1, b"Exif\0\0" + tiff((274, 3, 2**32 - 1, 6), (282, 5, 2**31, 0))),
    "exif-noise.png": with_chunk(b"eXIf", NOISE),
    "exif-noise.webp": encoded("WEBP", PICTURE, exif=b"Exif\0\0II*\0" + NOISE),
    "exif-text.png": with_chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n 9\nnothex")),
    "icc-noise.jpg": encoded("JPEG", PICTURE, icc_profile=NOISE),
    "icc-noise.png": with_chunk(b"iCCP", b"icc\0\0" + NOISE),
    "icc-bomb.png": with_chunk(b"iCCP", b"icc\0\0" + bomb(512 << 20)),
    "icc-no-name.png": with_chunk(b"iCCP", b""),
    "icc-parts.jpg": with_segment(0xE2, b"ICC_PROFILE\0\x09\x02" + NOISE),
    "icc-noise.tif": encoded("TIFF", PICTURE, icc_profile=NOISE),
    "icc-noise.webp": encoded("WEBP", PICTURE, icc_profile=NOISE),
    "text-bomb.png": with_chunk(b"zTXt", b"Comment\0\0" + bomb(512 << 20)),
    "text-bomb-international.png": with_chunk(b"iTXt", b"Comment\0\1\0\0\0" + bomb(512 << 20)),
    "text-no-end.png": with_chunk(b"tEXt", b"\xff" * 99),
    "resolution.png": with_chunk(b"pHYs", b"\0" * 9),
    "resolution-short.png": with_chunk(b"pHYs", b"\0"),
    "gamma.png": with_chunk(b"gAMA", b"\0\0\0\0"),
    "xmp-noise.jpg": with_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + NOISE),
    "photoshop-noise.jpg": with_segment(0xED, b"Photoshop 3.0\0" + b"8BIM" + NOISE),
    "more-after-the-end.jpg": GOOD["jpg"] + NOISE,
    "more-after-the-end.png": GOOD["png"] + NOISE,
    "more-after-the-end.webp": GOOD["webp"] + NOISE,
    "loop.tif": grey_tiff(after=8),
    "jpeg-named.png": GOOD["jpg"],
    "png-named.jpg": GOOD["png"],
}


@table(
    [
        Case(f"{name}-{use}", USES[use].replace("IMAGE", name), code=0, make=partial(write, name, data))
        for name, data in ODD.items()
        for use in ("run", "corrupt", "interpolate")
    ]
)
def test_odd_images(case: Case, shelf: Path) -> None:
    """They are restored; where only Pillow reads, and refuses, it is told."""
    check(case, shelf)


# ---- arrays ------------------------------------------------------------------------------------------------------


def npz_member(member: bytes) -> bytes:
    """An .npz file whose one member is anything."""
    import zipfile

    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", member)
    return file.getvalue()


def npy_header(text: str, data: bytes = b"", version: bytes = b"\1\0") -> bytes:
    """An .npy file with any header."""
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text.encode() + data


def claimed(shape: str, kind: str = "|u1") -> bytes:
    """An .npy file that claims a shape and holds 64 bytes."""
    return npy_header(f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}}}\n", bytes(64))


def idx(*sides: int, kind: int = 8, data: bytes = bytes(64)) -> bytes:
    """An IDX file."""
    return bytes([0, 0, kind, len(sides)]) + struct.pack(f">{len(sides)}I", *sides) + data


def gzipped(data: bytes) -> bytes:
    """A .gz file."""
    import gzip

    return gzip.compress(data, mtime=0)


FLOATS = np.full((4, 16, 16, 3), 0.5, np.float32)


def spoilt(value: float, kind: Any = np.float32) -> Any:
    """Four pictures, one pixel of which is `value`."""
    images = FLOATS.astype(kind)
    images[2, 3, 4, 1] = value
    return images


ARRAYS: dict[str, tuple[bytes, str]] = {
    "nan.npy": (npy(spoilt(np.nan)), "float values from nan"),
    "infinite.npy": (npy(spoilt(np.inf)), "to inf"),
    "minus-infinite.npy": (npy(spoilt(-np.inf)), "from -inf"),
    "nan.npz": (npz(images=spoilt(np.nan)), "float values from nan"),
    "infinite.npz": (npz(images=spoilt(np.inf, np.float64)), "to inf"),
    "nan-half.npy": (npy(spoilt(np.nan, np.float16)), "float values from nan"),
    "to-255.npy": (npy(FLOATS * 255), "scale them to [0, 1]"),
    "negative.npy": (npy(FLOATS - 1), "scale them to [0, 1]"),
    "subnormal-negative.npy": (npy(spoilt(-1e-40)), "scale them to [0, 1]"),
    "ndim-1.npy": (npy(np.zeros(64, np.uint8)), "images are (N, H, W)"),
    "ndim-2.npy": (npy(np.zeros((16, 16), np.uint8)), "images are (N, H, W)"),
    "ndim-5.npy": (npy(np.zeros((2, 2, 16, 16, 3), np.uint8)), "images are (N, H, W)"),
    "scalar.npy": (npy(np.uint8(3)), "images are (N, H, W)"),
    "channels-2.npy": (npy(np.zeros((4, 16, 16, 2), np.uint8)), "has 2 channels"),
    "channels-4.npy": (npy(np.zeros((4, 16, 16, 4), np.uint8)), "has 4 channels"),
    "channels-first.npy": (npy(np.zeros((4, 3, 16, 16), np.uint8)), "channels first"),
    "no-images.npy": (npy(np.zeros((0, 16, 16, 3), np.uint8)), "holds no image"),
    "no-height.npy": (npy(np.zeros((4, 0, 16, 3), np.uint8)), "holds no image"),
    "small.npy": (npy(np.zeros((4, 4, 4, 3), np.uint8)), "they need 8 a side"),
    **{
        f"{kind}.npy": (npy(np.zeros((4, 16, 16, 3), kind)), "images are uint8, or float")
        for kind in ("int8", "int16", "uint16", "int32", "int64", "uint64", "complex64", "S4", "U4", "datetime64[s]")
    },
    "records.npy": (npy(np.zeros(4, [("a", "u1"), ("b", "f4")])), "images are uint8, or float"),
    "objects.npy": (npy(np.array([{}, []], object), allow_pickle=True), "images are uint8, or float"),
    "objects.npz": (npz(images=np.array([{}, []], object)), "images are uint8, or float"),
    "empty.npy": (b"", "not a readable .npy"),
    "text.npy": (b"hello\n", "not a readable .npy"),
    "cut.npy": (npy(FLOATS)[:-999], "more than the file can hold"),
    "cut-by-1.npy": (npy(FLOATS)[:-1], "cannot be read"),
    "cut-header.npy": (npy(FLOATS)[:50], "not a readable .npy"),
    "version.npy": (npy_header("{}", version=b"\x09\0"), "not a readable .npy"),
    "header-code.npy": (npy_header("__import__('os').abort()"), "not a readable .npy"),
    "header-deep.npy": (npy_header("(" * 9000), "not a readable .npy"),
    "header-types.npy": (npy_header("{'descr': 7, 'fortran_order': 0, 'shape': 'x'}"), "not a readable .npy"),
    "claims-terabytes.npy": (claimed("(1000000, 1000, 1000, 3)"), "more than the file can hold"),
    "claims-past-64-bits.npy": (claimed("(4294967296, 4294967296, 3)"), "more than the file can hold"),
    "claims-negative.npy": (claimed("(-4, -16, 16, 3)"), "holds no image"),
    "claims-negative-descr.npy": (claimed("(4, 4, 4)", "|u-1"), "not a readable .npy"),
    "empty.npz": (b"", "cannot be read"),
    "text.npz": (b"hello\n", "cannot be read"),
    "cut.npz": (DATA[: len(DATA) // 2], "cannot be read"),
    "no-arrays.npz": (npz(), "holds no array"),
    "no-npy.npz": (npz_member(b"hello"), "not a readable .npy"),
    "inflated.npz": (npz_member(claimed("(100000, 16, 16, 3)") + bytes(1 << 20)), "more than the file can hold"),
    "damaged.npz": (DATA[:300] + b"\xff" * 64 + DATA[364:], "cannot be read"),
    "empty-idx3-ubyte": (b"", "is not a dataset"),
    "text-idx3-ubyte": (b"hello\n", "is not a dataset"),
    "labels-idx1-ubyte": (idx(64), "holds labels"),
    "cut-idx3-ubyte": (idx(4, 8, 8), "claims 256 pixels"),
    "longer-idx3-ubyte": (idx(1, 7, 8), "more pixels than"),
    "ints-idx3-ubyte": (idx(1, 8, 8, kind=0x0C), "images are type 0x08"),
    "terabytes-idx3-ubyte": (idx(2**32 - 1, 2**32 - 1, 2**32 - 1), "more than the file can hold"),
    "bomb-idx3-ubyte.gz": (gzipped(idx(60_000, 1000, 1000)), "more than the file can hold"),
    "cut-idx3-ubyte.gz": (gzipped(idx(1, 8, 8))[:-9], "cannot be read"),
    "not-gzip-idx3-ubyte.gz": (b"\x1f\x8b" + NOISE, "cannot be read"),
}

DATA_USES = {
    "train": "train conv --data FILE --size 16 --widths 4 --code 4 --epochs 1 -o run",
    "evaluate": "evaluate faces-conv --data FILE",
    "export": "export SHELF/faces-conv.safetensors --data FILE -o x.safetensors",
}


@table(
    [
        Case(f"{name}-{use}", line.replace("FILE", name), says, make=partial(write, name, data))
        for name, (data, says) in ARRAYS.items()
        for use, line in DATA_USES.items()
    ]
)
def test_hostile_arrays(case: Case, shelf: Path) -> None:
    check(case, shelf)


PIXELS = np.zeros((16, 16, 3), np.uint8)
API_ARRAYS: dict[str, tuple[Any, str]] = {
    "nan": (np.full((16, 16, 3), np.nan, np.float32), "from nan to nan"),
    "infinite": (np.full((16, 16, 3), np.inf, np.float32), "to inf"),
    "one-nan": (spoilt(np.nan), "nan"),
    "to-255": (np.full((16, 16, 3), 255.0, np.float32), "scale them to 0 to 1"),
    "int64": (PIXELS.astype(np.int64), "give uint8, or floats"),
    "bool": (PIXELS.astype(bool), "give uint8, or floats"),
    "complex": (PIXELS.astype(complex), "give uint8, or floats"),
    "objects": (PIXELS.astype(object), "give uint8, or floats"),
    "text": (PIXELS.astype(str), "give uint8, or floats"),
    "grey": (PIXELS[..., :1], "is not an image for this model"),
    "rgba": (np.zeros((16, 16, 4), np.uint8), "is not an image for this model"),
    "channels-first": (np.zeros((3, 16, 16), np.uint8), "is not an image for this model"),
    "ndim-0": (np.array(3, np.uint8), "is not an image for this model"),
    "ndim-2": (PIXELS[..., 0], "is not an image for this model"),
    "ndim-5": (PIXELS[None, None], "is not an image for this model"),
    "no-height": (PIXELS[:0], "is not an image for this model"),
    "no-images": (PIXELS[None][:0], "is not an image for this model"),
    "none": (None, "give a path, bytes or a PIL image"),
    "number": (7, "give a path, bytes or a PIL image"),
    "list": ([[0, 0, 0]], "give a path, bytes or a PIL image"),
    "missing": ("missing.png", "does not exist"),
    "folder": (Path(), "is a folder"),
    "name-with-nul": ("a\0.png", "a\0.png"),
    "no-bytes": (b"", UNKNOWN),
    "bytes": (NOISE, UNKNOWN),
    "no-pixels": (Image.new("RGB", (0, 4)), "has no pixels"),
    "float-pixels": (Image.new("F", (16, 16), 7.0), "outside 0 to 1"),
    "nan-pixels": (Image.new("F", (16, 16), float("nan")), "outside 0 to 1"),
    "32-bit-pixels": (Image.new("I", (16, 16), 1 << 20), "more than 16 bits"),
    "lab": (Image.new("LAB", (16, 16)), "pixels of the kind LAB"),
}


@pytest.mark.parametrize("method", ["reconstruct", "encode", "interpolate"])
@pytest.mark.parametrize("name", API_ARRAYS)
def test_hostile_images_in_python(name: str, method: str, shelf: Path) -> None:
    image, says = API_ARRAYS[name]
    loaded = edgeae.load("faces-conv", "CPU")
    with pytest.raises(edgeae.EdgeaeError, match=r"[.]$") as caught:
        getattr(loaded, method)(*[image] * (2 if method == "interpolate" else 1))
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (np.full((4, 4, 4), np.nan), "NaN or infinity"),
        (np.full((4, 4, 4), 1e300), "NaN or infinity"),
        (np.zeros((4, 4, 5)), "does not fit"),
        (np.zeros(64), "does not fit"),
        (np.zeros((0, 4, 4, 4)), "does not fit"),
        (np.zeros((1, 1, 4, 4, 4)), "does not fit"),
    ],
    ids=["nan", "overflow", "channels", "flat", "none", "ndim-5"],
)
def test_hostile_codes_in_python(code: Any, says: str, shelf: Path) -> None:
    with pytest.raises(edgeae.EdgeaeError, match=says):
        edgeae.load("faces-conv", "CPU").decode(code)


# ---- weight files ------------------------------------------------------------------------------------------------


def forged(forge: Callable[[dict[str, Any]], None], base: str = "faces-conv") -> Callable[[Path], bytes]:
    """A tiny network's file with a forged header."""

    def make(shelf: Path) -> bytes:
        header, body = weight_files.split((shelf / f"{base}.safetensors").read_bytes())
        forge(header)
        return weight_files.join(header, body)

    return make


def with_value(tensor: str, value: bytes, base: str = "faces-conv") -> Callable[[Path], bytes]:
    """A tiny network's file whose tensor begins with the bytes of another value."""

    def make(shelf: Path) -> bytes:
        header, body = weight_files.split((shelf / f"{base}.safetensors").read_bytes())
        place = header[tensor]["data_offsets"][0]
        return weight_files.join(header, body[:place] + value + body[place + len(value) :])

    return make


def edited(edit: Callable[[bytes], bytes]) -> Callable[[Path], bytes]:
    """A tiny network's file with its bytes changed."""
    return lambda shelf: edit((shelf / "faces-conv.safetensors").read_bytes())


def header_bytes(data: bytes) -> int:
    """The length of a weight file's header."""
    return int.from_bytes(data[:8], "little")


def header_of(text: bytes) -> Callable[[Path], bytes]:
    """A file with any header and 16 bytes of tensors."""
    return lambda shelf: weight_files.join(text, bytes(16))


metadata, config, entry = weight_files.metadata, weight_files.config, weight_files.entry
SCALE = "down.0.weight.scale"
NO_FILE, DAMAGED_HEADER = "is not a safetensors weight file", "the header is damaged"

FORGED: dict[str, tuple[Callable[[Path], bytes], str]] = {
    **{f"forged-{i}": (forged(forge), says) for i, (forge, says) in enumerate(weight_files.FORGERIES)},
    "empty": (edited(lambda data: b""), NO_FILE),
    "one-byte": (edited(lambda data: b"\x02"), NO_FILE),
    "image": (edited(lambda data: GOOD["png"]), NO_FILE),
    "pickle": (edited(lambda data: b"\x80\x04cposix\nsystem\n(S'touch pwned'\ntR."), NO_FILE),
    "zip": (edited(lambda data: DATA), NO_FILE),
    "length-0": (edited(lambda data: bytes(8) + data[8:]), NO_FILE),
    "length-1-more": (edited(lambda data: (header_bytes(data) + 1).to_bytes(8, "little") + data[8:]), ""),
    "length-8-less": (edited(lambda data: (header_bytes(data) - 8).to_bytes(8, "little") + data[8:]), ""),
    "length-past-the-end": (edited(lambda data: (len(data) - 7).to_bytes(8, "little") + data[8:]), "truncated"),
    "length-largest": (edited(lambda data: b"\xff" * 8 + data[8:]), NO_FILE),
    "length-negative": (edited(lambda data: (-1).to_bytes(8, "little", signed=True) + data[8:]), NO_FILE),
    "no-tensors": (edited(lambda data: data[: 8 + header_bytes(data)]), "truncated in tensor"),
    "last-byte": (edited(lambda data: data[:-1]), "truncated in tensor"),
    "more": (edited(lambda data: data + b"x"), "belong to nothing"),
    "not-utf-8": (header_of(b'{"a": "\xff\xfe"}'), DAMAGED_HEADER),
    "utf-16": (header_of('{"a": 1}'.encode("utf-16-le")), DAMAGED_HEADER),
    "byte-order-mark": (header_of(b"\xef\xbb\xbf{}"), NO_FILE),
    "duplicate-keys": (header_of(b'{"__metadata__": {}, "__metadata__": {}}'), "a key occurs twice"),
    "deep": (header_of(b'{"a":' * 90_000 + b"1" + b"}" * 90_000), DAMAGED_HEADER),
    "deep-arrays": (header_of(b'{"a":' + b"[" * 250_000 + b"]" * 250_000 + b"}"), DAMAGED_HEADER),
    "nan-in-json": (header_of(b'{"__metadata__": {"format_version": NaN}}'), "NaN is no number of JSON"),
    "surrogate": (forged(metadata(quantize="\ud800")), "unknown quantization"),
    "nul": (forged(metadata(arch="conv\0")), "says it holds"),
    "escape": (forged(metadata(arch="\x1b[2J")), "says it holds"),
    "escape-in-version": (forged(metadata(format_version="\x1b]0;x\x07")), "update edgeae"),
    "escape-in-key": (forged(metadata(**{"\x1b[2J": 1})), "is not a string"),
    "many-keys": (forged(metadata(**{f"k{i}": "" for i in range(90_000)})), NO_FILE),
    **{
        f"metadata-{key}-{i}": (forged(metadata(**{key: value})), "is not a string")
        for key in (*weight_files.KEYS, "golden")
        for i, value in enumerate((7, ["x"], {"x": 1}, True))
    },
    **{
        f"size-{i}": (forged(config(size=value)), "")
        for i, value in enumerate((0, -16, 15, 1 << 40, 16.0, "16", None, [16], True))
    },
    **{
        f"widths-{i}": (forged(config(widths=value)), "")
        for i, value in enumerate(([], [0], [-8, 16], [8.0, 16], ["8"], 8, None, [4096] * 8, [8] * 9, [10**30, 1]))
    },
    **{
        f"code-{i}": (forged(config(code=value)), "")
        for i, value in enumerate((0, -1, 65_536, 65_537, "4", None, 10**400, float("nan"), float("inf"), True))
    },
    **{
        f"channels-{i}": (forged(config(in_channels=value)), "")
        for i, value in enumerate((0, 2, 4, -3, 3.0, "3", None))
    },
    **{f"context-{i}": (forged(config(context=value)), "") for i, value in enumerate((-1, 64, 65, 1.0, None, "1"))},
    **{f"arch-{arch}": (forged(config(arch=arch, code=24)), "") for arch in ("residual", "vae", "unet", "", "CONV")},
    "gigantic-conv": (forged(config(widths=[4096] * 8, code=65_536, context=64, size=4096)), "should be float32"),
    "gigantic-residual": (
        forged(config(arch="residual", widths=[4096] * 8, code=65_536, context=64, size=4096)),
        "should be float32",
    ),
    "gigantic-vae": (forged(config(arch="vae", widths=[4096] * 8, code=65_536, size=4096)), ""),
    "nan-weight": (with_value("down.0.weight", struct.pack("<f", np.nan)), "holds NaN or infinity"),
    "infinite-weight": (with_value("down.0.bias", struct.pack("<f", -np.inf)), "holds NaN or infinity"),
    "nan-half": (with_value("down.0.weight", b"\0\x7e", "fp16"), "holds NaN or infinity"),
    "nan-scale-int8": (with_value(SCALE, struct.pack("<f", np.nan), "int8"), "holds NaN or infinity"),
    "infinite-scale-int8": (with_value(SCALE, struct.pack("<f", np.inf), "int8"), "holds NaN or infinity"),
    "infinite-scale-int4": (with_value(SCALE, b"\0\x7c", "int4"), "holds NaN or infinity"),
    **{f"no-scale-{scheme}": (forged(lambda header: header.pop(SCALE), scheme), "") for scheme in ("int8", "int4")},
    **{
        f"scale-renamed-{scheme}": (forged(weight_files.renamed(SCALE, "x.scale"), scheme), "is missing")
        for scheme in ("int8", "int4")
    },
    "scale-shape": (forged(entry(SCALE, shape=[2, 4]), "int8"), "should be float32"),
    "scale-type": (forged(entry(SCALE, dtype="I32"), "int8"), "should be float32"),
    "int8-as-int4": (forged(metadata(quantize="int4"), "int8"), "should be uint8"),
    "int4-as-int8": (forged(metadata(quantize="int8"), "int4"), "should be int8"),
    "int8-as-none": (forged(metadata(quantize="none"), "int8"), "should be float32"),
}

WEIGHT_USES = {
    "info": "info ./x.safetensors",
    "verify": "verify ./x.safetensors",
    "run": "run a.png -m ./x.safetensors -o out",
    "export": "export ./x.safetensors -o new.safetensors --data photos.npz",
    "evaluate": "evaluate ./x.safetensors --data photos.npz",
    "sample": "sample -m ./x.safetensors -o new.png",
    "interpolate": "interpolate a.png b.png -m ./x.safetensors -o new.gif",
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_weights(name: str, shelf: Path) -> None:
    make, says = FORGED[name]
    data = make(shelf)
    Path("x.safetensors").write_bytes(data)
    for use, line in WEIGHT_USES.items():
        check(Case(use, line, says), shelf)


GOLDEN = {"size": 16, "seed": 0, "tolerance": 1e-3, "digest": "AAAA"}
BAD_GOLDENS: dict[str, Any] = {
    "none": None,
    "no-json": "not JSON",
    "number": "7",
    "list": "[]",
    "deep": "[" * 100_000,
    "huge-number": '{"size": ' + "9" * 5000 + "}",
    **{f"no-{key}": json.dumps({k: v for k, v in GOLDEN.items() if k != key}) for key in GOLDEN},
    **{
        f"{key}-{i}": json.dumps(GOLDEN | {key: value})
        for key, values in {
            "size": (0, -16, 15, 10**9, 10**400, "x", None, [], {}, float("nan"), float("inf")),
            "seed": (-1, 2**32, "x", None, float("inf")),
            "tolerance": (-1, 1, float("nan"), float("inf"), "x", None),
            "digest": ("", "not base64!", "AAAA", "A" * 4_000, 7, None, "\ud800"),
        }.items()
        for i, value in enumerate(values)
    },
}


@pytest.mark.parametrize("name", BAD_GOLDENS)
def test_forged_goldens(name: str, shelf: Path) -> None:
    Path("x.safetensors").write_bytes(forged(metadata(golden=BAD_GOLDENS[name]))(shelf))
    check(Case(name, WEIGHT_USES["verify"], "golden input"), shelf)
    check(Case(name, WEIGHT_USES["info"], code=0), shelf)


@pytest.mark.parametrize(
    ("task", "says"),
    [
        ("rust", "rust"),
        ("occlude:9", "occlude"),
        ("occlude:nan", ""),
        ("+" * 9000, ""),
        ("noise+" * 9000 + "noise", ""),
        ("", ""),
        ("\x1b[2J", ""),
    ],
    ids=["unknown", "strength", "nan", "plus", "long", "empty", "escape"],
)
def test_forged_tasks(task: str, says: str, shelf: Path) -> None:
    Path("x.safetensors").write_bytes(forged(metadata(task=task))(shelf))
    check(Case("evaluate", WEIGHT_USES["evaluate"], says, 1), shelf)
    check(Case("export", WEIGHT_USES["export"], says, 2), shelf)
    check(Case("info", WEIGHT_USES["info"], code=0), shelf)


# ---- options -----------------------------------------------------------------------------------------------------

BASES = {
    "run": "a.png",
    "interpolate": "a.png b.png -o c.gif",
    "sample": "-o c.png",
    "train": "conv --data photos.npz -o run",
    "evaluate": "faces-conv --data photos.npz",
    "export": "SHELF/faces-conv.safetensors -o c.safetensors --data photos.npz",
    "info": "faces-conv",
    "verify": "faces-conv",
    "devices": "",
    "corrupt": "a.png -o c.png --corrupt blur",
    "compile": "faces-conv -o c",
    "bench": "-m faces-conv -d CPU --batch 1 --runs 1 --no-cold",
    "profile": "faces-conv -d CPU",
}
NUMBERS = ["", "many", "0", "-1", "1.5", "nan", "inf", "9" * 30, "0x10", "1e3"]
SPECS = ["", "rust", "occlude:7", "occlude:-1", "occlude:nan", "occlude:inf", "noise+", "+", "blur:x", "noise:0.1:0.2"]
CHOICE = ["", "other", "LINEAR ", "7"]
# By option, or by command and option, what it must refuse.
BAD: dict[str, list[str]] = {
    "--device": ["toaster", "CPU:x", "CPU:-1", "CPU:99999", ",", "CPU,CUDA", "CPU:0,CPU:1", "CPU:", ":0"],
    "train --device": ["toaster", "CPU:x", "CPU:-1", "CPU:99999", ",", "CPU,CUDA", "CPU:0,CPU", "CPU:", ":0", "CPU,"],
    "--threads": NUMBERS,
    "--batch": NUMBERS,
    "--limit": NUMBERS,
    "evaluate --limit": NUMBERS[:-3],
    "--seed": ["", "x", "-1", "1.5", str(2**32), "nan"],
    "--corrupt": SPECS,
    "--steps": [*NUMBERS, "1", "10001"],
    "--path": CHOICE,
    "--fps": ["", "fast", "0", "-1", "nan", "inf", "1e9"],
    "--count": [*NUMBERS, "4097"],
    "--strength": ["", "x", "-0.1", "1.1", "nan", "inf"],
    "--raw": ["", "640", "640x", "x480", "0x0", "-1x5", "1e3x5", "99999x99999", "640x480x3", "nanxnan"],
    "--max-mem": ["", "much", "-1", "1.5G", "5X", "9" * 30, "nan"],
    "--size": [*NUMBERS, "7", "4097", "17"],
    "--channels": ["", "0", "2", "4", "rgb"],
    "--widths": ["", "x", "0", "-1", "4,", ",", "4 8", "4,x", "9999", "1,1,1,1,1,1,1,1,1", "1.5", "nan"],
    "--code": [*NUMBERS, "65537"],
    "--epochs": [*NUMBERS, "1000001"],
    "--crop-from": [*NUMBERS, "7", "4097"],
    "--zoom": ["", "x", "0", "1.1", "nan", "-1"],
    "--blend": ["", "x", "-0.1", "1.1", "nan"],
    "--tune": ["", "x", "-1", "1.5", "10001", "nan"],
    "evaluate --size": [*NUMBERS, "7", "4097"],
    "--lr": ["", "x", "0", "-1", "nan", "inf", "100"],
    "--weight-decay": ["", "x", "-1", "nan", "inf", "100"],
    "--beta": ["", "x", "-1", "nan", "inf", "1e9"],
    "--loss": CHOICE,
    "--format": CHOICE,
    "--part": [*CHOICE, "encode"],  # a part is for ONNX files
    "--task": [*CHOICE, "reconstruct,", "dream"],
    "bench --batch": [*NUMBERS, "1,0", "1,,2", "4097"],
    "bench --size": ["", "64", "64x", "x48", "7x7", "9999x64", "64x64x3", "nanxnan"],
    "profile --size": ["", "64", "64x", "x48", "7x7", "9999x64", "64x64x3", "17x16"],
    "--target": ["", "toaster", "x86_64", "aarch64-windows"],
    "--cpu": ["abacus"],
    "--name": ["", "7", "a b", "a/b", "x" * 99, "\u00e4"],
    "compile --batch": [*NUMBERS, "1025"],
    "compile --threads": [*NUMBERS, "65"],
    "compile --size": ["", "64", "64x", "x48", "7x7", "9999x64", "64x64x3", "17x16"],
    "--pace": ["", "x", "0", "-1", "nan", "inf", "1001"],
    "--runs": [*NUMBERS, "1000001"],
    "--max-secs": ["", "x", "0", "-1", "nan", "inf"],
    "--max-ms": ["", "x", "0", "-1", "nan", "inf"],
    "--min-ips": ["", "x", "0", "-1", "nan", "inf"],
    "--against": ["", "missing.json", "a.png", "folder/"],
    "compile --output": ["a.png", "photos.npz"],
    "bench --output": ["a.png", "photos.npz"],
    "--quantize": [*CHOICE, "int2"],
    "run --output": ["c.mp4", "a.png/c.mp4", ".png.exe"],
    "interpolate --output": ["c.mp4", "c.jpg", "c.safetensors"],
    "sample --output": ["", "c", "c.mp4", "folder/"],
    "corrupt --output": ["", "c", "c.mp4"],
    "export --output": ["", "c", "c.bin", "c.safetensors.gz", "c.SAFETENSORS"],
}
# What fails with exit 1: names that might be right, and are not.
MISSING: dict[str, tuple[list[str], str]] = {
    "--model": (["", "faces-deep", "./missing.safetensors", "..", "./a.png", "faces-conv.safetensors"], ""),
    "--start": (["", "faces-deep", "./missing.safetensors", "..", "./a.png", "faces-conv.safetensors"], ""),
    "--standardize": (["missing", "", "a.png", "/dev/null", "imagenet"], ""),
    "--mask": (["missing.png", "", "photos.npz", "/dev/null"], ""),
    "--data": (["missing", "", "a.png", "/dev/null", "/dev/zero", "imagenet"], ""),
    "train --data": (["missing", "a.png", "/dev/null", "/dev/zero", "imagenet"], ""),
    "--targets": (["missing", "", "a.png", "photos"], ""),
    "--max-mem": (["0", "1", "1K", "1M"], "give --max-mem"),
    "train --output": (["a.png", "a.png/run", "photos.npz"], "cannot be written"),
    "--resume": (["", "missing", "a.png"], ""),
}
FREE = {"--licence"}  # any text is right


def long_name(option: click.Option) -> str:
    """--output, of -o and --output."""
    return max(option.opts, key=len)


def option_cases() -> list[Case]:
    """A case for every bad value of every option of every command; flags are given one."""
    cases = []
    for command, base in BASES.items():
        for option in main.commands[command].params:
            if not isinstance(option, click.Option) or option.name == "help":
                continue
            name = long_name(option)
            if option.is_flag:
                cases.append(Case(f"{command} {name}=yes", f"{command} {base} {name}=yes", "does not take a value", 2))
                continue
            if name in FREE:
                continue
            bad = BAD.get(f"{command} {name}", BAD.get(name, []))
            missing, says = MISSING.get(f"{command} {name}", MISSING.get(name, ([], "")))
            assert bad or missing, f"no bad value for {command} {name}"
            start = "train" if name == "--resume" else f"{command} {base}"
            if name == "--standardize":  # of a vae alone
                start = start.replace("faces-conv", "faces-vae")
            cases += [Case(f"{command} {name} {value!r}", [*start.split(), f"{name}={value}"], code=2) for value in bad]
            cases += [
                Case(
                    f"{command} {name} {value!r}",
                    [*start.split(), f"{name}={value}"],
                    says if value else "",
                    1 if value else 2,
                )
                for value in missing
            ]
            cases.append(Case(f"{command} {name} alone", f"{start} {name}", "requires an argument", 2))
    return cases


OPTIONS = option_cases()


# The first bad value of each option, and a flag's, in every command.
FIRST = {case.name.rpartition(" ")[0].partition("=")[0]: case.name for case in reversed(OPTIONS)}


@table(OPTIONS, short=lambda case: case.name in FIRST.values())
def test_bad_values_of_options(case: Case, shelf: Path) -> None:
    check(case, shelf)


def test_every_command_is_in_the_table() -> None:
    assert sorted(BASES) == sorted(main.commands)
    for command, words in BASES.items():
        assert {"-q", "-v"} < {name for option in main.commands[command].params for name in option.opts}, words


USAGE = [
    Case("unknown command", "restore a.png", code=2),
    Case("unknown option", "--fast", code=2),
    *(Case(f"{command} unknown option", f"{command} {base} --fast", code=2) for command, base in BASES.items()),
    *(
        Case(f"{command} more arguments", f"{command} {base} more and more", code=2)
        for command, base in BASES.items()
        if command not in ("run", "interpolate")
    ),
    *(
        Case(f"{command} without arguments", command, code=2)
        for command in BASES
        if command not in ("run", "sample", "devices", "bench")
    ),
    Case("run two into one", "run a.png b.png -o c.png", code=2),
    Case("run stdin twice", "run - -", code=2),
    Case("run stdin and more", "run - a.png", code=2),
    Case("run to stdout as JSON", "run a.png -o - --json", code=2),
    Case("run two to stdout", "run a.png b.png -o -", code=2),
    Case("run mask alone", "run --mask a.png", code=2),
    Case("run watch alone", "run --watch", code=2),
    Case("run watch a file", "run a.png --watch", code=2),
    Case("run raw with JSON", "run a.png --raw 4x4 --json", code=2),
    Case("run raw into a picture", "run a.png --raw 4x4 -o c.png", code=2),
    Case("run a vae with a mask", "run a.png -m faces-vae --mask b.png", "a vae changes the whole picture", 1),
    Case("sample a conv", "sample -m faces-conv -o c.png", "only a vae can be sampled", 2),
    Case("interpolate one", "interpolate a.png -o c.gif", code=2),
    Case("interpolate strip into a film", "interpolate a.png b.png --strip -o c.gif", code=2),
    Case("train unknown", "train unet --data photos.npz", code=2),
    Case("train without data", "train conv", code=2),
    Case("train vae with a small code", "train vae --data photos.npz --code 8", code=2),
    Case("train resume with more", "train --resume run --lr 0.1", code=2),
    Case("train arch and resume", "train conv --resume run", code=2),
    Case("train targets of a built-in set", "train conv --data faces --targets photos.npz -o run", code=2),
    Case("export a quantized one", "export SHELF/int8.safetensors -o c.safetensors", "is quantized already"),
    Case("export of an array", "export photos.npz -o c.safetensors", "is not a safetensors"),
    Case("evaluate an image", "evaluate a.png --data photos.npz", "no shipped model"),
]


@table(USAGE)
def test_usage(case: Case, shelf: Path) -> None:
    check(case, shelf)


def test_an_empty_device_is_none_given(shelf: Path) -> None:
    """As in a script whose variable is not set."""
    for device in ("", " "):
        result = CliRunner().invoke(main, ["verify", "faces-conv", "-d", device], env={"EDGEAE_DEVICE": device})
        assert result.exit_code == 0, result.output


def test_any_licence(shelf: Path) -> None:
    for licence in ("\udcff", "\x1b[2J\n", "x" * 10_000, "照"):
        line = ["export", str(shelf / "faces-conv.safetensors"), "-o", "c.safetensors", "--data", "photos.npz"]
        assert CliRunner().invoke(main, [*line, "--licence", licence]).exit_code == 0
        found = CliRunner().invoke(main, ["info", "./c.safetensors", "--json"])
        assert json.loads(found.stdout)["licence"] == licence


def test_how_many() -> None:
    """The cases of this file, each checked alone."""
    counts = {
        "images": len(HOSTILE) * len(USES),
        "images cut short": 100 * len(GOOD) * 2,
        "odd images": 3 * len(ODD),
        "arrays": len(ARRAYS) * len(DATA_USES),
        "arrays in Python": 3 * len(API_ARRAYS) + 6,
        "weight files": len(FORGED) * len(WEIGHT_USES) + 2 * len(BAD_GOLDENS) + 21,
        "options": len(OPTIONS),
        "usage": len(USAGE),
    }
    print(f"{sum(counts.values())} cases:", ", ".join(f"{count} {kind}" for kind, count in counts.items()))
    assert sum(counts.values()) >= 150
