"""The scripts in examples/ run: with tiny networks under the shipped names, and with the shipped ones."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from helpers import ROOT
from PIL import Image

from edgeae.data import generated_faces as faces
from edgeae.network import shipped as zoo

EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("*.py"))


@pytest.fixture(params=["tiny", "shipped"])
def size(
    request: pytest.FixtureRequest, tiny_file: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> int:
    """Pixels a side of what the models make; `tiny` has random networks take the places of the shipped ones."""
    monkeypatch.setenv("EDGEAE_DEVICE", "CPU")
    if request.param == "shipped":
        if missing := {"photos-residual", "faces-vae"} - set(zoo.names()):
            pytest.skip(f"not shipped yet: {', '.join(sorted(missing))}")
        return 64
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    for arch, name in (("residual", zoo.DEFAULT), ("vae", zoo.DEFAULT_VAE)):
        tiny_file(arch).rename(shelf / f"{name}.safetensors")
    monkeypatch.setattr(zoo, "folders", lambda: [shelf])
    return 16


def test_every_example_is_tested() -> None:
    others = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "examples").glob("test_*.py"))
    assert all(f"test_{name}" in globals() or name in others for name in EXAMPLES)


def example(name: str) -> ModuleType:
    """A script of examples/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_folder(size: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, image in zip(("a.png", "deep/b.jpg"), faces.generate(2, 64, seed=1)[0], strict=True):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "in" / name)
    (tmp_path / "in" / "broken.png").touch()
    for end in ("2 restored, 0 existed already, 1 failed", "0 restored, 2 existed already, 1 failed"):
        example("folder").main(str(tmp_path / "in"), str(tmp_path / "out"))
        told = capsys.readouterr().out.splitlines()
        assert told[-2] == end and "broken.png" in told[-1]
    assert sorted(path.name for path in (tmp_path / "out").rglob("*.*")) == ["a.png", "b.jpg"]


def test_laptop(size: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    laptop = example("laptop")
    images, _ = faces.generate(2, 72, seed=1)
    paths = [tmp_path / "a.jpg", tmp_path / "b.jpg"]
    for image, path in zip(images, paths, strict=True):
        Image.fromarray(image).save(path)

    laptop.main(*map(str, paths), str(tmp_path / "out"))

    assert capsys.readouterr().out.startswith(f"code of {paths[0]} [")
    with Image.open(tmp_path / "out" / "restored.png") as restored:
        assert restored.size == (72, 72)
    with Image.open(tmp_path / "out" / "morph.gif") as film:
        assert film.size == (size, size) and film.n_frames > 1
