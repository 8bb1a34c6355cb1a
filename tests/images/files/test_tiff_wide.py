"""TIFF colour of 16 bits and floats, in every layout that tifffile writes: read, written and turned, all bits kept."""

import io
import struct
from typing import Any

import numpy as np
import pytest
from helpers import photo
from PIL import Image

from edgeae.errors import ImageError
from edgeae.images.files.reader import Photo
from edgeae.images.files.writer import Writer

tifffile = pytest.importorskip("tifffile")
HEIGHT, WIDTH = 37, 53


def picture(dtype: str, channels: int, seed: int = 0) -> np.ndarray:
    smooth = photo(HEIGHT, WIDTH, channels, seed) / 255
    noise = np.random.default_rng(seed).random(smooth.shape) / 300
    x = np.clip(smooth + noise, 0, 1)
    return x.astype(np.float32) if dtype == "f4" else np.rint(x * 65535).astype(np.uint16)


def made(x: np.ndarray, **options: Any) -> bytes:
    out = io.BytesIO()
    defaults: dict[str, Any] = {"photometric": "rgb"} if x.shape[2] > 2 else {"photometric": "minisblack"}
    if x.shape[2] in (2, 4) and options.get("photometric") != "separated":
        defaults["extrasamples"] = ["unassalpha"]
    tifffile.imwrite(out, x, **defaults | options, metadata=None)
    return out.getvalue()


def read(data: bytes) -> np.ndarray:
    with Photo(data, "photo") as opened:
        assert opened.note == "" and opened.losses == ""
        rows = [opened.read(7) for _ in range(99)]
        return np.concatenate(rows)


def written(data: bytes, kind: str = "TIFF") -> bytes:
    out = io.BytesIO()
    with Photo(data, "photo") as opened:
        writer = Writer(out, kind, opened, opened.mode)
        writer.write(opened.read(opened.height))
        writer.close()
    return out.getvalue()


LAYOUTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "one-strip": {"rowsperstrip": HEIGHT},
    "strips-of-1": {"rowsperstrip": 1},
    "strips-of-5": {"rowsperstrip": 5},
    "big-endian": {"byteorder": ">"},
    "bigtiff": {"bigtiff": True},
    "bigtiff-big-endian": {"bigtiff": True, "byteorder": ">"},
    "deflate": {"compression": "zlib"},
    "tiles": {"tile": (16, 32)},
}
PREDICTED: dict[str, dict[str, Any]] = {
    "predictor": {"compression": "zlib", "predictor": True},
    "predictor-big-endian": {"compression": "zlib", "predictor": True, "byteorder": ">"},
    "predictor-tiles": {"compression": "zlib", "predictor": True, "tile": (16, 16)},
}


def with_predictor(x: np.ndarray, options: dict[str, Any]) -> bytes:
    """Skip where tifffile lacks the codecs of predictors."""
    try:
        return made(x, **options)
    except (ImportError, ValueError, KeyError) as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("layout", [*LAYOUTS, *PREDICTED])
@pytest.mark.parametrize(("dtype", "channels"), [("u2", 3), ("u2", 4), ("u2", 2), ("f4", 3)])
def test_all_bits_come_and_go(layout: str, dtype: str, channels: int) -> None:
    x = picture(dtype, channels)
    data = with_predictor(x, {**LAYOUTS, **PREDICTED}[layout])
    np.testing.assert_array_equal(read(data), x)
    result = written(data)
    np.testing.assert_array_equal(tifffile.imread(io.BytesIO(result)).reshape(x.shape), x)
    np.testing.assert_array_equal(read(result), x)


@pytest.mark.parametrize("channels", [3, 4])
def test_planes(channels: int) -> None:
    x = picture("u2", channels)
    for rows in (5, HEIGHT):
        planes = np.ascontiguousarray(np.moveaxis(x, 2, 0))
        out = io.BytesIO()
        extra = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
        tifffile.imwrite(
            out, planes, photometric="rgb", planarconfig="separate", rowsperstrip=rows, metadata=None, **extra
        )
        np.testing.assert_array_equal(read(out.getvalue()), x)


def test_inks() -> None:
    x = picture("u2", 4)
    data = made(x, photometric="separated")
    np.testing.assert_array_equal(read(data), x)
    np.testing.assert_array_equal(tifffile.imread(io.BytesIO(written(data))), x)


def test_premultiplied_alpha_becomes_straight() -> None:
    x = picture("u2", 4)
    x[3:9, 4:8, 3] = 0
    multiplied = x.copy()
    multiplied[..., :3] = np.rint(x[..., :3] * (x[..., 3:] / 65535))
    rows = read(made(multiplied, extrasamples=["assocalpha"]))
    seen = x[..., 3] > 6000
    np.testing.assert_allclose(rows[seen].astype(int), x[seen], atol=6)


def test_predictors_against_their_definition() -> None:
    """Differences as TIFF 6.0 and Adobe's note on floats define them, without a codec of anyone's."""
    x = picture("u2", 3)
    steps = x.astype(np.uint16)
    steps[:, 1:] -= x[:, :-1]
    data = bytearray(made(steps, rowsperstrip=HEIGHT))
    np.testing.assert_array_equal(read(add_predictor(bytes(data), 2)), x)
    floats = picture("f4", 3)
    planes = floats.astype(">f4").view(np.uint8).reshape(HEIGHT, WIDTH * 3, 4).swapaxes(1, 2).reshape(HEIGHT, -1, 3)
    steps = planes.copy()
    steps[:, 1:] -= planes[:, :-1]
    packed = np.ascontiguousarray(steps).reshape(HEIGHT, -1).view("<f4").reshape(HEIGHT, WIDTH, 3)
    np.testing.assert_array_equal(read(add_predictor(made(packed, rowsperstrip=HEIGHT), 3)), floats)


def add_predictor(data: bytes, predictor: int) -> bytes:
    from edgeae.images.files import exif

    return exif.replace_tags(data, {317: exif.Field(exif.SHORT, 1, struct.pack("<H", predictor))})


def test_metadata_stay() -> None:
    x = picture("u2", 3)
    profile = bytes(16) + b"RGB " + bytes(12) + b"acsp" + bytes(92)
    data = made(x, description="Grandmother 1931", resolution=(300, 150), iccprofile=profile, software="Scan 1")
    image = Image.open(io.BytesIO(written(data)))
    assert image.tag_v2[270] == "Grandmother 1931" and image.tag_v2[305] == "Scan 1"
    assert tuple(map(float, image.info["dpi"])) == (300, 150)
    assert image.info["icc_profile"] == profile
    png = Image.open(io.BytesIO(written(data, "PNG")))
    assert png.info["icc_profile"] == profile


@pytest.mark.parametrize("turn", [3, 6])
def test_turned(turn: int) -> None:
    x = picture("u2", 3)
    data = made(x, extratags=[(274, "H", 1, turn, True)])
    np.testing.assert_array_equal(read(written(data)), x)
    with Photo(data) as opened:
        assert opened.orientation == turn


@pytest.mark.parametrize("value", [-0.5, 1.5, np.nan])
def test_floats_outside_the_range(value: float) -> None:
    x = picture("f4", 3)
    x[9, 9, 1] = value
    with Photo(made(x), "photo") as opened, pytest.raises(ImageError, match="float pixels outside 0 to 1"):
        opened.read(HEIGHT)


def test_damaged() -> None:
    data = made(picture("u2", 3), compression="zlib")
    strip = tifffile.TiffFile(io.BytesIO(data)).pages[0].dataoffsets[0]
    broken = data[:strip] + bytes(200) + data[strip + 200 :]
    with Photo(broken, "photo") as opened, pytest.raises(ImageError, match="damaged or cut short"):
        opened.read(HEIGHT)
