"""The demonstration on the samples, and damaging a file."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers import photo
from PIL import Image

from edgeae.errors import EdgeaeError, ImageError, UsageError
from edgeae.images import arrays as imaging
from edgeae.images.damage.apply import corrupt_file
from edgeae.images.damage.kinds import FILL
from edgeae.images.damage.spec import parse
from edgeae.inference.demo import SHOWN_SIDE, demonstrate, list_kinds, restore_masked
from edgeae.inference.load import load
from edgeae.inference.sample_photos import samples
from edgeae.inference.session import Session


@pytest.fixture
def session(tiny_file: Callable[..., Path], device: str) -> Session:
    """A random tiny `conv`."""
    return load(tiny_file("conv"), device)


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Three PNG pictures in a folder `in`."""
    (tmp_path / "in").mkdir()
    paths = [tmp_path / "in" / f"{name}.png" for name in ("a", "b c", "ü")]
    for seed, path in enumerate(paths):
        Image.fromarray(photo(24, 36, seed=seed)).save(path)
    return paths


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


# ---- demonstrate -------------------------------------------------------------------------------------------------


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean(np.square(a.astype(np.float64) - b))))


def contains(picture: np.ndarray, part: np.ndarray) -> bool:
    """Whether `part` stands somewhere in `picture`, pixel for pixel."""
    height, width = part.shape[:2]
    corners = np.argwhere((picture[: -height or None, : -width or None] == part[0, 0]).all(axis=-1))
    return any(np.array_equal(picture[y : y + height, x : x + width], part) for y, x in corners)


def test_demonstration(session: Session, tmp_path: Path) -> None:
    results = demonstrate(session, tmp_path / "shown", "occlude:0.2", seed=3)
    shown = samples(SHOWN_SIDE)
    assert [result.name for result in results] == [sample.name for sample in shown]
    for i, (result, sample) in enumerate(zip(results, shown, strict=True)):
        clean = sample.image / np.float32(255)
        damaged, hole = parse("occlude:0.2")(clean, np.random.default_rng((3, i)))
        restored = session.reconstruct(damaged)
        found = (result.psnr_before, result.psnr_after, result.hole_psnr_before, result.hole_psnr_after)
        expected = (
            psnr(damaged, clean),
            psnr(restored, clean),
            psnr(damaged[hole], clean[hole]),
            psnr(restored[hole], clean[hole]),
        )
        assert found == pytest.approx(expected, abs=1e-3)
        assert result.ms > 0

        for image in (clean, damaged, restored):
            enlarged = imaging.to_uint8(image).repeat(2, axis=0).repeat(2, axis=1)
            assert contains(pixels(Path(result.picture)), enlarged)
    names = {path.name for path in (tmp_path / "shown").iterdir()}
    assert names == {f"{sample.name}.png" for sample in shown} | {"samples.png"}


def test_every_kind_of_damage_has_its_turn(session: Session, tmp_path: Path) -> None:
    kinds = list_kinds(parse("none,noise:0.1,noise:0.2..0.3,jpeg+blur,noise"))
    assert [str(kind) for kind in kinds] == ["noise:0.1", "jpeg:15+blur:1.5"]
    found = [result.corrupt for result in demonstrate(session, tmp_path, "noise:0.1,none,gray")]
    assert found == (["noise:0.1", "gray:1"] * 3)[: len(found)]


def test_smeared_holes_are_shown_as_masks(session: Session, tmp_path: Path) -> None:
    """Damaged plainly, and told where: outside the holes the picture stays as it is."""
    for i, (result, sample) in enumerate(
        zip(demonstrate(session, tmp_path, "occlude:0.2+smear"), samples(SHOWN_SIDE), strict=True)
    ):
        assert result.masked and result.corrupt == "occlude:0.2"
        clean = sample.image / np.float32(255)
        damaged, hole = parse("occlude:0.2")(clean, np.random.default_rng((0, i)))
        restored = restore_masked(session, damaged, hole)
        assert np.array_equal(restored[~hole], damaged[~hole])
        assert result.hole_psnr_after == pytest.approx(psnr(restored[hole], clean[hole]), abs=1e-3)
    assert not any(result.masked for result in demonstrate(session, tmp_path, "smear"))


@pytest.mark.parametrize("corrupt", ["none", "noise"])
def test_damage_without_holes(corrupt: str, session: Session, tmp_path: Path) -> None:
    for result in demonstrate(session, tmp_path, corrupt):
        assert result.hole_psnr_before is None and result.hole_psnr_after is None
        assert np.isinf(result.psnr_before) == (corrupt == "none")


def test_a_seed_repeats_the_demonstration(session: Session, tmp_path: Path) -> None:
    first = [r.psnr_before for r in demonstrate(session, tmp_path / "1", seed=5)]
    assert first == [r.psnr_before for r in demonstrate(session, tmp_path / "2", seed=5)]
    assert first != [r.psnr_before for r in demonstrate(session, tmp_path / "3", seed=6)]
    assert (tmp_path / "1" / "samples.png").read_bytes() == (tmp_path / "2" / "samples.png").read_bytes()


@pytest.mark.parametrize(("arch", "channels"), [("conv", 1), ("vae", 3)])
def test_grey_and_vae(arch: str, channels: int, tiny_file: Callable[..., Path], device: str, tmp_path: Path) -> None:
    session = load(tiny_file(arch, in_channels=channels, out_channels=channels), device)
    results = demonstrate(session, tmp_path / "shown", seed=1)
    assert len(results) == len(samples(16)) and all(np.isfinite(r.psnr_after) for r in results)


def test_an_unknown_damage_is_told_before_anything_is_written(session: Session, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="rust"):
        demonstrate(session, tmp_path / "shown", "rust")
    assert not (tmp_path / "shown").exists()


# ---- corrupt_file ------------------------------------------------------------------------------------------------


def test_corrupt_file(photos: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "new" / "damaged.png"
    share = corrupt_file(photos[0], output, "occlude:0.3", seed=7)
    clean, damaged = pixels(photos[0]), pixels(output)
    changed = (clean != damaged).any(axis=-1)
    assert share == pytest.approx(changed.mean(), abs=0.005)  # the odd pixel has the holes' colour already
    assert (damaged[changed] == np.rint(FILL * 255)).all()
    corrupt_file(photos[0], tmp_path / "again.png", "occlude:0.3", seed=7)
    corrupt_file(photos[0], tmp_path / "other.png", "occlude:0.3", seed=8)
    assert (tmp_path / "again.png").read_bytes() == output.read_bytes()
    assert (tmp_path / "other.png").read_bytes() != output.read_bytes()


@pytest.mark.parametrize(("corrupt", "share"), [("none", 0.0), ("blur", 1.0)])
def test_corrupt_file_without_holes(corrupt: str, share: float, photos: list[Path], tmp_path: Path) -> None:
    assert corrupt_file(photos[0], tmp_path / "x.png", corrupt) == share
    assert np.array_equal(pixels(photos[0]), pixels(tmp_path / "x.png")) == (corrupt == "none")


def test_corrupt_file_errors(photos: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        corrupt_file(photos[0], tmp_path / "x.png", "occlude:7")
    with pytest.raises(ImageError, match="does not exist"):
        corrupt_file(tmp_path / "missing.png", tmp_path / "x.png", "blur")
    with pytest.raises(UsageError, match="known extensions"):
        corrupt_file(photos[0], tmp_path / "x.doc", "blur")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(EdgeaeError, match="is a folder"):
        corrupt_file(photos[0], tmp_path / "folder.png", "blur")
    assert not list(tmp_path.glob("x.*"))
