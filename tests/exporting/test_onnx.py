"""ONNX files: valid, for any batch and size, and with the same output in ONNX Runtime as ours."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import FileFactory
from helpers.tiers import exhaustive

from edgeae.config import ARCHS
from edgeae.errors import UsageError, WeightsError
from edgeae.exporting.onnx import PARTS, channels_first, export_onnx, onnx_bytes
from edgeae.inference.load import load
from edgeae.inference.session import Session
from edgeae.network import weight_file

onnx = pytest.importorskip("onnx")
SCHEMES = ("none", "fp16", "int8", "int4")


def runtime(path: Path) -> Any:
    return pytest.importorskip("onnxruntime").InferenceSession(path, providers=["CPUExecutionProvider"])


def inputs(session: Session, part: str, count: int, side: int) -> np.ndarray:
    rng, config = np.random.default_rng(count), session.config
    side = side if config.takes_any_size else config.size
    if part == "decode":
        return rng.standard_normal((count, *config.code_shape(side, side)), dtype=np.float32)
    return rng.random((count, side, side, config.in_channels), dtype=np.float32)


def ours(session: Session, part: str, x: np.ndarray) -> np.ndarray:
    methods: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "reconstruct": session.run_floats,
        "encode": session.encode,
        "decode": lambda x: session.decode(x, np.float32),
    }
    return methods[part](x)


# Parts differ by architecture and schemes by the layers' weights: every part as it is, and one network in all schemes.
COMBINATIONS = [
    pytest.param(
        arch, part, scheme, marks=[] if scheme == "none" or (arch, part) == ("conv", "reconstruct") else [exhaustive]
    )
    for arch in ARCHS
    for part in PARTS
    for scheme in SCHEMES
]


@pytest.mark.parametrize("arch, part, scheme", COMBINATIONS)
def test_onnx_runtime_gives_the_same_output(
    arch: str, scheme: str, part: str, device: str, tiny_file: FileFactory, tmp_path: Path
) -> None:
    path = tiny_file(arch, scheme, context=1)
    report = export_onnx(path, tmp_path / "tiny.onnx", part=part)
    assert report.quantize == scheme and report.size_bytes == (tmp_path / "tiny.onnx").stat().st_size
    assert report.largest_difference is None or report.largest_difference < 1e-4
    session, peer = load(path, device), runtime(tmp_path / "tiny.onnx")
    for count, side in ((1, 16), (3, 32)):
        x = inputs(session, part, count, side)
        expected = channels_first(ours(session, part, x))
        output = peer.run(None, {peer.get_inputs()[0].name: channels_first(x)})[0]
        assert output.shape == expected.shape
        assert np.abs(output - expected).max() < 1e-5 * max(1, np.abs(expected).max())


def test_a_file_describes_itself(tiny_file: FileFactory, tmp_path: Path) -> None:
    path = tmp_path / "tiny.onnx"
    export_onnx(tiny_file("residual", "int8"), path)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert model.producer_name == "edgeae" and model.opset_import[0].version == 17
    stored = {one.key: one.value for one in model.metadata_props}
    assert stored["arch"] == "residual" and stored["licence"] and stored["quantize"] == "int8"
    assert "golden" not in stored
    sizes = [
        [d.dim_param or d.dim_value for d in one.type.tensor_type.shape.dim]
        for one in (*model.graph.input, *model.graph.output)
    ]
    assert sizes == [["batch", 3, "height", "width"]] * 2
    kinds = {one.data_type for one in model.graph.initializer if one.name.endswith("weight")}
    assert kinds == {onnx.TensorProto.INT8}


def test_a_vae_has_one_size(tiny_file: FileFactory, tmp_path: Path) -> None:
    path = tiny_file("vae")
    export_onnx(path, tmp_path / "tiny.onnx", part="encode")
    graph = onnx.load(tmp_path / "tiny.onnx").graph
    sizes = [
        [d.dim_param or d.dim_value for d in one.type.tensor_type.shape.dim] for one in (*graph.input, *graph.output)
    ]
    config = load(path, "CPU").config
    assert sizes == [["batch", 3, config.size, config.size], ["batch", config.code]]


def test_quantized_weights_are_small(tiny_file: FileFactory, tmp_path: Path) -> None:
    path = tiny_file("conv", widths=(32, 64))
    sizes = [export_onnx(path, tmp_path / "tiny.onnx", scheme=scheme).size_bytes for scheme in SCHEMES]
    assert sizes[1] < 0.6 * sizes[0] and sizes[2] < 0.35 * sizes[0] and sizes[3] < 0.25 * sizes[0]


def test_float32_of_a_quantized_model(device: str, tiny_file: FileFactory, tmp_path: Path) -> None:
    """The file holds the rounded weights."""
    path = tiny_file("conv", "int8")
    report = export_onnx(path, tmp_path / "tiny.onnx", scheme="none")
    assert report.quantize == "none"
    session = load(path, device)
    x = inputs(session, "reconstruct", 1, 16)
    output = runtime(tmp_path / "tiny.onnx").run(None, {"image": channels_first(x)})[0]
    assert np.abs(output - channels_first(session.run_floats(x))).max() < 1e-5


def test_invalid_arguments_are_refused(tiny_file: FileFactory, tmp_path: Path) -> None:
    path = tiny_file("conv", "int8")
    for changes, message in (
        ({"part": "all"}, "unknown part 'all'"),
        ({"scheme": "int2"}, "unknown quantization"),
        ({"scheme": "int4"}, "is quantized already"),
    ):
        with pytest.raises(UsageError, match=message):
            export_onnx(path, tmp_path / "tiny.onnx", **changes)
    with pytest.raises(UsageError, match=r"ends in \.onnx"):
        export_onnx(path, tmp_path / "tiny.bin")
    with pytest.raises(WeightsError, match="no shipped model"):
        export_onnx("faces-deep", tmp_path / "tiny.onnx")
    assert not list(tmp_path.glob("*.onnx")) and not list(tmp_path.glob("*.bin"))


def test_without_the_onnx_package(tiny_file: FileFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(UsageError, match=r'pip install "edgeae\[onnx\]"'):
        export_onnx(tiny_file("conv"), tmp_path / "tiny.onnx")


CONTROLS = {
    "escape sequences": "\x1b[31mred\x1b[0m",
    "a title of the terminal": "\x1b]0;x\x07",
    "lines": "a\nb\r\nc",
    "zeros": "a\0b",
    "one byte of control": "\x9b31m",
    "half a surrogate pair": "a\ud800b",
    "text from right to left": "\u202egnp",
}


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in CONTROLS.items()])
def test_control_characters_stay_behind(text: str, tiny_file: FileFactory, tmp_path: Path) -> None:
    file = weight_file.read(tiny_file("conv"))
    changed = replace(file, metadata=file.metadata | {"licence": text, f"note {text}": "Größe 中"})
    model = onnx.load_from_string(onnx_bytes(changed))
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert all(word.isprintable() for pair in properties.items() for word in pair)
    assert "Größe 中" in properties.values()
