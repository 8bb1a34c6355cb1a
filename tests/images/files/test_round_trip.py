"""Photos through a network that returns its input: every format, kind of pixels, orientation, profile, resolution.

In lossless formats the pixels come back bit for bit, in the others as Pillow saves them with the same tables. All
metadata come back too, as Pillow reads them, and as exiftool does if it is installed.
"""

import io
import json
import re
import shutil
import subprocess
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import PIL
import pytest
from helpers import photo
from helpers.png_files import CHANNELS, KINDS, SIGNATURE, chunk, header, packed, png, read
from helpers.tiers import exhaustive
from PIL import ExifTags, Image, ImageCms, ImageOps, JpegImagePlugin, features
from PIL.TiffImagePlugin import IFDRational

from edgeae.config import ModelConfig
from edgeae.images.files.reader import Photo
from edgeae.images.files.turns import to_stored, to_upright
from edgeae.inference.photo import Options, Restored, restore

SIZE = WIDTH, HEIGHT = 23, 18
TURNS = range(1, 9)
NO_TURN = 1
DPI = (300, 150)
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    b'<rdf:Description tiff:Orientation="%d" dc:title="\xc3\xa9t\xc3\xa9"/></x:xmpmeta>'
)
SESSION = SimpleNamespace(config=ModelConfig("conv", size=16, widths=(8, 16), code=4, context=1), metadata={})

needs_profiles = pytest.mark.skipif(not features.check("littlecms2"), reason="Pillow without littlecms")


@cache
def srgb() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def profile(mode: str) -> bytes:
    """A real profile. Pillow makes none for gray or CMYK, so for these only the header is right."""
    space = {"L": b"GRAY", "LA": b"GRAY", "1": b"GRAY", "CMYK": b"CMYK"}.get(mode, b"RGB ")
    return srgb()[:16] + space + srgb()[20:]


def camera(turn: int, *, big: bool = False) -> Image.Exif:
    exif = Image.Exif()
    exif.endian = ">" if big else "<"
    exif[ExifTags.Base.Make] = "Edge"
    exif[ExifTags.Base.Model] = "Æ 1"
    exif[ExifTags.Base.DateTime] = "2024:02:29 12:00:00"
    if turn:
        exif[ExifTags.Base.Orientation] = turn
    exif.get_ifd(ExifTags.IFD.Exif).update(
        {
            ExifTags.Base.ExposureTime: IFDRational(1, 250),
            ExifTags.Base.ISOSpeedRatings: 400,
            ExifTags.Base.ExifVersion: b"0232",
            ExifTags.Base.ExposureBiasValue: IFDRational(-2, 3),
            ExifTags.Base.MakerNote: bytes(range(99)),
            ExifTags.Base.UserComment: b"ASCII\0\0\0at the sea",
            ExifTags.Base.LensModel: "Pancake",
        }
    )
    exif.get_ifd(ExifTags.IFD.GPSInfo).update(
        {
            ExifTags.GPS.GPSLatitudeRef: "N",
            ExifTags.GPS.GPSLatitude: (53.0, 32.0, 51.23),
            ExifTags.GPS.GPSAltitudeRef: b"\0",
            ExifTags.GPS.GPSAltitude: 12.5,
        }
    )
    again = Image.Exif()  # which has the tables among its tags, as that of a file
    again.load(exif.tobytes())
    return again


# ---- pictures of every kind ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        make: makes one, `make(orientation, extras)` with extras "icc" and "dpi".
        lossless: whether the pixels come back bit for bit.
        takes: metadata that the format can hold.
    """

    name: str
    format: str
    make: Callable[[int, dict[str, object]], bytes]
    mode: str = "RGB"
    lossless: bool = True
    takes: tuple[str, ...] = ("exif", "icc", "dpi")

    def __str__(self) -> str:
        return f"{self.format}-{self.name}"


def picture(mode: str) -> Image.Image:
    channels = {"L": 1, "1": 1, "P": 3, "LA": 2, "YCbCr": 3, "I;16": 1, "I;16B": 1, "I": 1, "F": 1}.get(mode, len(mode))
    x = photo(HEIGHT, WIDTH, channels)
    x[3:7, 4:9, -1] = 0  # fully transparent, with colours
    if mode in ("1", "P", "YCbCr"):
        return Image.fromarray(x.squeeze()).convert(mode)
    if mode in ("I;16", "I;16B", "I"):
        wide = x[..., 0] * np.uint16(251) + np.random.default_rng(0).integers(0, 200, x.shape[:2], np.uint16)
        if mode == "I;16B":
            return Image.frombytes(mode, SIZE, wide.astype(">u2").tobytes())
        return Image.fromarray(wide if mode == "I;16" else wide.astype(np.int32))
    if mode == "F":
        return Image.fromarray(x[..., 0] / np.float32(255) * np.float32(0.999))
    return Image.frombytes(mode, SIZE, x.tobytes())


def saved(format: str, mode: str, **options: object) -> Callable[[int, dict[str, object]], bytes]:
    def make(turn: int, extras: dict[str, object]) -> bytes:
        more = {"icc_profile": extras.get("icc"), "dpi": extras.get("dpi")}
        if format in ("JPEG", "WEBP", "TIFF"):
            more["exif"] = camera(turn, big=turn % 2 == 0)
            if options.get("compression", "raw") != "raw":  # libtiff cannot write tables
                del more["exif"][ExifTags.IFD.Exif], more["exif"][ExifTags.IFD.GPSInfo]
        if format in ("JPEG", "WEBP"):
            more["xmp"] = XMP % turn
        file = io.BytesIO()
        picture(mode).save(file, format, **options, **{key: value for key, value in more.items() if value})
        return file.getvalue()

    return make


def interlaced(samples: np.ndarray, colour: int, depth: int, before: bytes) -> bytes:
    rows = b""
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    for x, y, dx, dy in passes:
        part = samples[y::dy, x::dx]
        rows += b"".join(b"\0" + row for row in packed(part, depth)) if part.size else b""
    start = SIGNATURE + header(WIDTH, HEIGHT, depth, colour, 0, 0, 1)
    return start + before + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND")


def made(colour: int, depth: int, transparent: bool = False, adam7: bool = False) -> Callable[[int, dict], bytes]:
    def make(turn: int, extras: dict[str, object]) -> bytes:
        samples = photo(HEIGHT, WIDTH, CHANNELS[colour]) * np.int64(2**depth) // 256
        if depth == 16:
            samples += np.random.default_rng(0).integers(0, 256, samples.shape)
        samples[2:5] = samples[0, 0]
        if colour in (4, 6):
            samples[6:9, 4:9, -1] = 0  # fully transparent, with colours
        before = chunk(b"eXIf", camera(turn, big=turn % 2 == 0).tobytes()[6:])
        before += chunk(b"tEXt", b"Title\0Lions") + chunk(b"zTXt", b"Note\0\0" + zlib.compress(b"long" * 9))
        before += chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP % turn)
        if "icc" in extras:
            before += chunk(b"iCCP", b"sRGB\0\0" + zlib.compress(extras["icc"]))
        if "dpi" in extras:
            before += chunk(b"pHYs", b"".join(round(dpi / 0.0254).to_bytes(4, "big") for dpi in DPI) + b"\1")
        if colour == 3:
            before += chunk(b"PLTE", photo(1, 2**depth).tobytes())
        if transparent:
            alphas = b"\0\x80\xff" if colour == 3 else samples[0, 0].astype(">u2").tobytes()
            before += chunk(b"tRNS", alphas)
        return interlaced(samples, colour, depth, before) if adam7 else png(samples, colour, depth, before=before)

    return make


def kinds() -> Iterator[Kind]:
    quality = {"quality": 82}
    for name, mode, options in [
        ("gray", "L", {}),
        ("444", "RGB", {"subsampling": 0}),
        ("422", "RGB", {"subsampling": 1}),
        ("420", "RGB", {"subsampling": 2}),
        ("progressive", "RGB", {"progressive": True}),
        ("inks", "CMYK", {}),
        ("rgb", "RGB", {"keep_rgb": True}),
        ("comment", "RGB", {"comment": b"by the sea"}),
        ("tables", "RGB", {"qtables": [[4] * 64, [6] * 64, [9] * 64], "quality": -1}),
    ]:
        takes = ("exif", "icc") if name == "rgb" else ("exif", "icc", "dpi")  # Pillow writes no sound files of both
        yield Kind(name, "JPEG", saved("JPEG", mode, **quality | options), mode, False, takes)
    modes = {0: "L", 2: "RGB", 3: "P", 4: "LA", 6: "RGBA"}
    for colour, depth in KINDS:
        yield Kind(f"{modes[colour]}{depth}", "PNG", made(colour, depth), modes[colour])
        if depth < 16:
            yield Kind(f"{modes[colour]}{depth}-interlaced", "PNG", made(colour, depth, adam7=True), modes[colour])
        if colour in (0, 2, 3):
            yield Kind(f"{modes[colour]}{depth}-transparent", "PNG", made(colour, depth, True), modes[colour])
    for name, mode, options in [
        ("lossless", "RGB", {"lossless": True}),
        ("lossless-alpha", "RGBA", {"lossless": True, "exact": True}),
        ("lossy", "RGB", {"quality": 75}),
        ("lossy-alpha", "RGBA", {"quality": 75}),
    ]:
        yield Kind(name, "WEBP", saved("WEBP", mode, **options), mode, "lossless" in name, ("exif", "icc"))
    ycbcr = ["YCbCr"] * (int(PIL.__version__.split(".")[0]) >= 13)  # older Pillow does not read what it has written
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I;16B", "I", "F", *ycbcr):
        for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate"):
            if compression == "raw" or mode in ("L", "RGBA", "CMYK", "I;16", "F"):
                name = f"{mode}-{compression}".replace(";", "")
                yield Kind(name, "TIFF", saved("TIFF", mode, compression=compression), mode)
    yield Kind("packbits", "TIFF", saved("TIFF", "RGB", compression="packbits"))
    yield Kind("fax", "TIFF", saved("TIFF", "1", compression="group4"), "1")
    yield Kind("jpeg", "TIFF", saved("TIFF", "RGB", compression="jpeg"), lossless=False)
    for mode in ("1", "L", "P", "RGB"):
        yield Kind(mode, "BMP", saved("BMP", mode), mode, takes=("dpi",))
        yield Kind(mode, "GIF", saved("GIF", mode, comment=b"by the sea"), mode, takes=())
    yield Kind("transparent", "GIF", transparent_gif, "P", takes=())


def transparent_gif(turn: int, extras: dict[str, object]) -> bytes:
    file = io.BytesIO()
    picture("P").save(file, "GIF", transparency=int(np.array(picture("P"))[0, 0]))
    return file.getvalue()


ALL = list(kinds())
ALL_BY_NAME = {str(kind): kind for kind in ALL}
EXTRAS = [{}, {"icc": True}, {"dpi": True}, {"icc": True, "dpi": True}]


def source(kind: Kind, turn: int, extra: dict[str, bool]) -> bytes:
    extras: dict[str, object] = {"dpi": DPI} if "dpi" in extra else {}
    return kind.make(turn, extras | ({"icc": profile(kind.mode)} if "icc" in extra else {}))


def variants(kind: Kind) -> list[dict[str, bool]]:
    return [extra for extra in EXTRAS if set(extra) <= set(kind.takes)]


# ---- pixels and metadata of a file -----------------------------------------------------------------------------------


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def pixels(data: bytes) -> np.ndarray:
    """Pixels as stored, (H, W, C), in the file's type; those of TIFF files upright, as Pillow returns them."""
    if data.startswith(SIGNATURE) and not data[28]:
        return read(data)
    image = opened(data)
    if image.mode.startswith("I") or image.mode == "F":
        return np.asarray(image).astype(np.float32 if image.mode == "F" else np.uint16)[..., None]
    if image.format == "GIF":
        image = image.convert("RGBA")
    elif image.mode in ("1", "P", "YCbCr"):
        image = image.convert("L" if image.mode == "1" else "RGBA" if image.has_transparency_data else "RGB")
    return np.asarray(image).reshape(image.height, image.width, -1)


def metadata_of(data: bytes) -> dict[str, object]:
    """What Pillow reads of a file beside its pixels."""
    image = Image.open(io.BytesIO(data))
    known = {key: image.info.get(key) for key in ("icc_profile", "xmp", "comment", "Title", "Note")}
    known["exif"] = image.info.get("exif", b"").removeprefix(b"Exif\0\0")
    tags = image.getexif()
    known["size"] = image.size
    known["tags"] = {tag: value for tag, value in tags.items() if tag in DESCRIPTIVE}
    for ifd in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        known[ifd.name] = dict(tags.get_ifd(ifd))
    if image.format == "JPEG":
        known["jpeg"] = (image.quantization, JpegImagePlugin.get_sampling(image), image.info.get("progressive"))
    if image.format == "TIFF":
        known["stored"] = image.tag_v2[256], image.tag_v2[257]
    if image.format != "BMP" or "dpi" in image.info:
        known["dpi"] = tuple(round(float(dpi), 1) for dpi in image.info.get("dpi", ()))
    return known


DESCRIPTIVE = (ExifTags.Base.Make, ExifTags.Base.Model, ExifTags.Base.DateTime, ExifTags.Base.Orientation)


def through(data: bytes, target: Path | None = None, **options: object) -> bytes:
    """The photo, restored by a network that changes nothing."""
    file = io.BytesIO()
    restored = restore(data, target or file, SESSION, Options(**options), name="photo", network=lambda piece: piece)
    assert isinstance(restored, Restored)
    return target.read_bytes() if target else file.getvalue()


def saved_again(data: bytes) -> np.ndarray:
    """The pixels after Pillow has saved the image again with the file's own settings."""
    image = Image.open(io.BytesIO(data))
    file = io.BytesIO()
    if image.format == "JPEG":
        sampling = JpegImagePlugin.get_sampling(image) if image.mode == "RGB" else -1
        keep_rgb = image.mode == "RGB" and image.info.get("adobe_transform") == 0
        image.save(
            file,
            "JPEG",
            qtables=image.quantization,
            subsampling=sampling,
            keep_rgb=keep_rgb,
            progressive=image.info.get("progressive", False),
        )
    elif image.format == "WEBP":
        image.save(file, "WEBP", quality=90, method=4)
    else:
        turn = image.getexif()[ExifTags.Base.Orientation]
        again = Image.fromarray(to_stored(np.asarray(image), turn))
        again.save(file, "TIFF", compression="jpeg", quality=95, tiffinfo={int(ExifTags.Base.Orientation): turn})
    return pixels(file.getvalue())


# ---- into the same format --------------------------------------------------------------------------------------------


# Each kind of file as it is and in one other turn; `make test-all` tries all eight.
TURNED = [
    pytest.param(kind, turn, marks=[] if turn in (NO_TURN, 2 + i % 7) else [exhaustive])
    for i, kind in enumerate(ALL)
    for turn in TURNS
    if "exif" in kind.takes or turn == NO_TURN
]


@needs_profiles
@pytest.mark.parametrize(("kind", "turn"), TURNED, ids=str)
def test_a_photo_comes_back_with_all_that_belongs_to_it(kind: Kind, turn: int) -> None:
    for extra in variants(kind):
        data = source(kind, turn, extra)
        result = through(data)
        assert Image.open(io.BytesIO(result)).format == kind.format
        expected = pixels(data) if kind.lossless else saved_again(data)
        found = pixels(result)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
        assert metadata_of(result) == metadata_of(data)


@needs_profiles
@pytest.mark.skipif(not shutil.which("exiftool"), reason="without exiftool")
def test_exiftool_tells_the_same_of_both_files(tmp_path: Path) -> None:
    for folder in ("before", "after"):
        (tmp_path / folder).mkdir()
    for kind in ALL:
        data = source(kind, 6, variants(kind)[-1])
        for folder, content in (("before", data), ("after", through(data))):
            (tmp_path / folder / f"{kind}.{kind.format.lower()}").write_bytes(content)
    before, after = exiftool(tmp_path / "before"), exiftool(tmp_path / "after")
    assert len(before) == len(ALL)
    assert after == before


# What depends on how the pixels are laid out, which Pillow's JPEG files alone have, and when a file was made.
LAYOUT = re.compile(
    "ExifTool|File|System|Composite|PNG:(BitDepth|ColorType|Interlace|Palette|Transparency)|GIF:(?!Comment|Image)|"
    "JFIF|RIFF|BMP|Adobe|SourceFile|IFD0:(Compression|Photometric|Strip|Rows|BitsPer|SamplesPer|SampleFormat|Planar|Predictor|ColorMap|"
    "ExtraSamples|YCbCr|ReferenceBlack|FillOrder|T[46]Options|JPEGTables|PreviewImage|XResolution|YResolution|ResolutionUnit)"
)


def exiftool(folder: Path) -> dict[str, dict[str, object]]:
    done = subprocess.run(["exiftool", "-j", "-G1", "-a", "-n", str(folder)], capture_output=True, check=True)
    return {
        Path(entry["SourceFile"]).name: {key: value for key, value in entry.items() if not LAYOUT.match(key)}
        for entry in json.loads(done.stdout)
    }


def test_a_file_keeps_its_real_format_under_its_own_extension(tmp_path: Path) -> None:
    """A PNG with the extension .jpg, as browsers save them, stays a PNG; a new extension changes the format."""
    data = source(ALL_BY_NAME["PNG-RGB8"], 6, {})
    lying = tmp_path / "photo.JPG"
    lying.write_bytes(data)
    restore(lying, tmp_path / "out.jpg", SESSION, network=lambda piece: piece)
    assert metadata_of((tmp_path / "out.jpg").read_bytes()) == metadata_of(data)
    restore(lying, tmp_path / "out.jpeg", SESSION, network=lambda piece: piece)
    assert opened((tmp_path / "out.jpeg").read_bytes()).format == "JPEG"


def test_the_second_picture_of_a_phone_is_left_out() -> None:
    file = io.BytesIO()
    picture("RGB").save(file, "MPO", save_all=True, append_images=[picture("RGB").rotate(180)], exif=camera(6))
    assert Image.open(file).format == "MPO"
    result = through(file.getvalue())
    assert Image.open(io.BytesIO(result)).format == "JPEG"
    np.testing.assert_array_equal(pixels(result), saved_again(small_jpeg(qtables=opened(file.getvalue()).quantization)))
    assert metadata_of(result)["exif"] == metadata_of(file.getvalue())["exif"]


def small_jpeg(**options: object) -> bytes:
    file = io.BytesIO()
    picture("RGB").save(file, "JPEG", **options)
    return file.getvalue()


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_several_pictures_the_first_is_restored(format: str) -> None:
    frames = [picture("RGB"), picture("RGB").transpose(Image.Transpose.ROTATE_180)]
    frames = [frame.quantize(64) if format == "GIF" else frame for frame in frames]
    options = {"lossless": True} if format == "WEBP" else {}
    file = io.BytesIO()
    frames[0].save(file, format, save_all=True, append_images=frames[1:], **options)
    out = io.BytesIO()
    note = restore(file.getvalue(), out, SESSION, network=lambda piece: piece).note
    unit = {"TIFF": "2 pages", "PNG": "animation"}.get(format, "2 frames")
    assert unit in note and "first" in note
    assert getattr(Image.open(out), "n_frames", 1) == (2 if format == "TIFF" else 1)
    if format != "WEBP":
        np.testing.assert_array_equal(opened(out.getvalue()).convert("RGB"), frames[0].convert("RGB"))


def test_notes_and_captions_of_a_jpeg_file_stay() -> None:
    """Segments that Pillow does not read: Photoshop's, and XMP data of more than one segment."""
    captions = b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x08\x1c\x02x\0\x03sea"
    long_xmp = b"http://ns.adobe.com/xmp/extension/\0" + bytes(40) + b"<more/>"
    segments = [
        b"\xff\xed" + (len(captions) + 2).to_bytes(2, "big") + captions,
        b"\xff\xe1" + (len(long_xmp) + 2).to_bytes(2, "big") + long_xmp,
    ]
    data = small_jpeg(extra=b"".join(segments), xmp=b"<short/>", comment=b"by the sea")
    result = through(data)
    assert all(segment in result for segment in segments)
    assert metadata_of(result) == metadata_of(data)


# ---- into another format ---------------------------------------------------------------------------------------------


def shown(data: bytes) -> np.ndarray:
    """What a viewer shows on white: (H, W, 3) in [0, 1], upright."""
    if data.startswith(SIGNATURE) and not data[28]:
        x = read(data) / np.float64(np.iinfo(read(data).dtype).max)
        x = to_upright(x, opened(data).getexif().get(ExifTags.Base.Orientation, 1))
        x = x if x.shape[2] > 2 else np.concatenate([x[..., :1]] * 3 + [x[..., 1:]], axis=-1)
    else:
        image = ImageOps.exif_transpose(opened(data))
        top = {"F": 1, "I": 65535}.get(image.mode, 65535 if image.mode.startswith("I") else 0)
        if top:
            return np.repeat(np.asarray(image)[..., None] / np.float64(top), 3, axis=-1)
        x = np.asarray(image.convert("RGBA")) / 255
    alpha = x[..., 3:] if x.shape[2] == 4 else 1
    return x[..., :3] * alpha + 1 - alpha


EXTENSIONS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "tif": "TIFF", "bmp": "BMP", "gif": "GIF"}


def mode_in(format: str, mode: str, wide: bool) -> str:
    """The mode in which Pillow should read the file that is written."""
    if mode == "CMYK" and format in ("JPEG", "TIFF"):
        return "CMYK"
    gray = mode in ("L", "LA") and format != "WEBP"
    alpha = mode.endswith("A") and format in ("PNG", "TIFF", "WEBP", "BMP")
    if gray and alpha and (format == "BMP" or (wide and format == "TIFF")):
        return "RGBA"
    if gray and not alpha and wide and format in ("PNG", "TIFF"):
        return "I;16"
    return ("L" if gray else "RGB") + ("A" if alpha else "")


# Each kind of file in two other formats, each format from a third of the kinds.
CONVERSIONS = [
    pytest.param(kind, extension, marks=[] if (i + j) % 3 == 0 else [exhaustive])
    for i, kind in enumerate(ALL)
    for j, extension in enumerate(EXTENSIONS)
]


@needs_profiles
@pytest.mark.parametrize(("kind", "extension"), CONVERSIONS, ids=str)
def test_a_photo_in_another_format(kind: Kind, extension: str, tmp_path: Path) -> None:
    format = EXTENSIONS[extension]
    if format == kind.format:
        return
    turn = 6 if "exif" in kind.takes else NO_TURN
    data = source(kind, turn, variants(kind)[-1])
    result = through(data, tmp_path / f"photo.{extension}")
    image = opened(result)
    assert image.format == format
    error = np.abs(shown(result) - shown(data))
    if format in ("JPEG", "WEBP"):
        assert error.mean() < 0.1  # of a palette's noise; a picture turned wrongly has 0.25
    elif format == "GIF":
        half_transparent = "A" in kind.mode or "transparent" in kind.name  # which becomes either
        assert error.mean() < (0.2 if half_transparent else 0.03)
    else:
        assert error.max() < 1.5 / 255
    if format == "GIF":
        return
    before, after = metadata_of(data), metadata_of(result)
    with Photo(data) as original:
        assert image.mode == mode_in(format, original.mode, original.dtype != np.uint8)
    assert image.getexif().get(ExifTags.Base.Orientation, 1) == 1
    if format in ("PNG", "JPEG", "TIFF", "BMP") and "dpi" in kind.takes:
        assert after["dpi"] == pytest.approx(before["dpi"], abs=0.5)
    if format == "BMP":
        return
    expected = profile(kind.mode) if "icc" in kind.takes else None
    model = {"L": b"GRAY", "LA": b"GRAY", "I;16": b"GRAY", "F": b"GRAY", "CMYK": b"CMYK"}.get(image.mode, b"RGB ")
    assert after["icc_profile"] == (expected if expected and expected[16:20] == model else None)
    assert after["Exif"] == before["Exif"]
    assert after["GPSInfo"] == before["GPSInfo"]
    assert after["xmp"] == (before["xmp"] and XMP % 1)
    for tag in DESCRIPTIVE[:-1]:
        assert after["tags"].get(tag) == before["tags"].get(tag)
