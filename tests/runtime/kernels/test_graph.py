"""Kernels in tinygrad's graph and their gradients, compared with PyTorch in float64."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers.kernel_cases import (
    Array,
    Layer,
    activate,
    assert_close,
    compute,
    draw_arrays,
    forward,
    in_torch,
    instruction_sets,
    needs_compiler,
    up,
    windows,
)
from helpers.tiers import by_tier, first_of
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tinygrad import Tensor, TinyJit
from tinygrad.helpers import Context

from edgeae.errors import UsageError
from edgeae.network import layers, quantize
from edgeae.network.layers import Conv2d, Init, UpConv2d
from edgeae.runtime.kernels import graph, programs
from edgeae.runtime.kernels.shapes import Shape

OUTPUT_TOLERANCE, GRADIENT_TOLERANCE = 1e-5, 1e-4  # of the largest value
MULTIPLICATIONS = 10_000_000  # at most, in a layer that is drawn

pytestmark = [needs_compiler, pytest.mark.usefixtures("winograd_for_small_layers")]

KINDS = {"1x1": (1, False), "3x3": (3, False), "4x4 stride 2": (4, False), "4x4 up": (4, True)}
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module", autouse=True)
def cpu(device: str) -> Iterator[None]:
    """tinygrad writes the copies around our kernels with its own code generator, where it has one: that is faster than
    a clang for each. Kernels run on two threads, however small."""
    has_generator = bool({"avx512", "avx2"} & set(instruction_sets()))
    with Context(CPU_COUNT=2, **({"DEV": "CPU:X86"} if has_generator else {})), pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph, "_FLOP_A_THREAD", 1)  # small layers too are shared among threads
        yield


# ---- right -------------------------------------------------------------------------------------------------------


@st.composite
def random_layers(draw: st.DrawFn, kernel: int, up: bool) -> Layer:
    """Draw small layers of one kind."""
    any_channels = st.integers(1, 130) | st.sampled_from([1, 2, 3, 4, 5, 8, 15, 16, 17, 31, 32, 33, 64, 65, 128, 130])
    batch, family = draw(st.integers(1, 9)), draw(st.sampled_from(["any", "any", "few outputs", "Winograd"]))
    if family == "Winograd":  # whole vectors of channels, an even size, and 64 squares of 2×2 at least
        c_in, c_out = (draw(st.sampled_from([16, 32, 48, 64, 96])) for _ in range(2))
        width = 2 * draw(st.integers(1, 8))
        height = 2 * (-(-128 // (batch * width)) + draw(st.integers(0, 3)))
    else:
        c_in, c_out = draw(any_channels), draw(st.integers(1, 4) if family == "few outputs" else any_channels)
        pixels = max(1, min(500, MULTIPLICATIONS // (c_in * c_out * kernel**2 * batch)))
        height = draw(st.integers(1, min(20, pixels)))
        width = draw(st.integers(1, min(20 if max(c_in, c_out) > 64 else 60, max(1, pixels // height))))
    scale = 2 if kernel == 4 and not up else 1
    shape = Shape(batch, scale * height, scale * width, c_in, c_out, kernel, up)
    return Layer(shape, draw(st.sampled_from([None, "relu", "sigmoid"])), draw(st.booleans()))


# Too wide for one chunk: their images are cut into several, downwards and across.
WIDE = {
    "1x1": Layer(Shape(1, 14, 1000, 20, 20, 1)),
    "3x3": Layer(Shape(1, 14, 300, 40, 20, 3)),
    "4x4 stride 2": Layer(Shape(1, 24, 140, 40, 20, 4)),
    "4x4 up": Layer(Shape(1, 12, 300, 40, 20, 4, up=True)),
}


@every_kind
def test_output_and_gradients_are_pytorchs(kind: str) -> None:
    """A wide layer of each kind, and random ones."""
    count = by_tier(12, 76)
    drawn = set()

    @settings(
        max_examples=count, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(layer=random_layers(*KINDS[kind]))
    @example(layer=WIDE[kind])
    def property_(layer: Layer) -> None:
        arrays = draw_arrays(layer)
        found = compute(layer, arrays)
        wanted = in_torch(layer, arrays, found["y"])
        assert found.keys() == wanted.keys()
        for name, value in found.items():
            tolerance = OUTPUT_TOLERANCE if name == "y" else GRADIENT_TOLERANCE
            assert_close(value, wanted[name], tolerance, f"{name} of {layer}")
        drawn.add(layer)

    property_()
    assert len(drawn) >= count - 1


SOME = [
    Layer(Shape(3, 9, 13, 5, 20, 3), "relu", add=True),
    Layer(Shape(1, 30, 30, 40, 24, 3), "sigmoid"),
    Layer(Shape(2, 12, 8, 33, 17, 4), None),
    Layer(Shape(2, 5, 7, 20, 40, 4, up=True), "relu"),
    Layer(Shape(5, 7, 20, 12, 3, 4, up=True), "sigmoid"),  # narrow
    Layer(Shape(3, 6, 21, 8, 4, 3), "relu", add=True),  # narrow
    Layer(Shape(1, 6, 6, 19, 65, 1), "sigmoid"),
]
WINOGRAD = [
    Layer(Shape(6, 12, 10, 32, 48, 3), "relu"),
    Layer(Shape(6, 16, 24, 16, 32, 4), "sigmoid"),
    Layer(Shape(6, 10, 12, 32, 16, 4, up=True), None, add=True),
]
some = pytest.mark.parametrize(
    "layer",
    [*first_of(SOME, 4), *first_of(WINOGRAD, 2)],
    ids=lambda layer: str(layer.shape)[6:-1].replace(" ", ""),
)


@pytest.mark.parametrize("machine", first_of(instruction_sets()[1:]))
def test_every_instruction_set_of_this_machine(machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEAE_KERNELS", machine)
    for layer in (*SOME[:5], *WINOGRAD):
        arrays = draw_arrays(layer)
        found = compute(layer, arrays)
        for name, wanted in in_torch(layer, arrays, found["y"]).items():
            assert_close(found[name], wanted, OUTPUT_TOLERANCE, f"{name} of {layer}")


@some
def test_the_number_of_threads_changes_no_bit(layer: Layer) -> None:
    arrays = draw_arrays(layer)
    results = []
    for threads in (1, 2, 3, 5):
        with Context(CPU_COUNT=threads):
            results.append(compute(layer, arrays))
    for other in results[1:]:
        assert [name for name in other if other[name].tobytes() != results[0][name].tobytes()] == []


@some
def test_an_image_does_not_depend_on_the_others(layer: Layer) -> None:
    """Outputs and input gradients of six images are those of three, bit for bit; and those of one, but that Winograd's
    kernels are for larger batches."""
    arrays = draw_arrays(replace(layer, shape=replace(layer.shape, batch=6)))
    whole = compute(replace(layer, shape=replace(layer.shape, batch=6)), arrays)
    for images in (3, 1):
        part = {name: value if name in ("w", "bias") else value[:images] for name, value in arrays.items()}
        found = compute(replace(layer, shape=replace(layer.shape, batch=images)), part)
        for name in ("y", "x"):
            if images == 1 and layer in WINOGRAD:
                assert_close(found[name], whole[name][:1], OUTPUT_TOLERANCE, name)
            else:
                assert np.array_equal(found[name], whole[name][:images]), (images, name)


# ---- weights in fewer bits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["fp16", "int8", "int4"])
@pytest.mark.parametrize(
    "shape",
    [
        Shape(2, 5, 7, 3, 21, 3),  # 27 rows of weights, an odd number, in the last group of 32
        Shape(1, 4, 4, 37, 50, 1),  # 37 rows
        Shape(2, 6, 10, 20, 16, 4),
        Shape(1, 5, 3, 9, 12, 4, up=True),
        Shape(1, 6, 33, 5, 3, 3),  # narrow
        Shape(2, 4, 20, 7, 2, 4, up=True),  # narrow
        Shape(4, 8, 12, 16, 32, 3),  # Winograd
        Shape(4, 16, 12, 16, 16, 4),
        Shape(4, 8, 12, 32, 16, 4, up=True),
    ],
    ids=lambda shape: str(shape)[6:-1].replace(" ", ""),
)
def test_weights_in_fewer_bits(shape: Shape, scheme: str) -> None:
    """A kernel on packed weights computes the same as the float32 kernel on the unpacked weights."""
    layer = Layer(shape, "sigmoid", add=True, scheme=scheme)
    arrays = draw_arrays(layer)
    stored = quantize.pack("weight", arrays["w"], scheme)
    packed = quantize.to_device("weight", stored, layer.weight, scheme, "CPU", half=True)
    given = {name: Tensor(array, device="CPU") for name, array in arrays.items()}
    unpacked = Tensor(quantize.unpack("weight", stored, layer.weight, scheme), device="CPU")
    found, wanted = forward(layer, given, packed).numpy(), forward(layer, given, unpacked).numpy()
    assert np.ptp(wanted) > 0.5
    assert np.abs(found - wanted).max() < OUTPUT_TOLERANCE


def test_every_value_of_float16_is_read_exactly() -> None:
    half = np.arange(65536, dtype=np.uint16).view(np.float16)
    layer = Layer(Shape(1, 1, 1, 1, 4096, 1), scheme="fp16")
    x, bias = Tensor.ones(1, 1, 1, 1, device="CPU").contiguous(), Tensor.zeros(4096, device="CPU").contiguous()
    found = np.concatenate(
        [
            forward(layer, {"x": x, "bias": bias}, Tensor(part.reshape(layer.weight), device="CPU")).numpy().ravel()
            for part in np.split(half, 16)
        ]
    )
    with np.errstate(invalid="ignore"):
        wanted = half.astype(np.float32)
    finite = np.isfinite(wanted)
    assert np.array_equal(found[finite], wanted[finite])


def test_infinite_weights_stay_infinite() -> None:
    """As in generated code, so that a damaged file is noticed."""
    layer = Layer(Shape(1, 1, 1, 1, 16, 1), scheme="fp16")
    weight = Tensor(np.full(layer.weight, np.inf, np.float16), device="CPU")
    x, bias = Tensor.ones(1, 1, 1, 1, device="CPU").contiguous(), Tensor.zeros(16, device="CPU").contiguous()
    assert np.isinf(forward(layer, {"x": x, "bias": bias}, weight).numpy()).all()


# ---- activations -------------------------------------------------------------------------------------------------


def pointwise(values: Array, activation: str, channels: int = 1) -> Array:
    """Apply an activation alone, by a layer of weight one from one channel to several, which must be equal."""
    layer = Layer(Shape(1, values.size, 1, 1, channels, 1), activation)
    given = {
        "x": Tensor(values.reshape(1, -1, 1, 1), device="CPU"),
        "bias": Tensor.zeros(channels, device="CPU"),
        "w": Tensor.ones(1, 1, 1, channels, device="CPU"),
    }
    y = forward(layer, given).numpy().reshape(-1, channels)
    assert np.array_equal(y, y[:, :1].repeat(channels, 1), equal_nan=True)
    return y[:, 0]


@pytest.mark.parametrize("channels", [1, 20])
def test_sigmoid(channels: int) -> None:
    x = np.concatenate([np.linspace(-100, 100, 40_001), [-np.inf, np.inf, 0, -0.0, 1e-30, -1e30, 88, -88]]).astype("f")
    with np.errstate(over="ignore"):
        wanted = 1 / (1 + np.exp(-x.astype(np.float64)))
    found = pointwise(x, "sigmoid", channels)
    assert np.abs(found - wanted).max() < 2e-7
    inside = np.abs(x) < 80
    assert (np.abs(found - wanted)[inside] / wanted[inside]).max() < 1e-5
    assert found.min() >= 0 and found.max() <= 1 and (np.diff(found[:40_001]) >= -1e-7).all()


@pytest.mark.parametrize("channels", [1, 20])
def test_numbers_that_are_none_and_signs_of_zero(channels: int) -> None:
    """ReLU is that of tinygrad: what is not above zero, NaN included, becomes zero. Sigmoid keeps NaN."""
    bits = [0x7FC00000, 0xFFC00000, 0x7F800000, 0xFF800000, 0, 0x80000000, 1, 0x80000001, 0x3F800000]
    x = np.array(bits, np.uint32).view(np.float32)
    assert np.array_equal(pointwise(x, "relu", channels), np.where(x > 0, x, 0))
    assert np.isnan(pointwise(x, "sigmoid", channels)).tolist() == np.isnan(x).tolist()


# ---- which layers have a kernel ----------------------------------------------------------------------------------


@contextlib.contextmanager
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """A list that records for each layer that is called whether it ran as a kernel."""
    answers: list[bool] = []

    def convolution(*arguments: Any) -> Tensor | None:
        y = real(*arguments)
        answers.append(y is not None)
        return y

    real = graph.convolution
    with monkeypatch.context() as patch:
        patch.setattr(layers.graph, "convolution", convolution)
        yield answers


@pytest.mark.parametrize("kind", first_of(reversed(KINDS)))
def test_layers_use_the_kernels_unless_they_are_off(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel, is_up = KINDS[kind]
    init = Init("CPU", np.random.default_rng(0))
    layer = UpConv2d(7, 20, init) if is_up else Conv2d(7, 20, kernel, init)
    x = Tensor(np.random.default_rng(1).standard_normal((2, 6, 10, 7)).astype("f"), device="CPU").realize()

    def run() -> list[Array]:
        with watched(monkeypatch) as answers, Tensor.train():
            y = layer(x)
            gradients = y.square().sum().gradient(x, layer.weight, layer.bias)
            results = [tensor.numpy() for tensor in (y, *gradients)]
        results.append(np.array(answers))
        return results

    *on, used = run()
    monkeypatch.setenv("EDGEAE_KERNELS", "off")
    *off, used_off = run()
    assert used.tolist() == [True] and used_off.tolist() == [False]
    for found, wanted in zip(on, off, strict=True):
        assert_close(found, wanted, OUTPUT_TOLERANCE, kind)


def test_an_unknown_switch_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEAE_KERNELS", "sse9")
    with pytest.raises(UsageError, match=r"^EDGEAE_KERNELS=sse9 [^.]*\boff\b[^.]*\bavx2\b[^.]*\.$"):
        programs.instruction_set()


@pytest.mark.parametrize(
    ("kind", "cin", "cout"),
    [("1x1", 200_000, 1), ("3x3", 20_000, 1), ("4x4 stride 2", 13_000, 2), ("4x4 up", 25_000, 2)],
)
def test_layers_that_no_kernel_covers_are_right_too(
    kind: str, cin: int, cout: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel, is_up = KINDS[kind]
    init = Init("CPU", np.random.default_rng(0))
    layer = UpConv2d(cin, cout, init, None) if is_up else Conv2d(cin, cout, kernel, init, None)
    x = np.random.default_rng(1).standard_normal((1, 2, 2, cin)).astype("f")
    with watched(monkeypatch) as answers:
        found = layer(Tensor(x, device="CPU")).numpy()
    assert answers == [False]
    assert isinstance(layer.weight, Tensor)
    w = layer.weight.numpy().astype(np.float64)
    x = x.astype(np.float64)
    wanted = (
        up(x, w)
        if is_up
        else np.einsum("byxcij,ijco->byxo", windows(x, kernel, 2 if kernel == 4 else 1, 0 if kernel == 1 else 1), w)
    )
    assert_close(found, activate(wanted, None), OUTPUT_TOLERANCE, kind)


@pytest.mark.parametrize(
    "shape",
    [
        Shape(1, 256, 256, 64, 64, 3),
        Shape(1, 512, 512, 32, 64, 4),
        Shape(1, 128, 128, 128, 128, 3),
        Shape(1, 256, 256, 64, 32, 4, up=True),
    ],
    ids=lambda shape: str(shape)[6:-1].replace(" ", ""),
)
def test_large_images_are_covered(shape: Shape) -> None:
    sizes = (1, shape.height, shape.width, shape.c_in), Layer(shape).weight, (shape.c_out,)
    x, w, bias = (Tensor.empty(*size, device="CPU") for size in sizes)
    assert graph.convolution(x, w, bias, None, "relu", shape) is not None


# ---- in tinygrad -------------------------------------------------------------------------------------------------


def test_in_a_captured_graph() -> None:
    """A captured function computes for new inputs what it computed before the capture."""
    init = Init("CPU", np.random.default_rng(0))
    first, last = Conv2d(3, 16, 4, init), UpConv2d(16, 3, init, "sigmoid")
    rng = np.random.default_rng(1)
    inputs = [rng.random((2, 8, 8, 3)).astype("f") for _ in range(4)]
    jitted = TinyJit(lambda x: last(first(x)).realize())
    found = [jitted(Tensor(x, device="CPU").realize()).numpy().copy() for x in inputs]
    for x, y in zip(inputs, found, strict=True):
        assert np.array_equal(y, last(first(Tensor(x, device="CPU"))).numpy())


def test_inputs_that_are_views_and_expressions() -> None:
    """Inputs that are not contiguous or not computed yet reach the kernel as contiguous numbers."""
    layer = Layer(Shape(2, 4, 6, 5, 18, 3), "relu", add=True)
    arrays = draw_arrays(layer)
    arrays.pop("dy")
    wanted = forward(layer, {name: Tensor(array, device="CPU") for name, array in arrays.items()}).numpy()
    views = {
        name: Tensor(np.ascontiguousarray(array.T) * 2, device="CPU").permute(*range(array.ndim)[::-1]) / 2
        for name, array in arrays.items()
    }
    assert np.array_equal(forward(layer, views).numpy(), wanted)


def test_on_a_second_cpu_device() -> None:
    init = Init("CPU:1", np.random.default_rng(0))
    layer = Conv2d(3, 20, 3, init)
    x = Tensor(np.random.default_rng(1).random((2, 8, 8, 3)).astype("f"), device="CPU:1")
    y = layer(x)
    assert y.device == "CPU:1"
    assert isinstance(layer.weight, Tensor)
    w = layer.weight.numpy().astype(np.float64)
    wanted = activate(np.einsum("byxcij,ijco->byxo", windows(x.numpy().astype(np.float64), 3, 1, 1), w), "relu")
    assert_close(y.numpy(), wanted, OUTPUT_TOLERANCE, "CPU:1")
