"""Quantization: the documented layout, the error of rounding, and the memory on the device."""

import gc
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from helpers import ConfigFactory, FileFactory
from helpers.tiers import first_of
from tinygrad import Tensor, TinyJit, dtypes
from tinygrad.device import Buffer
from tinygrad.helpers import GlobalCounters

from edgeae.config import ModelConfig
from edgeae.network import quantize
from edgeae.network import weight_file as weights
from edgeae.network.models import build
from edgeae.network.parameters import parameters

Array = npt.NDArray[Any]
SHAPES = [(1, 1, 1, 1), (3, 3, 5, 7), (4, 4, 3, 8), (1, 1, 31, 2), (1, 1, 33, 2), (37, 5), (96, 3)]  # some K are odd


def draw_weights(*shape: int, seed: int = 0) -> Array:
    """Draw normal weights whose columns differ much in size."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) * 10 ** rng.uniform(-3, 1, shape[-1])).astype(np.float32)


@pytest.fixture(params=quantize.SCHEMES)
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("shape", SHAPES)
def test_packed_as_declared(scheme: str, shape: tuple[int, ...]) -> None:
    packed = quantize.pack("a.weight", draw_weights(*shape), scheme)
    declared = quantize.packed_shapes("a.weight", shape, scheme)
    assert {name: (str(value.dtype), value.shape) for name, value in packed.items()} == declared
    again = quantize.unpack("a.weight", packed, shape, scheme)
    assert again.shape == shape
    assert again.dtype == np.float32


def test_biases_are_kept(scheme: str) -> None:
    bias = draw_weights(7)
    packed = quantize.pack("a.bias", bias, scheme)
    assert list(packed) == ["a.bias"]
    assert np.array_equal(packed["a.bias"], bias)
    assert np.array_equal(quantize.unpack("a.bias", packed, (7,), scheme), bias)
    assert quantize.packed_shapes("a.bias", (7,), scheme) == {"a.bias": ("float32", (7,))}


@pytest.mark.parametrize("shape", SHAPES)
def test_what_rounding_loses(shape: tuple[int, ...]) -> None:
    w = draw_weights(*shape)
    columns = w.reshape(-1, shape[-1])
    assert np.array_equal(quantize.unpack("weight", quantize.pack("weight", w, "none"), shape, "none"), w)

    packed = quantize.pack("weight", w, "fp16")
    assert np.array_equal(quantize.unpack("weight", packed, shape, "fp16"), w.astype(np.float16).astype(np.float32))

    packed = quantize.pack("weight", w, "int8")
    scale = packed["weight.scale"]
    np.testing.assert_allclose(scale, np.abs(columns).max(0) / 127, rtol=1e-6)
    assert packed["weight"].min() >= -127
    error = np.abs(quantize.unpack("weight", packed, shape, "int8") - w)
    assert (error <= scale / 2 * (1 + 1e-5)).all()

    packed = quantize.pack("weight", w, "int4")
    error = np.abs(quantize.unpack("weight", packed, shape, "int4") - w).reshape(columns.shape)
    for start in range(0, len(columns), 32):  # each group by itself, against rounding with its largest value at 7
        group = columns[start : start + 32]
        step = (np.abs(group).max(0) / 7).astype(np.float16).astype(np.float32)
        plain = np.clip(np.rint(group / step), -7, 7) * step - group
        rows = slice(start, start + 32)
        assert (np.square(error[rows]).sum(0) <= np.square(plain).sum(0) * (1 + 1e-5)).all()
        assert (error[rows] <= np.abs(group).max(0) * 0.31).all()  # clipped at 0.7 of the largest, or half a step


def test_int8_hits_its_values_exactly() -> None:
    values = np.array([[-127, 1], [0, 64], [5, 127]], np.float32)
    scale = np.array([0.5, 0.25], np.float32)
    packed = quantize.pack("weight", values * scale, "int8")
    assert np.array_equal(packed["weight"], values)
    assert np.array_equal(packed["weight.scale"], scale)


@pytest.mark.parametrize("shape", [(1, 1, 33, 2), (2, 2, 9, 3), (64, 2), (7, 1)])
def test_int4_layout(shape: tuple[int, ...]) -> None:
    """Decode each weight by itself, by the documented rule."""
    rows, out = math.prod(shape[:-1]), shape[-1]
    rng = np.random.default_rng(0)
    values = rng.integers(-7, 8, (rows, out))
    values[::32] = 7  # so that the scale of every group is the one chosen here
    scales = np.exp2(rng.integers(-8, 4, (-(-rows // 32), out))).astype(np.float32)
    w = (values * np.repeat(scales, 32, axis=0)[:rows]).astype(np.float32).reshape(shape)
    packed = quantize.pack("weight", w, "int4")
    stored, scale = packed["weight"], packed["weight.scale"]
    assert stored.shape == (-(-rows // 2), out)
    assert np.array_equal(scale, scales)
    for row in range(rows):
        for column in range(out):
            byte = int(stored[row // 2, column])
            nibble = byte >> 4 if row % 2 else byte & 15
            assert nibble - 8 == values[row, column]
    if rows % 2:
        assert (stored[-1] >> 4 == 8).all()
    assert np.array_equal(quantize.unpack("weight", packed, shape, "int4"), w)


def test_all_zero_and_tiny_channels(scheme: str) -> None:
    w = draw_weights(3, 3, 5, 4)
    w[..., 1] = 0
    w[..., 2] = 1e-30
    packed = quantize.pack("weight", w, scheme)
    assert all(np.isfinite(value).all() for value in packed.values())
    again = quantize.unpack("weight", packed, w.shape, scheme)
    assert not again[..., 1].any()
    assert np.abs(again[..., 2]).max() <= 1.01e-30
    assert np.abs(again[..., 0] - w[..., 0]).max() < np.abs(w[..., 0]).max() * 0.31


@pytest.mark.parametrize("shape", [(3, 3, 5, 7), (1, 1, 70, 2), (37, 5)])
def test_the_device_unpacks_the_same_numbers(scheme: str, shape: tuple[int, ...], device: str) -> None:
    packed = quantize.pack("a.weight", draw_weights(*shape), scheme)
    expected = quantize.unpack("a.weight", packed, shape, scheme)
    for half in (True, False):
        weight = quantize.to_device("a.weight", packed, shape, scheme, device, half)
        assert weight.shape == shape
        if isinstance(weight, Tensor):
            assert weight.dtype == (dtypes.half if half and scheme == "fp16" else dtypes.float32)
            assert np.array_equal(weight.cast(dtypes.float32).numpy(), expected)
        else:
            assert np.array_equal(weight.dequantize().numpy(), expected)


def live_buffers(device: str) -> dict[int, Buffer]:
    gc.collect()
    # By type, not isinstance: that would ask every proxy in the process for its class.
    buffers = (item for item in gc.get_objects() if type(item) is Buffer)
    return {id(b): b for b in buffers if b.device == device and b.is_allocated()}


@pytest.mark.parametrize("scheme", first_of(["int4", "int8", "fp16"]))
def test_no_float_copy_stays_on_the_device(scheme: str, device: str, tiny_file: FileFactory) -> None:
    """After the graph is replayed the device holds the weights only in the bits of the file."""
    path = tiny_file("conv", scheme, widths=(8, 64), context=0)
    file = weights.read(path)
    gc.collect()  # what earlier tests left must not be freed, and counted, in between
    before, known = GlobalCounters.mem_used_per_device[device], live_buffers(device)
    model = file.build(device)
    loaded = GlobalCounters.mem_used_per_device[device] - before
    widened = sum(v.nbytes for n, v in file.tensors.items() if n.endswith(".scale") and v.dtype == np.float16)
    assert loaded == sum(value.nbytes for value in file.tensors.values()) + widened

    run = TinyJit(lambda x: model.reconstruct(x).realize())
    for seed in range(4):
        x = np.random.default_rng(seed).random((1, 16, 16, 3), np.float32)
        run(Tensor(x, device=device).realize()).numpy()
    largest = max(value.size for value in file.floats().values())  # 8,192 values; no activation has more than 1,024
    new = [b for key, b in live_buffers(device).items() if key not in known]
    assert new
    assert all(b.nbytes < largest for b in new if b.dtype == dtypes.float32)
    assert GlobalCounters.mem_used_per_device[device] - before - loaded < largest * 4


@pytest.mark.parametrize(("scheme", "share"), [("fp16", 0.51), ("int8", 0.27), ("int4", 0.16)])
def test_file_sizes(arch: str, scheme: str, share: float, tmp_path: Path, tiny_metadata: Any) -> None:
    config = ModelConfig.default(arch)
    sizes = {}
    rng = np.random.default_rng(0)
    values = {
        name: rng.standard_normal(value.shape).astype(np.float32)
        for name, value, _ in parameters(build(config, "PYTHON"))
    }
    for kind in ("none", scheme):
        packed: dict[str, Array] = {}
        for name, value in values.items():
            packed |= quantize.pack(name, value, kind)
        metadata = tiny_metadata(config, kind) | {"golden": "x" * 1500}
        path = tmp_path / f"{kind}.safetensors"
        sizes[kind] = weights.write(path, packed, metadata)
        assert sizes[kind] == path.stat().st_size
        assert weights.read(path).scheme == kind
    assert sizes[scheme] <= share * sizes["none"]


@pytest.mark.parametrize("scheme", ["int8", "int4"])
def test_a_quantized_network_computes_with_its_unpacked_weights(
    scheme: str, device: str, tiny_file: FileFactory, tiny_config: ConfigFactory
) -> None:
    file = weights.read(tiny_file("conv", scheme, size=8, widths=(4, 8)))
    x = Tensor(np.random.default_rng(0).random((1, 8, 8, 3), np.float32), device=device).realize()
    plain: Any = build(tiny_config("conv", size=8, widths=(4, 8)), device)
    for name, value, layer in list(parameters(plain)):
        assert isinstance(value, Tensor)
        setattr(layer, name.rsplit(".", 1)[1], Tensor(file.floats()[name], device=device).realize())
    expected = plain.reconstruct(x).numpy()
    got: Any = file.build(device).reconstruct(x).numpy()
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)
