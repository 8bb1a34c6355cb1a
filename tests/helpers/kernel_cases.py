"""Layers of any shape for tests of the kernels, the kernels that each runs, and what they compute, in NumPy."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tinygrad import Tensor, dtypes
from tinygrad.dtype import _to_np_dtype
from tinygrad.helpers import CPU_COUNT, Context
from tinygrad.uop.ops import Ops, UOp

from edgeae.network.quantize import GROUP, Int4Weight, Int8Weight
from edgeae.runtime.compilers import find_compiler
from edgeae.runtime.kernels import graph, plans
from edgeae.runtime.kernels.operands import Weight
from edgeae.runtime.kernels.shapes import Shape

Array = npt.NDArray[Any]
BITS = {"none": 32, "fp16": 16, "int8": 8, "int4": 4}

needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")


def instruction_sets() -> list[str]:
    """Return the instruction sets that this machine and its compiler can run, best first."""
    compiler = find_compiler()
    order = ["avx512", "avx2", "plain"]
    if compiler is None:
        return []
    return order[order.index(compiler.isa) :] if compiler.isa in order else [compiler.isa, "plain"]


@dataclass(frozen=True)
class Layer:
    """A layer without its weights."""

    shape: Shape
    activation: str | None = None
    add: bool = False
    scheme: str = "none"

    @property
    def weight(self) -> tuple[int, int, int, int]:
        """Shape of its weights."""
        return self.shape.kernel, self.shape.kernel, self.shape.c_in, self.shape.c_out


def read(layer: Layer, machine: str, threads: int) -> list[Kernel]:
    """Return a layer's kernels and, with float32 weights, those of its gradients. Nothing is compiled or run."""
    with pytest.MonkeyPatch.context() as patch, Context(CPU_COUNT=threads):
        patch.setenv("EDGEAE_KERNELS", machine)
        patch.setattr(graph, "compile_text", lambda text, machine: b"not compiled")
        patch.setattr(graph, "_FLOP_A_THREAD", 1)  # small layers too are shared among threads
        shape = layer.shape
        x, bias, add, dy = (
            Tensor.empty(*size, device="CPU")
            for size in (
                (shape.batch, shape.height, shape.width, shape.c_in),
                (shape.c_out,),
                shape.output,
                shape.output,
            )
        )
        weight = _empty_weight(layer)
        y = graph.convolution(x, weight, bias, add if layer.add else None, layer.activation, shape)
        assert y is not None and CPU_COUNT.value == threads
        results = [y]
        if isinstance(weight, Tensor) and layer.scheme == "none":
            results += y.gradient(x, weight, bias, gradient=dy)
    programs = {uop: None for tensor in results for uop in tensor.uop.toposort() if uop.op is Ops.PROGRAM}
    return [Kernel.of(uop) for uop in programs]


def _empty_weight(layer: Layer) -> Weight:
    shape = layer.weight
    rows, out = int(np.prod(shape[:-1])), shape[-1]
    if layer.scheme == "int8":
        return Int8Weight(Tensor.empty(*shape, dtype=dtypes.int8, device="CPU"), Tensor.empty(out, device="CPU"))
    if layer.scheme == "int4":
        values = Tensor.empty(-(-rows // 2), out, dtype=dtypes.uint8, device="CPU")
        return Int4Weight(values, Tensor.empty(-(-rows // GROUP), out, device="CPU"), shape)
    return Tensor.empty(*shape, dtype=dtypes.float16 if layer.scheme == "fp16" else dtypes.float32, device="CPU")


@dataclass(frozen=True)
class Kernel:
    """A kernel as tinygrad would call it.

    Attributes:
        text: its C, whose last function is `kernel`.
        names, sizes, types: of its arrays, in order; sizes count elements.
        outputs: how many of the arrays, the first ones, it writes.
        threads: how often it is called, with `core` from 0 on.
    """

    text: str
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    types: tuple[str, ...]
    outputs: int
    threads: int

    @classmethod
    def of(cls, program: UOp) -> Kernel:
        """From a PROGRAM node of the graph."""
        text = program.src[3].arg
        entry = re.search(r"void kernel\((.*), int core\)", text)
        assert entry is not None
        names = tuple(parameter.removeprefix("void *") for parameter in entry[1].split(", "))
        arrays = [source.ptrdtype for source in program.src[0].src[: len(names)]]
        return cls(
            text,
            names,
            tuple(array.size for array in arrays),
            tuple(np.dtype(_to_np_dtype(array.base)).str for array in arrays),
            len(program.arg.outs),
            program.arg.global_size[0],
        )

    @property
    def function(self) -> str:
        """Which of the C functions it is."""
        names: list[str] = re.findall(r"^    (\w+)\(.*core\);$", self.text, re.MULTILINE)
        return names[-1]

    @property
    def bytes(self) -> list[int]:
        """Of each array."""
        return [size * np.dtype(type_).itemsize for size, type_ in zip(self.sizes, self.types, strict=True)]

    @property
    def constants(self) -> dict[str, Any]:
        """Its `#define`s, up to the first other line."""
        defines = self.text[: re.search(r"^(?!#define)", self.text, re.MULTILINE).start()]  # type: ignore[union-attr]
        found = re.findall(r"^#define (\w+) (.*)$", defines, re.MULTILINE)
        return {name: int(value) if value.isdecimal() else value for name, value in found}

    @property
    def label(self) -> str:
        """For messages."""
        return " ".join(f"{name}={value}" for name, value in self.constants.items()) + f" arrays={self.names}"

    def draw(self, rng: np.random.Generator) -> dict[str, Array]:
        """Random numbers for every input."""
        inputs = list(zip(self.names, self.sizes, self.types, strict=True))[self.outputs :]
        return {name: self._draw_one(name, size, type_, rng) for name, size, type_ in inputs}

    def _draw_one(self, name: str, size: int, type_: str, rng: np.random.Generator) -> Array:
        if name == "scale":
            return rng.uniform(0.02, 0.1, size).astype(type_)
        if type_ in ("|i1", "|u1"):
            low, high = (-127, 128) if type_ == "|i1" else (0, 256)
            return rng.integers(low, high, size).astype(type_)
        if name == "y":  # what the activation gave
            relu = self.constants["GRADIENT_OF"] == "RELU"
            return (np.maximum(rng.normal(size=size), 0) if relu else rng.random(size)).astype(type_)
        if name == "w" and self.function == "winograd":
            return winograd_factors(rng.normal(size=self._weight_size), self.constants).astype(type_).ravel()
        return rng.normal(size=size).astype(type_)

    @property
    def _weight_size(self) -> tuple[int, int, int, int]:
        c = self.constants
        side = c["R"] * c["SUB"] * c.get("STEP", 1) if "R" in c else 4 if c.get("STEP") == 2 else c["KERNEL"]
        return side, side, c["C_IN"], c["C_OUT"]

    def expected(self, arrays: dict[str, Array]) -> list[Array]:
        """What it computes, in float64. Of Winograd's gradient, the gradient of the weights themselves."""
        c = self.constants
        given = {name: array.astype(np.float64) for name, array in arrays.items()}
        if self.function == "winograd_weights":
            return [winograd_factors(self._means(dequantize(arrays["w"], arrays.get("scale"), self._stored_size)), c)]
        if self.function == "swap":
            side, c_in, c_out = c["SIDE"], c["C_IN"], c["C_OUT"]
            w = given["w"].reshape(side, side, c_in, c_out).transpose(0, 1, 3, 2)
            return [(w[::-1, ::-1] if c["TURNED"] else w).ravel()]
        if self.function == "winograd_weights_gradient":
            du = given["du"].reshape(c["PARTS"], (c["R"] + 1) ** 2, -1, c["C_OUT"]).sum(0)
            return [self._means(winograd_weight_gradient(du, c))]
        big_size = c["BATCH"], c["IN_H"], c["IN_W"], c["C_IN"]
        small_size = c["BATCH"], c["OUT_H"], c["OUT_W"], c["C_OUT"]
        stride: int = c["STRIDE"] if "STRIDE" in c else c.get("SUB", 1)
        if "big" in self.names:
            big, small = given["big"].reshape(big_size), given["small"].reshape(small_size)
            if "y" in given and c["ERROR_IS_BIG"]:
                big = big * _slope(c["GRADIENT_OF"], given["y"].reshape(big_size))
            elif "y" in given:
                small = small * _slope(c["GRADIENT_OF"], given["y"].reshape(small_size))
            window = windows(big, self._weight_size[0], stride, c["PADDING"])
            return [
                np.einsum("byxcij,byxo->ijco", window, small, optimize=True),
                (big if c["ERROR_IS_BIG"] else small).sum((0, 1, 2)),
            ]
        x = given["x"].reshape(big_size)
        if "y" in given:
            x = x * _slope(c["GRADIENT_OF"], given["y"].reshape(big_size))
        if self.function == "winograd":
            w = winograd_weights(given["w"], c)
        else:
            w = dequantize(arrays["w"], arrays.get("scale"), self._weight_size)
        y = up(x, w) if c["STEP"] == 2 else convolve(x, w, stride or 1, c["PADDING"])
        y = y + given.get("bias", 0) + (given["add"].reshape(small_size) if "add" in given else 0)
        return [activate(y, {"RELU": "relu", "SIGMOID": "sigmoid"}.get(c["ACTIVATION"]))]

    @property
    def _stored_size(self) -> tuple[int, int, int, int]:
        side, _, c_in, c_out = self._weight_size
        return (side, side, c_out, c_in) if self.constants["SWAPPED"] else (side, side, c_in, c_out)

    def _means(self, w: Array) -> Array:
        """Stored weights as the kernel means them, and the other way round."""
        w = w.transpose(0, 1, 3, 2) if self.constants["SWAPPED"] else w
        return w[::-1, ::-1] if self.constants["TURNED"] else w

    def shaped(self, outputs: list[Array]) -> list[Array]:
        """Its outputs in the shapes of `expected`: without padding, and with partial sums added."""
        c = self.constants
        if self.function == "winograd_weights":
            return [outputs[0].reshape(_packed_size(c))]
        if self.function == "swap":
            return outputs
        if self.function == "winograd_weights_gradient":
            return [outputs[0].reshape(self._stored_size)]
        if "big" not in self.names:
            return [outputs[0].reshape(c["BATCH"], c["OUT_H"], c["OUT_W"], c["C_OUT"])]
        c_in, c_out = c["C_IN"], c["C_OUT"]
        if self.function == "winograd_gradient":
            dw = winograd_weight_gradient(outputs[0].reshape(c["PARTS"], (c["R"] + 1) ** 2, -1, c_out).sum(0), c)
        else:
            k, run, width = plans.padded(c)[-3:]
            dw = outputs[0].reshape(-1, k, run, width).sum(0)[:, : k * c_in, :c_out].reshape(k, k, c_in, c_out)
        return [dw, outputs[1].reshape(-1, c_in if c["ERROR_IS_BIG"] else c_out).sum(0)]

    def check(self, arrays: dict[str, Array], outputs: list[Array], tolerance: float) -> None:
        """Its outputs, flat, against NumPy's: relative to the largest value."""
        for found, wanted in zip(self.shaped(outputs), self.expected(arrays), strict=True):
            assert_close(found, wanted, tolerance, self.label)


# ---- a layer's numbers, in tinygrad and in PyTorch ---------------------------------------------------------------


def draw_arrays(layer: Layer, seed: int = 0) -> dict[str, Array]:
    """Draw inputs of a layer and a gradient of its output, of the size that they have in a network."""
    rng = np.random.default_rng(seed)
    shape = layer.shape
    sizes = {
        "x": (shape.batch, shape.height, shape.width, shape.c_in),
        "w": layer.weight,
        "bias": (shape.c_out,),
        "dy": shape.output,
    } | ({"add": shape.output} if layer.add else {})
    arrays = {name: rng.standard_normal(size).astype(np.float32) for name, size in sizes.items()}
    arrays["w"] /= np.float32(np.sqrt(shape.window**2 * shape.c_in))
    return arrays


def forward(layer: Layer, given: dict[str, Tensor], weight: Weight | None = None) -> Tensor:
    """Run the layer's kernel; fail if there is none."""
    y = graph.convolution(
        given["x"],
        given["w"] if weight is None else weight,
        given["bias"],
        given.get("add"),
        layer.activation,
        layer.shape,
    )
    assert y is not None, f"no kernel for {layer}"
    return y


def compute(layer: Layer, arrays: dict[str, Array]) -> dict[str, Array]:
    """Return the output ("y") and the gradient of each input by its name."""
    given = {name: Tensor(array, device="CPU").realize() for name, array in arrays.items()}
    dy = given.pop("dy")
    y = forward(layer, given)
    gradients = y.gradient(*given.values(), gradient=dy)
    Tensor.realize(y, *gradients)
    return {"y": y.numpy()} | {name: gradient.numpy() for name, gradient in zip(given, gradients, strict=True)}


def in_torch(layer: Layer, arrays: dict[str, Array], found: Array) -> dict[str, Array]:
    """Return the same from PyTorch in float64; where rounding would decide what a ReLU lets pass, `found` decides."""
    torch = pytest.importorskip("torch")
    given = {name: torch.tensor(array, dtype=torch.float64, requires_grad=True) for name, array in arrays.items()}
    dy, shape = given.pop("dy"), layer.shape
    x, w = given["x"].permute(0, 3, 1, 2), given["w"]
    if shape.up:
        z = torch.nn.functional.conv_transpose2d(x, w.permute(2, 3, 0, 1).contiguous(), stride=2, padding=1)
    else:
        z = torch.nn.functional.conv2d(
            x,
            w.permute(3, 2, 0, 1).contiguous(),
            stride=2 if shape.kernel == 4 else 1,
            padding=0 if shape.kernel == 1 else 1,
        )
    z = z.permute(0, 2, 3, 1) + given["bias"]
    if layer.add:
        z = z + given["add"]
    if layer.activation == "relu":
        y = z * torch.where(z.abs() < 1e-6 * z.abs().max(), torch.tensor(found > 0), z > 0)
    else:
        y = z.sigmoid() if layer.activation else z
    (y * dy.detach()).sum().backward()
    return {"y": y.detach().numpy()} | {name: tensor.grad.numpy() for name, tensor in given.items()}


# ---- a layer's arithmetic, in NumPy ------------------------------------------------------------------------------


def windows(x: Array, kernel: int, stride: int, padding: int) -> Array:
    """Return the window of each output of a convolution: (B, H, W, C) → (B, H', W', C, kernel, kernel)."""
    padded = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    return np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), (1, 2))[:, ::stride, ::stride]


def up(x: Array, w: Array) -> Array:
    """Return the 4×4 transposed convolution of stride 2 and padding 1: each input pixel adds 4×4 outputs."""
    batch, height, width, _ = x.shape
    y = np.zeros((batch, 2 * height + 2, 2 * width + 2, w.shape[-1]))
    for ky in range(4):
        for kx in range(4):
            y[:, ky : ky + 2 * height : 2, kx : kx + 2 * width : 2] += x @ w[ky, kx]
    return y[:, 1:-1, 1:-1]


def convolve(x: Array, w: Array, stride: int, padding: int) -> Array:
    """Return a convolution whose windows begin `padding` pixels outside of the image."""
    y: Array = np.einsum("byxcij,ijco->byxo", windows(x, len(w), stride, padding), w, optimize=True)
    return y


# Winograd's F(2×2, R×R) along one side: the factors of R weights (Lavin and Gray 2016, section 4.1).
_G = {2: np.array([[1, 0], [1, 1], [0, 1]]), 3: np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])}


def _taps(c: dict[str, Any]) -> list[tuple[int, int, Any]]:
    """Return (phase, position in the SUB×SUB square, the R×R taps of the kernel that belong to them)."""

    def taps(phase: int, position: int) -> list[int]:
        return [3 - phase - 2 * i if c.get("STEP") == 2 else c["SUB"] * i + position for i in range(c["R"])]

    step, sub = c.get("STEP", 1), c["SUB"]
    return [
        (py * step + px, sy * sub + sx, np.ix_(taps(py, sy), taps(px, sx)))
        for py in range(step)
        for px in range(step)
        for sy in range(sub)
        for sx in range(sub)
    ]


def winograd_factors(w: Array, c: dict[str, Any]) -> Array:
    """Return (phases, blocks, products, SUB² · c_in, channels of a block) of weights (side, side, c_in, c_out)."""
    g, c_in, c_out = _G[c["R"]], c["C_IN"], c["C_OUT"]
    u = np.zeros((c.get("STEP", 1) ** 2, len(g) ** 2, c["SUB"] ** 2, c_in, c_out))
    for phase, position, taps in _taps(c):
        u[phase, :, position] = np.einsum("ai,ijco,bj->abco", g, w[taps], g).reshape(-1, c_in, c_out)
    phases, blocks, products, summed, block = _packed_size(c)
    return np.moveaxis(u.reshape(phases, products, summed, blocks, block), 3, 1)


def _packed_size(c: dict[str, Any]) -> tuple[int, int, int, int, int]:
    block = c["VECTORS"] * c["LANES"]
    return c["STEP"] ** 2, c["C_OUT"] // block, (c["R"] + 1) ** 2, c["SUB"] ** 2 * c["C_IN"], block


def winograd_weights(u: Array, c: dict[str, Any]) -> Array:
    """Invert `winograd_factors`."""
    return _from_factors(np.moveaxis(u.reshape(_packed_size(c)), 1, 3), c, np.linalg.pinv(_G[c["R"]]))


def winograd_weight_gradient(du: Array, c: dict[str, Any]) -> Array:
    """Apply the transpose of `winograd_factors`."""
    return _from_factors(du, c, _G[c["R"]].T)


def _from_factors(u: Array, c: dict[str, Any], matrix: Array) -> Array:
    t, side = c["R"] + 1, c["R"] * c["SUB"] * c.get("STEP", 1)
    u = u.reshape(-1, t, t, c["SUB"] ** 2, c["C_IN"], c["C_OUT"])
    w = np.zeros((side, side, c["C_IN"], c["C_OUT"]))
    for phase, position, taps in _taps(c):
        w[taps] = np.einsum("ia,abco,jb->ijco", matrix, u[phase, :, :, position], matrix)
    return w


def dequantize(values: Array, scale: Array | None, shape: tuple[int, ...]) -> Array:
    """Return weights that are packed as quantize.py describes in float64."""
    if scale is None or values.dtype == np.int8:
        return values.astype(np.float64).reshape(shape) * (1 if scale is None else scale.astype(np.float64))
    rows, out = int(np.prod(shape[:-1])), shape[-1]
    pairs = values.reshape(-1, out).astype(np.float64)
    matrix = np.empty((2 * len(pairs), out))
    matrix[0::2], matrix[1::2] = pairs % 16 - 8, pairs // 16 - 8
    row = np.arange(rows)
    return (matrix[:rows] * scale.reshape(-1, out).astype(np.float64)[row // 32]).reshape(shape)


def activate(z: Array, activation: str | None) -> Array:
    """Apply no activation, relu or sigmoid."""
    if activation == "relu":
        return np.maximum(z, 0)
    return 1 / (1 + np.exp(-z)) if activation == "sigmoid" else z


def _slope(activation: str, y: Array) -> Array:
    return y > 0 if activation == "RELU" else y * (1 - y)


def assert_close(found: Array, wanted: Array, tolerance: float, what: str) -> None:
    """Check that values are equal within `tolerance` of the largest expected one."""
    assert found.shape == wanted.shape, f"{found.shape} is not {wanted.shape}: {what}"
    assert np.isfinite(found).all(), f"not finite: {what}"
    error = np.abs(found - wanted).max() / (np.abs(wanted).max() or 1)
    assert error < tolerance, f"{error:.2e}: {what}"
