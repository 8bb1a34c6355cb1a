"""Pictures inside other data are found; camera notes, texts and random bytes are not taken for pictures."""

import base64
import io
import re
import struct
import time
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from helpers import photo
from PIL import Image

from edgeae.images.files.embedded import has_picture, has_pixels
from edgeae.images.files.exif_block import drop_pictures
from edgeae.images.files.xmp import clean_xmp


def saved(format: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray(photo()).save(out, format)
    return out.getvalue()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "JPEG2000"])
def test_pictures_are_found_as_they_are_and_in_base64(format: str) -> None:
    data = saved(format)
    assert has_picture(bytes(7) + data)
    if format != "JPEG2000":
        assert has_picture(b'<a b="' + base64.b64encode(data) + b'"/>')


@pytest.mark.parametrize(
    "write",
    [
        zlib.compress,
        lambda data: data.hex().encode(),
        lambda data: b" FF" + data.hex().upper().encode()[2:],
        base64.urlsafe_b64encode,
        lambda data: base64.b64encode(data).replace(b"/", b"\\/"),
        lambda data: base64.b64encode(data).decode().encode("utf-16-le"),
        lambda data: zlib.compress(base64.b64encode(data)),
    ],
    ids=[
        "zlib",
        "hex",
        "hex-capitals",
        "base64-of-addresses",
        "base64-in-json",
        "base64-of-two-bytes",
        "packed-base64",
    ],
)
def test_pictures_are_found_in_other_forms(write: Callable[[bytes], bytes]) -> None:
    assert has_picture(b"ab=" + write(saved("JPEG")))


B64 = base64.b64encode(saved("JPEG")).decode()


@pytest.mark.parametrize(
    "inside",
    [f"<!-- {B64} -->", f"<?shot {B64}?>", f"<b>{'</b><b>'.join(re.findall('.{1,76}', B64))}</b>"],
    ids=["comment", "instruction", "in-pieces"],
)
def test_xmp_data_with_a_picture_beside_their_values_go_as_a_whole(inside: str) -> None:
    assert clean_xmp(f"<a>{inside}</a>".encode()) == (b"", ["XMP data with a picture"])


def random_bytes(seed: int) -> bytes:
    return np.random.default_rng(seed).bytes(60_000)


def test_other_data_are_no_pictures() -> None:
    curve = (np.linspace(0, 1, 4096) ** 0.45 * 65535).astype("<u2").tobytes()
    notes = b"Nikon\0\2\x10\0\0MM\0*\0\0\0\x08" + b"\0\1" + struct.pack(">HHII", 1, 7, 4, 0x30323130) + bytes(4)
    text = b"The quick brown fox jumps over the lazy dog. " * 900
    for data in (b"", bytes(60_000), b"\xff" * 9000, notes, text, *map(random_bytes, range(30))):
        assert not has_picture(data) and not has_pixels(data)
    assert not has_picture(curve)
    assert not has_picture(b"/9j/ is a beginning")


def test_uncompressed_pixels_look_like_pixels() -> None:
    for shape in ((48, 64, 3), (48, 64, 1), (60, 80, 4), (32, 32, 3)):
        assert has_pixels(photo(*shape).tobytes())


@pytest.mark.parametrize(
    "hostile",
    [
        lambda: has_picture(b"II*\0\x08\0\0\0\xff\xff" + b"II*\0" * 500_000),
        lambda: clean_xmp(b"<a>" * 100_000 + b"</a>" * 100_000),
        lambda: clean_xmp(b"".join(b'<a xmlns:n%d="u">' % i for i in range(20_000)) + b"</a>" * 20_000),
        lambda: drop_pictures(
            struct.pack("<2sHIH", b"II", 42, 8, 65535)
            + struct.pack("<HHII", 270, 2, 700_000, 0) * 65535
            + bytes(900_000)
        ),
    ],
    ids=["tiffs", "deep", "namespaces", "overlapping-values"],
)
def test_hostile_data_do_not_take_long(hostile) -> None:
    started = time.process_time()
    hostile()
    assert time.process_time() - started < 10  # minutes without bounds
