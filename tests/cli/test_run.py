"""`edgeae run` in its other forms: folders, masks, pipes, frames, a watched folder."""

import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import PROGRAM, child, error, photo, run
from PIL import Image

pytestmark = [pytest.mark.usefixtures("working_folder")]


@pytest.fixture
def tree(shelf: Path) -> list[str]:
    """A folder `in` of pictures in three levels, two of them broken; gives the names of the others."""
    names = ["a.png", "b.jpg", "deep/c.png", "deep/er/d.webp"]
    for seed, name in enumerate(names):
        Path("in", name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo(20, 24, seed=seed)).save(Path("in", name))
    Path("in/deep/broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    Path("in/empty.jpg").touch()
    return names


def outputs(folder: str = "out") -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


# ---- folders -----------------------------------------------------------------------------------------------------


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


# ---- pipes -------------------------------------------------------------------------------------------------------


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


def test_pipes_that_give_nothing(shelf: Path) -> None:
    assert error(run("run", "-", code=1)) == "Standard input is empty: pipe an image file into it."
    result = run("run", "-", "--raw", "8x8", "-o", "out")
    assert "0 frames" in result.stderr and not Path("out").exists()


@pytest.mark.parametrize("output", ["-", "out"])
def test_raw_frames(shelf: Path, output: str) -> None:
    frames = np.stack([photo(16, 24, seed=seed) for seed in range(3)])
    model = shelf / "faces-conv.safetensors"
    done = subprocess.run(
        [*PROGRAM, "run", "-m", model, "-d", "CPU", "--raw", "24x16", "-", "-o", output],
        input=frames.tobytes(),
        capture_output=True,
        check=True,
    )
    assert b"3 frames" in done.stderr
    restored = (
        np.frombuffer(done.stdout, np.uint8).reshape(-1, 16, 24, 3)
        if output == "-"
        else np.stack([np.asarray(Image.open(f"out/{i:06}.png")) for i in (1, 2, 3)])
    )
    from edgeae.inference.load import load

    session = load(model, "CPU")
    assert np.array_equal(restored, np.stack([session.reconstruct(frame) for frame in frames]))


def test_raw_frames_that_end_early(shelf: Path) -> None:
    Path("frames.rgb").write_bytes(photo(16, 24).tobytes() + b"abc")
    result = run("run", "--raw", "24x16", "frames.rgb", "-o", "out", code=1)
    assert "3 of 1152 bytes after 1 whole ones" in error(result)
    assert outputs() == ["000001.png"]


# ---- what makes no sense -----------------------------------------------------------------------------------------


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
def test_what_makes_no_sense(shelf: Path, arguments: list[str], words: str) -> None:
    Image.fromarray(photo(100, 100)).save("a.png")
    result = run("run", *arguments, code=1 if "1M" in arguments else 2)
    assert words in result.stderr and not Path("x.png").exists()


# ---- watch -------------------------------------------------------------------------------------------------------


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


def test_samples_show_what_the_model_learned(shelf: Path) -> None:
    from edgeae.network import weight_file as weights

    file = weights.read(shelf / "faces-conv.safetensors")
    for task, damage in (("noise:0.2+blur:1", "noise:0.2+blur:1"), ("none", "occlude")):
        weights.write("m.safetensors", file.tensors, file.metadata | {"task": task})
        device, _, first, *_ = run("run", "-m", "./m.safetensors").stdout.splitlines()
        assert device == "device CPU" and first.split()[1].startswith(damage)
    weights.write("m.safetensors", file.tensors, file.metadata | {"task": "image-to-image"})
    assert "give an INPUT" in error(run("run", "-m", "./m.safetensors", code=2))
    assert "from there, without --data" in error(run("export", "m.safetensors", "-o", "x.safetensors", code=1))
