"""Files in, files out; the demonstration; damaging a file."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers import photo
from PIL import Image

from edgeae import imaging, restoring
from edgeae.corruptions import FILL, parse
from edgeae.errors import DeviceError, EdgeaeError, ImageError, UsageError
from edgeae.restoring import Failed, Restored, corrupt_file, demonstrate, restore_files
from edgeae.samples import samples
from edgeae.session import Session, load


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


# ---- restore_files -----------------------------------------------------------------------------------------------


def test_outputs_are_the_reconstructions(session: Session, photos: list[Path], tmp_path: Path) -> None:
    seen: list[Restored | Failed] = []
    done, failed = restore_files(session, photos, tmp_path / "out" / "deep", seen.append)
    assert seen == done and not failed
    for source, result in zip(photos, done, strict=True):
        output = tmp_path / "out" / "deep" / source.name
        assert (result.source, result.output) == (str(source), str(output))
        assert (result.width, result.height) == (36, 24) and result.ms > 0
        assert np.array_equal(pixels(output), session.reconstruct(pixels(source)))


def test_beside_the_input_by_default(session: Session, photos: list[Path]) -> None:
    done, _ = restore_files(session, photos[:2], None)
    assert [Path(r.output) for r in done] == [photos[0].with_name("a.out.png"), photos[1].with_name("b c.out.png")]


def test_one_file_into_a_file_or_a_folder(session: Session, photos: list[Path], tmp_path: Path) -> None:
    (tmp_path / "dotted.folder").mkdir()
    for output, expected in (("x/y.jpg", "x/y.jpg"), ("new", "new/a.png"), ("dotted.folder", "dotted.folder/a.png")):
        done, _ = restore_files(session, photos[:1], tmp_path / output)
        assert Path(done[0].output) == tmp_path / expected
    assert (tmp_path / "x" / "y.jpg").read_bytes().startswith(b"\xff\xd8\xff")  # JPEG


def test_one_that_fails_does_not_stop_the_others(session: Session, photos: list[Path], tmp_path: Path) -> None:
    odd = photos[0].with_suffix(".jfif")  # can be read, but is written in no such format
    photos[0].rename(odd)
    broken = tmp_path / "in" / "broken.png"
    broken.write_bytes(photos[1].read_bytes()[:200])
    inputs = [odd, broken, tmp_path / "missing.png", tmp_path / "in", photos[1]]
    seen: list[Restored | Failed] = []
    done, failed = restore_files(session, inputs, tmp_path / "out", seen.append)
    assert [result.source for result in seen] == [str(path) for path in inputs]
    assert [result.source for result in failed] == [str(path) for path in inputs[:4]]
    assert [result.source for result in done] == [str(photos[1])]
    for result, reason in zip(failed, ("known extensions", "damaged", "does not exist", "is a folder"), strict=True):
        assert reason in result.reason and result.reason.endswith(".")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [photos[1].name]


def test_a_device_that_fails_stops(session: Session, photos: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(image: object) -> None:
        raise DeviceError("CPU is gone.")

    monkeypatch.setattr(session, "reconstruct", fail)
    with pytest.raises(DeviceError, match="is gone"):
        restore_files(session, photos, None)


def test_outputs_that_make_no_sense(session: Session, photos: list[Path], tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    (tmp_path / "other").mkdir()
    twin = tmp_path / "other" / "a.png"
    for inputs, output, message in (
        (photos, tmp_path / "all.png", "one file for 3 inputs"),
        (photos, tmp_path / "notes", "one file for 3 inputs"),
        ([photos[0], twin], tmp_path / "out", "same file name"),
        (photos, tmp_path / "in", "would be overwritten"),
        (photos[:1], tmp_path / "other" / ".." / "in", "would be overwritten"),
        (photos[:1], tmp_path / "x.mp4", "known extensions"),
    ):
        with pytest.raises(UsageError, match=message):
            restore_files(session, inputs, output)
    assert (tmp_path / "notes").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["in", "other"]


def test_a_file_where_the_folder_should_be(session: Session, photos: list[Path], tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    done, failed = restore_files(session, photos[:1], tmp_path / "notes")
    assert not done and "is a file, not a folder" in failed[0].reason


def test_no_inputs(session: Session) -> None:
    assert restore_files(session, [], None) == ([], [])


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
    shown = samples(16)
    assert [result.name for result in results] == [sample.name for sample in shown]
    for i, (result, sample) in enumerate(zip(results, shown, strict=True)):
        clean = sample.image / np.float32(255)
        damaged, hole = parse("occlude:0.2")(clean, np.random.default_rng((3, i)))
        restored = session.reconstruct(damaged)
        found = (result.psnr_before, result.psnr_after, result.hole_psnr_before, result.hole_psnr_after)
        expected = (psnr(damaged, clean), psnr(restored, clean), psnr(damaged[hole], clean[hole]),
                    psnr(restored[hole], clean[hole]))
        assert found == pytest.approx(expected, abs=1e-3)
        assert result.ms > 0

        for image in (clean, damaged, restored):
            enlarged = imaging.to_uint8(image).repeat(16, axis=0).repeat(16, axis=1)
            assert contains(pixels(Path(result.picture)), enlarged)
    names = {path.name for path in (tmp_path / "shown").iterdir()}
    assert names == {f"{sample.name}.png" for sample in shown} | {"samples.png"}


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
    assert len(results) == len(restoring.samples(16)) and all(np.isfinite(r.psnr_after) for r in results)


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
