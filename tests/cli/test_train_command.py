"""`edgeae train`: what it prints and writes, and that a signal leaves a run that can be resumed."""

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import PROGRAM, TINY_TRAINING, error, photo, run
from PIL import Image

from edgeae.network import weight_file

pytestmark = pytest.mark.usefixtures("working_folder")


def test_train_and_resume(trained: Path) -> None:
    names = {"best.safetensors", "config.json", "curves.png", "last.safetensors", "metrics.csv", "preview.png"}
    assert names <= {path.name for path in trained.iterdir()}
    before = (trained / "last.safetensors").read_bytes()
    document = json.loads(run("train", "--resume", trained, "--json").stdout)  # nothing is left to do
    assert document["epochs"] == 1 and document["run"] == str(trained) and document["best"]["epoch"] == 1
    assert (trained / "last.safetensors").read_bytes() == before
    assert "holds a run already" in error(
        run("train", "conv", "--data", trained.parent / "photos.npz", "-o", trained, code=1)
    )


def test_resume_from_another_folder_and_for_longer(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is named by one of its files, in a folder with other data of the same name."""
    folder = Path(shutil.copytree(trained.parent, tmp_path / "project"))
    monkeypatch.chdir(folder)
    run("train", "conv", "--data", "photos.npz", *TINY_TRAINING, "--epochs", "1", "-o", "run2", "-d", "CPU")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    np.savez("photos.npz", images=np.stack([photo(16, 16, seed=seed) for seed in range(50, 68)]))
    last = folder / "run2" / "last.safetensors"
    assert "has all its 1 epochs; --epochs 2 goes on" in run("train", "--resume", last).stderr
    document = json.loads(run("train", "--resume", last, "--epochs", "2", "--json", "-d", "CPU").stdout)
    assert document["epochs"] == 2 and document["run"] == str(folder / "run2") and document["notes"] == []
    said = error(run("train", "--resume", last, "--epochs", "3", "--data", "photos.npz", "-d", "CPU", code=1))
    assert "the data of" in said and "changed" in said and "go on with --changed-data" in said
    told = run("train", "--resume", last, "--epochs", "3", "--data", "photos.npz", "--changed-data", "-d", "CPU").stderr
    assert "the data changed" in told and "best-until-2.safetensors" in told
    assert json.loads((folder / "run2" / "config.json").read_text())["train"]["data"] == str(
        Path("photos.npz").absolute()
    )


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["conv"], "leave out ARCH"),
        (["--lr", "0.1"], "leave out --lr"),
        (["--size", "32"], "leave out --size"),
        (["-o", "other"], "leave out --output"),
        (["--start", "faces-conv"], "leave out --start"),
    ],
)
def test_resume_refuses_what_the_run_decides(trained: Path, arguments: list[str], said: str) -> None:
    assert said in error(run("train", "--resume", trained, *arguments, code=2))
    assert "give --resume RUN" in error(run("train", "conv", "--data", "x", "--changed-data", code=2))


def test_a_dead_network_is_told(data: str) -> None:
    result = run("train", "conv", "--data", data, *TINY_TRAINING, "--epochs", "2", "--lr", "1", "-d", "CPU")
    assert re.search(r"the network learned nothing: .*; lower --lr 1\.$", result.stderr.splitlines()[-1])


def test_train_prints_the_data_and_each_epoch(trained: Path, data: str) -> None:
    result = run("train", "conv", "--data", data, *TINY_TRAINING, "--epochs", "1", "-d", "CPU")
    lines = result.stderr.splitlines()
    assert lines[0] == "dataset photos.npz" and lines[1].split() == ["usable", "16", "(train", "14,", "val", "2)"]
    assert re.fullmatch(r"epoch 1/1  recon [\d.]+  PSNR [\d.]+ dB  SSIM -?[\d.]+  \d+ images/s  0:00 left", lines[-1])
    assert result.stdout.splitlines()[1:] == [
        str(Path("runs/photos-conv", name)) for name in ("best.safetensors", "preview.png", "curves.png")
    ]
    config = json.loads(Path("runs/photos-conv/config.json").read_text())
    assert config["model"]["widths"] == [4] and config["train"]["corrupt"] == "occlude"


def test_train_starts_from_a_model(trained: Path, data: str) -> None:
    best = str(trained / "best.safetensors")
    run("train", "--start", best, "--data", data, "--epochs", "1", "--batch", "8", "--limit", "16", "-d", "CPU")
    config = json.loads(Path("runs/photos-conv/config.json").read_text())
    first = json.loads((trained / "config.json").read_text())
    assert config["model"] == first["model"] and config["train"]["start"] == best
    assert config["train"]["corrupt"] == "occlude:0.125"  # what the model was trained on
    for arguments, said in (
        (["--widths", "4,8"], "leave out --widths"),
        (["residual"], "is a conv, not a residual"),
    ):
        assert said in error(run("train", "--start", best, "--data", data, *arguments, code=2))
    vae = ["train", "--start", "faces-vae", "--data", data, "--size", "32"]
    assert "takes images of 64 pixels" in error(run(*vae, code=2))


def stop(arguments: list[str], number: signal.Signals) -> tuple[int, str]:
    """Send a signal to a training after its first complete epoch, and return its exit code and stderr."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # the child inherits an ignored one
    program = subprocess.Popen([*PROGRAM, *arguments], stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, before)
    watchdog = threading.Timer(120, program.kill)
    watchdog.start()
    with program:
        assert program.stderr
        seen = ""
        for line in program.stderr:
            seen += line
            if line.startswith("epoch "):
                time.sleep(0.02)  # into the next one
                program.send_signal(number)
                break
        seen += program.stderr.read()
    watchdog.cancel()
    return program.returncode, seen


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_signals_stop_a_training_that_can_be_resumed(data: str) -> None:
    start = ["train", "conv", "--data", data, *TINY_TRAINING, "--epochs", "10000", "-o", "my run", "-d", "CPU"]
    code, text = stop(start, signal.SIGINT)
    *_, hint, last = text.splitlines()
    assert (code, last) == (130, "edgeae: interrupted.") and "Traceback" not in text
    assert hint == "stopped; go on with: edgeae train --resume 'my run'"
    done = check_run(Path("my run"))

    code, text = stop(shlex.split(hint.split(": edgeae ")[1]), signal.SIGTERM)
    assert code == 143 and "Traceback" not in text and text.splitlines()[-1] == hint
    first = re.search(r"epoch (\d+)/10000", text)
    assert first and int(first[1]) == done + 1
    assert check_run(Path("my run")) > done


def check_run(folder: Path) -> int:
    """Check that all files of a run are whole, and return how many epochs are complete."""
    assert not [path for path in folder.iterdir() if path.name.endswith(".tmp")]
    file = weight_file.read(folder / "last.safetensors")
    weight_file.read(folder / "best.safetensors")
    for name in ("preview.png", "curves.png"):
        with Image.open(folder / name) as image:
            image.load()
    epochs = int(file.metadata["epoch"])
    rows = (folder / "metrics.csv").read_text().splitlines()[1:]
    assert len(rows) in (epochs, epochs + 1)  # last.safetensors is written last
    return epochs
