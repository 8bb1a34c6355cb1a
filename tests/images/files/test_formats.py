"""The format of a written file."""

from pathlib import Path

import pytest
from helpers import photo
from PIL import Image

from edgeae.errors import UsageError
from edgeae.images.arrays import to_float
from edgeae.images.files.array_io import write_image


def test_the_extension_chooses_the_format(tmp_path: Path) -> None:
    image = photo()
    for extension, format in [("PNG", "PNG"), ("jpeg", "JPEG"), ("Tiff", "TIFF"), ("gif", "GIF"), ("webp", "WEBP")]:
        write_image(to_float(image), tmp_path / f"a.{extension}")
        with Image.open(tmp_path / f"a.{extension}") as written:
            assert written.format == format
    write_image(image, tmp_path / "no extension", format="jpg")
    with Image.open(tmp_path / "no extension") as written:
        assert written.format == "JPEG"
    for path, format in [("a.txt", None), ("a", None), ("a.png", "psd")]:
        with pytest.raises(UsageError, match=r"use one of \.png, \.jpg, .*\.gif"):
            write_image(image, tmp_path / path, format=format)
