"""examples/denoise.py, colorize.py, align.py and segment.py with tiny networks, and the numbers they print."""

import importlib
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from helpers import ROOT, photo
from PIL import Image
from skimage.color import rgb2lab

import edgeae
from edgeae.data import generated_faces as faces
from edgeae.images import arrays as imaging
from edgeae.images.damage import kinds as damages
from edgeae.images.damage import spec as corruptions
from edgeae.images.files.array_io import write_image

TASKS = {
    "denoise": ["noisy", "Gaussian filter", "median filter", "network"],
    "colorize": ["gray", "the mean colour", "network"],
    "align": ["shifted", "network", "moved to fit it"],
    "segment": ["eyes", "background", "clothes", "skin", "hair"],
}


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """`example(name)`: a script of examples/ as a module, whose networks are tiny; it finds common.py beside it."""
    monkeypatch.syspath_prepend(ROOT / "examples")
    default = edgeae.ModelConfig.default

    def tiny(arch: str, **sizes: Any) -> edgeae.ModelConfig:
        widths = tuple(min(8, width) for width in sizes.pop("widths", (8, 8)))
        return default(arch, **{**sizes, "widths": widths, "code": 8, "context": 1})

    monkeypatch.setattr(edgeae.ModelConfig, "default", tiny)
    return importlib.import_module


@pytest.mark.parametrize("task", TASKS)
def test_an_example(
    task: str, example: Callable[[str], ModuleType], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    example(task).main(["--epochs", "1", "--limit", "20", "--size", "16", "--device", "CPU", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    for name in TASKS[task]:
        found = re.search(rf"^{name} +(.+)$", printed, re.MULTILINE)
        assert found, f"no line for {name} in {printed}"
        scores = [float(number) for number in found[1].split()]
        # The eyes are less than a pixel each in the two tiny validation masks: without any there is no IoU.
        assert all(map(math.isfinite, scores)) or name == "eyes"
    with Image.open(tmp_path / f"{task}.png") as picture:
        assert picture.width > 2 * 128 and picture.height > 3 * 128
    assert (tmp_path / "best.safetensors").exists()


def test_masks_of_photographs(
    example: Callable[[str], ModuleType], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two colours that no drawn face has, in masks larger than the network: where they mix are still two classes."""
    for i in range(12):
        image = photo(40, 40, seed=i)
        bright = image.mean(axis=2) > 128
        write_image(image, tmp_path / "photos" / f"{i}.jpg")
        write_image(
            np.where(bright[..., None], [200, 30, 90], [10, 60, 20]).astype(np.uint8), tmp_path / "masks" / f"{i}.png"
        )
    arguments = ["--data", str(tmp_path / "photos"), "--targets", str(tmp_path / "masks"), "--size", "32"]
    example("segment").main([*arguments, "--epochs", "1", "--device", "CPU", "--out", str(tmp_path / "run")])
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("(")]
    assert [row.split(")")[0] for row in rows] == ["(10, 60, 20", "(200, 30, 90"]


def test_failures_are_one_sentence(example: Callable[[str], ModuleType], tmp_path: Path) -> None:
    example("denoise")
    with pytest.raises(SystemExit, match=r"does not exist: give a folder"):
        example("common").run(lambda: example("denoise").main(["--data", str(tmp_path / "no"), "--device", "CPU"]))
    with pytest.raises(SystemExit, match="2"):
        example("segment").main(["--data", str(tmp_path)])
    write_image(photo(), tmp_path / "no-mask.png")
    with pytest.raises(edgeae.DataError, match=r"no-mask\.png is no mask of flat colours"):
        example("segment").palette(str(tmp_path))


def test_masks_follow_the_drawn_faces(example: Callable[[str], ModuleType]) -> None:
    """What a factor changes by itself, other values of it than the masks are made with, is where its class is."""
    segment = example("segment")
    size, least = 128, {"background": 0.9, "clothes": 0.9, "hair": 0.8, "skin": 0.8, "eyes": 0.0}
    for seed in range(6):
        face = replace(
            faces.random_face(np.random.default_rng(seed)),
            glasses=0.0,
            mouth_open=0.0,
            contrast=0.3,
            background_brightness=0.5,
            hair_tone=0.2,
            skin=0.3,
            beard=0.0,
            eye_open=0.9,
            eye_tone=0.0,
        )
        mask, drawn = segment.mask(face, size), faces.render(face, size).astype(float)
        assert mask.shape == (size, size)
        others = {
            "background": {"background_hue": face.background_hue + 0.5},
            "skin": {"skin": 0.7},
            "clothes": {"clothes_hue": face.clothes_hue + 0.3},
            "hair": {"hair_tone": 0.8},
            "eyes": {"eye_tone": 0.7},
        }
        for label, name in enumerate(segment.COLOURS):
            change = np.abs(faces.render(replace(face, **others[name]), size) - drawn).max(axis=2)
            changed, named = change > 0.5 * change.max(), mask == label
            # The colour of eyes is that of the irises, which are a part of them.
            assert (changed & named).sum() >= 0.8 * changed.sum(), (seed, name)
            assert (changed & named).sum() >= least[name] * named.sum(), (seed, name)
        rows, _ = np.nonzero(mask == list(segment.COLOURS).index("eyes"))
        assert 0.3 * size < rows.mean() < 0.65 * size


def test_cielab(example: Callable[[str], ModuleType]) -> None:
    images = np.random.default_rng(0).random((2, 9, 7, 3)) ** 3  # also the dark ones, where both formulas are linear
    np.testing.assert_allclose(example("colorize").lab(images), rgb2lab(images), atol=0.02)
    assert example("colorize").colour_error(np.zeros((4, 2)), np.tile([3.0, 4.0], (4, 1))) == 5


def test_motion_is_found(example: Callable[[str], ModuleType]) -> None:
    align = example("align")
    image = imaging.to_float(faces.generate(1, 64, seed=3)[0][0])
    smooth, _ = corruptions.parse("blur:2")(image, np.random.default_rng(0))
    guide = damages.move(smooth, 3.5, -2.25, 0.08)
    error = align.motion_between(smooth, 0.1 + 0.8 * guide) - [3.5, -2.25, 0.08]
    assert (np.abs(error) < [0.05, 0.05, 0.002]).all(), error
    # A turn by a small angle moves a pixel by angle × radius: the mean square of the radius is (H² + W²) / 12.
    turned = damages.move(smooth, 0, 0, 0.05)
    assert align.distance_px(smooth[None], turned[None]) == pytest.approx(0.05 * math.sqrt(2 * 64**2 / 12), rel=0.03)
