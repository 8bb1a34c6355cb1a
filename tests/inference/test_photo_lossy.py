"""What a mask leaves alone in formats that lose: a JPEG's blocks, a GIF's colors, and a note where neither can stay."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers import photo
from PIL import Image, ImageOps, features

from edgeae.images.damage.spec import parse
from edgeae.inference.load import load
from edgeae.inference.photo import Options, restore
from edgeae.inference.session import Session

HOLE = (30, 20, 44, 33)  # left, top, right, bottom as shown
AGAIN = "it is encoded again, which changes pixels outside the mask a little: "


@pytest.fixture
def session(tiny_file: Callable[..., Path], device: str) -> Session:
    """A random tiny `conv`."""
    return load(tiny_file("conv", size=64), device)


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    """A mask of 128×96 with one hole."""
    picture = Image.new("L", (128, 96))
    picture.paste(255, HOLE)
    picture.save(tmp_path / "mask.png")
    return tmp_path / "mask.png"


def save(path: Path, mode: str = "RGB", orientation: int = 1, **options: object) -> Path:
    """A detailed photo, 128×96 as shown."""
    x = photo(96, 128).astype(int) + np.random.default_rng(0).integers(-20, 21, (96, 128, 3))
    picture = Image.fromarray(np.clip(x, 0, 255).astype(np.uint8)).convert(mode)
    if orientation == 6:
        exif = Image.Exif()
        exif[0x0112], picture = 6, picture.transpose(Image.Transpose.ROTATE_90)
        options["exif"] = exif
    picture.save(path, **options)
    return path


def shown(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(ImageOps.exif_transpose(image.convert("RGBA") if image.mode == "P" else image))


def equal_outside(one: Path, other: Path, reach: int) -> bool:
    """Whether the pictures are the same, but for pixels up to the `reach`-th from the hole."""
    far = np.ones((96, 128), bool)
    left, top, right, bottom = HOLE
    far[top - reach : bottom + reach, left - reach : right + reach] = False
    return np.array_equal(shown(one)[far], shown(other)[far])


KINDS: dict[str, tuple[str, dict[str, object]]] = {
    "4:2:0": ("a.jpg", {"quality": 80}),
    "4:4:4": ("a.jpeg", {"quality": 95, "subsampling": 0}),
    "gray": ("a.jpg", {"mode": "L"}),
    "CMYK": ("a.jpg", {"mode": "CMYK"}),
    "progressive": ("a.jpg", {"progressive": True}),
    "turned by EXIF": ("a.jpg", {"orientation": 6}),
}


@pytest.mark.parametrize(("name", "options"), KINDS.values(), ids=KINDS.keys())
@pytest.mark.parametrize("strength", [1, 0.5])
def test_jpeg_blocks_outside_the_mask_stay(
    name: str, options: dict[str, object], strength: float, session: Session, mask: Path, tmp_path: Path
) -> None:
    pytest.importorskip("jpegio")
    source, target = save(tmp_path / name, **options), tmp_path / f"out_{name}"
    result = restore(source, target, session, Options(strength=strength), mask=mask, network=lambda x: 1 - x)
    assert result.note == "" and equal_outside(source, target, 17)
    assert not equal_outside(source, target, 0)  # inside the hole's blocks there is the result


@pytest.mark.parametrize(("name", "options"), KINDS.values(), ids=KINDS.keys())
def test_no_strength_leaves_every_pixel_of_a_jpeg(
    name: str, options: dict[str, object], session: Session, tmp_path: Path
) -> None:
    pytest.importorskip("jpegio")
    source, target = save(tmp_path / name, **options), tmp_path / f"out_{name}"
    assert restore(source, target, session, Options(strength=0)).note == ""
    assert np.array_equal(shown(source), shown(target))


def test_without_the_library_a_masked_jpeg_is_noted(
    session: Session, mask: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jpegio", None)
    source = save(tmp_path / "a.jpg")
    assert restore(source, tmp_path / "x.jpg", session, mask=mask).note == (
        AGAIN + "pip install 'edgeae[jpeg]' keeps them"
    )
    for options, target in ((Options(), "y.jpg"), (Options(strength=0), "z.jpg")):
        assert restore(source, tmp_path / target, session, options).note == ""
    assert restore(source, tmp_path / "x.png", session, mask=mask).note == ""
    assert equal_outside(source, tmp_path / "x.png", 0)


@pytest.mark.parametrize(
    ("name", "options", "note"),
    [
        ("a.webp", {"quality": 80}, AGAIN + "write .png to keep them"),
        ("a.webp", {"lossless": True}, ""),
        ("a.avif", {"quality": 80}, AGAIN + "write .png to keep them"),
        ("a.tif", {"compression": "jpeg"}, AGAIN + "write .png to keep them"),
        ("a.tif", {"compression": "tiff_lzw"}, ""),
        ("a.gif", {"mode": "P"}, ""),
        ("a.gif", {"mode": "L"}, ""),
        ("a.png", {"mode": "P"}, ""),
        ("a.bmp", {}, ""),
    ],
    ids=["lossy WebP", "lossless WebP", "AVIF", "TIFF with JPEG inside", "TIFF", "GIF", "gray GIF", "PNG", "BMP"],
)
def test_other_formats_stay_or_are_noted(
    name: str, options: dict[str, object], note: str, session: Session, mask: Path, tmp_path: Path
) -> None:
    if name.endswith(".avif") and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    source, target = save(tmp_path / name, **options), tmp_path / f"out_{name}"
    assert restore(source, target, session, mask=mask, network=lambda x: 1 - x).note.endswith(note)
    with Image.open(source) as one, Image.open(target) as other:
        pictures = one.convert("RGB"), other.convert("RGB")
    left, top, right, bottom = HOLE
    outside = np.ones((96, 128), bool)
    outside[top:bottom, left:right] = False
    assert note or np.array_equal(*(np.array(picture)[outside] for picture in pictures))


def test_a_masked_heic_is_noted(session: Session, mask: Path, tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    with Image.open(save(tmp_path / "a.png")) as image:
        heif.from_pillow(image).save(tmp_path / "a.heic")
    result = restore(tmp_path / "a.heic", tmp_path / "x.heic", session, mask=mask)
    assert result.note == AGAIN + "write .png to keep them"
    assert restore(tmp_path / "a.heic", tmp_path / "y.heic", session).note == ""


def test_both_notes_are_told(session: Session, mask: Path, tmp_path: Path) -> None:
    pages = [Image.fromarray(photo(96, 128, seed=seed)) for seed in (1, 2)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:], compression="jpeg")
    note = restore(tmp_path / "a.tif", tmp_path / "x.tif", session, mask=mask).note
    assert note.startswith("it has 2 pages, of which the first is restored; ")
    assert note.endswith(f"; {AGAIN}write .png to keep them")


def test_damage_outside_the_mask_is_in_the_result(session: Session, mask: Path, tmp_path: Path) -> None:
    """Damage that is done first is no change to be undone."""
    source = save(tmp_path / "a.jpg")
    options = Options(corrupt=parse("noise:0.2"), seed=1)
    assert restore(source, tmp_path / "x.jpg", session, options, mask=mask).note == ""
    far = np.abs(shown(source).astype(int) - shown(tmp_path / "x.jpg"))[60:]
    assert far.mean() > 10
