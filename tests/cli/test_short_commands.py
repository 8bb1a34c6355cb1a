"""The short commands: interpolate, sample, corrupt, evaluate, info, verify, devices."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from helpers import error, run
from PIL import Image

from edgeae.network import weight_file
from edgeae.runtime import devices

pytestmark = pytest.mark.usefixtures("working_folder")


@pytest.mark.parametrize(("output", "frames"), [("x.gif", 8), ("x.webp", 8), ("new/x.png", 8)])
def test_interpolate_animates(output: str, frames: int, shelf: Path, pictures: list[str]) -> None:
    result = run("interpolate", "a.png", "b.png", "--steps", "5", "-o", output, "--path", "slerp")
    assert result.stdout == f"{Path(output)}  5 frames of 16×16\n"
    with Image.open(output) as film:
        assert film.n_frames == frames and film.size == (16, 16)  # there and back


def test_interpolate_strip_and_folder(shelf: Path, pictures: list[str]) -> None:
    run("interpolate", "a.png", "b.png", "a.png", "--steps", "3", "-o", "strip.png", "--strip")
    with Image.open("strip.png") as strip:
        assert strip.size == (5 * 16 + 4 * 2, 16)
    document = json.loads(run("interpolate", "a.png", "b.png", "--steps", "3", "-o", "steps", "--json").stdout)
    assert document["output"] == [str(Path("steps", f"{i:04}.png")) for i in range(3)] and document["frames"] == 3
    assert all(Path(name).is_file() for name in document["output"])


def test_sample_is_repeatable(shelf: Path) -> None:
    for name, seed in (("1.png", "5"), ("2.png", "5"), ("3.png", "6")):
        run("sample", "-n", "5", "--seed", seed, "-o", name)
    contents = [Path(f"{i}.png").read_bytes() for i in (1, 2, 3)]
    assert contents[0] == contents[1] != contents[2]
    with Image.open("1.png") as grid:
        assert grid.size == (3 * 16 + 4, 2 * 16 + 2)
    assert "only a vae can be sampled" in error(run("sample", "-m", "faces-conv", code=2))


def test_corrupt_is_repeatable(pictures: list[str]) -> None:
    document = json.loads(run("corrupt", "a.png", "-o", "1.png", "--corrupt", "occlude:0.3", "--json").stdout)
    assert 0.2 < document["replaced"] < 0.4
    run("corrupt", "a.png", "-o", "2.png", "--corrupt", "occlude:0.3", "--seed", "0")
    run("corrupt", "a.png", "-o", "3.png", "--corrupt", "occlude:0.3", "--seed", "1")
    contents = [Path(f"{i}.png").read_bytes() for i in (1, 2, 3)]
    assert contents[0] == contents[1] != contents[2]


def test_evaluate_and_info_agree_with_the_file(shelf: Path, data: str) -> None:
    document = json.loads(run("evaluate", "faces-conv", "--data", data, "--corrupt", "none", "--json").stdout)
    assert document["images"] == 18 and document["device"] == "CPU" and document["corrupt"] == "none"
    assert document["input"]["psnr"] is None and document["input"]["mse"] == 0  # equal to itself: infinite
    assert document["output"]["psnr"] == pytest.approx(-10 * np.log10(document["output"]["mse"]))
    info = json.loads(run("info", "faces-conv", "--json").stdout)
    assert info["architecture"] == "conv" and info["licence"] == "CC0-1.0"
    assert info["size_bytes"] == (shelf / "faces-conv.safetensors").stat().st_size
    lines = run("info", shelf / "faces-conv.safetensors").stdout.splitlines()
    assert len(lines) == len(info) and re.fullmatch(r"size bytes +[\d,]+", lines[1])


def test_verify_out_of_tolerance(shelf: Path) -> None:
    file = weight_file.read(shelf / "faces-vae.safetensors")
    name = next(name for name in reversed(file.tensors) if name.endswith("bias"))
    weight_file.write("damaged.safetensors", {**file.tensors, name: file.tensors[name] + 1}, file.metadata)
    result = run("verify", "damaged.safetensors", code=4)
    assert result.stdout.startswith("FAILED on CPU: largest difference ")
    assert error(result) == "damaged.safetensors is out of tolerance on CPU."
    document = json.loads(run("verify", "damaged.safetensors", "--json", code=4).stdout)
    assert document["passed"] is False and document["largest_error"] > document["tolerance"]


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        devices.DeviceStatus("CPU", True, "cpu", "a processor"),
        devices.DeviceStatus("CUDA", False, reason="no driver", mend="install it"),
    ]
    monkeypatch.setattr(devices, "probe_all", lambda: found)
    assert run("devices").stdout.splitlines() == [
        "device  usable",
        "CPU     yes     a processor",
        "CUDA    no      no driver",
        "",
        "to mend:",
        "  CUDA: install it",
    ]
    del found[0]
    result = run("devices", "--json", code=5)
    assert json.loads(result.stdout)[0]["mend"] == "install it" and "no device is usable" in error(result)
