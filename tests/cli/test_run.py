"""`edgeae run`: photos, folders, masks, pipes, a watched folder."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import PROGRAM, child, error, photo, run
from PIL import Image

pytestmark = pytest.mark.usefixtures("working_folder")


@pytest.fixture
def tree(shelf: Path) -> list[str]:
    """Make a folder `in` with pictures on three levels, two of them broken, and return the names of the others."""
    names = ["a.png", "b.jpg", "deep/c.png", "deep/er/d.webp"]
    for seed, name in enumerate(names):
        Path("in", name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo(20, 24, seed=seed)).save(Path("in", name))
    Path("in/deep/broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    Path("in/empty.jpg").touch()
    return names


def outputs(folder: str = "out") -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


def test_run_json(shelf: Path, pictures: list[str]) -> None:
    document = json.loads(run("run", "a.png", "b.png", "-o", "out", "--json").stdout)
    assert document["model"] == "photos-residual" and document["failed"] == []
    assert [(d["source"], d["output"], d["width"], d["height"]) for d in document["done"]] == [
        (name, str(Path("out", name)), 24, 20) for name in ("a.png", "b.png")
    ]


def test_a_vae_notes_its_size(shelf: Path, pictures: list[str]) -> None:
    result = run("run", "-m", "faces-vae", "a.png")
    assert "images are fitted to 16×16" in result.stderr
    with Image.open("a.out.png") as image:
        assert image.size == (16, 16)


def test_some_inputs_fail(shelf: Path, pictures: list[str]) -> None:
    result = run("run", *pictures, "missing.png", "-o", "out", code=3)
    assert [path.name for path in sorted(Path("out").iterdir())] == ["a.png", "b.png"]
    assert len(result.stdout.splitlines()) == 2
    lines = result.stderr.splitlines()[1:]
    assert [line.split()[:2] for line in lines[:2]] == [["edgeae:", "broken.png"], ["edgeae:", "missing.png"]]
    assert error(result) == "2 of 4 images could not be restored."

    document = json.loads(run("run", *pictures, "-o", "out", "--overwrite", "--json", code=3).stdout)
    assert [len(document[key]) for key in ("done", "failed")] == [2, 1]
    assert document["failed"][0]["source"] == "broken.png" and document["failed"][0]["reason"]


def test_all_inputs_fail(shelf: Path, pictures: list[str]) -> None:
    result = run("run", "broken.png", "missing.png", "-o", "out", code=1)
    assert result.stdout == "" and error(result) == "2 of 2 images could not be restored."
    assert json.loads(run("run", "broken.png", "--json", code=1).stdout)["done"] == []


AWKWARD = ["with space.png", "ünï 照片.png", "two\nlines.png", "quo'te\".png", "-dash.png", os.fsdecode(b"\xff.png")]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_names(name: str, shelf: Path) -> None:
    try:
        Image.fromarray(photo()).save(name)
    except OSError:
        pytest.skip("this file system has no such names")
    document = json.loads(run("run", "--json", "-o", "out", "--", name).stdout)
    assert document["done"][0]["source"] == name and Path("out", name).is_file()
    run("run", "-o", "out", "--", name)
    Path(name).unlink()
    assert "does not exist" in error(run("run", "-o", "out", "--", name, code=1))


def test_a_name_that_the_terminal_cannot_show(shelf: Path, pictures: list[str]) -> None:
    Path("a.png").rename("é照.png")
    done = child(
        "run",
        "é照.png",
        "-m",
        shelf / "faces-vae.safetensors",
        encoding="latin-1",
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
    )
    assert done.stdout.startswith(r"é\u7167.out.png  16×16")


def test_a_folder(tree: list[str]) -> None:
    result = run("run", "in", "-o", "out", code=3)
    assert outputs() == sorted(tree)
    lines = result.stderr.splitlines()
    assert [line.split()[1] for line in lines[1:3]] == ["in/deep/broken.png", "in/empty.jpg"]
    assert lines[3].startswith("4 restored, 2 failed, in ") and "images/s" in lines[3]
    assert error(result) == "2 of 6 images could not be restored."
    assert len(result.stdout.splitlines()) == 4

    again = json.loads(run("run", "in", "-o", "out", "--json", code=3).stdout)
    assert [len(again[key]) for key in ("done", "skipped", "failed")] == [0, 4, 2]
    Path("out/b.jpg").unlink()
    third = run("run", "in", "-o", "out", code=3)
    assert len(third.stdout.splitlines()) == 1 and "3 existed already (--overwrite" in third.stderr
    assert len(run("run", "in", "-o", "out", "--overwrite", code=3).stdout.splitlines()) == 4


def test_a_folder_without_a_name_for_its_outputs(tree: list[str]) -> None:
    run("run", "in", code=3)
    assert outputs("in.out") == sorted(tree)


def test_patterns(tree: list[str]) -> None:
    run("run", "in/**/[a-c].*", "-o", "out")
    assert outputs() == ["a.png", "b.jpg", "deep/c.png"]
    assert "matches no file" in error(run("run", "in/*.tif", "-o", "out", code=1))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_killed_and_started_again(tree: list[str], shelf: Path) -> None:
    for seed in range(120):
        Image.fromarray(photo(40, 48, seed=seed)).save(f"in/{seed:03}.png")
    arguments = [*PROGRAM, "run", "in", "-o", "out", "-d", "CPU", "-m", str(shelf / "faces-residual.safetensors")]
    program = subprocess.Popen(arguments, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not Path("out").exists() or len(list(Path("out").glob("0*.png"))) < 5:
        assert time.monotonic() < deadline and program.poll() is None
    program.kill()
    program.communicate()
    done = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*.*") if not path.name.startswith(".")}
    for path in done:
        Image.open(path).load()
    again = json.loads(child(*arguments[len(PROGRAM) :], "--json", code=3).stdout)
    assert len(again["done"]) + len(done) == 124 and len(again["skipped"]) == len(done)
    assert all(path.stat().st_mtime_ns == before for path, before in done.items())


def test_masks(shelf: Path) -> None:
    Image.fromarray(photo()).save("photo.png")
    mask = np.zeros((24, 36), np.uint8)
    mask[5:10, 5:20] = 255
    Image.fromarray(mask).save("mask.png")
    result = run("run", "photo.png", "--mask", "mask.png", "--compare", "-o", "x.png")
    assert "x.compare.png" in result.stdout
    before, after = (np.asarray(Image.open(name)) for name in ("photo.png", "x.png"))
    assert np.array_equal(before[mask == 0], after[mask == 0]) and not np.array_equal(before, after)
    Path("in").mkdir()
    Path("masks").mkdir()
    Path("photo.png").rename("in/photo.png")
    assert "has no mask of its name" in error(run("run", "in", "--mask", "masks", code=1))
    Path("mask.png").rename("masks/photo.png")
    run("run", "in", "--mask", "masks", "-o", "out")
    assert np.array_equal(after, np.asarray(Image.open("out/photo.png")))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_standard_input_and_output(shelf: Path, format: str) -> None:
    picture = io.BytesIO()
    Image.fromarray(photo()).save(picture, format)
    Path("photo.bin").write_bytes(picture.getvalue())
    model = shelf / "faces-residual.safetensors"
    done = subprocess.run(
        [*PROGRAM, "run", "-m", model, "-d", "CPU", "-"], input=picture.getvalue(), capture_output=True, check=True
    )
    with Image.open(io.BytesIO(done.stdout)) as image:
        assert image.size == (36, 24) and image.format == format
    assert b"36\xc3\x9724" in done.stderr
    name = f"x.{format.lower()}"
    subprocess.run(
        [*PROGRAM, "run", "-q", "-m", model, "-d", "CPU", "-", "-o", name], input=picture.getvalue(), check=True
    )
    assert Path(name).read_bytes() == done.stdout


def test_empty_pipes(shelf: Path) -> None:
    assert error(run("run", "-", code=1)) == "Standard input is empty: pipe an image file into it."
    assert "holds no frames" in error(run("run", "-", "--raw", "8x8", "-o", "out", code=1))
    assert not Path("out").exists()


@pytest.mark.parametrize(("arguments", "words"), [
    (["--mask", "m.png"], "need an INPUT"),
    (["--raw", "5x5"], "need an INPUT"),
    (["-", "a.png"], "give it alone"),
    (["a.png", "b.png", "-o", "-"], "one INPUT"),
    (["a.png", "-o", "-", "--json"], "no --json"),
    (["a.png", "--raw", "5x5", "--mask", "m.png"], "neither --mask"),
    (["a.png", "--raw", "5"], "640x480"),
    (["a.png", "--raw", "5x5", "-o", "x.png"], "is one picture"),
    (["a.png", "--watch", "--json"], "neither --mask"),
    (["a.png", "--watch"], "not a folder"),
    (["a.png", "--max-mem", "lots"], "512M"),
    (["a.png", "--max-mem", "1M"], "--max-mem 32M"),
    (["a.png", "--strength", "2"], "--strength"),
])  # fmt: skip
def test_contradictory_options(shelf: Path, arguments: list[str], words: str) -> None:
    Image.fromarray(photo(100, 100)).save("a.png")
    result = run("run", *arguments, code=1 if "1M" in arguments else 2)
    assert words in result.stderr and not Path("x.png").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_watch_until_interrupted(tree: list[str], shelf: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # the child inherits an ignored one
    program = subprocess.Popen(
        [*PROGRAM, "run", "--watch", "in", "-o", "out", "-d", "CPU", "-m", str(shelf / "faces-conv.safetensors")],
        text=True,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    signal.signal(signal.SIGINT, before)
    deadline = time.monotonic() + 60
    while not Path("out/a.png").exists():
        assert time.monotonic() < deadline and program.poll() is None
        time.sleep(0.05)
    Image.fromarray(photo()).save("in/new.png")
    while not Path("out/new.png").exists():
        assert time.monotonic() < deadline and program.poll() is None
        time.sleep(0.05)
    program.send_signal(signal.SIGINT)
    stdout, stderr = program.communicate(timeout=60)
    assert program.returncode == 3 and "Traceback" not in stderr  # one is broken, one still empty
    assert "out/new.png  36×24" in stdout and "5 restored, 0 existed already, 1 failed" in stderr
