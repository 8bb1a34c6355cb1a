"""`edgeae export`: weight files and ONNX files."""

import json
import os
import re
from pathlib import Path

import pytest
from helpers import error, run

pytestmark = pytest.mark.usefixtures("working_folder")


def test_export_tunes(trained: Path) -> None:
    result = run("export", trained, "-o", "x.safetensors", "--quantize", "int4", "--tune", "1", "-d", "CPU")
    assert re.search(r"^tuning 0/1  PSNR [\d.]+ dB\ntuning 1/1  PSNR [\d.]+ dB$", result.stderr, re.MULTILINE)
    assert "int8 or int4" in error(run("export", trained, "-o", "y.safetensors", "--tune", "1", code=2))


@pytest.mark.parametrize("scheme", ["none", "fp16", "int8", "int4"])
def test_export_a_run(scheme: str, trained: Path) -> None:
    result = run("export", trained, "-o", "new/x.safetensors", "--quantize", scheme, "--licence", "CC0-1.0")
    assert f"new{os.sep}x.safetensors  {Path('new/x.safetensors').stat().st_size:,} bytes, " in result.stdout
    assert run("verify", "new/x.safetensors").stdout.startswith("passed on CPU: ")
    info = json.loads(run("info", "new/x.safetensors", "--json").stdout)
    assert (info["quantize"], info["licence"], info["train_data"]) == (scheme, "CC0-1.0", "photos.npz")


def test_onnx_files(shelf: Path) -> None:
    pytest.importorskip("onnx")
    result = run("export", "int8", "-o", "int8.onnx")
    assert "opset 17" in result.stdout and Path("int8.onnx").stat().st_size > 1000
    document = json.loads(run("export", "faces-vae", "-o", "decoder.onnx", "--part", "decode", "--json").stdout)
    assert document["part"] == "decode" and document["quantize"] == "none"
    run("export", "faces-conv", "--format", "onnx", "-o", "small.onnx", "--quantize", "int4")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("export int8 -o a.onnx --tune 3", "--tune"),
        ("export int8 -o a.onnx --quantize int4", "quantized already"),
        ("export int8 -o a.bin --format onnx", "ends in .onnx"),
        ("export int8 -o a.safetensors --part encode", "--part is for .onnx files"),
    ],
)
def test_onnx_usage(line: str, message: str, shelf: Path) -> None:
    pytest.importorskip("onnx")
    assert message in error(run(*line.split(), code=2))
    assert not list(Path().glob("a.*"))
