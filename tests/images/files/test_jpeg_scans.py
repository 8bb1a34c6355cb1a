"""JPEG files of more scans than anyone writes, which would take minutes."""

import io

import numpy as np
import pytest
from helpers import photo
from PIL import Image

from edgeae.errors import ImageError
from edgeae.images.files.jpeg_scans import MOST_SCANS
from edgeae.images.files.reader import Photo


def encode(channels: int = 3, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(photo(32, 40, channels).squeeze()).save(file, "JPEG", **options)
    return file.getvalue()


def with_scans(data: bytes, more: int) -> bytes:
    """The last scan again and again."""
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * more + data[-2:]


def sequential(more: int) -> bytes:
    """Not progressive, and each channel in scans of its own."""
    data = encode(1)
    return with_scans(data, more)


MANY = {
    "progressive gray": lambda: with_scans(encode(1, progressive=True), 200),
    "progressive colour": lambda: with_scans(encode(3, progressive=True), 200),
    "just too many": lambda: with_scans(encode(1, progressive=True), MOST_SCANS),
    "with restart markers": lambda: with_scans(encode(3, progressive=True, restart_marker_blocks=2), 200),
    "sequential": lambda: sequential(200),
    "a second picture behind": lambda: with_scans(encode(1, progressive=True), 200) + encode(),
    "padding before markers": lambda: with_scans(encode(1, progressive=True), 200).replace(
        b"\xff\xda", b"\xff\xff\xff\xda"
    ),
}


@pytest.mark.parametrize("name", MANY)
def test_too_many_scans(name: str) -> None:
    with Photo(MANY[name]()) as picture, pytest.raises(ImageError, match="has more than 100 scans"):
        picture.load()


SOUND = {
    "progressive": lambda: encode(progressive=True),
    "the marker's bytes in a comment": lambda: encode(comment=b"\xff\xda" * 500),
    "and in the EXIF block": lambda: encode(exif=b"Exif\0\0" + b"\xff\xda" * 500),
    "and behind the end": lambda: encode() + b"\xff\xda" * 500,
    "many scans in a second picture": lambda: encode() + with_scans(encode(1, progressive=True), 200),
}


@pytest.mark.parametrize("name", SOUND)
def test_as_cameras_write_them(name: str) -> None:
    data = SOUND[name]()
    with Photo(data) as picture, Image.open(io.BytesIO(data)) as expected:
        assert np.array_equal(picture.read(99), np.asarray(expected))
