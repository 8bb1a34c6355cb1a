"""examples/camera.py with a tiny network: every kind of source, what it keeps, what it drops, and how it ends."""

import contextlib
import importlib.util
import io
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from helpers import ROOT, photo
from PIL import Image

import edgeae
from edgeae.images import arrays as imaging
from edgeae.images.files.array_io import encode_image, read_image, write_image
from edgeae.inference import watch

SCRIPT = ROOT / "examples" / "camera.py"
SIZE = (24, 16)  # width, height: what all results have


@pytest.fixture(scope="module")
def camera() -> ModuleType:
    spec = importlib.util.spec_from_file_location("camera_example", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def model(tiny_file: Callable[..., Path]) -> Path:
    return tiny_file("residual")


@pytest.fixture
def start(camera: ModuleType, model: Path) -> Callable[..., None]:
    """`start(source, output, *options)` runs the script in this process."""

    def run(source: Path | str, output: Path, *options: str) -> None:
        camera.main([str(source), "-o", str(output), "-m", str(model), "-d", "CPU", "--size", "24x16", *options])

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures 0.png to 4.png, written in another order than that of their names."""
    folder = tmp_path / "in"
    for i in (3, 1, 4, 0, 2):
        write_image(photo(30, 50, seed=i), folder / f"{i}.png")
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def expected(model: Path, picture: object) -> np.ndarray:
    return edgeae.load(model, "CPU").reconstruct(imaging.fit(read_image(picture), SIZE))


def test_a_folder(start: Callable[..., None], folder: Path, model: Path, tmp_path: Path) -> None:
    (folder / "notes.txt").write_text("no picture")
    start(folder, tmp_path / "out")
    assert names(tmp_path / "out") == [f"restored-{i}.png" for i in range(5)]
    np.testing.assert_array_equal(read_image(tmp_path / "out" / "restored-2.png"), expected(model, folder / "2.png"))


def test_a_broken_picture_among_good_ones(
    start: Callable[..., None], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "2.png").write_bytes((folder / "2.png").read_bytes()[:-200])
    start(folder, tmp_path / "out")
    assert names(tmp_path / "out") == [f"restored-{i}.png" for i in (0, 1, 3, 4)]
    assert capsys.readouterr().err == f"{folder / '2.png'} is damaged or cut short: copy or save it again.\n"


def test_one_file_is_replaced(start: Callable[..., None], folder: Path, model: Path, tmp_path: Path) -> None:
    start(folder, tmp_path / "out" / "newest.png")
    assert names(tmp_path / "out") == ["newest.png"]
    np.testing.assert_array_equal(read_image(tmp_path / "out" / "newest.png"), expected(model, folder / "4.png"))


def test_keep(start: Callable[..., None], folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.png").write_bytes(b"not the script's")
    (out / "restored-before.jpg").write_bytes(b"of an earlier run")
    start(folder, out, "--keep", "2")
    assert names(out) == ["mine.png", "restored-3.png", "restored-4.png"]
    start(folder, out, "--keep", "3")  # the two are made anew, and count once
    assert names(out) == ["mine.png", "restored-2.png", "restored-3.png", "restored-4.png"]


def test_an_animation(start: Callable[..., None], model: Path, tmp_path: Path) -> None:
    frames = [Image.fromarray(photo(16, 24, seed=i)).quantize() for i in range(3)]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:], duration=50)
    start(tmp_path / "film.gif", tmp_path / "out")
    assert names(tmp_path / "out") == [f"restored-film-00000{i}.png" for i in range(3)]
    for i, frame in enumerate(frames):
        restored = read_image(tmp_path / "out" / f"restored-film-00000{i}.png")
        np.testing.assert_array_equal(restored, expected(model, frame))


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="there is no ffmpeg")
def test_a_video(start: Callable[..., None], model: Path, tmp_path: Path) -> None:
    pixels = photo(32, 48)
    film = tmp_path / "film.mkv"
    subprocess.run(
        [
            "ffmpeg",
            "-v",
            "error",
            "-f",
            "rawvideo",
            "-pix_fmt",
            "rgb24",
            "-s",
            "48x32",
            "-i",
            "-",
            "-c:v",
            "ffv1",
            "-pix_fmt",
            "bgr0",
            str(film),
        ],
        input=pixels.tobytes() * 4,
        check=True,
    )
    start(film, tmp_path / "out")
    assert names(tmp_path / "out") == [f"restored-film-00000{i}.jpg" for i in range(4)]
    restored = read_image(tmp_path / "out" / "restored-film-000003.jpg").astype(float)
    # JPEG, and ffmpeg's scaling beside Pillow's.
    assert np.abs(restored - expected(model, Image.fromarray(pixels))).mean() < 8

    with pytest.raises(edgeae.EdgeaeError, match="ffmpeg failed"):
        start(SCRIPT, tmp_path / "none")


@pytest.fixture
def child(model: Path, tmp_path: Path) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """`child(source, output, *options)` starts the script as a process; what still runs is killed at the end."""
    children = []

    def start(source: Path | str, output: Path, *options: str) -> "subprocess.Popen[str]":
        command = [
            sys.executable,
            str(SCRIPT),
            str(source),
            "-o",
            str(output),
            "-m",
            str(model),
            "-d",
            "CPU",
            "--size",
            "24x16",
            *options,
        ]
        path = os.pathsep.join([str(tmp_path / "bin"), os.environ["PATH"]])
        children.append(
            subprocess.Popen(
                command, stderr=subprocess.PIPE, text=True, env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
            )
        )
        return children[-1]

    yield start
    for process in children:
        process.kill()
        process.communicate()


def wait_for(happened: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def test_follow(camera: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture that is written slowly, and one that is replaced: each comes when it is whole."""
    for name, seconds in (("_POLL_S", 0.02), ("_TOLD_POLL_S", 0.05), ("_SETTLE_S", 0.2), ("_FULL_S", 0.2)):
        monkeypatch.setattr(watch, name, seconds)
    data = encode_image(photo(60, 90), "png")
    slow, quick = tmp_path / "b.png", tmp_path / "a.jpg"

    def come() -> None:
        write_image(photo(), quick)
        with slow.open("wb") as file:
            for start in range(0, len(data), 1 + len(data) // 8):
                file.write(data[start : start + 1 + len(data) // 8])
                file.flush()
                time.sleep(0.05)
        time.sleep(0.6)
        write_image(photo(seed=1), quick)

    frames = camera.incoming(tmp_path, tmp_path / "out")
    threading.Thread(target=come, daemon=True).start()
    taken = [(name, Path(path).read_bytes() == data) for name, path, _ in (next(frames) for _ in range(3))]
    frames.close()
    assert taken == [("a.jpg", False), ("b.png", True), ("a.jpg", False)]


def test_following_ends_with_a_signal(
    child: Callable[..., "subprocess.Popen[str]"], folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    process = child(folder, out, "--follow", "--keep", "3")
    wait_for(lambda: out.exists() and names(out) == ["restored-2.png", "restored-3.png", "restored-4.png"])
    write_image(photo(60, 90), folder / "5.png")
    wait_for(lambda: names(out) == ["restored-3.png", "restored-4.png", "restored-5.png"])
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "Traceback" not in said


STAND_IN = """#!{python}
import sys, time
assert "--width=24" in sys.argv and "--output=-" in sys.argv
while True:
    sys.stdout.buffer.write({jpeg!r})
    sys.stdout.buffer.flush()
    time.sleep(0.001)
"""


@pytest.mark.skipif(os.name != "posix", reason="the stand-in is a script")
def test_the_camera(child: Callable[..., "subprocess.Popen[str]"], tmp_path: Path) -> None:
    program = tmp_path / "bin" / "rpicam-vid"
    program.parent.mkdir()
    program.write_text(STAND_IN.format(python=sys.executable, jpeg=encode_image(photo(16, 24), "jpg")))
    program.chmod(0o755)
    process = child("camera", tmp_path / "out", "--keep", "2")
    assert process.stderr
    line = process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0 and "Traceback" not in said
    fps, _, ms, _, _, _, dropped, _ = line.split()
    assert 0 < float(fps) < 1000 and float(ms) >= 0 and line.endswith(" dropped\n"), line
    assert 0 <= int(dropped.removesuffix("%")) <= 100  # how many depends on what else the machine does
    assert len(names(tmp_path / "out")) == 2


def test_no_frame_of_a_camera_is_lost_uncounted(camera: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    jpegs = [encode_image(photo(64, 96, seed=i), "jpg") for i in range(20)]
    monkeypatch.setattr(camera, "output_of", lambda *command: contextlib.nullcontext(io.BytesIO(b"".join(jpegs))))
    given = [(jpeg, dropped) for _, jpeg, dropped in camera.camera(96, 64)]
    indices = [jpegs.index(jpeg) for jpeg, _ in given]
    assert indices == list(np.cumsum([1 + dropped for _, dropped in given]) - 1)
    assert indices[-1] == 19


def test_what_makes_no_sense(camera: ModuleType, folder: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["-o", str(folder)], ["-o", "out", "--size", "320"], []):
        with pytest.raises(SystemExit) as ended:
            camera.main([str(folder), "-m", str(model), *arguments])
        assert ended.value.code == 2
    assert "names the source itself" in capsys.readouterr().err
