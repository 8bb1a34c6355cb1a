"""Restoring many photos: inputs, outputs and outcomes."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import photo
from PIL import Image

from edgeae import files
from edgeae.errors import DeviceError, EdgeaeError, ImageError, UsageError
from edgeae.inference import folder
from edgeae.inference.folder import Failed, Item, Skipped, collect, restore_all, restore_each, watch
from edgeae.inference.load import load
from edgeae.inference.mask_pairs import add_masks
from edgeae.inference.photo import Options, Restored
from edgeae.inference.session import Session


@pytest.fixture
def session(tiny_file: Callable[..., Path], device: str) -> Session:
    """A random tiny `conv`."""
    return load(tiny_file("conv"), device)


def save(path: Path, height: int = 24, width: int = 36, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(photo(height, width, seed=seed)).save(path)
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """`in` with pictures in three levels, of several formats, and other files."""
    root = tmp_path / "in"
    for i, name in enumerate(("a.png", "b c.jpg", "deep/d.webp", "deep/er/e.bmp", "deep/er/ü.tif", "deep/er/f.gif")):
        save(root / name, seed=i)
    (root / "notes.txt").write_text("no picture")
    return root


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def names(items: list[Item], root: Path) -> list[str]:
    return [item.target.relative_to(root).as_posix() for item in items]


# ---- collect -----------------------------------------------------------------------------------------------------

TREE = ["a.png", "b c.jpg", "deep/d.webp", "deep/er/e.bmp", "deep/er/f.gif", "deep/er/ü.tif"]


def test_a_folder_keeps_its_tree(tree: Path, tmp_path: Path) -> None:
    assert names(collect([tree], tmp_path / "out"), tmp_path / "out") == TREE
    assert names(collect([tree]), tmp_path / "in.out") == TREE
    assert all(item.keep for item in collect([tree]))
    assert not any(item.keep for item in collect([tree], overwrite=True))


def test_a_folder_within_the_folder_is_no_input(tree: Path) -> None:
    save(tree / "out" / "a.png")
    assert names(collect([tree], tree / "out"), tree / "out") == TREE


def test_patterns(tree: Path, tmp_path: Path) -> None:
    assert names(collect([tree / "**" / "*.[tg]if"], tmp_path), tmp_path) == ["deep/er/f.gif", "deep/er/ü.tif"]
    assert [item.target.name for item in collect([tree / "*.png"])] == ["a.out.png"]
    save(tree / "odd[1].png")
    assert collect([tree / "odd[1].png"])[0].source == tree / "odd[1].png"  # a file of that name is no pattern


def test_one_file(tmp_path: Path) -> None:
    source = save(tmp_path / "a.png")
    for output, target in ((None, "a.out.png"), (tmp_path / "x.jpg", "x.jpg"), (tmp_path / "new", "new/a.png")):
        (item,) = collect([source], output)
        assert item.target == tmp_path / target and not item.keep


def test_what_makes_no_sense(tree: Path, tmp_path: Path) -> None:
    twice = save(tmp_path / "other" / "a.png")
    (tmp_path / "empty").mkdir()
    for inputs, output, kind, words in (
        ([tree, twice], tmp_path / "one.png", UsageError, "one file for several"),
        ([tree / "a.png", twice], tmp_path / "out", UsageError, "would both become"),
        ([tree / "a.png"], tree, UsageError, "would be overwritten"),
        ([tree], tree, UsageError, "would be overwritten"),
        ([tree / "a.png"], tmp_path / "x.doc", UsageError, "known extensions"),
        ([tmp_path / "empty"], None, ImageError, "holds no images"),
        ([tree / "*.nef"], None, ImageError, "matches no file"),
    ):
        with pytest.raises(kind, match=words) as error:
            collect(inputs, output)
        assert str(error.value).endswith(".")


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no links")
def test_links_that_lead_in_a_circle(tree: Path, tmp_path: Path) -> None:
    (tree / "deep" / "loop").symlink_to(tree)
    assert names(collect([tree], tmp_path / "out"), tmp_path / "out") == TREE


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


# ---- watch -------------------------------------------------------------------------------------------------------


def test_watch(session: Session, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there, what comes, what is written slowly, and what is broken at first."""
    monkeypatch.setattr(folder, "_POLL_S", 0.05)
    out = tmp_path / "out"
    save(out / "a.png")  # done before
    found: list[Any] = []
    whole = save(tmp_path / "whole.png", 40, 40, seed=9).read_bytes()

    def come() -> None:
        time.sleep(0.4)
        save(tree / "new" / "n.png")
        with (tree / "slow.png").open("wb") as file:
            for part in range(8):
                file.write(whole[part * len(whole) // 8 : (part + 1) * len(whole) // 8])
                file.flush()
                time.sleep(0.03)
        (tree / "half.png").write_bytes(whole[: len(whole) // 2])
        time.sleep(0.4)
        (tree / "half.png").write_bytes(whole)

    thread = threading.Thread(target=come)
    thread.start()
    deadline = time.monotonic() + 30
    for outcome in restore_each(session, lambda stop: watch(tree, out, stop), Options()):
        found.append(outcome)
        done = {Path(r.source).name for r in found if isinstance(r, Restored)}
        if {"n.png", "slow.png", "half.png"} <= done or time.monotonic() > deadline:
            break
    thread.join()
    assert {Path(r.source).name for r in found if isinstance(r, Skipped)} == {"a.png"}
    assert {Path(r.source).name for r in found if isinstance(r, Failed)} <= {"half.png", "slow.png"}
    assert "half.png" in {Path(r.source).name for r in found if isinstance(r, Failed)}
    assert np.array_equal(pixels(out / "slow.png"), pixels(out / "half.png"))
    assert (out / "new" / "n.png").exists()


def test_watch_needs_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a folder"):
        next(watch(tmp_path / "missing", None, threading.Event()))
