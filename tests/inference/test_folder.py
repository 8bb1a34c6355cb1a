"""Restoring many photos: inputs, outputs and outcomes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import photo
from PIL import Image

from edgeae import files
from edgeae.errors import DeviceError, EdgeaeError
from edgeae.inference.collect import Item, collect
from edgeae.inference.folder import Skipped, restore_all
from edgeae.inference.load import load
from edgeae.inference.mask_pairs import add_masks
from edgeae.inference.session import Session


@pytest.fixture
def session(tiny_file: Callable[..., Path], device: str) -> Session:
    """A random tiny `conv`."""
    return load(tiny_file("conv"), device)


def save(path: Path, height: int = 24, width: int = 36, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(photo(height, width, seed=seed)).save(path)
    return path


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


TREE = ["a.png", "b c.jpg", "deep/d.webp", "deep/er/e.bmp", "deep/er/f.gif", "deep/er/ü.tif"]


# ---- restore_all -------------------------------------------------------------------------------------------------


def test_outputs_are_the_reconstructions(session: Session, tree: Path, tmp_path: Path) -> None:
    seen: list[Any] = []
    found = restore_all(session, collect([tree], tmp_path / "out"), on_done=seen.append)
    assert [Path(r.source).relative_to(tree).as_posix() for r in found.done] == TREE
    assert len(seen) == 6 and not found.failed and not found.skipped
    for result in found.done:
        assert result.width, result.height == (36, 24)
        if result.output.endswith(("png", "bmp", "tif")):
            expected = session.reconstruct(pixels(Path(result.source)))
            assert np.abs(pixels(Path(result.output)).astype(int) - expected).max() <= 1  # of rounding


def test_broken_ones_do_not_stop_the_others_and_what_is_done_is_skipped(
    session: Session, tree: Path, tmp_path: Path
) -> None:
    (tree / "deep" / "broken.jpg").write_bytes(b"no picture")
    (tree / "empty.png").touch()
    items = collect([tree], tmp_path / "out")
    found = restore_all(session, items)
    assert len(found.done) == 6
    assert [Path(failure.source).name for failure in found.failed] == ["broken.jpg", "empty.png"]
    assert all(failure.source in failure.reason for failure in found.failed)

    before = {result.output: Path(result.output).stat().st_mtime_ns for result in found.done}
    Path(found.done[2].output).unlink()
    again = restore_all(session, items)
    assert [result.output for result in again.done] == [found.done[2].output]
    assert len(again.skipped) == 5 and isinstance(again.skipped[0], Skipped) and len(again.failed) == 2
    assert all(Path(s.output).stat().st_mtime_ns == before[s.output] for s in again.skipped)
    assert len(restore_all(session, collect([tree], tmp_path / "out", overwrite=True)).done) == 6


def test_what_else_runs_changes_nothing(session: Session, tmp_path: Path) -> None:
    """The same picture alone, and among many of its and other shapes: the same file, byte for byte."""
    alone = save(tmp_path / "alone" / "x.png", seed=77)
    restore_all(session, [Item(alone, tmp_path / "x.png")])
    for i in range(40):
        save(tmp_path / "many" / f"{i:02}.png", 24 + 8 * (i % 2), 36, seed=i)
    save(tmp_path / "many" / "xx.png", seed=77)
    for run in ("1", "2"):
        restore_all(session, collect([tmp_path / "many"], tmp_path / run))
        assert (tmp_path / run / "xx.png").read_bytes() == (tmp_path / "x.png").read_bytes()


def test_a_device_that_fails_stops(
    session: Session, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(60):
        save(tree / f"z{i:02}.png", 24 + 8 * (i % 5), seed=i)
    calls = 0
    run_floats = session.run_floats

    def fails(x: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise DeviceError("the cable was pulled.")
        return run_floats(x)

    monkeypatch.setattr(session, "run_floats", fails)
    with pytest.raises(DeviceError, match="cable"):
        restore_all(session, collect([tree], tmp_path / "out"))
    written = list((tmp_path / "out").rglob("*.*"))
    assert 0 < len(written) < 66
    for path in written:
        pixels(path)  # whole
    monkeypatch.undo()
    assert len(restore_all(session, collect([tree], tmp_path / "out")).done) == 66 - len(written)


def test_a_full_disk_stops(session: Session, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(EdgeaeError, match="disk is full"):
        restore_all(session, collect([tree], tmp_path / "out"))
    assert not list((tmp_path / "out").rglob("*.*"))


def test_nothing(session: Session) -> None:
    assert restore_all(session, []).done == []


def test_a_mask_of_another_size(session: Session, tree: Path, tmp_path: Path) -> None:
    mask = save(tmp_path / "mask.png", 10, 10)
    found = restore_all(session, add_masks(collect([tree / "a.png"], tmp_path / "x.png"), mask)[0])
    assert "10×10" in found.failed[0].reason and "36×24" in found.failed[0].reason
