"""Restoring one photo: masks, strength, damage, comparisons, sizes and colors. (Formats: test_round_trip.)"""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers import photo
from PIL import Image

from edgeae.errors import EdgeaeError, ImageError, UsageError
from edgeae.images.damage.kinds import FILL
from edgeae.images.damage.spec import parse
from edgeae.inference.load import load
from edgeae.inference.photo import Options, restore
from edgeae.inference.session import Session


@pytest.fixture
def session(tiny_file: Callable[..., Path], device: str) -> Session:
    """A random tiny `conv`."""
    return load(tiny_file("conv", size=64), device)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A PNG picture of 100×72."""
    return save(tmp_path / "a.png", photo(72, 100))


def save(path: Path, image: np.ndarray, **options: object) -> Path:
    Image.fromarray(image).save(path, **options)
    return path


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def mask_file(path: Path, soft: bool = False) -> Path:
    mask = np.zeros((72, 100), np.uint8)
    mask[20:45, 30:70] = 255
    if soft:
        mask[20:45, 28:30] = 100
    return save(path, mask)


# ---- masks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_outside_the_mask_nothing_changes(
    session: Session, source: Path, tmp_path: Path, soft: bool, strength: float
) -> None:
    mask = mask_file(tmp_path / "mask.png", soft)
    restore(source, tmp_path / "x.png", session, Options(strength=strength), mask=mask)
    before, after, hole = pixels(source), pixels(tmp_path / "x.png"), pixels(mask) > 0
    assert np.array_equal(before[~hole], after[~hole])
    assert (before[hole] != after[hole]).any(axis=-1).mean() > 0.5


def test_the_edge_is_soft(session: Session, source: Path, tmp_path: Path) -> None:
    """A network that is far off: no step across the edge of the hole is larger than those that the photo has."""
    mask = mask_file(tmp_path / "mask.png")
    restore(source, tmp_path / "x.png", session, mask=mask, network=lambda x: np.full_like(x, 0.9))
    before, after = (np.abs(np.diff(pixels(path).astype(int), axis=1)) for path in (source, tmp_path / "x.png"))
    assert after[20:45, 29].max() <= before.max() + 3


def test_the_network_is_given_the_colour_of_holes(session: Session, source: Path, tmp_path: Path) -> None:
    given: list[np.ndarray] = []

    def network(piece: np.ndarray) -> np.ndarray:
        given.append(piece)
        return piece

    restore(source, tmp_path / "x.png", session, mask=mask_file(tmp_path / "mask.png"), network=network)
    hole = pixels(tmp_path / "mask.png") > 0
    (x,) = (piece[:72, :100] for piece in given)
    assert (x[hole] == FILL).all() and np.array_equal(np.rint(x[~hole] * 255), pixels(source)[~hole])


def test_a_grey_mask_mixes(session: Session, source: Path, tmp_path: Path) -> None:
    save(tmp_path / "mask.png", np.full((72, 100), 51, np.uint8))  # a fifth
    restore(source, tmp_path / "x.png", session, mask=tmp_path / "mask.png", network=lambda x: np.ones_like(x))
    expected = np.rint(pixels(source) * 0.8 + 255 * 0.2)
    assert np.abs(pixels(tmp_path / "x.png") - expected).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mask_is_drawn_on_the_photo_as_it_is_seen(session: Session, tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = save(tmp_path / "t.png", photo(72, 100), exif=exif.tobytes())
    with Image.open(turned) as image:
        from PIL import ImageOps

        shown = np.asarray(ImageOps.exif_transpose(image))
    mask = np.zeros(shown.shape[:2], np.uint8)
    mask[5:20, 40:60] = 255
    save(tmp_path / "mask.png", mask)
    restore(turned, tmp_path / "x.png", session, mask=tmp_path / "mask.png", network=lambda x: 1 - x)
    with Image.open(tmp_path / "x.png") as image:
        assert image.getexif()[0x0112] == orientation
        after = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(after[mask == 0], shown[mask == 0]) and (after != shown)[mask > 0].any()


def test_only_pieces_with_damage_are_computed(session: Session, tmp_path: Path) -> None:
    source = save(tmp_path / "big.png", photo(600, 700))
    mask = np.zeros((600, 700), np.uint8)
    mask[10:20, 10:20] = 255
    save(tmp_path / "mask.png", mask)
    asked = []

    def network(piece: np.ndarray) -> np.ndarray:
        asked.append(piece.shape)
        return piece

    result = restore(
        source, tmp_path / "x.png", session, Options(max_mem=32 << 20), mask=tmp_path / "mask.png", network=network
    )
    assert result.pieces > 4 and len(asked) == 1


def test_masks_that_cannot_be_used(
    session: Session, source: Path, tmp_path: Path, tiny_file: Callable[..., Path], device: str
) -> None:
    small = save(tmp_path / "mask.png", np.zeros((5, 5), np.uint8))
    with pytest.raises(ImageError, match=r"5×5 pixels and .* 100×72"):
        restore(source, tmp_path / "x.png", session, mask=small)
    with pytest.raises(ImageError, match=r"missing\.png does not exist"):
        restore(source, tmp_path / "x.png", session, mask=tmp_path / "missing.png")
    with pytest.raises(UsageError, match="`mask` needs"):
        restore(source, tmp_path / "x.png", load(tiny_file("vae"), device), mask=mask_file(tmp_path / "mask.png"))
    assert not (tmp_path / "x.png").exists()


# ---- strength, damage, comparison --------------------------------------------------------------------------------


@pytest.mark.parametrize("strength", [0, 0.25, 1])
def test_strength(session: Session, source: Path, tmp_path: Path, strength: float) -> None:
    restore(source, tmp_path / "x.png", session, Options(strength=strength))
    image = pixels(source)
    expected = image + strength * (session.reconstruct(image / np.float32(255)) * 255 - image)
    assert np.abs(pixels(tmp_path / "x.png") - expected).max() <= 0.51 if strength else True
    if strength == 0:
        assert np.array_equal(pixels(tmp_path / "x.png"), image)


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_strengths_that_make_no_sense(strength: float) -> None:
    with pytest.raises(UsageError, match="`strength`"):
        Options(strength=strength)


def test_damage_first(session: Session, source: Path, tmp_path: Path) -> None:
    options = Options(corrupt=parse("occlude:0.3"), seed=5, compare=True)
    given: list[np.ndarray] = []

    def network(piece: np.ndarray) -> np.ndarray:
        given.append(piece)
        return session.run_floats(piece[None])[0]

    result = restore(source, tmp_path / "x.png", session, options, network=network)
    damaged, _ = parse("occlude:0.3")(pixels(source) / np.float32(255), np.random.default_rng(5))
    assert np.abs(given[0][:72, :100] - damaged).max() < 0.003
    assert result.compare == str(tmp_path / "x.compare.png")
    wide = pixels(tmp_path / "x.compare.png")
    assert wide.shape[1] > 3 * 100 and wide.shape[0] > 72  # three columns


def test_comparison_shows_before_and_after(session: Session, source: Path, tmp_path: Path) -> None:
    restore(source, tmp_path / "x.png", session, Options(compare=True))
    wide = pixels(tmp_path / "x.compare.png")
    for image in (pixels(source), pixels(tmp_path / "x.png")):
        enlarged = image.repeat(3, axis=0).repeat(3, axis=1)
        assert any(
            (wide[y : y + 216, x : x + 300] == enlarged).all()
            for y in range(wide.shape[0] - 215)
            for x in range(wide.shape[1] - 299)
            if (wide[y, x] == enlarged[0, 0]).all()
        )


# ---- sizes and colours -------------------------------------------------------------------------------------------


def test_memory_changes_nothing_that_eight_bits_can_show(session: Session, tmp_path: Path) -> None:
    source = save(tmp_path / "big.png", photo(384, 512))
    small = restore(source, tmp_path / "small.png", session, Options(max_mem=32 << 20))
    large = restore(source, tmp_path / "large.png", session, Options(max_mem=1 << 30))
    assert small.pieces > large.pieces == 1
    difference = np.abs(pixels(tmp_path / "small.png").astype(int) - pixels(tmp_path / "large.png"))
    assert difference.max() <= 1 and (difference > 0).mean() < 1e-3  # rounding of the last bit


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (3, 5)], ids=str)
def test_small_ones(session: Session, tmp_path: Path, size: tuple[int, int]) -> None:
    source = save(tmp_path / "s.png", np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8))
    result = restore(source, tmp_path / "x.png", session)
    assert (result.height, result.width) == size and pixels(tmp_path / "x.png").shape == (*size, 3)


def test_bytes_into_a_stream(session: Session, source: Path, tmp_path: Path) -> None:
    stream = io.BytesIO()
    result = restore(source.read_bytes(), stream, session, name="Standard input")
    restore(source, tmp_path / "x.png", session)
    assert stream.getvalue() == (tmp_path / "x.png").read_bytes() and result.output == "-"
    with pytest.raises(ImageError, match="Standard input is not an image"):
        restore(b"nothing", stream, session, name="Standard input")


def test_nothing_is_left_after_a_failure(session: Session, tmp_path: Path) -> None:
    whole = save(tmp_path / "a.png", photo(300, 400)).read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: len(whole) * 3 // 4])
    (tmp_path / "x.png").write_bytes(b"before")

    def fails(piece: np.ndarray) -> np.ndarray:
        raise EdgeaeError("no.")

    for network in (None, fails):
        with pytest.raises(EdgeaeError):
            restore(tmp_path / "a.png", tmp_path / "x.png", session, network=network)
        assert (tmp_path / "x.png").read_bytes() == b"before"
        assert sorted(path.suffix for path in tmp_path.iterdir()) == [".png", ".png", ".safetensors"]


def test_a_vae_has_its_own_size(tiny_file: Callable[..., Path], device: str, source: Path, tmp_path: Path) -> None:
    session = load(tiny_file("vae"), device)
    result = restore(source, tmp_path / "x.jpg", session, Options(compare=True))
    assert (result.width, result.height) == (16, 16) and pixels(tmp_path / "x.jpg").shape == (16, 16, 3)
    assert Path(result.compare).exists()

    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Camera"
    grey = save(tmp_path / "g.jpg", photo(72, 100)[..., 0], exif=exif.tobytes(), dpi=(300, 300))
    restore(grey, tmp_path / "y.jpg", session)
    with Image.open(tmp_path / "y.jpg") as image:
        assert image.size == (16, 16) and image.mode == "L" and image.info["dpi"] == (300, 300)
        assert image.getexif()[0x0112] == 6 and image.getexif()[0x010F] == "Camera"


def test_a_colorizer_is_given_grey(session: Session, source: Path, tmp_path: Path) -> None:
    """It has never seen a colour; a grey photo comes out in colour."""
    given: list[np.ndarray] = []

    def network(piece: np.ndarray) -> np.ndarray:
        given.append(piece)
        return np.clip(piece * np.float32([1, 0.5, 0.2]), 0, 1)

    session.metadata["task"] = "gray:1"
    restore(source, tmp_path / "x.png", session, network=network)
    (x,) = given
    assert (x[..., :1] == x).all() and np.abs(
        x[:72, :100, 0] * 255 - pixels(source) @ np.array([0.299, 0.587, 0.114])
    ).max() < 0.01
    grey = save(tmp_path / "g.png", pixels(source)[..., 0])
    restore(grey, tmp_path / "y.png", session, network=network)
    assert pixels(tmp_path / "y.png").shape == (72, 100, 3)
