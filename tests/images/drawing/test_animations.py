"""Animations as Pillow and OpenCV read them back."""

import math
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from helpers import photo
from PIL import Image
from scipy.ndimage import gaussian_filter

from edgeae.errors import ImageError, UsageError
from edgeae.images.drawing.animations import write_animation


def frames_of(path: Path) -> tuple[list[np.ndarray], list[int]]:
    with Image.open(path) as film:
        frames, durations = [], []
        for index in range(film.n_frames):
            film.seek(index)
            frames.append(np.asarray(film.convert("RGB")))
            durations.append(film.info.get("duration"))
    return frames, durations


@pytest.mark.parametrize("extension", ["gif", "webp", "png"])
def test_opencv_plays_the_animations(tmp_path: Path, extension: str) -> None:
    cv2 = pytest.importorskip("cv2", minversion="4.11")
    a, b = photo(33, 35), photo(33, 35, seed=1)
    path = tmp_path / f"film.{extension}"
    write_animation([a, a, b], path, ping_pong=False)
    _, film = cv2.imreadanimation(str(path))
    assert len(film.frames) == 3
    for frame, expected in zip(film.frames, frames_of(path)[0], strict=True):
        assert np.abs(frame[..., 2::-1].astype(int) - expected).max() <= 3


@pytest.mark.parametrize("extension", ["gif", "webp", "png"])
def test_every_frame_of_an_animation_is_kept(tmp_path: Path, extension: str) -> None:
    a, b = photo(32, 32), photo(32, 32, seed=1)
    morph = [np.uint8(np.rint(a * (1 - t) + b * t)) for t in np.linspace(0, 1, 5)]
    same = [a, a, b, b, a]
    path = tmp_path / f"film.{extension}"
    for film in (morph, same):
        write_animation(film, path, ping_pong=False)
        frames, _ = frames_of(path)
        assert len(frames) == 5
        for frame, original in zip(frames, film, strict=True):
            # colours are few (GIF) or coarse (WebP), but true on the average
            assert np.abs(gaussian_filter(frame - np.float64(original), (2, 2, 0))).mean() < 2
        write_animation(film, path)
        frames, durations = frames_of(path)
        assert len(frames) == 8
        assert abs(sum(durations) - 8000 / 12) <= 10
    np.testing.assert_array_equal(frames[7], frames[1])
    for one in ([a], [a, b]):
        write_animation(one, path)
        assert len(frames_of(path)[0]) == len(one)
    gray = [np.full((16, 16, 1), value, np.uint8) for value in (0, 100, 101, 255)]
    write_animation(gray, path, ping_pong=False)
    means = [frame.mean() for frame in frames_of(path)[0]]
    np.testing.assert_allclose(means, [0, 100, 101, 255], atol=2 if extension == "webp" else 0)


@pytest.mark.parametrize(("extension", "once"), [("gif", None), ("webp", 1), ("png", 1)])
def test_looping_can_be_turned_off(tmp_path: Path, extension: str, once: int | None) -> None:
    frames = [photo(seed=seed) for seed in range(3)]
    for loop, expected in [(True, 0), (False, once)]:
        write_animation(frames, tmp_path / f"film.{extension}", loop=loop)
        with Image.open(tmp_path / f"film.{extension}") as film:
            assert film.info.get("loop") == expected


def test_gif_durations_do_not_drift(tmp_path: Path) -> None:
    for fps in (0.1, 1000):
        for extension in ("gif", "webp", "png"):
            write_animation([photo(8, 8)] * 3, tmp_path / f"film.{extension}", fps=fps)
            assert len(frames_of(tmp_path / f"film.{extension}")[0]) == 4
    write_animation([photo(8, 8, seed=seed) for seed in range(24)], tmp_path / "film.gif", fps=24, ping_pong=False)
    _, durations = frames_of(tmp_path / "film.gif")
    assert set(durations) == {40, 50}
    assert sum(durations) == 1000


def test_gif_quality_with_dithering(tmp_path: Path) -> None:
    image = skimage.data.astronaut()[0:200, 120:320]
    write_animation([image, image[::-1]], tmp_path / "film.gif")
    (first, _), _ = frames_of(tmp_path / "film.gif")
    error = first - np.float64(image)
    assert -10 * math.log10(np.mean((error / 255) ** 2)) > 37
    assert -10 * math.log10(np.mean((gaussian_filter(error, (1, 1, 0)) / 255) ** 2)) > 48  # Pillow's default: 42


def test_animations_that_cannot_be_written(tmp_path: Path) -> None:
    for frames in ([], [photo(8, 8), photo(8, 9)], [photo(8, 8), photo(8, 8, 1)]):
        with pytest.raises(ImageError, match="one shape"):
            write_animation(frames, tmp_path / "film.gif")
    with pytest.raises(UsageError, match=r"\.gif, \.webp, \.png"):
        write_animation([photo()], tmp_path / "film.mp4")
    for fps in (0, 0.01, -1, math.nan, math.inf):
        with pytest.raises(UsageError, match="frames a second"):
            write_animation([photo()], tmp_path / "film.gif", fps=fps)
    assert list(tmp_path.iterdir()) == []
