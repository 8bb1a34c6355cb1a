"""`edgeae.restore` and `edgeae.restore_many`: the main job from file to file, in one call."""

import inspect
import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers import photo
from helpers.engines import Blur
from PIL import Image

import edgeae
from edgeae.cli.main import main
from edgeae.config import ModelConfig
from edgeae.errors import EdgeaeError, ImageError, UsageError


@pytest.fixture
def session(tiny_config: Callable[..., ModelConfig]) -> edgeae.Session:
    return edgeae.Session(Blur(tiny_config("conv"), 64 << 20), {"task": "occlude"})


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    path = tmp_path / "scan.png"
    Image.fromarray(photo()).save(path)
    return path


def test_a_photo_is_restored_beside_itself(session: edgeae.Session, scan: Path) -> None:
    result = edgeae.restore(scan, model=session)
    assert (result.source, result.output) == (str(scan), str(scan.with_name("scan.out.png")))
    with Image.open(result.output) as image:
        np.testing.assert_array_equal(np.asarray(image), session.reconstruct(photo()))


def test_names_of_files_and_folders_may_be_texts(session: edgeae.Session, scan: Path) -> None:
    folder = scan.parent / "results"
    folder.mkdir()
    for target, expected in (
        (str(scan.parent / "b.jpg"), scan.parent / "b.jpg"),
        (folder, folder / "scan.png"),
        (f"{scan.parent}/new", scan.parent / "new" / "scan.png"),
    ):
        assert Path(edgeae.restore(str(scan), target, model=session).output) == expected
        assert expected.is_file()


def test_bytes_go_to_a_path_or_an_open_file(session: edgeae.Session, scan: Path, tmp_path: Path) -> None:
    file = io.BytesIO()
    assert edgeae.restore(scan.read_bytes(), file, model=session).output == "-"
    edgeae.restore(scan.read_bytes(), tmp_path / "b.png", model=session)
    assert (tmp_path / "b.png").read_bytes() == file.getvalue()


def test_what_the_command_can_do(session: edgeae.Session, scan: Path) -> None:
    mask = np.zeros((24, 36), np.uint8)
    mask[4:8, 4:9] = 255
    result = edgeae.restore(scan, model=session, mask=Image.fromarray(mask), strength=0.5, compare=True)
    assert Path(result.compare).is_file()
    with Image.open(result.output) as image:
        np.testing.assert_array_equal(np.asarray(image)[mask == 0], photo()[mask == 0])
    damaged = edgeae.restore(scan, scan.with_name("d.png"), model=session, strength=0, corrupt="noise:0.2", seed=3)
    with Image.open(damaged.output) as image:
        assert (np.asarray(image) != photo()).mean() > 0.5


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"source": "missing.png"}, ImageError, "missing.png does not exist"),
        ({"target": "b.xyz"}, UsageError, "b.xyz"),
        ({"strength": 2.0}, UsageError, "`strength` must be between 0 and 1"),
        ({"corrupt": "fog"}, UsageError, "fog"),
        ({"mask": "no-mask.png"}, ImageError, "no-mask.png does not exist"),
        ({"source": "."}, UsageError, "`restore_many`"),
        ({"source": Image.new("L", (8, 8))}, UsageError, "take `Session.reconstruct`"),
        ({"source": b"nothing"}, UsageError, "give a `target`"),
        ({"source": b"nothing", "target": "."}, UsageError, "has no name: give the path of a file"),
        ({"model": "no-such-model"}, EdgeaeError, "no-such-model"),
        ({"max_mem": 1}, UsageError, "`max_mem`"),
    ],
    ids=lambda value: re.sub(r" at 0x\w+", "", str(value)) if isinstance(value, dict) else "",
)
def test_what_cannot_be_done_is_told(
    session: edgeae.Session, scan: Path, change: dict[str, object], error: type[Exception], message: str
) -> None:
    arguments: dict[str, object] = {"source": scan, "target": None, "model": session, **change}
    source, target = arguments.pop("source"), arguments.pop("target")
    with pytest.raises(error, match=message):
        edgeae.restore(source, target, **arguments)  # type: ignore[arg-type]
    assert [path.name for path in scan.parent.iterdir()] == ["scan.png"]


def test_many_photos_are_restored_and_one_that_fails_does_not_stop_them(
    session: edgeae.Session, scan: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "scans"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.png", "sub/b.png"):
        (folder / name).write_bytes(scan.read_bytes())
    (folder / "c.png").write_bytes(b"no picture")
    told: list[object] = []
    summary = edgeae.restore_many(folder, tmp_path / "out", model=session, on_done=told.append)
    assert [Path(done.output) for done in summary.done] == [tmp_path / "out/a.png", tmp_path / "out/sub/b.png"]
    assert [Path(failed.source).name for failed in summary.failed] == ["c.png"]
    assert len(told) == 3
    again = edgeae.restore_many([str(folder)], tmp_path / "out", model=session)
    assert (len(again.done), len(again.skipped), len(again.failed)) == (0, 2, 1)
    whole = edgeae.restore_many(folder, tmp_path / "out", model=session, overwrite=True)
    assert len(whole.done) == 2


def test_many_photos_have_many_masks(session: edgeae.Session, scan: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    mask = np.zeros((24, 36), np.uint8)
    mask[4:8, 4:9] = 255
    Image.fromarray(mask).save(masks / "scan.png")
    [done] = edgeae.restore_many([scan], model=session, mask=masks).done
    with Image.open(done.output) as image:
        np.testing.assert_array_equal(np.asarray(image)[mask == 0], photo()[mask == 0])


def test_a_shipped_model_is_loaded_by_name(scan: Path) -> None:
    result = edgeae.restore(scan, model="photos-conv", device="CPU", threads=1)
    assert (result.width, result.height) == (36, 24)


@pytest.mark.parametrize("function", [edgeae.restore, edgeae.restore_many])
def test_the_options_of_the_command_are_arguments(function: Callable[..., object]) -> None:
    """But for those that make no sense in a script, and those for many photos."""
    command = {option.name for option in main.commands["run"].params}
    elsewhere = {"inputs", "watch", "raw", "as_json", "help"}
    many = {"batch", "overwrite"} if function is edgeae.restore else set()
    output = {"output"} if function is edgeae.restore else set()  # its name is target
    missing = command - elsewhere - many - output - set(inspect.signature(function).parameters)
    assert missing <= {"quiet", "verbose"}
