"""HEIC and AVIF: rotation by container and by EXIF, thumbnails, sequences, conversions; Pillow learns nothing."""

import io
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers import ROOT, photo
from PIL import Image, features

from edgeae.config import ModelConfig
from edgeae.images.files.array_io import read_image, write_image
from edgeae.images.files.reader import Photo
from edgeae.images.files.turns import to_upright
from edgeae.inference.photo import restore

SESSION = SimpleNamespace(config=ModelConfig("conv", size=16, widths=(8, 16), code=4, context=1), metadata={})
X = photo(48, 64)
needs_avif = pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")


def exif(turn: int) -> bytes:
    tags = Image.Exif()
    tags[271], tags[274] = "Edge", turn
    return tags.tobytes()


def heic(pixels: np.ndarray = X, *others: np.ndarray, **options: Any) -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif")
    file = pillow_heif.from_pillow(Image.fromarray(pixels))
    for other in others:
        file.add_from_pillow(Image.fromarray(other))
    out = io.BytesIO()
    file.save(out, quality=95, **options)
    return out.getvalue()


def avif(turn: int = 1) -> bytes:
    out = io.BytesIO()
    Image.fromarray(X).save(out, "AVIF", quality=95, exif=exif(turn))
    return out.getvalue()


def through(data: bytes, target: Path | None = None) -> tuple[bytes, str]:
    out = io.BytesIO()
    note = restore(data, target or out, SESSION, name="photo", network=lambda piece: piece).note
    return (target.read_bytes() if target else out.getvalue()), note


def upright(data: bytes) -> np.ndarray:
    with Photo(data, "photo") as opened:
        return to_upright(opened.read(opened.height), opened.orientation)


@pytest.mark.parametrize("turn", range(1, 9))
def test_turned_heic_pictures_stay_as_they_are_shown(turn: int) -> None:
    """pillow-heif writes the EXIF orientation as the container's rotation, as phones do."""
    data = heic(exif=exif(turn))
    shown = to_upright(X, turn)
    before = upright(data)
    assert before.shape == shown.shape
    assert np.abs(before.astype(int) - shown).mean() < 4
    result, note = through(data)
    assert np.abs(upright(result).astype(int) - shown).mean() < 6
    assert note == ""
    with Photo(result) as opened:
        assert opened.format == "HEIF" and opened.orientation == 1
        assert b"Edge" in opened.metadata.exif


@needs_avif
@pytest.mark.parametrize("turn", range(1, 9))
def test_turned_avif_pictures_stay_as_they_are_shown(turn: int) -> None:
    data = avif(turn)
    shown = to_upright(X, turn)
    result, note = through(data)
    assert note == ""
    for file in (data, result):
        found = upright(file)
        assert found.shape == shown.shape and np.abs(found.astype(int) - shown).mean() < 6
    assert Image.open(io.BytesIO(result)).getexif()[271] == "Edge"


@pytest.mark.parametrize("extension", ["jpg", "png", "webp", "tif", "bmp", "gif", "avif"])
def test_heic_into_other_formats(extension: str, tmp_path: Path) -> None:
    if extension == "avif" and not features.check("avif"):
        pytest.skip("Pillow without AVIF")
    result, _ = through(heic(exif=exif(6)), tmp_path / f"out.{extension}")
    shown = to_upright(X, 6)
    assert np.abs(upright(result).astype(int) - shown).mean() < 8
    if extension in ("jpg", "png", "webp", "avif"):
        tags = Image.open(io.BytesIO(result)).getexif()
        assert (tags[271], tags.get(274, 1)) == ("Edge", 1)


@pytest.mark.parametrize("extension", ["heic", "HEIF", "hif"])
def test_other_formats_into_heic(extension: str, tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif")
    source = tmp_path / "photo.jpg"
    Image.fromarray(X).save(source, quality=95, exif=exif(6))
    result, _ = through(source.read_bytes(), tmp_path / f"out.{extension}")
    assert np.abs(upright(result).astype(int) - to_upright(X, 6)).mean() < 8
    write_image(X, tmp_path / "again.heic")
    assert np.abs(read_image(tmp_path / "again.heic").astype(int) - X).mean() < 6


def test_thumbnails_and_other_pictures_are_left_out() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    file = pillow_heif.from_pillow(Image.fromarray(X))
    file[0].info["thumbnails"] = [32]
    out = io.BytesIO()
    file.save(out, quality=95)
    result, note = through(out.getvalue())
    assert note == "without its thumbnail"
    assert not pillow_heif.open_heif(result).info["thumbnails"]
    result, note = through(heic(X, X[::-1].copy()))
    assert "it has 2 pictures, of which the main one is restored" in note
    assert len(pillow_heif.open_heif(result)) == 1


def test_a_heic_picture_is_read_by_content() -> None:
    with Photo(heic(), "photo.jpg") as opened:
        assert opened.format == "HEIF"


@needs_avif
def test_of_an_avif_sequence_the_first_picture_is_restored() -> None:
    out = io.BytesIO()
    Image.fromarray(X).save(out, "AVIF", save_all=True, append_images=[Image.fromarray(X[::-1].copy())])
    result, note = through(out.getvalue())
    assert note == "it has 2 frames, of which the first is restored"
    assert np.abs(upright(result).astype(int) - X).mean() < 9


def test_pillow_learns_nothing() -> None:
    """Reading a HEIC picture must not change what other code of the program can open."""
    pytest.importorskip("pillow_heif")
    code = (
        "import sys, io\nfrom edgeae.images.files.array_io import read_image\nassert 'pillow_heif' not in sys.modules\n"
        "data = sys.stdin.buffer.read()\nread_image(data)\nfrom PIL import Image\nImage.init()\n"
        "assert 'HEIF' not in Image.OPEN, sorted(Image.OPEN)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], input=heic(), check=True, env=environment, timeout=60)
